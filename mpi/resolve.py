"""Identify: the one entrance for everybody who brings a patient.

Every ingest path (a DICOM header, an HL7 v2 message, a FHIR Patient, an upload) says what it knows and gets
back the record and the person. It runs inside the transaction of the thing that is brought. The usual case,
a number that is known and demographics that say nothing new, is one indexed select and no write.

A new record goes to the person of its best match, if the rules and the weights agree that it is one; in
doubt it gets a person of its own, and the pair is queued for review. A header, an order and a registration
that contradict each other under one number are kept apart and queued as well, so that no study is ever filed
under another patient silently; the number is of whom the highest authority says.
"""

import json
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_change, record_changes
from kernel.clock import new_id
from kernel.database import table_of
from mpi.candidates import Candidate, find_candidates, hashes_of, index_record, reindex_record
from mpi.compare import compare_birth_dates, compare_names, compare_sex
from mpi.demographics import SAID, Authority, Demographics, merged
from mpi.features import features_of
from mpi.model import Link, PatientRecord, Person, ReviewItem
from mpi.room import Mpi
from mpi.scoring import Decision, Scored, decide
from mpi.sealing import demographics_of, seal

MOST_MERGES = 32  # a chain of merges longer than this is a mistake, and is not followed
MOST_REVIEWS = 3  # pairs that one new record may put into the queue


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
    is_changed: bool = True  # whether something new was said


def identify(
    mpi: Mpi, session: Session, caller: Caller, said: Demographics, patient_id: str = ""
) -> Identified:
    """The record and the person that a source speaks of, made if they are new.

    said.identifier: empty for a patient without a number, who is then known by name, birth date and sex at
    this issuer, or, with no name either, not at all: a new record each time.
    patient_id: logical id of the Patient document, if the source wrote it itself (FHIR).
    """
    said = replace(said, issuer=said.issuer[:64], identifier=said.identifier[:64])
    identifier = said.identifier or _stand_in(mpi, said)
    session.flush()  # what follows is asked past the ORM, which costs as much as all the rest
    found = session.connection().execute(_KNOWN, {"of": said.issuer, "number": identifier}).first()
    if (
        found is not None
        and found.replaced_by is None
        and says_nothing_new(demographics_of(mpi, found), said)
    ):
        return Identified(found.id, found.patient_id, found.person_id or 0, State.KNOWN, is_changed=False)
    row = record_of(session, said.issuer, identifier) if found is not None else None
    if row is None:
        return _new_record(mpi, session, caller, said, identifier, patient_id)
    known = demographics_of(mpi, row)
    if is_contradicted(known, said):
        hold = _hold if said.authority <= known.authority else _set_apart
        return hold(mpi, session, caller, row, said)
    now_said = merged(known, said)
    if now_said != known:
        say(mpi, session, caller, row, now_said)
    changed = now_said != known
    return Identified(row.id, row.patient_id, row.person_id or 0, State.KNOWN, is_changed=changed)


def says_nothing_new(known: Demographics, said: Demographics) -> bool:
    """Whether each thing that is said is known already, word for word, on the same or a higher authority."""
    if said.erased or said.authority > known.authority or (said.institution and not known.institution):
        return False
    return all(not (new := getattr(said, name)) or new == getattr(known, name) for name in SAID)


def record_of(session: Session, issuer: str, identifier: str) -> PatientRecord | None:
    """The record of this number; of a merged one, the record that survived."""
    row = session.scalar(
        select(PatientRecord).where(PatientRecord.issuer == issuer, PatientRecord.identifier == identifier)
    )
    return surviving(session, row) if row is not None else None


def surviving(session: Session, row: PatientRecord) -> PatientRecord:
    """The record at the end of a chain of merges."""
    for _ in range(MOST_MERGES):
        if row.replaced_by is None:
            break
        row = session.get_one(PatientRecord, row.replaced_by)
    return row


def is_contradicted(known: Demographics, said: Demographics) -> bool:
    """Whether another human being is spoken of under the same number.

    Another name with another birth date or sex, or another birth date and sex, is a contradiction; a name
    spelt otherwise, or one that was not known, is none. Registration may correct its own word.
    """
    if said.authority is known.authority is Authority.REGISTRATION:
        return False
    one, other = features_of(known), features_of(said)
    name = compare_names(one.name, other.name)
    birth_date = compare_birth_dates(one, other)
    other_sex = compare_sex(one.sex, other.sex) == "different"
    if name in ("given", "family", "different"):
        return birth_date in ("different", "year", None) or other_sex
    return name is None and birth_date == "different" and other_sex


def _stand_in(mpi: Mpi, said: Demographics) -> str:
    if not said.name.strip("^= "):
        return f"~{new_id()}"
    return f"~{_digest(mpi, said)}"


def _digest(mpi: Mpi, said: Demographics) -> str:
    return mpi.keys.blind_index(f"{said.name}|{said.birth_date}|{said.sex}")[:16]


