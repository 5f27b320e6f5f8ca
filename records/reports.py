"""Reports: a report comes in, is corrected or withdrawn; it is one DiagnosticReport with its history.

It names its study by Study Instance UID, accession number or order numbers. Binding it to the stored study
is `archive`'s, which knows studies: at once, or when the study comes. FHIR R4 DiagnosticReport; IHE RAD-28.
"""

import base64
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_change
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind
from records.identifiers import find_by_identifier, present_document
from records.orders import IDENTIFIER_TYPE, STUDY_UID, Number, accession_number_of, study_uid_of
from records.repository import write
from records.room import Records

FINAL = frozenset({"final", "amended", "corrected", "appended"})


class StaleReport(CloudfilmError):
    """A preliminary report that comes after its final one: the final one stands."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("A final report is there already; send a correction (OBR-25 C) to change it.")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A rendered form of a report, as it came."""

    content_type: str
    content: bytes
    title: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report as a source says it; what is empty was not said."""

    patient_id: str  # logical id of the Patient document
    institution: str
    number: Number = field(default_factory=Number)  # the filler's own number of the report
    placer: Number = field(default_factory=Number)
    accession_number: str = ""
    study_instance_uid: str = ""
    status: str = "final"  # of DiagnosticReport
    text: str = ""  # findings and impression as plain text
    conclusion: str = ""  # the impression alone, when it is marked as such
    attachments: tuple[Attachment, ...] = ()
    document: dict[str, Any] = field(default_factory=dict)  # DiagnosticReport elements drawn from the message
    observations: tuple[dict[str, Any], ...] = ()  # Observation documents, without subject and status


def file_report(records: Records, session: Session, caller: Caller, report: Report) -> str:
    """Write a report, within the caller's transaction. Returns the logical id of its DiagnosticReport.

    A report of a number that is known is its next version. Raises StaleReport or Forbidden.
    """
    known_id = find_report(session, report)
    known = present_document(session, "DiagnosticReport", known_id) if known_id else None
    if known is not None and known.get("status") in FINAL and report.status in ("preliminary", "registered"):
        raise StaleReport
    order_id = _order_of(session, report)
    report = _with_numbers_of_order(session, report, order_id)
    logical_id = known_id or new_id()
    document = _document(known or {}, report)
    if order_id:
        document["basedOn"] = [{"reference": f"ServiceRequest/{order_id}"}]
    if report.observations:
        document["result"] = [
            {"reference": f"Observation/{_observe(records, session, caller, logical_id, at, report)}"}
            for at in range(len(report.observations))
        ]
    write(records, session, caller, document, logical_id=logical_id, institution=report.institution)
    record_change(
        session, records.clock, "report-filed", logical_id,
        status=report.status, accession_number=report.accession_number,
        study=report.study_instance_uid, institution=report.institution,
    )  # fmt: skip
    return logical_id


def find_report(session: Session, report: Report) -> str | None:
    """The DiagnosticReport of this filler number; without one, of the accession number."""
    for number in (report.number, Number(report.accession_number)):
        if number.value:
            return find_by_identifier(
                session, "DiagnosticReport", number.system, number.value, report.institution
            )
    return None


def _order_of(session: Session, report: Report) -> str | None:
    for number in (report.placer, report.number, Number(report.accession_number)):
        found = number.value and find_by_identifier(
            session, "ServiceRequest", number.system, number.value, report.institution
        )
        if found:
            return found
    return None


def _with_numbers_of_order(session: Session, report: Report, order_id: str | None) -> Report:
    """The order says which study it is, where the report does not."""
    order = (present_document(session, "ServiceRequest", order_id) if order_id else None) or {}
    return replace(
        report,
        accession_number=report.accession_number or accession_number_of(order),
        study_instance_uid=report.study_instance_uid or study_uid_of(order),
    )


def _document(known: dict[str, Any], report: Report) -> dict[str, Any]:
    drawn = {key: value for key, value in report.document.items() if value not in ("", [], {}, None)}
    document = {"resourceType": "DiagnosticReport"} | known | drawn
    document["status"] = report.status
    document.setdefault("code", {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]})
    document.setdefault("category", [{"coding": [{"system": f"{TABLES}v2-0074", "code": "RAD"}]}])
    document["subject"] = {"reference": f"Patient/{report.patient_id}"}
    said = [
        ("FILL", report.number.system, report.number.value),
        ("ACSN", "", report.accession_number),
        ("", STUDY_UID, f"urn:oid:{report.study_instance_uid}" if report.study_instance_uid else ""),
    ]
    identifiers = {(item.get("system", ""), item.get("value")): item for item in known.get("identifier", [])}
    for type_, system, value in said:
        if value:
            identifiers[(system, value)] = {
                **({"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": type_}]}} if type_ else {}),
                **({"system": system} if system else {}),
                "value": value,
            }
    if identifiers:
        document["identifier"] = list(identifiers.values())
    if report.text or report.attachments:
        document["presentedForm"] = [_form(form) for form in _forms(report)]
    if report.conclusion or report.text:
        document["conclusion"] = report.conclusion or report.text
    return document


TABLES = "http://terminology.hl7.org/CodeSystem/"


def _forms(report: Report) -> list[Attachment]:
    text = [Attachment("text/plain; charset=utf-8", report.text.encode())] if report.text else []
    return [*text, *report.attachments]


def _form(form: Attachment) -> dict[str, Any]:
    return {
        "contentType": form.content_type,
        "data": base64.b64encode(form.content).decode(),
        "size": len(form.content),
        **({"title": form.title} if form.title else {}),
    }


def _observe(
    records: Records, session: Session, caller: Caller, report_id: str, at: int, report: Report
) -> str:
    logical_id = f"{report_id}-{at + 1}"
    document = {
        "resourceType": "Observation",
        "status": report.status if report.status != "appended" else "amended",
        "subject": {"reference": f"Patient/{report.patient_id}"},
        **report.observations[at],
    }
    write(records, session, caller, document, logical_id=logical_id, institution=report.institution)
    return logical_id
