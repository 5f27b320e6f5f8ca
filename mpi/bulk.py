"""Bulk: many records at once, matched as `identify` matches one, with a handful of statements for all.

For loading a hospital's register into the index. Records that are known and say something new come first
(`mpi.bulk_changes`), so that new ones find what they say now. Of the new ones each finds the earlier ones of
its batch. What is rare comes at last, one by one: a record without a number, a contradiction, and a number
that says something else within its batch.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_changes
from kernel.clock import new_id
from kernel.database import table_of
from kernel.writes import reserve, write_all
from mpi.bulk_changes import Change, change_all
from mpi.candidates import Candidate
from mpi.crew import Crew, Prepared
from mpi.demographics import Demographics, merged
from mpi.model import Link, PatientRecord, Person, ReviewItem
from mpi.neighbours import Found, Neighbours, add_keys, parts
from mpi.resolve import (
    Identified,
    Placement,
    State,
    consider,
    identify,
    is_contradicted,
    says_nothing_new,
)
from mpi.room import Mpi
from mpi.sealing import demographics_of

TOGETHER = 400  # numbers that one statement asks for, and records that a process of the crew prepares at once
AHEAD = 2  # batches that the crew prepares while one is written


def prepared_batches(crew: Crew, said: Iterable[Demographics], size: int) -> Iterator[list[Prepared]]:
    """Records in batches for `identify_all`, of which the crew prepares the next ones meanwhile."""
    records = iter(said)
    waiting: list[list[Future[list[Prepared]]]] = []
    while True:
        while len(waiting) <= AHEAD and (batch := list(islice(records, size))):
            waiting.append([crew.prepare(part) for part in parts(batch, TOGETHER)])
        if not waiting:
            return
        yield [each for future in waiting.pop(0) for each in future.result()]


def identify_all(
    mpi: Mpi, session: Session, caller: Caller, crew: Crew, batch: Sequence[Prepared]
) -> list[Identified]:
    """Identify records within the caller's transaction: whose each is, in their order.

    Raises sqlalchemy's IntegrityError when another transaction brought one of the numbers meanwhile.
    """
    session.flush()
    sorted_out = _sort_out(mpi, session, batch)
    found = sorted_out.known
    if changed := sorted_out.changed:
        found |= zip(changed, change_all(mpi, session, caller, crew, list(changed.values())), strict=True)
    if new := sorted_out.new:
        found |= zip(new, _place_all(mpi, session, caller, crew, list(new.values())), strict=True)
    for at, first in sorted_out.again.items():
        found[at] = replace(found[first], state=State.KNOWN, is_changed=False)
    for at, said in sorted_out.single.items():
        found[at] = identify(mpi, session, caller, said)
    return [found[at] for at in range(len(batch))]


class _SortedOut:
    """A batch by what is to be done with each record, which goes by its place there."""

    def __init__(self) -> None:
        self.new: dict[int, Prepared] = {}
        self.again: dict[int, int] = {}  # of a number that is new, with nothing new: the place of the first
        self.changed: dict[int, Change] = {}
        self.single: dict[int, Demographics] = {}
        self.known: dict[int, Identified] = {}  # with nothing new


def _sort_out(mpi: Mpi, session: Session, batch: Sequence[Prepared]) -> _SortedOut:
    """Tell new numbers, each once, from those that are known with nothing new or something new to say."""
    known = _known(session, batch)
    found, new, apart = _SortedOut(), dict[tuple[str, str], int](), set[tuple[str, str]]()
    for at, record in enumerate(batch):
        said = record.said
        number = (said.issuer, said.identifier)
        row = known.get(number)
        if not said.identifier or len(said.identifier) > 64 or number in apart:
            found.single[at] = said
        elif number in new:
            if says_nothing_new(found.new[new[number]].said, said):
                found.again[at] = new[number]
            else:
                apart.add(number)
                found.single[at] = said
        elif row is None:
            new[number] = at
            found.new[at] = record
        elif row.replaced_by is not None or is_contradicted(before := demographics_of(mpi, row), said):
            apart.add(number)
            found.single[at] = said
        elif (now := merged(before, said)) == before:
            found.known[at] = Identified(row.id, row.patient_id, row.person_id or 0, State.KNOWN, False)
        else:
            apart.add(number)
            found.changed[at] = Change(row.id, row.person_id or 0, row.patient_id, before, now)
    return found


def _known(session: Session, batch: Sequence[Prepared]) -> dict[tuple[str, str], Any]:
    """The rows of the numbers that are known."""
    known: dict[tuple[str, str], Any] = {}
    for issuer in {record.said.issuer for record in batch}:
        numbers = list({record.said.identifier for record in batch if record.said.issuer == issuer})
        for part in parts(numbers, TOGETHER):
            rows = session.connection().execute(_KNOWN, {"of": issuer, "numbers": part})
            known.update(((issuer, row.identifier), row) for row in rows)
    return known


def _place_all(
    mpi: Mpi, session: Session, caller: Caller, crew: Crew, batch: Sequence[Prepared]
) -> list[Identified]:
    """Find the person of each record among those of the index and of the earlier ones, and write all."""
    numbers = reserve(session.connection(), _RECORD, len(batch))
    neighbours = Neighbours(session)
    near = neighbours.near(crew, list(zip(numbers, batch, strict=True)), are_new=True)
    persons: dict[int, int] = {}  # of the records of the batch; one that a record founds is called by -number
    placements: list[Placement] = []
    for number, found in zip(numbers, near, strict=True):
        placement = consider(mpi, _candidates(found, persons, neighbours))
        placements.append(placement)
        persons[number] = placement.link.person_id if placement.link is not None else -number
    founders = [number for number, person in persons.items() if person == -number]
    people = reserve(session.connection(), _PERSON, len(founders))
    founded = dict(zip((-number for number in founders), people, strict=True))
    persons = {number: founded.get(person, person) for number, person in persons.items()}
    return _write(mpi, session, caller, batch, persons, placements, list(founded.values()))


def _candidates(found: Found, persons: dict[int, int], neighbours: Neighbours) -> list[Candidate]:
    candidates = [
        Candidate(number, persons.get(number) or neighbours.person_of(number), "", scored)
        for number, scored in found
    ]
    return sorted(candidates, key=lambda candidate: -candidate.scored.weight)


def _write(
    mpi: Mpi,
    session: Session,
    caller: Caller,
    batch: Sequence[Prepared],
    persons: dict[int, int],
    placements: Sequence[Placement],
    founded: list[int],
) -> list[Identified]:
    """Write persons, records, keys, links, questions and changes, each kind at once."""
    now, weights = mpi.clock.now(), mpi.scorer.weights
    records, links, questions, changes, identified = [], [], [], [], []
    for (number, person_id), record, placement in zip(persons.items(), batch, placements, strict=True):
        said, patient_id = record.said, new_id()
        records.append(
            {
                "id": number, "issuer": said.issuer, "identifier": said.identifier,
                "institution": said.institution, "patient_id": patient_id, "person_id": person_id,
                "replaced_by": None, "authority": int(said.authority), "sealed": record.sealed,
                "created_at": now, "changed_at": now,
            }
        )  # fmt: skip
        scored = placement.link.scored if placement.link is not None else None
        links.append(
            {
                "patient_record_id": number, "person_id": person_id, "previous_person_id": None,
                "reason": placement.reason, "weight": scored.weight if scored else 0.0,
                "scores": json.dumps(scored.by_field(weights)) if scored else "{}",
                "weights_version": weights.version if scored else "",
                "actor": caller.principal.id[:64], "at": now,
            }
        )  # fmt: skip
        questions += [
            {
                "kind": "possible-match", "patient_record_id": number, "other_record_id": other.record_id,
                "weight": other.scored.weight, "scores": json.dumps(other.scored.by_field(weights)),
                "rules": other.scored.rule, "sealed": None, "state": "open", "opened_at": now,
                "decided_at": None, "decided_by": "",
            }
            for other in placement.doubtful
        ]  # fmt: skip
        state = State.NEW if scored is None else State.LINKED
        identified.append(Identified(number, patient_id, person_id, state))
        changes.append(("patient-created", patient_id, {"person": person_id, "state": state.value}))
        if scored is not None:
            changes.append(("patient-linked", patient_id, {"person": person_id}))
    people = [{"id": each, "logical_id": new_id(), "created_at": now} for each in founded]
    write_all(session.connection(), [(_ADD_PERSONS, people), (_ADD_RECORDS, records)])
    add_keys(session, ((key, at) for at, record in zip(persons, batch, strict=True) for key in record.hashes))
    write_all(session.connection(), [(_ADD_LINKS, links), (_ASK_ALL, questions)])
    record_changes(session, mpi.clock, changes)
    return identified


_RECORD, _PERSON = table_of(PatientRecord), table_of(Person)
_KNOWN = select(
    _RECORD.c.id, _RECORD.c.person_id, _RECORD.c.patient_id, _RECORD.c.replaced_by, _RECORD.c.issuer,
    _RECORD.c.identifier, _RECORD.c.institution, _RECORD.c.authority, _RECORD.c.sealed,
).where(
    _RECORD.c.issuer == bindparam("of"), _RECORD.c.identifier.in_(bindparam("numbers", expanding=True))
)  # fmt: skip
_ADD_PERSONS, _ADD_RECORDS = insert(_PERSON), insert(_RECORD)
_ADD_LINKS, _ASK_ALL = insert(table_of(Link)), insert(table_of(ReviewItem))
