"""Identify: the one entrance for everybody who brings a patient.

Every ingest path (a DICOM header, an HL7 v2 message, a FHIR Patient, an upload) says what it knows and gets
back the record and the person. It runs inside the transaction of the thing that is brought. The usual case,
a number that is known and demographics that say nothing new, is one indexed select and no write.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_change
from kernel.clock import new_id
from mpi.demographics import Demographics, from_plain, merged, to_plain
from mpi.model import Link, PatientRecord, Person
from mpi.room import Mpi

SEALED = "patient_record.sealed"
MOST_MERGES = 32  # a chain of merges longer than this is a mistake, and is not followed


class State(Enum):
    """What became of what was said."""

    KNOWN = "known"  # the record was there
    NEW = "new"  # a new record, and a new person
    LINKED = "linked"  # a new record of a known person
    HELD = "held"  # a new record, kept apart until somebody has looked


@dataclass(frozen=True, slots=True)
class Identified:
    """Whose record it is."""

    patient_record_id: int
    patient_id: str  # logical id of the Patient document
    person_id: int
    state: State


def identify(mpi: Mpi, session: Session, caller: Caller, said: Demographics) -> Identified:
    """The record and the person that a source speaks of, made if they are new.

    said.identifier: empty for a patient without a number, who is then known by name, birth date and sex at
    this issuer, or, with no name either, not at all: a new record each time.
    """
    identifier = said.identifier or _stand_in(mpi, said)
    row = record_of(session, said.issuer, identifier)
    if row is None:
        return _new_record(mpi, session, caller, said, identifier)
    known = demographics_of(mpi, row)
    now_said = merged(known, said)
    if now_said != known:
        _say(mpi, session, row, now_said)
    if row.person_id is None:
        _link(mpi, session, caller, row.id, _new_person(mpi, session), "new")
    return Identified(row.id, row.patient_id, row.person_id or 0, State.KNOWN)


def record_of(session: Session, issuer: str, identifier: str) -> PatientRecord | None:
    """The record of this number; of a merged one, the record that survived."""
    row = session.scalar(
        select(PatientRecord).where(PatientRecord.issuer == issuer, PatientRecord.identifier == identifier)
    )
    for _ in range(MOST_MERGES):
        if row is None or row.replaced_by is None:
            break
        row = session.get(PatientRecord, row.replaced_by)
    return row


def demographics_of(mpi: Mpi, row: PatientRecord) -> Demographics:
    """What a record says."""
    plain = json.loads(mpi.keys.open_bytes(row.sealed, SEALED))
    return from_plain(plain, row.issuer, row.identifier, row.institution, row.authority)


def _stand_in(mpi: Mpi, said: Demographics) -> str:
    if not said.name:
        return f"~{new_id()}"
    return "~" + mpi.keys.blind_index(f"{said.name}|{said.birth_date}|{said.sex}")[:32]


def _seal(mpi: Mpi, said: Demographics) -> bytes:
    return mpi.keys.seal_bytes(json.dumps(to_plain(said), ensure_ascii=False).encode(), SEALED)


def _new_record(
    mpi: Mpi, session: Session, caller: Caller, said: Demographics, identifier: str
) -> Identified:
    now = mpi.clock.now()
    values: dict[str, Any] = {
        "issuer": said.issuer,
        "identifier": identifier,
        "institution": said.institution,
        "patient_id": new_id(),
        "authority": said.authority,
        "sealed": _seal(mpi, said),
        "created_at": now,
        "changed_at": now,
    }
    insert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    record_id = session.scalar(
        insert(PatientRecord).values(values).on_conflict_do_nothing().returning(PatientRecord.id)
    )
    if record_id is None:  # another transaction was first
        return identify(mpi, session, caller, said)
    person_id = _new_person(mpi, session)
    _link(mpi, session, caller, record_id, person_id, "new")
    record_change(session, mpi.clock, "patient-created", values["patient_id"], person=person_id)
    return Identified(record_id, values["patient_id"], person_id, State.NEW)


def _say(mpi: Mpi, session: Session, row: PatientRecord, said: Demographics) -> None:
    row.sealed = _seal(mpi, said)
    row.authority = said.authority
    row.changed_at = mpi.clock.now()
    record_change(session, mpi.clock, "patient-changed", row.patient_id, person=row.person_id)


def _new_person(mpi: Mpi, session: Session) -> int:
    person = Person(logical_id=new_id(), created_at=mpi.clock.now())
    session.add(person)
    session.flush()
    return person.id


def _link(mpi: Mpi, session: Session, caller: Caller, record_id: int, person_id: int, reason: str) -> None:
    session.execute(update(PatientRecord).where(PatientRecord.id == record_id).values(person_id=person_id))
    session.add(
        Link(
            patient_record_id=record_id,
            person_id=person_id,
            reason=reason,
            actor=caller.principal.id[:64],
            at=mpi.clock.now(),
        )
    )
