"""A report and its study find each other, whichever comes first.

A report names its study by Study Instance UID, by accession number, or through its order; where it has no
accession number, its filler's number is looked for as such, for many a RIS has but one number. Bound, the
DiagnosticReport refers to the ImagingStudy, which is what readers, shares and pages go by. IHE RAD-28.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from archive.model import Study, study_of
from kernel.changes import Change, record_change
from mpi.model import PatientRecord
from records.identifiers import find_by_identifier, present_document
from records.model import Resource
from records.orders import STUDY_UID, accession_number_of, study_uid_of
from records.repository import write
from records.room import Records

BINDER = system("report binding")


def follow_reports(records: Records, session: Session, change: Change) -> None:
    """Bind a report that was filed to its study, or a study that came to the report that waits for it."""
    if change.kind == "report-filed":
        _bind(records, session, change.subject, _study_of_report(session, change.subject))
    else:
        study = study_of(session, change.subject)
        if study is not None:
            _bind(records, session, _report_of_study(session, study), study)


def _study_of_report(session: Session, report_id: str) -> Study | None:
    report = present_document(session, "DiagnosticReport", report_id) or {}
    uid, numbers = study_uid_of(report), _accession_numbers(report)
    found = study_of(session, uid) if uid else None
    if found is not None or not numbers:
        return found
    owner = session.scalar(
        select(Resource.institution).where(
            Resource.type == "DiagnosticReport", Resource.logical_id == report_id
        )
    )
    return session.scalar(
        select(Study)
        .where(Study.accession_number.in_(numbers), Study.institution == owner)
        .order_by(Study.id)
        .limit(1)
    )


def _accession_numbers(report: dict[str, Any]) -> list[str]:
    """What may be the accession number of a report."""
    number = accession_number_of(report)
    return [number] if number else [each["value"] for each in report.get("identifier", []) if "value" in each]


def _report_of_study(session: Session, study: Study) -> str | None:
    found = find_by_identifier(session, "DiagnosticReport", STUDY_UID, f"urn:oid:{study.study_instance_uid}")
    if found is None and study.accession_number:
        found = find_by_identifier(session, "DiagnosticReport", "", study.accession_number, study.institution)
    return found


def _bind(records: Records, session: Session, report_id: str | None, study: Study | None) -> None:
    document = present_document(session, "DiagnosticReport", report_id) if report_id else None
    if document is None or study is None or report_id is None:
        return
    if not _is_one_person(session, document, study):
        record_change(session, records.clock, "report-contradicts-study", report_id, study=study.logical_id)
        return
    reference = {"reference": f"ImagingStudy/{study.logical_id}"}
    if reference in document.get("imagingStudy", []):
        return
    document["imagingStudy"] = [*document.get("imagingStudy", []), reference]
    write(records, session, BINDER, document, logical_id=report_id, institution=study.institution)


def _is_one_person(session: Session, report: dict[str, Any], study: Study) -> bool:
    """Whether report and study are of one person; a number that was used twice must not join two."""
    subject = str(report.get("subject", {}).get("reference", "")).removeprefix("Patient/")
    persons = session.scalars(
        select(PatientRecord.person_id).where(
            PatientRecord.patient_id.in_([subject, study.patient_logical_id])
        )
    ).all()
    return subject == study.patient_logical_id or (len(persons) == 2 and len(set(persons)) == 1)
