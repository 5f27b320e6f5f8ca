"""Sharing for staff: find a study, share it, see and end its shares, print a label; the same for programs.

On the page three keys share a found study: `s`, Enter on what is proposed, `c` to copy the link. Programs
(a RIS that prints reports) POST to /shares and get the link with its code, or the label itself.
"""

import base64
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import current_caller, is_same_origin
from access.caller import Caller, Door
from access.family import RELATIONS, add_person, list_persons, remove_person
from access.grants import (
    MAKE_SHARE,
    SEE_SHARES,
    GrantSeen,
    InvalidTerms,
    Made,
    Terms,
    accesses_of,
    list_grants,
    policy_of,
    revoke_grant,
)
from access.roles import PERSONAL
from access.share_links import share_url
from access.tokens import Access
from archive.exams import Exam, list_exams, read_exam
from archive.room import Archive
from archive.shares import share_accession_number, share_studies
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated
from kernel.http import room
from portal.catalogue import say
from portal.film import film_page, local_time
from portal.ohif import STAFF_MENU
from portal.qr_code import Label, label_pdf, qr_file, qr_picture
from portal.refusals import told
from records.repository import read
from records.room import Records

blp = Blueprint("staff_shares", __name__, template_folder="templates")

MOST_FOUND = 30
FORMS = ("application/json", "image/svg+xml", "image/png", "application/pdf")  # the first for who takes any
RECENT_DAYS = (1, 3, 7, 30, 90)


def _staff() -> Caller | None:
    try:
        caller = current_caller(Door.PORTAL)
    except Unauthenticated:
        return None
    caller.require(SEE_SHARES)
    return None if caller.principal.role in PERSONAL else caller  # patients have their own pages


def _staff_page(template: str, caller: Caller, script: str = "", **values: Any) -> Response:
    """A page of the house's own side, with its menu."""
    return film_page(
        template, None, script=script, menu=STAFF_MENU, leave="/sign-out", caller=caller, **values
    )


@blp.get("/staff/shares")
def staff_page() -> AnyResponse:
    """Find a study and share it."""
    caller = _staff()
    if caller is None:
        return redirect("/sign-in?next=/staff/shares", 303)
    find = request.args.get("find", "")
    exams = list_exams(room(Archive), caller, find, MOST_FOUND)
    chosen = request.args.get("study", "")
    return _page(caller, find, exams, chosen)


def _page(
    caller: Caller, find: str, exams: tuple[Exam, ...], chosen: str, made: Made | None = None,
    message: str = "",
) -> Response:  # fmt: skip
    access = room(Access)
    exam = read_exam(room(Archive), caller, chosen) if chosen else None
    policy = policy_of(access, exam.institution if exam else caller.principal.institution)
    link = share_url(made.secret) if made else ""
    return _staff_page(
        "staff_shares.html", caller, script="staff", find=find, exams=exams, exam=exam, policy=policy,
        made=made, link=link, qr=qr_picture(link, say("film.qr")) if link else "", message=message,
        grants=list_grants(access, caller, study=chosen) if chosen else (),
        persons=list_persons(access, caller, frozenset({exam.patient})) if exam else (),
        relations=RELATIONS, days=[each for each in RECENT_DAYS if each <= policy.most_days],
        may_share=caller.may(MAKE_SHARE),
    )  # fmt: skip


