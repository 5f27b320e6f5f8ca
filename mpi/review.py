"""The review queue: pairs of records of which somebody has to say whether they are one person."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from access.caller import Action, Caller, Reach
from mpi.demographics import Demographics
from mpi.links import UnknownRecord, decide_review, unlink
from mpi.model import PatientRecord, ReviewItem
from mpi.room import Mpi
from mpi.sealing import demographics_of
from records.model import Resource
from records.reach import within

Selected = TypeVar("Selected", bound=Select[*tuple[Any, ...]])

SEARCH_PATIENTS = Action("Patient", "s")
DECIDE = Action("Patient", "u")
MOST_COMPANIONS = 8


@dataclass(frozen=True, slots=True)
class Companion:
    """Another record of the person that a record is linked to."""

    patient_id: str
    said: Demographics


@dataclass(frozen=True, slots=True)
class Review:
    """One pair, side by side."""

    id: int
    kind: str  # possible-match; conflict: a header contradicts the record of its number
    opened_at: datetime
    weight: float  # log2 odds that both are of one person
    rule: str  # what kept them from being linked
    by_field: dict[str, tuple[str, float]]  # how each field agrees, and what that weighs
    patient_ids: tuple[str, str]
    sides: tuple[Demographics, Demographics]
    companions: tuple[tuple[Companion, ...], tuple[Companion, ...]] = ((), ())

    @property
    def probability(self) -> float:
        """The weight as a probability."""
        return 1 / (1 + 2.0**-self.weight) if self.weight > -60 else 0.0


def open_reviews(mpi: Mpi, caller: Caller, most: int = 50, after: int = 0) -> tuple[list[Review], int]:
    """The open pairs, the likeliest first, and how many there are in all; a caller sees the pairs of which
    it may know both records.

    after: how many to leave out, for paging. Raises Forbidden.
    """
    caller.require(SEARCH_PATIENTS)
    reached = _reached(select(ReviewItem).where(ReviewItem.state == "open"), caller.reach_for("s"))
    with mpi.database.snapshot() as session:
        total = session.scalar(select(func.count()).select_from(reached.subquery())) or 0
        ordered = reached.order_by(ReviewItem.weight.desc(), ReviewItem.id).offset(after).limit(most)
        items = session.scalars(ordered).all()
        numbers = {each for item in items for each in (item.patient_record_id, item.other_record_id)}
        rows = {
            row.id: row for row in session.scalars(select(PatientRecord).where(PatientRecord.id.in_(numbers)))
        }
        companions = _companions(mpi, session, list(rows.values()))
        return [_review(mpi, item, rows, companions) for item in items], total


def decide_pair(mpi: Mpi, caller: Caller, item_id: int, *, same_person: bool) -> None:
    """Close an open pair. Raises UnknownRecord for one that is not there for the caller, or Forbidden."""
    caller.require(DECIDE)
    with mpi.database.transaction() as session:
        _require(session, caller, item_id)
        decide_review(mpi, session, caller, item_id, same_person=same_person)


def split_off(mpi: Mpi, caller: Caller, item_id: int, patient_id: str) -> None:
    """Take one of a pair's records, or of the records linked to them, out of its person; the pair stays open.

    Raises UnknownRecord or Forbidden.
    """
    caller.require(DECIDE)
    with mpi.database.transaction() as session:
        item = _require(session, caller, item_id)
        persons = select(PatientRecord.person_id).where(
            PatientRecord.id.in_((item.patient_record_id, item.other_record_id))
        )
        of_pair = session.scalar(
            select(PatientRecord.id).where(
                PatientRecord.patient_id == patient_id, PatientRecord.person_id.in_(persons)
            )
        )
        if of_pair is None:
            raise UnknownRecord(f"Patient/{patient_id}")
        unlink(mpi, session, caller, patient_id)


def _require(session: Session, caller: Caller, item_id: int) -> ReviewItem:
    wanted = select(ReviewItem).where(ReviewItem.id == item_id, ReviewItem.state == "open")
    item = session.scalar(_reached(wanted, caller.reach_for("u")))
    if item is None:
        raise UnknownRecord(f"Open review item {item_id}")
    return item


def _reached(statement: Selected, reach: Reach) -> Selected:
    if reach.is_everywhere:
        return statement
    patients = within(select(Resource.logical_id).where(Resource.type == "Patient"), reach, "Patient")
    records = select(PatientRecord.id).where(PatientRecord.patient_id.in_(patients))
    return statement.where(ReviewItem.patient_record_id.in_(records), ReviewItem.other_record_id.in_(records))


def _companions(mpi: Mpi, session: Session, rows: list[PatientRecord]) -> dict[int, list[PatientRecord]]:
    """The records of each person that is spoken of."""
    persons = {row.person_id for row in rows if row.person_id is not None}
    found: dict[int, list[PatientRecord]] = {}
    for row in session.scalars(
        select(PatientRecord)
        .where(PatientRecord.person_id.in_(persons), PatientRecord.replaced_by.is_(None))
        .order_by(PatientRecord.id)
    ):
        found.setdefault(row.person_id or 0, []).append(row)
    return found


def _review(
    mpi: Mpi, item: ReviewItem, rows: dict[int, PatientRecord], of_person: dict[int, list[PatientRecord]]
) -> Review:
    one, other = rows[item.patient_record_id], rows[item.other_record_id]

    def companions(row: PatientRecord) -> tuple[Companion, ...]:
        others = [each for each in of_person.get(row.person_id or 0, ()) if each.id not in (one.id, other.id)]
        return tuple(
            Companion(each.patient_id, demographics_of(mpi, each)) for each in others[:MOST_COMPANIONS]
        )

    return Review(
        item.id,
        item.kind,
        item.opened_at,
        item.weight,
        item.rules,
        {field: (how, bits) for field, (how, bits) in json.loads(item.scores).items()},
        (one.patient_id, other.patient_id),
        (demographics_of(mpi, one), demographics_of(mpi, other)),
        (companions(one), companions(other)),
    )
