"""Candidates: the records that share a block key with one, found and compared, the best first."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, bindparam, delete, func, insert, select, text
from sqlalchemy.orm import Session

from kernel.database import table_of
from mpi.blocking import MOST_IN_BLOCK, block_keys, name_key
from mpi.features import Features, features_of
from mpi.model import BlockKey, PatientRecord
from mpi.room import Mpi
from mpi.scoring import Scored
from mpi.sealing import demographics_of

MOST_COMPARED = 40  # candidates that are opened and compared: those that share the most keys
MOST_BY_ONE_KEY = 12  # and of those that share a single key, so many


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that may be of the same person."""

    record_id: int
    person_id: int
    patient_id: str
    scored: Scored


def find_candidates(
    mpi: Mpi, session: Session, features: Features, hashes: list[int], without: frozenset[int] = frozenset()
) -> list[Candidate]:
    """Records that may be of the same person, the likeliest first.

    hashes: of the features' block keys (`hashes_of`). without: records to leave out.
    """
    if not hashes:
        return []
    blocks = blocks_of(session, hashes)
    nearest = nearest_of(blocks, without)
    if not nearest:
        return []
    rows = rows_of(session, nearest).all()
    records = rows[0].newest if rows else 0
    frequency = _name_frequency(mpi, features, blocks, records)
    candidates = [
        Candidate(
            row.id,
            row.person_id or 0,
            row.patient_id,
            mpi.scorer.score(features, features_of(demographics_of(mpi, row)), frequency, records),
        )
        for row in rows
    ]
    return sorted(candidates, key=lambda candidate: -candidate.scored.weight)


def nearest_of(blocks: dict[int, list[int]], without: frozenset[int] = frozenset()) -> list[int]:
    """The records that share the most keys; blocks that are too full say nothing."""
    shared: Counter[int] = Counter()
    for members in blocks.values():
        if len(members) <= MOST_IN_BLOCK:
            shared.update(members)
    for record_id in without:
        shared.pop(record_id, None)
    ranked = enumerate(shared.most_common(MOST_COMPARED))
    return [record_id for rank, (record_id, keys) in ranked if keys > 1 or rank < MOST_BY_ONE_KEY]


def rows_of(session: Session, record_ids: list[int]) -> Any:
    """The rows of records, but for those merged into others; each with `newest`, the register's size."""
    return session.connection().execute(_NEAREST, {"nearest": record_ids})


def last_record(session: Session) -> int:
    """The newest record's number: the size of the register."""
    return session.connection().execute(_LAST_RECORD).scalar() or 0


# Built once: these run for every new record, and building a statement costs more than running it.
_RECORD = table_of(PatientRecord)
_OF_ALL = _RECORD.alias()
_LAST_RECORD = select(func.max(_OF_ALL.c.id))
_NEAREST = select(
    _RECORD.c.id, _RECORD.c.person_id, _RECORD.c.patient_id, _RECORD.c.issuer,
    _RECORD.c.identifier, _RECORD.c.institution, _RECORD.c.authority, _RECORD.c.sealed,
    _LAST_RECORD.scalar_subquery().label("newest"),
).where(_RECORD.c.id.in_(bindparam("nearest", expanding=True)), _RECORD.c.replaced_by.is_(None))  # fmt: skip
_INDEX = insert(table_of(BlockKey))


def blocks_of(session: Session, hashes: list[int]) -> dict[int, list[int]]:
    """The records under each key, up to one more than is looked at, so that a fuller block shows."""
    if session.get_bind().dialect.name == "postgresql":
        found = session.connection().execute(LOOKUP_POSTGRESQL, {"hashes": hashes})
    else:
        parameters = {f"h{at}": value for at, value in enumerate(hashes)}
        found = session.connection().execute(_lookup_sqlite(len(hashes)), parameters)
    blocks: dict[int, list[int]] = {}
    for block, record_id in found:
        blocks.setdefault(block, []).append(record_id)
    return blocks


LOOKUP_POSTGRESQL = text(
    "SELECT wanted.hash, found.patient_record_id FROM unnest(CAST(:hashes AS bigint[])) AS wanted(hash)"  # noqa: S608
    " CROSS JOIN LATERAL (SELECT patient_record_id FROM block_key WHERE block_key.hash = wanted.hash"
    f" LIMIT {MOST_IN_BLOCK + 1}) AS found"
)


@lru_cache
def _lookup_sqlite(keys: int) -> TextClause:
    return text(
        " UNION ALL ".join(
            "SELECT * FROM (SELECT hash, patient_record_id FROM block_key"  # noqa: S608 - numbers only
            f" WHERE hash = :h{at} LIMIT {MOST_IN_BLOCK + 1}) AS b{at}"
            for at in range(keys)
        )
    )


def hashes_of(mpi: Mpi, features: Features) -> list[int]:
    """The hashes of the block keys of a record."""
    return [hash_of(mpi, key) for key in block_keys(features)]


def hash_of(mpi: Mpi, key: str) -> int:
    """A keyed hash of 63 bits: what the index holds in place of a name, number or phone."""
    return int(mpi.keys.blind_index(key)[:16], 16) >> 1


def index_record(session: Session, record_id: int, hashes: list[int]) -> None:
    """Put a new record under its block keys."""
    if hashes:
        rows = [{"hash": value, "patient_record_id": record_id} for value in hashes]
        session.connection().execute(_INDEX, rows)


def reindex_record(session: Session, record_id: int, hashes: list[int]) -> None:
    """Put a record that says something else under its new block keys."""
    session.execute(delete(BlockKey).where(BlockKey.patient_record_id == record_id))
    index_record(session, record_id, hashes)


def _name_frequency(mpi: Mpi, features: Features, blocks: dict[int, list[int]], records: int) -> float:
    """The share of records that bear this name, by the block of its letters; 0 while too few are known."""
    if features.name is None:
        return 0.0
    bearers = len(blocks.get(hash_of(mpi, name_key(features.name)), ()))
    return max(1, bearers) / records if records >= ENOUGH_RECORDS else 0.0


ENOUGH_RECORDS = 5000
