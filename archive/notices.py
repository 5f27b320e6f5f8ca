"""What patients are told: a report of theirs is ready, a share of theirs was opened for the first time,
somebody saw their data in an emergency; the last is told to who reviews it as well.

Goes to the message centre of every account that holds the patient's records, and from there out; a patient
without an account is told by SMS at the first opening of a share, at the phone on the record.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from access.grant_model import ShareGrant, ShareVisit
from access.grants import sharing_of
from access.model import Account
from access.patient_accounts import accounts_with
from access.site import glass_reviewers
from archive.room import Archive
from kernel.changes import Change
from messaging.notices import tell
from messaging.room import Messaging
from messaging.send import queue_message
from mpi.by_phone import patients_of_person, phones_of
from records.identifiers import present_document
from records.reports import FINAL


@dataclass(frozen=True, slots=True)
class Notifying:
    """What telling patients needs."""

    archive: Archive
    messaging: Messaging


def follow_for_notices(rooms: Notifying, session: Session, change: Change) -> None:
    """Subscribed to reports that are filed, shares that are opened and glass that is broken."""
    if change.kind == "report-filed":
        _report_ready(rooms, session, change)
    elif change.kind == "glass-broken":
        _glass_broken(rooms, session, change)
    elif change.data.get("first") and change.data.get("relation") != "patient":
        _share_opened(rooms, session, change)


def _report_ready(rooms: Notifying, session: Session, change: Change) -> None:
    institution = str(change.data.get("institution", ""))
    if change.data.get("status") not in FINAL or not sharing_of(session).of(institution).report_notice:
        return
    report = present_document(session, "DiagnosticReport", change.subject) or {}
    patient = str(report.get("subject", {}).get("reference", "")).removeprefix("Patient/")
    if not patient:
        return
    own = patients_of_person(rooms.archive.mpi, session, (patient,))
    values = {"exam": _exam(report), "institution": institution}
    for account in accounts_with(session, own):
        tell(
            rooms.messaging, session, account, "report-ready", change.subject, values,
            f"/patient/reports/{change.subject}",
        )  # fmt: skip


def _glass_broken(rooms: Notifying, session: Session, change: Change) -> None:
    account = session.get(Account, str(change.data.get("by")))
    about, values = f"glass {change.data.get('number')}", {"who": account.name if account else "?"}
    own = patients_of_person(rooms.archive.mpi, session, (change.subject.removeprefix("Patient/"),))
    told = dict.fromkeys(glass_reviewers(session, but=str(change.data.get("by"))), "/admin/glass")
    told |= dict.fromkeys(accounts_with(session, own), "/patient/seen")
    for account_id, link in told.items():
        tell(rooms.messaging, session, account_id, "glass-broken", about, values, link)


def _exam(report: dict[str, object]) -> str:
    """What the report calls the examination; without a diagnosis."""
    code = report.get("code")
    if isinstance(code, dict):
        shown = [code.get("text")] + [each.get("display") for each in code.get("coding", [])]
        return str(next((each for each in shown if each), ""))[:60]
    return ""


def _share_opened(rooms: Notifying, session: Session, change: Change) -> None:
    grant = session.get(ShareGrant, change.subject)
    if grant is None or not grant.patient or not sharing_of(session).of(grant.institution).opening_notice:
        return
    texts = rooms.messaging.texts(rooms.messaging.language)
    visit = session.get(ShareVisit, str(change.data.get("visit")))
    values = {
        "visitor": str((visit and visit.visitor) or grant.recipient or texts["film.visitor"]),
        "address": str(change.data.get("address", "")),
    }
    own = patients_of_person(rooms.archive.mpi, session, (grant.patient,))
    accounts = accounts_with(session, own)
    for account in accounts:
        tell(rooms.messaging, session, account, "share-opened", grant.id, values, "/patient/seen")
    if not accounts:
        for phone in phones_of(rooms.archive.mpi, session, grant.patient)[:1]:
            queue_message(rooms.messaging, session, "sms", phone, "share-opened", {**values, "link": ""})
