"""Opening an app with an examination at hand: the page from which the launch of SMART App Launch 2.2 (2.0.6,
launch from the EHR) begins. Who may search for images sees it; what is found lies within its own reach."""

from urllib.parse import urlsplit

from flask import Blueprint, request

from access.caller import SEARCH_IMAGES, Caller
from access.oauth.clients import launched_clients
from access.tokens import Access
from archive.exams import Exam, list_exams, read_exam
from archive.room import Archive
from kernel.http import room
from portal.catalogue import say
from portal.console import Field, Form, Page, Row, page

blp = Blueprint("apps", __name__)

MOST_FOUND = 30


@blp.get("/my/apps")
@page
def open_with(caller: Caller) -> Page:
    """Find an examination, choose it, and open it with an app."""
    caller.require(SEARCH_IMAGES)
    archive, find = room(Archive), request.args.get("find", "").strip()
    chosen = request.args.get("study", "")
    if chosen:
        return _apps(read_exam(archive, caller, chosen))
    rows = [
        Row((exam.patient_name, _said(exam), exam.accession_number), link=f"?study={exam.study_instance_uid}")
        for exam in list_exams(archive, caller, find, MOST_FOUND)
    ]
    form = Form((Field("find", value=find, required=False),), "console.find", "get")
    headings = ("patient_name", "exam", "accession_number")
    return Page("apps", headings, rows, (form,), hint=say("apps.choose"))


def _apps(exam: Exam) -> Page:
    clients = launched_clients(room(Access))
    forms = tuple(
        Form(
            (Field("patient", "hidden", exam.patient), Field("imagingstudy", "hidden", exam.logical_id)),
            text=say("apps.open", app=client.name or say("authorize.no-name")),
            action=f"/apps/{client.client_id}/launch",
        )
        for client in clients
    )
    return Page(
        "apps",
        forms=forms,
        hint=" · ".join(each for each in (exam.patient_name, _said(exam), exam.accession_number) if each),
        message="" if forms else say("apps.none"),
        leads_to=tuple(dict.fromkeys(_source(client.launch_uri) for client in clients)),
    )


def _said(exam: Exam) -> str:
    parts = (str(exam.day or ""), "/".join(exam.modalities), exam.description)
    return " · ".join(each for each in parts if each)


def _source(uri: str) -> str:
    """Where an address is, as a content security policy says it."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
