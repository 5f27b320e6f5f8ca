"""Neighbours: the records that share block keys with each of many, found with a few statements for all.

What `mpi.candidates` does for one record, for a batch: earlier records of the batch are candidates of later
ones, as if each had been written before the next was looked at. Keys are asked for and written in the order
of the index, so that of a large one each page is read once for a batch and not once for a key.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from heapq import nsmallest
from typing import Any, TypeVar

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from kernel.database import table_of
from mpi.blocking import MOST_IN_BLOCK
from mpi.candidates import MOST_BY_ONE_KEY, MOST_COMPARED, as_array, name_frequency
from mpi.crew import Comparison, Crew, Prepared, Sealed
from mpi.model import PatientRecord
from mpi.scoring import Scored

T = TypeVar("T")
TOGETHER = 4000  # hashes or rows that one statement asks for
COMPARED_TOGETHER = 100  # records that a process of the crew compares at once
CROWDED = [0] * MOST_IN_BLOCK  # what stands for the members of a block that is too full, before the last

Found = list[tuple[int, Scored]]
"""The records that one is to be linked with, or that have to be looked at."""


class Neighbours:
    """Who is near to the records of a batch, by their numbers in the index."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._blocks: dict[int, list[int]] = {}
        self._rows: dict[int, Any] = {}
        self._records = session.connection().execute(_LAST_RECORD).scalar() or 0

    def person_of(self, record_id: int) -> int:
        """The person of a record that was found in the index."""
        return self._rows[record_id].person_id or 0

    def near(self, crew: Crew, batch: Sequence[tuple[int, Prepared]], *, are_new: bool) -> list[Found]:
        """Those near to each record, which has its number with it.

        are_new: they are not in the index yet; each finds the earlier ones of the batch.
        """
        mates = dict(batch) if are_new else {}
        records = self._records
        waited: list[Future[list[Found]]] = []
        for part in parts(batch, COMPARED_TOGETHER):
            self._fetch_blocks({key for _, record in part for key in record.hashes})
            asked: list[tuple[Prepared, list[int], float, int]] = []
            for number, record in part:
                shared = {key: members for key in record.hashes if (members := self._blocks.get(key))}
                bearers = shared.get(record.named) or [0]
                frequency = name_frequency(len(bearers), bearers[-1], records) if record.named else 0.0
                asked.append((record, nearest_of(shared.values(), number), frequency, records))
                if are_new:
                    self._join(number, record.hashes)
                    records += 1
            self._fetch_rows({each for _, others, _, _ in asked for each in others if each not in mates})
            waited.append(
                crew.compare(
                    [
                        Comparison(sealed_of(record), list(self._sealed(others, mates)), frequency, size)
                        for record, others, frequency, size in asked
                    ]
                )
            )
        return [found for future in waited for found in future.result()]

    def _join(self, number: int, hashes: list[int]) -> None:
        for key in hashes:
            members = self._blocks.setdefault(key, [])
            if len(members) <= MOST_IN_BLOCK:
                members.append(number)

    def _sealed(self, numbers: list[int], mates: Mapping[int, Prepared]) -> Iterator[tuple[int, Sealed]]:
        """What records say; those that were merged into others are left out."""
        for number in numbers:
            if number in mates:
                yield number, sealed_of(mates[number])
            elif number in self._rows:
                row = self._rows[number]
                yield number, (bytes(row.sealed), row.issuer, row.identifier)

    def _fetch_blocks(self, hashes: set[int]) -> None:
        """The records under each key, in the order of the index."""
        connection = self._session.connection()
        dialect = connection.dialect.name
        for part in parts(sorted(hashes - self._blocks.keys()), TOGETHER):
            found = connection.execute(_BLOCKS[dialect], {"hashes": as_array(dialect, part)})
            if dialect == "postgresql":
                self._blocks.update((key, members or [*CROWDED, last]) for key, members, last in found)
            else:  # one row for a key: the driver lets go of the interpreter for each
                self._blocks.update((key, json.loads(members)) for key, members in found if members != "[]")

    def _fetch_rows(self, wanted: set[int]) -> None:
        dialect = self._session.connection().dialect.name
        for part in parts(sorted(wanted - self._rows.keys()), TOGETHER):
            rows = self._session.connection().execute(_ROWS[dialect], {"wanted": as_array(dialect, part)})
            self._rows.update((row.id, row) for row in rows)


