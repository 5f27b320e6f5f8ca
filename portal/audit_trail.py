"""The audit trail for auditors: a page that searches it, and what was found as a file."""

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from access.audit import DONE, FAILED, REFUSED
from access.caller import Caller
from access.mass_browsing import alarmed
from access.model import AuditEntry
from access.tokens import Access
from access.trail import READ_TRAIL, TrailQuery, csv_lines, export_trail, search_trail
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from portal.audit_words import acted, detailed, ended
from portal.catalogue import say
from portal.console import Field, Form, Page, Row, page
from portal.film import CHINA, local_time
from portal.refusals import told
from records.audit_event import audit_event

blp = Blueprint("audit_trail", __name__, template_folder="templates")

COMMON_ACTIONS = (  # that an auditor looks for: an action is found by how its code begins
    "read ImagingStudy", "read DiagnosticReport", "read Patient", "search ImagingStudy", "store ImagingStudy",
    "delete ImagingStudy", "sign in", "sign out", "refuse request", "break glass", "alarm MassBrowsing",
    "create Share", "open Share", "create Account", "update Account", "update Policy", "issue Token",
    "revoke Token", "launch app", "export AuditTrail",
)  # fmt: skip
SHOWN = 100
ANY = "any"
ASKED = ("who", "action", "subject", "patient", "address", "outcome", "after", "before")
HEADINGS = ("at", "who", "action", "subject", "outcome", "address", "detail")
BYTE_ORDER_MARK = "\ufeff"  # without it a spreadsheet takes the Chinese of a CSV file for another encoding


class InvalidMoment(CloudfilmError):
    """A moment that is none."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("Write a moment as 2026-03-01T08:30.")


@blp.get("/admin/audit")
@page
def audit(caller: Caller) -> Page:
    """The audit trail, the newest first."""
    access, asked = room(Access), _asked()
    caller.require(READ_TRAIL)
    try:
        found = search_trail(access, caller, _query(asked), SHOWN)
    except InvalidMoment as wrong:
        return Page("audit", forms=(_form(asked),), message=say("console.wrong", reason=told(wrong)))
    with access.database.snapshot() as session:
        many = alarmed(session, access.clock.now())
    kept = {name: value for name, value in asked.items() if value}
    following = urlencode({**kept, "beyond": found[-1].seq}) if len(found) == SHOWN else ""
    return Page(
        "audit",
        HEADINGS,
        [_row(each) for each in found],
        (_form(asked),),
        message=say("console.mass-browsing", count=str(many)) if many else "",
        next_page=following,
        downloads=tuple(
            (f"console.as-{form}", f"/admin/audit/export?{urlencode({**kept, 'form': form})}")
            for form in ("csv", "fhir")
        ),
    )


@blp.get("/admin/audit/export")
@page
def export(caller: Caller) -> AnyResponse:
    """All that was found, the oldest first: as CSV, or as FHIR AuditEvents, one a line."""
    caller.require(READ_TRAIL)
    entries = export_trail(room(Access), caller, _query(_asked()))
    is_fhir = request.args.get("form") == "fhir"
    lines, media_type, suffix = (
        (_events(entries), "application/fhir+ndjson", "ndjson")
        if is_fhir
        else (_csv(entries), "text/csv; charset=utf-8", "csv")
    )
    answer = Response(lines, content_type=media_type)
    answer.headers["Content-Disposition"] = f"attachment; filename=audit.{suffix}"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _csv(entries: Iterator[AuditEntry]) -> Iterator[str]:
    yield BYTE_ORDER_MARK
    yield from csv_lines(entries)


def _events(entries: Iterator[AuditEntry]) -> Iterator[bytes]:
    for entry in entries:
        yield orjson.dumps(audit_event(entry), option=orjson.OPT_APPEND_NEWLINE)


def _asked() -> dict[str, str]:
    """What was asked for, by the names of the form's fields."""
    return {name: request.args.get(name, "").strip() for name in ASKED}


def _query(asked: dict[str, str]) -> TrailQuery:
    """Raises InvalidMoment."""
    beyond = request.args.get("beyond", "")
    return TrailQuery(
        principal=asked["who"],
        action=asked["action"],
        subject=asked["subject"],
        patient=asked["patient"],
        address=asked["address"],
        outcome="" if asked["outcome"] == ANY else asked["outcome"],
        after=_moment(asked["after"]),
        before=_moment(asked["before"]),
        beyond=int(beyond) if beyond.isdecimal() else 0,
    )


def _moment(text: str) -> datetime | None:
    """A moment as pages write it: China's time."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=CHINA) if text else None
    except ValueError:
        raise InvalidMoment from None


def _form(asked: dict[str, str]) -> Form:
    kinds = {"after": "datetime-local", "before": "datetime-local"}
    fields = [
        Field(
            name,
            kinds.get(name, "text"),
            value,
            required=False,
            suggestions=tuple((each, acted(each)) for each in COMMON_ACTIONS) if name == "action" else (),
        )
        for name, value in asked.items()
    ]
    outcomes = (ANY, DONE, REFUSED, FAILED)
    at = ASKED.index("outcome")
    fields[at] = Field("outcome", "select", asked["outcome"] or ANY, outcomes, prefix="outcome.")
    return Form(tuple(fields), "console.find", "get")


def _row(entry: AuditEntry) -> Row:
    return Row(
        (
            local_time(entry.at), entry.principal_name or entry.principal_id, acted(entry.action),
            entry.subject, ended(entry.outcome), entry.address, detailed(entry.detail),
        )
    )  # fmt: skip
