"""Changes of many records that are known: as `mpi.resolve.say`, with a handful of statements for all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_changes
from kernel.database import table_of
from kernel.writes import write_all
from mpi.candidates import Candidate, hashes_of
from mpi.crew import Crew, Prepared
from mpi.demographics import Demographics
from mpi.features import features_of
from mpi.model import PatientRecord, ReviewItem
from mpi.neighbours import Neighbours, add_keys, parts, remove_keys
from mpi.resolve import Identified, State, ask_all, connect, consider
from mpi.room import Mpi

TOGETHER = 400  # numbers that one statement asks for


@dataclass(frozen=True, slots=True)
class Change:
    """A record of the index that says something else from now on."""

    record_id: int
    person_id: int
    patient_id: str
    before: Demographics
    now: Demographics


def change_all(
    mpi: Mpi, session: Session, caller: Caller, crew: Crew, changes: Sequence[Change]
) -> list[Identified]:
    """Keep what records say now, find them by it, and look again whose those are that are alone with their
    person. Each record comes once; whose each is now."""
    prepared = [
        each
        for future in [crew.prepare([change.now for change in part]) for part in parts(changes, TOGETHER)]
        for each in future.result()
    ]
    at = mpi.clock.now()
    said = [
        {
            "record": change.record_id, "is_now": record.sealed,
            "on_authority": int(change.now.authority), "since": at,
        }
        for change, record in zip(changes, prepared, strict=True)
    ]  # fmt: skip
    write_all(session.connection(), [(_SAY, said)])
    _reindex(mpi, session, changes, prepared)
    moved = _place_again(mpi, session, caller, crew, list(zip(changes, prepared, strict=True)))
    told = [("patient-changed", each.patient_id, {"person": each.person_id}) for each in changes]
    record_changes(session, mpi.clock, told)
    session.expire_all()  # the ORM did not see it
    return [
        Identified(each.record_id, each.patient_id, moved.get(each.record_id, each.person_id), State.KNOWN)
        for each in changes
    ]


def _reindex(mpi: Mpi, session: Session, changes: Sequence[Change], prepared: Sequence[Prepared]) -> None:
    gone, come = [], []
    for change, record in zip(changes, prepared, strict=True):
        before, now = set(hashes_of(mpi.keys, features_of(change.before))), set(record.hashes)
        gone += [(key, change.record_id) for key in before - now]
        come += [(key, change.record_id) for key in now - before]
    remove_keys(session, gone)
    add_keys(session, come)


def _place_again(
    mpi: Mpi, session: Session, caller: Caller, crew: Crew, changed: Sequence[tuple[Change, Prepared]]
) -> dict[int, int]:
    """Records that went to another person, and to which."""
    members = _members(session, [change.person_id for change, _ in changed])
    alone = [(change, record) for change, record in changed if members[change.person_id] == 1]
    apart = _told_apart(session, [change.record_id for change, _ in alone])
    neighbours = Neighbours(session)
    near = neighbours.near(crew, [(change.record_id, record) for change, record in alone], are_new=False)
    moved: dict[int, int] = {}
    for (change, _), found in zip(alone, near, strict=True):
        if members[change.person_id] != 1:
            continue
        candidates = [
            Candidate(number, moved.get(number) or neighbours.person_of(number), "", scored)
            for number, scored in found
        ]
        candidates.sort(key=lambda candidate: -candidate.scored.weight)
        placement = consider(mpi, candidates, apart.get(change.record_id, frozenset()))
        ask_all(mpi, session, change.record_id, placement)
        if placement.link is not None:
            person_id = placement.link.person_id
            connect(
                mpi, session, caller, change.record_id, person_id, placement.reason, placement.link.scored
            )
            moved[change.record_id] = person_id
            members[change.person_id] -= 1
            members[person_id] += 1
    return moved


def _members(session: Session, person_ids: Sequence[int]) -> Counter[int]:
    """How many records each person has."""
    members: Counter[int] = Counter()
    for part in parts(sorted(set(person_ids)), TOGETHER):
        rows = session.connection().execute(_MEMBERS, {"persons": part})
        members.update({row.person_id: row.records for row in rows})
    return members


def _told_apart(session: Session, record_ids: Sequence[int]) -> dict[int, frozenset[int]]:
    """For each record those that a reviewer said are of somebody else."""
    apart: dict[int, frozenset[int]] = {}
    for part in parts(record_ids, TOGETHER):
        for one, other in session.connection().execute(_TOLD_APART, {"records": part}):
            apart[one] = apart.get(one, frozenset()) | {other}
            apart[other] = apart.get(other, frozenset()) | {one}
    return apart


_RECORD, _REVIEW = table_of(PatientRecord), table_of(ReviewItem)
_SAY = (
    update(_RECORD)
    .where(_RECORD.c.id == bindparam("record"))
    .values(sealed=bindparam("is_now"), authority=bindparam("on_authority"), changed_at=bindparam("since"))
)
_MEMBERS = (
    select(_RECORD.c.person_id, func.count().label("records"))
    .where(_RECORD.c.person_id.in_(bindparam("persons", expanding=True)))
    .group_by(_RECORD.c.person_id)
)
_TOLD_APART = select(_REVIEW.c.patient_record_id, _REVIEW.c.other_record_id).where(
    _REVIEW.c.state == "rejected",
    or_(
        _REVIEW.c.patient_record_id.in_(bindparam("records", expanding=True)),
        _REVIEW.c.other_record_id.in_(bindparam("records", expanding=True)),
    ),
)