def _hold(mpi: Mpi, session: Session, caller: Caller, row: PatientRecord, said: Demographics) -> Identified:
    """Keep what contradicts a record apart: a record of its own, under a mark, and a review item."""
    identifier = f"{row.identifier[:60]}~{_digest(mpi, said)}"[:80]
    apart = record_of(session, said.issuer, identifier)
    if apart is not None:
        return Identified(apart.id, apart.patient_id, apart.person_id or 0, State.HELD)
    new = _new_record(mpi, session, caller, said, identifier, "")
    _ask(
        mpi, session, "conflict", new.patient_record_id, row.id, _score(mpi, said, demographics_of(mpi, row))
    )
    return replace(new, state=State.HELD)


def _set_apart(
    mpi: Mpi, session: Session, caller: Caller, row: PatientRecord, said: Demographics
) -> Identified:
    """The number belongs to whom the higher authority says: what was there before keeps its studies, under a
    mark, and a review item."""
    known = demographics_of(mpi, row)
    row.identifier = f"{row.identifier[:60]}~{_digest(mpi, known)}"[:80]
    session.flush()
    marked = hashes_of(mpi.keys, features_of(demographics_of(mpi, row)))
    reindex_record(session, row.id, hashes_of(mpi.keys, features_of(known)), marked)
    new = _new_record(mpi, session, caller, said, said.identifier, "")
    _ask(mpi, session, "conflict", row.id, new.patient_record_id, _score(mpi, known, said))
    return new


def _score(mpi: Mpi, one: Demographics, other: Demographics) -> Scored:
    return mpi.scorer.score(features_of(one), features_of(other))


def _new_record(
    mpi: Mpi, session: Session, caller: Caller, said: Demographics, identifier: str, patient_id: str
) -> Identified:
    """Find the person of a new record, and write both."""
    now = mpi.clock.now()
    features = features_of(said)
    hashes = hashes_of(mpi.keys, features)
    placement = consider(mpi, find_candidates(mpi, session, features, hashes))
    link = placement.link
    person_id = link.person_id if link is not None else new_person(mpi, session)
    values: dict[str, Any] = {
        "issuer": said.issuer,
        "identifier": identifier,
        "institution": said.institution,
        "patient_id": patient_id or new_id(),
        "person_id": person_id,
        "authority": said.authority,
        "sealed": seal(mpi.keys, said),
        "created_at": now,
        "changed_at": now,
    }
    record_id = session.connection().execute(_ADD_RECORD[_dialect(session)], values).scalar()
    if record_id is None:  # another transaction was first
        if link is None:
            session.execute(delete(Person).where(Person.id == person_id))
        return identify(mpi, session, caller, said, patient_id)
    scored = link.scored if link is not None else None
    _write_link(mpi, session, caller, record_id, person_id, None, placement.reason, scored)
    ask_all(mpi, session, record_id, placement)
    index_record(session, record_id, hashes)
    state = State.NEW if link is None else State.LINKED
    made = {"person": person_id, "state": state.value}
    changes = [("patient-created", values["patient_id"], made)]
    if link is not None:
        changes.append(("patient-linked", values["patient_id"], {"person": person_id}))
    record_changes(session, mpi.clock, changes)
    return Identified(record_id, values["patient_id"], person_id, state)


@dataclass(frozen=True, slots=True)
class Placement:
    """What the candidates of a record say: the one to link it with, and those to ask about."""

    link: Candidate | None
    doubtful: tuple[Candidate, ...]
    reason: str


def consider(mpi: Mpi, candidates: list[Candidate], apart: frozenset[int] = frozenset()) -> Placement:
    """What candidates say, the likeliest first. apart: records that a reviewer said are somebody else's."""
    weights = mpi.scorer.weights
    decided = [
        (candidate, decide(candidate.scored, weights))
        for candidate in candidates
        if candidate.record_id not in apart
    ]
    link = next((candidate for candidate, what in decided if what == Decision.LINK), None)
    if link is None:
        return Placement(None, _to_review(decided, None), "new")
    reason = "score" if link.scored.weight >= weights.link else "rule"
    return Placement(link, _to_review(decided, link), reason)


def _place_again(mpi: Mpi, session: Session, caller: Caller, row: PatientRecord, said: Demographics) -> None:
    """A record that is alone with its person says something else: look again whose it is."""
    features = features_of(said)
    candidates = find_candidates(mpi, session, features, hashes_of(mpi.keys, features), frozenset({row.id}))
    placement = consider(mpi, candidates, told_apart(session, row.id))
    ask_all(mpi, session, row.id, placement)
    if placement.link is not None:
        link = placement.link
        connect(mpi, session, caller, row.id, link.person_id, placement.reason, link.scored)


def ask_all(mpi: Mpi, session: Session, record_id: int, placement: Placement) -> None:
    """Queue what is doubtful of a placement for review."""
    for candidate in placement.doubtful:
        _ask(mpi, session, "possible-match", record_id, candidate.record_id, candidate.scored)


