"""The front page: it leads to where the work of who is signed in begins, or to the sign-in page."""

from flask import Blueprint, redirect
from werkzeug.wrappers import Response

from access.bearer import current_caller
from access.caller import Door
from kernel.errors import Unauthenticated
from portal.account import HOME, STUDY_LIST

blp = Blueprint("home", __name__)


@blp.get("/")
def home() -> Response:
    """To the study list, or an administrator's or a patient's pages; else to the sign-in page."""
    try:
        caller = current_caller(Door.PORTAL)
    except Unauthenticated:
        return redirect("/sign-in", 303)
    return redirect(HOME.get(caller.principal.role, STUDY_LIST), 303)