@blp.post("/staff/shares")
def staff_act() -> AnyResponse:
    """Share, end a share, print a label, name or remove an authorized person."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    caller = _staff()
    if caller is None:
        raise Unauthenticated
    form, access, archive = request.form, room(Access), room(Archive)
    study, find = form.get("study", ""), form.get("find", "")
    made, message = None, ""
    try:
        if form.get("end"):
            revoke_grant(access, caller, form["end"])
        elif form.get("remove"):
            remove_person(access, caller, form["remove"])
        elif form.get("add"):
            exam = read_exam(archive, caller, study)
            read(room(Records), caller, "Patient", exam.patient)
            add_person(
                access, caller, exam.patient, form.get("phone", ""), form.get("name", ""),
                form.get("relation", "other"),
            )  # fmt: skip
        elif form.get("label"):
            return _label(caller, form["label"])
        else:
            made = share_studies(archive, access, caller, (study,), _terms(form))
    except CloudfilmError as refusal:
        if refusal.kind is not Kind.UNPROCESSABLE:
            raise
        message = say("film.share-wrong", reason=told(refusal))
    return _page(caller, find, list_exams(archive, caller, find, MOST_FOUND), study, made, message)


def _terms(values: Any) -> Terms:
    def number(name: str) -> int | None:
        text = str(values.get(name, "") or "")
        if text and not text.isdecimal():
            raise InvalidTerms(f"{name} is a whole number.")
        return int(text[:6]) if text else None

    return Terms(
        binding=str(values.get("binding") or "patient"),
        phone=str(values.get("phone") or ""),
        passcode=str(values.get("passcode") or ""),
        account=str(values.get("account") or ""),
        days=number("days"),
        most_uses=number("most_uses"),
        download=bool(values.get("download")),
        with_report=values.get("report") not in ("", False, "false"),
        recipient=str(values.get("recipient") or ""),
        reason=str(values.get("reason") or ""),
    )


def _label(caller: Caller, accession_number: str, institution: str = "") -> Response:
    """A new paper code for an accession number, as a label to print."""
    made = share_accession_number(room(Archive), room(Access), caller, accession_number, institution, Terms())
    return _file(made, accession_number, "application/pdf")


def _file(made: Made, number: str, form: str) -> Response:
    link = share_url(made.secret)
    if form == "application/pdf":
        until = say("label.until", day=local_time(made.expires_at)[:10])
        label = Label(say("label.title"), (say("label.scan"), say("label.phone"), until), number)
        content = label_pdf(link, label)
    else:
        content = qr_file(link, "png" if form == "image/png" else "svg")
    answer = Response(content, mimetype=form)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Share-Id"] = made.id
    return answer


@blp.get("/staff/labels")
def label_page() -> AnyResponse:
    """Print a label for an accession number, before the images are there."""
    caller = _staff()
    if caller is None:
        return redirect("/sign-in?next=/staff/labels", 303)
    return _staff_page("staff_label.html", caller, message="", link="", qr="", number="")


@blp.post("/staff/labels")
def print_label() -> AnyResponse:
    """Make the code and show it as a label, ready for the printer."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    caller = _staff()
    if caller is None:
        raise Unauthenticated
    number = request.form.get("accession_number", "").strip()
    if request.form.get("form") == "pdf":
        return _label(caller, number)
    message, link = "", ""
    try:
        made = share_accession_number(room(Archive), room(Access), caller, number, "", Terms())
        link = share_url(made.secret)
    except CloudfilmError as refusal:
        if refusal.kind is not Kind.UNPROCESSABLE:
            raise
        message = say("film.share-wrong", reason=told(refusal))
    return _staff_page(
        "staff_label.html", caller, message=message, link=link,
        qr=qr_picture(link, say("film.qr")) if link else "", number=number,
    )  # fmt: skip


@blp.post("/shares")
def create_share() -> AnyResponse:
    """Make a share: `studies`, or an `accession_number`, with terms; JSON, or the label as Accept asks.

    Answers 201 with id, url, when it ends, and the code as SVG; the secret is in this answer alone.
    """
    caller, body = current_caller(Door.PORTAL), request.get_json(silent=True)
    if not isinstance(body, dict):
        raise InvalidTerms("Send a JSON object with studies or an accession_number.")
    archive, access, terms = room(Archive), room(Access), _terms(body)
    number = str(body.get("accession_number") or "")
    if number:
        made = share_accession_number(
            archive, access, caller, number, str(body.get("institution") or ""), terms
        )
    else:
        studies = body.get("studies")
        named = tuple(map(str, studies)) if isinstance(studies, list) else ()
        made = share_studies(archive, access, caller, named, terms)
    form = request.accept_mimetypes.best_match(FORMS, "application/json")
    if form != "application/json":
        answer = _file(made, number, str(form))
    else:
        svg = base64.b64encode(qr_file(share_url(made.secret), "svg")).decode()
        answer = jsonify(
            id=made.id, url=share_url(made.secret), expires_at=made.expires_at.isoformat(),
            qr=f"data:image/svg+xml;base64,{svg}",
        )  # fmt: skip
    answer.status_code = 201
    answer.headers["Location"] = f"/shares/{made.id}"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blp.get("/shares")
def get_shares() -> AnyResponse:
    """The shares that the caller may see; `study` or `accession_number` narrows them."""
    found = list_grants(
        room(Access), current_caller(Door.PORTAL), study=request.args.get("study", ""),
        accession_number=request.args.get("accession_number", ""),
    )  # fmt: skip
    return jsonify([_plain(each) for each in found])


def _plain(seen: GrantSeen) -> dict[str, Any]:
    grant = seen.grant
    return {
        "id": grant.id,
        "kind": grant.kind,
        "binding": grant.binding,
        "recipient": grant.recipient,
        "reason": grant.reason,
        "accession_number": grant.accession_number,
        "institution": grant.institution,
        "studies": list(seen.studies),
        "made_by": grant.made_by_name,
        "created_at": grant.created_at.isoformat(),
        "expires_at": grant.expires_at.isoformat(),
        "uses": grant.uses,
        "most_uses": grant.most_uses,
        "download": grant.may_download,
        "alive": seen.is_alive,
    }


@blp.delete("/shares/<grant_id>")
def delete_share(grant_id: str) -> AnyResponse:
    """End a share."""
    revoke_grant(room(Access), current_caller(Door.PORTAL), grant_id)
    return make_response("", 204)


@blp.get("/shares/<grant_id>/accesses")
def get_accesses(grant_id: str) -> AnyResponse:
    """Who did what by a share."""
    entries = accesses_of(room(Access), current_caller(Door.PORTAL), grant_id)
    return jsonify(
        [
            {"at": each.at.isoformat(), "who": each.principal_name, "address": each.address,
             "action": each.action, "outcome": each.outcome, "subject": each.subject}
            for each in entries
        ]
    )  # fmt: skip
