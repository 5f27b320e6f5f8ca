"""Candidates: the records that share a block key with one, found and compared, the best first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, delete, insert, text
from sqlalchemy.orm import Session

from kernel.crypto import KeyRing
from kernel.database import table_of
from mpi.blocking import MOST_IN_BLOCK, block_keys, name_key
from mpi.features import Features, features_of
from mpi.model import BlockKey
from mpi.room import Mpi
from mpi.scoring import Scored
from mpi.sealing import open_sealed

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
    dialect = session.get_bind().dialect.name
    named = hash_of(mpi.keys, name_key(features.name)) if features.name else 0
    asked = {"hashes": as_array(dialect, hashes), "without": list(without) or [0], "named": named}
    rows = session.connection().execute(_NEAREST[dialect], asked).all()
    records = rows[0].newest if rows else 0
    frequency = name_frequency(rows[0].bearers, rows[0].last_bearer, records) if rows and named else 0.0
    candidates = [
        Candidate(
            row.id,
            row.person_id or 0,
            row.patient_id,
            mpi.scorer.score(
                features,
                # of a statement in text, psycopg2 gives a memoryview
                opened(mpi.keys, bytes(row.sealed), row.issuer, row.identifier),
                frequency,
                records,
            ),
        )
        for row in rows
    ]
    return sorted(candidates, key=lambda candidate: -candidate.scored.weight)


@lru_cache(maxsize=16384)  # 1.3 kB each
def opened(keys: KeyRing, sealed: bytes, issuer: str, identifier: str) -> Features:
    """What can be compared of a record; remembered, for those who share a common key are opened often."""
    return features_of(open_sealed(keys, sealed, issuer, identifier))


@lru_cache(maxsize=16384)
def unnumbered(features: Features) -> Features:
    """The features but for the numbers: one object for all records that say the same otherwise."""
    return replace(features, numbers=frozenset())


def as_array(dialect: str, numbers: Sequence[int]) -> list[int] | str:
    """Numbers as one parameter, so that one statement serves for any number of them."""
    return list(numbers) if dialect == "postgresql" else json.dumps(list(numbers))


# Built once: these run for every new record, and building a statement costs more than running it.
_KEY = table_of(BlockKey)
_INDEX = insert(_KEY)
_UNINDEX = delete(_KEY).where(
    _KEY.c.hash.in_(bindparam("gone", expanding=True)), _KEY.c.patient_record_id == bindparam("record")
)


HITS = {  # dialect -> hash and record of each key that is asked for, up to one more than is looked at
    "postgresql": f"""
        SELECT wanted.hash, found.id FROM unnest(CAST(:hashes AS bigint[])) AS wanted(hash)
        CROSS JOIN LATERAL (
            SELECT patient_record_id AS id FROM block_key WHERE block_key.hash = wanted.hash
            ORDER BY patient_record_id LIMIT {MOST_IN_BLOCK + 1}
        ) AS found""",  # noqa: S608 - numbers only
    "sqlite": f"""
        SELECT wanted.value AS hash, found.patient_record_id AS id FROM json_each(:hashes) AS wanted
        CROSS JOIN block_key AS found ON found.hash = wanted.value
        WHERE found.patient_record_id <= coalesce((
            SELECT patient_record_id FROM block_key WHERE hash = wanted.value
            ORDER BY patient_record_id LIMIT 1 OFFSET {MOST_IN_BLOCK}
        ), {2**63 - 1})""",  # noqa: S608 - numbers only
}


def _nearest_among(hits: str) -> Any:
    """The records that share the most keys, of as many the oldest, but for those merged into others.

    `newest` is the register's size, `bearers` how many records stand under the key of the name, of which
    `last_bearer` is the newest, as far as they are looked at."""
    return text(
        f"""
        WITH hit AS ({hits}),
        crowded AS (SELECT hash FROM hit GROUP BY hash HAVING count(*) > {MOST_IN_BLOCK}),
        ranked AS (
            SELECT id, count(*) AS shared, row_number() OVER (ORDER BY count(*) DESC, id) AS place
            FROM hit WHERE hash NOT IN (SELECT hash FROM crowded) AND id NOT IN :without GROUP BY id
        )
        SELECT r.id, r.person_id, r.patient_id, r.issuer, r.identifier, r.institution, r.authority, r.sealed,
            (SELECT max(id) FROM patient_record) AS newest,
            (SELECT count(*) FROM hit WHERE hash = :named) AS bearers,
            (SELECT max(id) FROM hit WHERE hash = :named) AS last_bearer
        FROM ranked JOIN patient_record AS r ON r.id = ranked.id
        WHERE place <= {MOST_COMPARED} AND (shared > 1 OR place <= {MOST_BY_ONE_KEY})
            AND r.replaced_by IS NULL
        ORDER BY place
        """  # noqa: S608 - numbers only
    ).bindparams(bindparam("without", expanding=True))


_NEAREST = {dialect: _nearest_among(hits) for dialect, hits in HITS.items()}


def hashes_of(keys: KeyRing, features: Features) -> list[int]:
    """The hashes of the block keys of a record."""
    return [hash_of(keys, key) for key in block_keys(features)]


def hash_of(keys: KeyRing, key: str) -> int:
    """A keyed hash of 63 bits: what the index holds in place of a name, number or phone."""
    return int(keys.blind_index(key)[:16], 16) >> 1


def index_record(session: Session, record_id: int, hashes: list[int]) -> None:
    """Put a new record under its block keys."""
    if hashes:
        rows = [{"hash": value, "patient_record_id": record_id} for value in hashes]
        session.connection().execute(_INDEX, rows)


def reindex_record(session: Session, record_id: int, before: list[int], hashes: list[int]) -> None:
    """Put a record that says something else under its new block keys.

    before: the hashes of what it said, by which its rows are found: by its number alone they are not.
    """
    gone = set(before) - set(hashes)
    if gone:
        session.connection().execute(_UNINDEX, {"gone": list(gone), "record": record_id})
    index_record(session, record_id, [each for each in hashes if each not in before])


def name_frequency(bearers: int, last_bearer: int | None, records: int) -> float:
    """The share of records that bear a name; 0 while too few are known.

    bearers: how many do, counted to one more than a block is looked at. The first so many of a common name
    say how common it is: so many of those up to the last of them bear it.
    """
    if records < ENOUGH_RECORDS:
        return 0.0
    return max(1, bearers) / (last_bearer if last_bearer and bearers > MOST_IN_BLOCK else records)


ENOUGH_RECORDS = 5000
