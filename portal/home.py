"""The front page: it leads to the viewer's study list, or to the sign-in page."""

from flask import Blueprint, redirect
from werkzeug.wrappers import Response

from access.bearer import current_caller
from access.caller import Door
from kernel.errors import Unauthenticated

blp = Blueprint("home", __name__)


@blp.get("/")
def home() -> Response:
    """To the study list when signed in, else to the sign-in page."""
    try:
        current_caller(Door.PORTAL)
    except Unauthenticated:
        return redirect("/sign-in", 303)
    return redirect("/ohif/", 303)
