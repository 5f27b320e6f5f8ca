"""Merge and link: what a source does to its own records, and what people decide about persons.

A merge (HL7 v2 A40, FHIR replaced-by) is a source's word on its own numbers and is obeyed within that
issuer. A link is ours: it says that records of several sources are one person. Both are written down with
who asked and can be taken back; nothing is deleted.
"""

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from kernel.changes import record_change
from kernel.errors import CloudfilmError, Kind
from mpi.candidates import hashes_of, reindex_record
from mpi.demographics import Authority, Demographics, merged
from mpi.features import features_of
from mpi.model import MergeEvent, PatientRecord, ReviewItem
from mpi.resolve import connect, identify, new_person, surviving
from mpi.room import Mpi
from mpi.sealing import demographics_of, seal

CHANGE_PATIENT = Action("Patient", "u")


class CannotMerge(CloudfilmError):
    """A merge that makes no sense: a record into itself, or across issuers."""

    kind = Kind.CONFLICT


class UnknownRecord(CloudfilmError):
    """There is no such patient record, review item or merge."""

    kind = Kind.NOT_FOUND

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was not found.")


def merge(
    mpi: Mpi, session: Session, caller: Caller, prior: Demographics, surviving_said: Demographics, source: str
) -> MergeEvent | None:
    """Join the prior number into the surviving one, as its issuer asks (HL7 v2 A40, chapter 3.3.40).

    Returns what was done; None when the two are one record already.

    Numbers that are not known yet are made, so that images which come later under the prior one find the
    survivor. Raises CannotMerge or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    if prior.issuer != surviving_said.issuer:
        raise CannotMerge("Records of different issuers are linked, not merged.")
    if prior.identifier == surviving_said.identifier:
        raise CannotMerge("A number cannot be merged into itself.")
    target = session.get_one(PatientRecord, identify(mpi, session, caller, surviving_said).patient_record_id)
    row = session.scalar(
        select(PatientRecord).where(
            PatientRecord.issuer == prior.issuer, PatientRecord.identifier == prior.identifier
        )
    )
    if row is None:
        row = session.get_one(PatientRecord, identify(mpi, session, caller, prior).patient_record_id)
    row = surviving(session, row)
    if row.id == target.id:
        return None
    return _replace(mpi, session, caller, row, target, source)


def merge_patient(
    mpi: Mpi, session: Session, caller: Caller, patient_id: str, into_patient_id: str, source: str
) -> MergeEvent | None:
    """Join one record into another as its source says in FHIR (PIXm ITI-104, `replaced-by`).

    Returns None when that was done before. Raises CannotMerge, UnknownRecord or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    row = _record(session, patient_id)
    target = surviving(session, _record(session, into_patient_id))
    if row.id == target.id:
        raise CannotMerge("A record cannot be merged into itself.")
    if row.replaced_by is not None:
        return None
    return _replace(mpi, session, caller, row, target, source)


def _replace(
    mpi: Mpi,
    session: Session,
    caller: Caller,
    row: PatientRecord,
    target: PatientRecord,
    source: str,
) -> MergeEvent:
    event = MergeEvent(
        record_id=row.id,
        surviving_record_id=target.id,
        previous_person_id=row.person_id,
        source=source[:128],
        actor=caller.principal.id[:64],
        at=mpi.clock.now(),
    )
    session.add(event)
    known = demographics_of(mpi, target)
    filled = merged(known, _weak(demographics_of(mpi, row)))
    target.sealed = seal(mpi.keys, filled)
    row.replaced_by = target.id
    session.flush()
    before = hashes_of(mpi.keys, features_of(known))
    reindex_record(session, target.id, before, hashes_of(mpi.keys, features_of(filled)))
    if row.person_id != target.person_id and target.person_id is not None:
        connect(mpi, session, caller, row.id, target.person_id, "merge")
    record_change(
        session, mpi.clock, "patient-merged", row.patient_id, into=target.patient_id, person=target.person_id
    )
    record_change(session, mpi.clock, "patient-changed", target.patient_id, person=target.person_id)
    note(
        session, mpi.clock, caller, "merge Patient", f"Patient/{row.patient_id}",
        patient_id=target.patient_id, detail=f"into Patient/{target.patient_id}",
    )  # fmt: skip
    return event


def _weak(said: Demographics) -> Demographics:
    """The same, so that it only fills what is empty."""
    return replace(said, authority=Authority.IMAGE, other_identifiers=())