def _to_review(decided: list[tuple[Candidate, str]], link: Candidate | None) -> tuple[Candidate, ...]:
    """The best doubtful candidate of each other person; links to several persons are doubtful as well."""
    best: dict[int, Candidate] = {}
    for candidate, what in decided:
        is_other = link is None or candidate.person_id != link.person_id
        if is_other and what in (Decision.LINK, Decision.REVIEW):
            best.setdefault(candidate.person_id, candidate)
    return tuple(best.values())[:MOST_REVIEWS]


def told_apart(session: Session, record_id: int) -> frozenset[int]:
    """Records that a reviewer said are of somebody else."""
    rows = session.execute(
        select(ReviewItem.patient_record_id, ReviewItem.other_record_id).where(
            ReviewItem.state == "rejected",
            or_(ReviewItem.patient_record_id == record_id, ReviewItem.other_record_id == record_id),
        )
    )
    return frozenset(number for row in rows for number in row) - {record_id}


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


# Built once: these run for every message, and building a statement costs more than running it.
_INSERTS: dict[str, Any] = {"postgresql": postgresql_insert, "sqlite": sqlite_insert}
_RECORD = table_of(PatientRecord)
_KNOWN = select(
    _RECORD.c.id, _RECORD.c.person_id, _RECORD.c.patient_id, _RECORD.c.replaced_by, _RECORD.c.issuer,
    _RECORD.c.identifier, _RECORD.c.institution, _RECORD.c.authority, _RECORD.c.sealed,
).where(_RECORD.c.issuer == bindparam("of"), _RECORD.c.identifier == bindparam("number"))  # fmt: skip
_ADD_RECORD = {
    dialect: make(_RECORD)
    .values(replaced_by=None)
    .on_conflict_do_nothing(index_elements=["issuer", "identifier"])
    .returning(_RECORD.c.id)
    for dialect, make in _INSERTS.items()
}
_ADD_PERSON = insert(table_of(Person)).returning(table_of(Person).c.id)
_ADD_LINK = insert(table_of(Link))
_ASK = {dialect: make(table_of(ReviewItem)).on_conflict_do_nothing() for dialect, make in _INSERTS.items()}


def _ask(mpi: Mpi, session: Session, kind: str, record_id: int, other_id: int, scored: Scored) -> None:
    session.connection().execute(
        _ASK[_dialect(session)],
        {
            "kind": kind,
            "patient_record_id": record_id,
            "other_record_id": other_id,
            "weight": scored.weight,
            "scores": json.dumps(scored.by_field(mpi.scorer.weights)),
            "rules": scored.rule,
            "state": "open",
            "opened_at": mpi.clock.now(),
            "decided_by": "",
        },
    )


def say(mpi: Mpi, session: Session, caller: Caller, row: PatientRecord, said: Demographics) -> None:
    """A record says something else: keep it, find it by it, and look again whose it is."""
    before = hashes_of(mpi.keys, features_of(demographics_of(mpi, row)))
    row.sealed = seal(mpi.keys, said)
    row.authority = said.authority
    row.changed_at = mpi.clock.now()
    session.flush()
    reindex_record(session, row.id, before, hashes_of(mpi.keys, features_of(said)))
    alone = session.scalar(
        select(PatientRecord.id)
        .where(PatientRecord.person_id == row.person_id, PatientRecord.id != row.id)
        .limit(1)
    )
    if alone is None:
        _place_again(mpi, session, caller, row, said)
    record_change(session, mpi.clock, "patient-changed", row.patient_id, person=row.person_id)


def new_person(mpi: Mpi, session: Session) -> int:
    """A person that has no record yet."""
    values = {"logical_id": new_id(), "created_at": mpi.clock.now()}
    return int(session.connection().execute(_ADD_PERSON, values).scalar_one())


def connect(
    mpi: Mpi,
    session: Session,
    caller: Caller,
    record_id: int,
    person_id: int,
    reason: str,
    scored: Scored | None = None,
) -> None:
    """Give a record to another person, and write down since when, by whom and why."""
    row = session.get_one(PatientRecord, record_id)
    previous, row.person_id = row.person_id, person_id
    session.flush()
    _write_link(mpi, session, caller, record_id, person_id, previous, reason, scored)
    session.execute(  # records that were merged into this one go where it goes
        update(PatientRecord).where(PatientRecord.replaced_by == record_id).values(person_id=person_id)
    )
    record_change(session, mpi.clock, "patient-linked", row.patient_id, person=person_id, previous=previous)


def _write_link(
    mpi: Mpi,
    session: Session,
    caller: Caller,
    record_id: int,
    person_id: int,
    previous: int | None,
    reason: str,
    scored: Scored | None,
) -> None:
    session.connection().execute(
        _ADD_LINK,
        {
            "patient_record_id": record_id,
            "person_id": person_id,
            "previous_person_id": previous,
            "reason": reason,
            "weight": scored.weight if scored else 0.0,
            "scores": json.dumps(scored.by_field(mpi.scorer.weights)) if scored else "{}",
            "weights_version": mpi.scorer.weights.version if scored else "",
            "actor": caller.principal.id[:64],
            "at": mpi.clock.now(),
        },
    )
