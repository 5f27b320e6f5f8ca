"""The review queue: pairs of records of which somebody has to say whether they are one person."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from access.caller import Action, Caller
from kernel.errors import Forbidden
from mpi.demographics import Demographics
from mpi.links import UnknownRecord
from mpi.model import PatientRecord, ReviewItem
from mpi.room import Mpi
from mpi.sealing import demographics_of

SEARCH_PATIENTS = Action("Patient", "s")


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


def open_reviews(mpi: Mpi, caller: Caller, most: int = 50, after: int = 0) -> tuple[list[Review], int]:
    """The open pairs, the likeliest first, and how many there are in all. Raises Forbidden.

    after: how many to leave out, for paging.
    """
    caller.require(SEARCH_PATIENTS)
    if not caller.reach.is_everywhere:
        raise Forbidden("review Patient", "The queue crosses institutions; ask the consortium's steward.")
    with mpi.database.snapshot() as session:
        total = session.scalar(select(func.count()).where(ReviewItem.state == "open")) or 0
        items = session.scalars(
            select(ReviewItem)
            .where(ReviewItem.state == "open")
            .order_by(ReviewItem.weight.desc(), ReviewItem.id)
            .offset(after)
            .limit(most)
        ).all()
        reviews = []
        for item in items:
            one = session.get(PatientRecord, item.patient_record_id)
            other = session.get(PatientRecord, item.other_record_id)
            if one is None or other is None:
                raise UnknownRecord(f"A record of review item {item.id}")
            reviews.append(
                Review(
                    item.id,
                    item.kind,
                    item.opened_at,
                    item.weight,
                    item.rules,
                    {field: (how, bits) for field, (how, bits) in json.loads(item.scores).items()},
                    (one.patient_id, other.patient_id),
                    (demographics_of(mpi, one), demographics_of(mpi, other)),
                )
            )
    return reviews, total