def unmerge(mpi: Mpi, session: Session, caller: Caller, event_id: int) -> None:
    """Take a merge back: the record stands for itself again, with the person that it had.

    Raises UnknownRecord when there is no such merge, or it was taken back before; or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    event = session.get(MergeEvent, event_id, with_for_update=True)
    if event is None or event.undone_at is not None:
        raise UnknownRecord(f"Merge {event_id}")
    event.undone_at = mpi.clock.now()
    row = session.get_one(PatientRecord, event.record_id)
    row.replaced_by = None
    session.flush()
    connect(mpi, session, caller, row.id, event.previous_person_id or new_person(mpi, session), "unmerge")
    record_change(session, mpi.clock, "patient-unmerged", row.patient_id, person=row.person_id)
    record_change(session, mpi.clock, "patient-changed", row.patient_id, person=row.person_id)
    note(
        session, mpi.clock, caller, "unmerge Patient", f"Patient/{row.patient_id}", patient_id=row.patient_id
    )


def link(mpi: Mpi, session: Session, caller: Caller, patient_id: str, other_patient_id: str) -> None:
    """Say that two records are one person (HL7 v2 A24): all of the other's records come along.

    Raises UnknownRecord or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    row, other = _record(session, patient_id), _record(session, other_patient_id)
    _join(mpi, session, caller, row, other, "manual")
    note(
        session, mpi.clock, caller, "link Patient", f"Patient/{other_patient_id}",
        patient_id=patient_id, detail=f"with Patient/{patient_id}",
    )  # fmt: skip


def _join(
    mpi: Mpi, session: Session, caller: Caller, row: PatientRecord, other: PatientRecord, reason: str
) -> None:
    if row.person_id == other.person_id or row.person_id is None:
        return
    members = session.scalars(
        select(PatientRecord.id).where(
            PatientRecord.person_id == other.person_id, PatientRecord.replaced_by.is_(None)
        )
    ).all()
    for record_id in members:
        connect(mpi, session, caller, record_id, row.person_id, reason)


def unlink(mpi: Mpi, session: Session, caller: Caller, patient_id: str) -> int:
    """Take a record out of its person (HL7 v2 A37): it gets one of its own, which is returned.

    The records it leaves are remembered as somebody else's, so that it is not linked to them again.
    Raises UnknownRecord or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    row = _record(session, patient_id)
    left = session.scalars(
        select(PatientRecord.id).where(
            PatientRecord.person_id == row.person_id,
            PatientRecord.id != row.id,
            PatientRecord.replaced_by.is_(None),
        )
    ).all()
    person_id = new_person(mpi, session)
    connect(mpi, session, caller, row.id, person_id, "manual")
    for other in left:
        _remember_apart(mpi, session, caller, row.id, other)
    note(session, mpi.clock, caller, "unlink Patient", f"Patient/{patient_id}", patient_id=patient_id)
    return person_id


def _remember_apart(mpi: Mpi, session: Session, caller: Caller, record_id: int, other_id: int) -> None:
    item = session.scalar(
        select(ReviewItem).where(
            ReviewItem.kind == "possible-match",
            ReviewItem.patient_record_id == record_id,
            ReviewItem.other_record_id == other_id,
        )
    )
    if item is None:
        item = ReviewItem(
            kind="possible-match",
            patient_record_id=record_id,
            other_record_id=other_id,
            opened_at=mpi.clock.now(),
        )
        session.add(item)
    item.state, item.decided_at, item.decided_by = "rejected", mpi.clock.now(), caller.principal.id[:64]


def decide_review(mpi: Mpi, session: Session, caller: Caller, item_id: int, *, same_person: bool) -> None:
    """Close a review item. One person: the records are linked, and a conflict's record is merged.

    Raises UnknownRecord when there is no such open item, or Forbidden.
    """
    caller.require(CHANGE_PATIENT)
    item = session.get(ReviewItem, item_id, with_for_update=True)
    if item is None or item.state != "open":
        raise UnknownRecord(f"Open review item {item_id}")
    item.state = "accepted" if same_person else "rejected"
    item.decided_at, item.decided_by = mpi.clock.now(), caller.principal.id[:64]
    session.flush()
    row = session.get_one(PatientRecord, item.patient_record_id)
    other = surviving(session, session.get_one(PatientRecord, item.other_record_id))
    if same_person and item.kind == "conflict":
        _replace(mpi, session, caller, row, other, f"review {item.id}")
    elif same_person:
        _join(mpi, session, caller, other, row, "review")
    elif row.person_id == other.person_id:
        connect(mpi, session, caller, row.id, new_person(mpi, session), "review")
    note(
        session, mpi.clock, caller, "review Patient", f"Patient/{row.patient_id}",
        patient_id=other.patient_id, detail=f"{item.kind} {item.state}",
    )  # fmt: skip


def _record(session: Session, patient_id: str) -> PatientRecord:
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == patient_id))
    if row is None:
        raise UnknownRecord(f"Patient/{patient_id}")
    return row
