"""Patient documents and records follow each other, through the change feed.

What a source says (DICOM, HL7 v2) becomes the Patient document of its record; a Patient document that a
client writes (FHIR) becomes a record. Each direction writes only what the other does not say already, so
the two come to rest, and what a client wrote beyond demographics stays.
"""

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from kernel.changes import Change
from mpi.demographics import SAID, Demographics, merged
from mpi.domains import systems
from mpi.links import merge_patient
from mpi.model import PatientRecord
from mpi.patient_document import demographics_of_patient, patient_document
from mpi.resolve import identify, record_of, say
from mpi.room import Mpi
from mpi.sealing import demographics_of
from records.model import Resource
from records.repository import write

INDEX = system("patient index")
OWN = "fhir"  # the issuer of Patients that come with no identifier of their own


def follow_patients(mpi: Mpi, session: Session, change: Change) -> None:
    """Write the document of a record that is new, or says something that its document does not."""
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == change.subject))
    if row is None:
        return
    domains = systems(session)
    replaced_by = ""
    if row.replaced_by is not None:
        replaced_by = session.get_one(PatientRecord, row.replaced_by).patient_id
    said = demographics_of(mpi, row)
    drawn = patient_document(said, domains, replaced_by)
    present = _document(session, row.patient_id)
    if present is not None:
        if (
            _says(demographics_of_patient(present[0], domains, row.institution)) == _says(said)
            and present[0].get("active", True) is drawn["active"]
        ):
            return
        drawn = present[0] | drawn
    write(mpi.records, session, INDEX, drawn, logical_id=row.patient_id, institution=row.institution)


def follow_documents(mpi: Mpi, session: Session, change: Change) -> None:
    """Make or change the record of a Patient document that somebody wrote."""
    resource_type, _, logical_id = change.subject.partition("/")
    present = _document(session, logical_id) if resource_type == "Patient" else None
    if present is None:
        return
    document, institution = present
    said = demographics_of_patient(document, systems(session), institution)
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == logical_id))
    if row is not None:
        known = demographics_of(mpi, row)
        if _says(known) != _says(said):
            erased = frozenset(name for name in SAID if getattr(known, name) and not getattr(said, name))
            say(mpi, session, INDEX, row, merged(known, replace(said, erased=erased)))
        _obey_merge(mpi, session, row, document)
        return
    if not said.identifier or record_of(session, said.issuer, said.identifier) is not None:
        said = replace(said, issuer=OWN, identifier=logical_id)
    identify(mpi, session, INDEX, said, logical_id)


def _obey_merge(mpi: Mpi, session: Session, row: PatientRecord, document: dict[str, Any]) -> None:
    """A client says that this Patient was replaced by another (PIXm ITI-104, Resolve Duplicate)."""
    for link in document.get("link", []):
        target = str(link.get("other", {}).get("reference", "")).rpartition("/")[2]
        known = session.scalar(select(PatientRecord.id).where(PatientRecord.patient_id == target))
        if (
            link.get("type") == "replaced-by"
            and document.get("active") is False
            and known not in (None, row.id)
        ):
            merge_patient(mpi, session, INDEX, row.patient_id, target, "FHIR replaced-by")
            return


def _says(said: Demographics) -> tuple[Any, ...]:
    """What is said in a form in which a record and its document are equal."""
    names = tuple(group.strip("^ ") for group in said.name.split("=") if group.strip("^ "))
    others = frozenset((item.system, item.value) for item in said.other_identifiers)
    return (
        frozenset(names), said.birth_date, said.sex, said.identity_number, said.insurance_number,
        said.phone, said.address, others,
    )  # fmt: skip


def _document(session: Session, logical_id: str) -> tuple[dict[str, Any], str] | None:
    """The present Patient document and the institution that owns it."""
    found = session.execute(
        select(Resource.body, Resource.institution).where(
            Resource.type == "Patient", Resource.logical_id == logical_id, ~Resource.deleted
        )
    ).first()
    return (json.loads(found.body), found.institution) if found and found.body else None
