"""Bulk: many records at once, matched as `identify` matches one, with a handful of statements for all.

For loading a hospital's register into the index. Records of one batch are candidates of each other, in the
order in which they come. What is known already, or has no number, goes the way of single records.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_changes
from kernel.clock import new_id
from kernel.database import table_of
from mpi.blocking import MOST_IN_BLOCK, name_key
from mpi.candidates import (
    Candidate,
    blocks_of,
    features_of_row,
    hash_of,
    hashes_of,
    last_record,
    name_frequency,
    nearest_of,
    rows_of,
)
from mpi.demographics import Demographics
from mpi.features import Features, features_of
from mpi.model import BlockKey, Link, PatientRecord, Person, ReviewItem
from mpi.resolve import Placement, State, consider, identify
from mpi.room import Mpi
from mpi.sealing import seal

TOGETHER = 400  # hashes, numbers or rows that one statement asks for


@dataclass(slots=True)
class _Batch:
    """Records that are being placed. A record of the batch is called by -(its position + 1), and so is the
    person that it founds."""

    said: list[Demographics]
    features: list[Features]
    hashes: list[list[int]]
    blocks: dict[int, list[int]]
    known: dict[int, Candidate]  # records of the index that may be candidates; not scored yet
    known_features: dict[int, Features]
    records: int
    persons: list[int] = field(default_factory=list)  # of each record, as far as placed
    placements: list[Placement] = field(default_factory=list)


def identify_all(mpi: Mpi, session: Session, caller: Caller, batch: Sequence[Demographics]) -> Counter[State]:
    """Identify records within the caller's transaction; what became of them, counted.

    Raises sqlalchemy's IntegrityError when another transaction brought one of the numbers meanwhile.
    """
    session.flush()
    fresh, single = _part(session, [changed(said, issuer=said.issuer[:64]) for said in batch])
    states: Counter[State] = Counter()
    if fresh:
        placed = _prepared(mpi, session, fresh)
        for at in range(len(fresh)):
            _place(mpi, placed, at)
        states += _write(mpi, session, caller, placed)
    for said in single:
        states[identify(mpi, session, caller, said).state] += 1
    return states


def _part(session: Session, batch: list[Demographics]) -> tuple[list[Demographics], list[Demographics]]:
    """New numbers, each once; and what goes the way of single records."""
    known: set[tuple[str, str]] = set()
    for issuer in {said.issuer for said in batch}:
        numbers = list({said.identifier for said in batch if said.issuer == issuer and said.identifier})
        for part in _parts(numbers):
            known |= {
                (issuer, row.identifier)
                for row in session.connection().execute(_KNOWN, {"of": issuer, "numbers": part})
            }
    fresh, single = [], []
    for said in batch:
        number = (said.issuer, said.identifier)
        if not said.identifier or len(said.identifier) > 64 or number in known:
            single.append(said)
        else:
            known.add(number)
            fresh.append(said)
    return fresh, single


def _prepared(mpi: Mpi, session: Session, fresh: list[Demographics]) -> _Batch:
    """Look up every candidate that the index has, for all records at once."""
    features = [features_of(said) for said in fresh]
    hashes = [hashes_of(mpi, each) for each in features]
    blocks: dict[int, list[int]] = {}
    for part in _parts(list({each for keys in hashes for each in keys})):
        blocks |= blocks_of(session, part)
    wanted = {
        record_id
        for keys in hashes
        for record_id in nearest_of({key: blocks[key] for key in keys if key in blocks})
    }
    known, known_features = {}, {}
    for part in _parts(list(wanted)):
        for row in rows_of(session, part):
            known[row.id] = row
            known_features[row.id] = features_of_row(mpi, row)
    return _Batch(fresh, features, hashes, blocks, known, known_features, last_record(session))


def _place(mpi: Mpi, batch: _Batch, at: int) -> None:
    """Find the person of one record among those of the index and the earlier ones of the batch."""
    keys, features = batch.hashes[at], batch.features[at]
    shared = {key: members for key in keys if (members := batch.blocks.get(key))}
    records = batch.records + at
    bearers = len(shared.get(hash_of(mpi, name_key(features.name)), ())) if features.name else 0
    frequency = name_frequency(features, bearers, records)
    candidates = []
    for record_id in nearest_of(shared):
        other = batch.known_features.get(record_id) if record_id > 0 else batch.features[-record_id - 1]
        if other is None:
            continue
        row: Any = batch.known.get(record_id)
        person_id = row.person_id or 0 if row is not None else batch.persons[-record_id - 1]
        scored = mpi.scorer.score(features, other, frequency, records)
        candidates.append(Candidate(record_id, person_id, "", scored))
    candidates.sort(key=lambda candidate: -candidate.scored.weight)
    placement = consider(mpi, candidates)
    batch.placements.append(placement)
    batch.persons.append(placement.link.person_id if placement.link is not None else -at - 1)
    for key in keys:
        members = batch.blocks.setdefault(key, [])
        if len(members) <= MOST_IN_BLOCK:
            members.append(-at - 1)


def _write(mpi: Mpi, session: Session, caller: Caller, batch: _Batch) -> Counter[State]:
    """Write persons, records, keys, links, questions and changes, each kind at once."""
    now, connection = mpi.clock.now(), session.connection()
    founders = [at for at, person in enumerate(batch.persons) if person == -at - 1]
    new_persons = [{"logical_id": new_id(), "created_at": now} for _ in founders]
    made = connection.execute(_ADD_PERSONS, new_persons).scalars() if founders else ()
    person_of = dict(zip((-at - 1 for at in founders), made, strict=True))
    persons = [person_of.get(each, each) for each in batch.persons]
    rows = [
        {
            "issuer": said.issuer, "identifier": said.identifier, "institution": said.institution,
            "patient_id": new_id(), "person_id": person_id, "replaced_by": None,
            "authority": said.authority, "sealed": seal(mpi, said), "created_at": now, "changed_at": now,
        }
        for said, person_id in zip(batch.said, persons, strict=True)
    ]  # fmt: skip
    ids = list(connection.execute(_ADD_RECORDS, rows).scalars())
    connection.execute(
        _ADD_KEYS,
        [
            {"hash": key, "patient_record_id": record_id}
            for record_id, keys in zip(ids, batch.hashes, strict=True)
            for key in keys
        ],
    )
    weights = mpi.scorer.weights
    links, questions, changes = [], [], []
    for at, (record_id, placement) in enumerate(zip(ids, batch.placements, strict=True)):
        scored = placement.link.scored if placement.link is not None else None
        links.append(
            {
                "patient_record_id": record_id, "person_id": persons[at], "previous_person_id": None,
                "reason": placement.reason, "weight": scored.weight if scored else 0.0,
                "scores": json.dumps(scored.by_field(weights)) if scored else "{}",
                "weights_version": weights.version if scored else "",
                "actor": caller.principal.id[:64], "at": now,
            }
        )  # fmt: skip
        questions += [
            {
                "kind": "possible-match", "patient_record_id": record_id,
                "other_record_id": other.record_id if other.record_id > 0 else ids[-other.record_id - 1],
                "weight": other.scored.weight, "scores": json.dumps(other.scored.by_field(weights)),
                "rules": other.scored.rule, "state": "open", "opened_at": now, "decided_by": "",
            }
            for other in placement.doubtful
        ]  # fmt: skip
        state = State.NEW if scored is None else State.LINKED
        data = {"person": persons[at], "state": state.value}
        changes.append(("patient-created", rows[at]["patient_id"], data))
        if scored is not None:
            changes.append(("patient-linked", rows[at]["patient_id"], {"person": persons[at]}))
    connection.execute(_ADD_LINKS, links)
    if questions:
        connection.execute(_ASK_ALL, questions)
    record_changes(session, mpi.clock, changes)
    linked = len(ids) - len(founders)
    return Counter({State.NEW: len(founders), State.LINKED: linked})


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), TOGETHER):
        yield values[start : start + TOGETHER]


_RECORD, _PERSON = table_of(PatientRecord), table_of(Person)
_KNOWN = select(_RECORD.c.identifier).where(
    _RECORD.c.issuer == bindparam("of"), _RECORD.c.identifier.in_(bindparam("numbers", expanding=True))
)
_ADD_PERSONS = insert(_PERSON).returning(_PERSON.c.id, sort_by_parameter_order=True)
_ADD_RECORDS = insert(_RECORD).returning(_RECORD.c.id, sort_by_parameter_order=True)
_ADD_KEYS, _ADD_LINKS = insert(table_of(BlockKey)), insert(table_of(Link))
_ASK_ALL = insert(table_of(ReviewItem))