def sealed_of(record: Prepared) -> Sealed:
    """As the crew takes it."""
    return record.sealed, record.said.issuer, record.said.identifier


def nearest_of(blocks: Iterable[list[int]], without: int = 0) -> list[int]:
    """The records that share the most keys, of as many the oldest; blocks that are too full say nothing."""
    shared: Counter[int] = Counter()
    for members in blocks:
        if len(members) <= MOST_IN_BLOCK:
            shared.update(members)
    shared.pop(without, None)
    several = sorted((-keys, record_id) for record_id, keys in shared.items() if keys > 1)[:MOST_COMPARED]
    nearest = [record_id for _, record_id in several]
    once = MOST_BY_ONE_KEY - len(nearest)
    if once > 0:
        nearest += nsmallest(once, (record_id for record_id, keys in shared.items() if keys == 1))
    return nearest


def add_keys(session: Session, keys: Iterable[tuple[int, int]]) -> None:
    """Put records under keys: (hash, record), of which none is there."""
    _run(session, _ADD, keys)


def remove_keys(session: Session, keys: Iterable[tuple[int, int]]) -> None:
    """Take records from under keys: (hash, record)."""
    _run(session, _REMOVE, keys)


def _run(session: Session, statements: Mapping[str, str], keys: Iterable[tuple[int, int]]) -> None:
    connection = session.connection()
    rows = sorted(keys)
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        hashes, records = map(list, zip(*rows, strict=True))
        connection.execute(text(statements["postgresql"]), {"hashes": hashes, "records": records})
    else:
        connection.exec_driver_sql(statements["sqlite"], rows)


_PAIRS = "unnest(CAST(:hashes AS bigint[]), CAST(:records AS bigint[])) AS pair(hash, record)"
_ADD = {
    "postgresql": f"INSERT INTO block_key (hash, patient_record_id) SELECT hash, record FROM {_PAIRS}",  # noqa: S608
    "sqlite": "INSERT INTO block_key (hash, patient_record_id) VALUES (?, ?)",
}
_REMOVE = {
    "postgresql": f"""DELETE FROM block_key USING {_PAIRS}
        WHERE block_key.hash = pair.hash AND block_key.patient_record_id = pair.record""",  # noqa: S608
    "sqlite": "DELETE FROM block_key WHERE hash = ? AND patient_record_id = ?",
}


def parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The values in their order, as many at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


_LAST_RECORD = select(func.max(table_of(PatientRecord).c.id))
_BLOCKS = {  # of each key the records as one array; on PostgreSQL only the last if there are too many
    "postgresql": text(
        f"""
        SELECT wanted.hash, CASE WHEN cardinality(found.ids) <= {MOST_IN_BLOCK} THEN found.ids END,
            found.ids[{MOST_IN_BLOCK + 1}]
        FROM unnest(CAST(:hashes AS bigint[])) AS wanted(hash) CROSS JOIN LATERAL (
            SELECT array_agg(id) AS ids FROM (
                SELECT patient_record_id AS id FROM block_key WHERE block_key.hash = wanted.hash
                ORDER BY patient_record_id LIMIT {MOST_IN_BLOCK + 1}
            ) AS member
        ) AS found
        WHERE found.ids IS NOT NULL"""  # noqa: S608 - numbers only
    ),
    "sqlite": text(
        f"""
        SELECT wanted.value, (
            SELECT json_group_array(id) FROM (
                SELECT patient_record_id AS id FROM block_key WHERE block_key.hash = wanted.value
                ORDER BY patient_record_id LIMIT {MOST_IN_BLOCK + 1}
            )
        ) FROM json_each(:hashes) AS wanted"""  # noqa: S608 - numbers only
    ),
}
_ROW = "SELECT id, person_id, issuer, identifier, sealed FROM patient_record WHERE replaced_by IS NULL AND id"
_ROWS = {
    "postgresql": text(f"{_ROW} = ANY(CAST(:wanted AS bigint[]))"),
    "sqlite": text(f"{_ROW} IN (SELECT value FROM json_each(:wanted))"),  # noqa: S608
}
