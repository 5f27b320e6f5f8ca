"""The patient identity feed of FHIR: a source tells of its Patients, new, changed, replaced or gone.

IHE PMIR Mobile Patient Identity Feed (ITI-93): a history Bundle of Patients. A Patient that is inactive and
replaced by another is a merge of the source's own numbers; deletion takes the document away and leaves the
record, which keeps its studies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import Action, Caller
from kernel.errors import CloudfilmError, Forbidden, Kind
from mpi.demographics import Demographics
from mpi.domains import systems
from mpi.links import merge
from mpi.model import PatientRecord
from mpi.patient_document import demographics_of_patient
from mpi.resolve import identify, record_of
from mpi.room import Mpi
from mpi.sealing import demographics_of
from records.repository import remove

CHANGE, DELETE = Action("Patient", "u"), Action("Patient", "d")


class InvalidFeed(CloudfilmError):
    """A feed that does not hold what its profile asks for."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The feed cannot be read: {reason}.")


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry of the history Bundle."""

    full_url: str
    method: str  # POST, PUT or DELETE
    url: str  # of its request
    patient: dict[str, Any] | None


def take_feed(mpi: Mpi, caller: Caller, entries: Sequence[FeedEntry], source: str) -> list[str]:
    """Take all of a feed, or nothing; the logical ids of the Patients that it is about.

    source: what the message is called. Raises InvalidFeed, CannotMerge or Forbidden.
    """
    caller.require(CHANGE)
    with mpi.database.transaction() as session:
        return [_take(mpi, session, caller, entry, entries, source) for entry in entries]


def _take(
    mpi: Mpi,
    session: Session,
    caller: Caller,
    entry: FeedEntry,
    entries: Sequence[FeedEntry],
    source: str,
) -> str:
    if entry.method == "DELETE":
        return _delete(mpi, session, caller, entry)
    said = _said(mpi, session, caller, entry.patient)
    _require_own(session, caller, said)
    patient = entry.patient or {}
    replaced_by = [link for link in _list(patient.get("link")) if link.get("type") == "replaced-by"]
    if replaced_by and patient.get("active") is False:
        other = replaced_by[0].get("other")
        survivor = _survivor(mpi, session, caller, other if isinstance(other, dict) else {}, entries)
        _require_own(session, caller, survivor)
        merge(mpi, session, caller, said, survivor, source)
        return identify(mpi, session, caller, survivor).patient_id
    return identify(mpi, session, caller, said).patient_id


def _said(mpi: Mpi, session: Session, caller: Caller, patient: dict[str, Any] | None) -> Demographics:
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        raise InvalidFeed("an entry that is not deleted holds a Patient")
    institution = caller.principal.institution or mpi.records.institution
    said = demographics_of_patient(patient, systems(session), institution)
    if not said.identifier:
        raise InvalidFeed("a Patient has an identifier of its source")
    return said


def _survivor(
    mpi: Mpi, session: Session, caller: Caller, other: dict[str, Any], entries: Sequence[FeedEntry]
) -> Demographics:
    """Who replaces: another entry of the feed, a Patient by its identifier, or one that is here."""
    reference = str(other.get("reference", ""))
    for entry in entries:
        logical_id = (entry.patient or {}).get("id")
        if entry.patient and (reference == entry.full_url or reference == f"Patient/{logical_id}"):
            return _said(mpi, session, caller, entry.patient)
    identifier = other.get("identifier")
    if isinstance(identifier, dict):
        return _said(mpi, session, caller, {"resourceType": "Patient", "identifier": [identifier]})
    row = session.scalar(
        select(PatientRecord).where(PatientRecord.patient_id == reference.rpartition("/")[2])
    )
    if row is None:
        raise InvalidFeed("the Patient that replaces another is not known")
    return demographics_of(mpi, row)


def _delete(mpi: Mpi, session: Session, caller: Caller, entry: FeedEntry) -> str:
    caller.require(DELETE)
    path, _, query = entry.url.partition("?")
    logical_id = path.partition("Patient/")[2].strip("/")
    if query.startswith("identifier="):
        system, _, value = query.removeprefix("identifier=").replace("%7C", "|").partition("|")
        wanted = {"resourceType": "Patient", "identifier": [{"system": system, "value": value}]}
        said = _said(mpi, session, caller, wanted)
        row = record_of(session, said.issuer, said.identifier)
        logical_id = row.patient_id if row is not None else ""
    if not logical_id:
        raise InvalidFeed("the Patient to delete is not known")
    remove(mpi.records, session, caller, "Patient", logical_id)
    return logical_id


def _require_own(session: Session, caller: Caller, said: Demographics) -> None:
    """A hospital tells of its own numbers, not of another's."""
    row = record_of(session, said.issuer, said.identifier)
    own = caller.principal.institution
    if row is not None and not caller.reach_for("u").is_everywhere and row.institution != own:
        raise Forbidden("feed Patient", "The number belongs to another institution.")


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
