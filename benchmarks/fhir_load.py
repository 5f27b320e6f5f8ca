"""Fill a database with documents past the doors, to measure how large ones answer: their rows as the server
makes them, copied in bulk, the indexes built afterwards. No audit, no feed: nothing but a benchmark does so.
"""

import io
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, create_engine, func, inspect, make_url, select
from sqlalchemy.engine import URL

from cloudfilm.migrate import migrate
from kernel.crypto import KeyRing
from kernel.database import table_of
from kernel.sealed_text import Sealing
from records.documents import document_text, with_meta
from records.hashing import hash_of
from records.indexing import COLUMNS, index_rows
from records.model import (
    DOCUMENT,
    INDEX_TABLES,
    IndexCompartment,
    IndexHiddenWord,
    IndexWord,
    Resource,
    ResourceVersion,
    SealingPass,
)
from records.words import word_rows

CHUNK = 4000  # documents
AT_START = 100  # more documents than a server writes when it starts
FROM = datetime(2020, 1, 1, tzinfo=UTC)
RESOURCE, VERSION, SEALING = table_of(Resource), table_of(ResourceVersion), table_of(SealingPass)
WORDS = (IndexHiddenWord, IndexWord)
TABLES: dict[str, tuple[Table, tuple[str, ...]]] = {
    "resource": (RESOURCE, ("id", "type", "logical_id", "self_hash", "version", "deleted", "institution",
                            "department", "updated_at", "body")),
    "resource_version": (VERSION, ("resource_id", "type", "version", "method", "updated_at", "body")),
    **{table.name: (table, ("word", "in_narrative", "resource_id")) for table in WORDS},
    **{table.name: (table, (*COLUMNS[table.name], "resource_id")) for table in INDEX_TABLES},
}  # fmt: skip
Rows = dict[str, list[tuple[Any, ...]]]


def load(
    url: str,
    documents: Iterable[dict[str, Any]],
    count: int,
    institution: str = "",
    keys: KeyRing | None = None,
) -> int:
    """Make the schema, and the rows of so many documents, sealed if there are keys.

    Returns how many there are; when all are there already, nothing is done. Raises RuntimeError for a
    database that was not filled to the end.
    """
    migrate(url)
    parsed = make_url(url)
    target = _Sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _Postgresql(parsed)
    with closing(target):
        already = target.count()
        if already >= count:
            return already
        if already > AT_START:
            raise RuntimeError(f"{already} of {count} documents are there; drop that database first")
        first = target.next_id()
        target.begin()
        rows: Rows = {name: [] for name in TABLES}
        number = 0
        for number, document in enumerate(documents, start=1):
            _add(rows, document, first + number, institution, keys)
            if number % CHUNK == 0:
                target.put(rows)
                rows = {name: [] for name in TABLES}
        target.put(rows)
        target.end()
    if keys is not None:
        _tell_sealed(parsed, keys, first + number)
    return already + number


def is_worn(url: str, count: int) -> bool:
    """Whether a database is none to measure: it was not filled to the end, or earlier runs added a tenth to
    it, or it comes from before documents were sealed or their index hidden, which a server does meanwhile."""
    engine = create_engine(_driven(make_url(url)))
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("resource"):
                return False
            if not inspect(connection).has_table(IndexHiddenWord.name):
                return True
            there = connection.scalar(select(func.count()).select_from(RESOURCE)) or 0
            if there < count:
                return there > AT_START
            columns = {each["name"] for each in inspect(connection).get_columns(SEALING.name)}
            is_whole = "is_indexed" in columns and connection.scalar(
                select(SEALING.c.is_done).where(SEALING.c.is_indexed)
            )
            return there > count + count // 10 + 100 or not is_whole
    finally:
        engine.dispose()


def _tell_sealed(url: URL, keys: KeyRing, last: int) -> None:
    """What was sealed as it was filled needs no pass."""
    engine = create_engine(_driven(url))
    with engine.begin() as connection:
        connection.execute(
            SEALING.insert().values(id=1, key_id=keys.current, sealed_to=last, is_done=True, is_indexed=True)
        )
    engine.dispose()


def _driven(url: URL) -> URL:
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg2")


def _add(
    rows: Rows, document: dict[str, Any], resource_id: int, institution: str, keys: KeyRing | None
) -> None:
    type_, at = document["resourceType"], FROM + timedelta(seconds=resource_id)
    body = document_text(with_meta(document, document["id"], 1, at))
    body = DOCUMENT.seal(body, keys) if keys else body
    name = f"{type_}/{document['id']}"
    rows["resource"].append(
        (resource_id, type_, document["id"], hash_of(name), 1, False, institution, "", at, body)
    )
    rows["resource_version"].append((resource_id, type_, 1, "PUT", at, body))
    index, sealing = index_rows(document), Sealing(keys, True) if keys else None
    for table, found in index.rows.items():
        rows[table].extend(
            (*map(sealing.hidden, row), resource_id) if sealing else (*row, resource_id) for row in found
        )
    rows[IndexCompartment.name].extend((patient, resource_id) for patient in index.patients)
    words = word_rows(document, hidden=keys is not None).items()
    if sealing:
        rows[IndexHiddenWord.name].extend((sealing.word(word), told, resource_id) for word, told in words)
    else:
        rows[IndexWord.name].extend((word, told, resource_id) for word, told in words)


class _Sqlite:
    """A SQLite file. That it is whole after a crash does not matter here."""

    def __init__(self, url: URL) -> None:
        self._connection = sqlite3.connect(str(url.database), isolation_level=None, timeout=60)
        self._made: list[tuple[str, str]] = []
        for pragma in ("synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
            self._connection.execute(f"PRAGMA {pragma}")

    def count(self) -> int:
        """Documents that are there."""
        return int(self._connection.execute("SELECT count(*) FROM resource").fetchone()[0])

    def next_id(self) -> int:
        """Where ids go on."""
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM resource").fetchone()[0])

    def begin(self) -> None:
        """Take the indexes away."""
        self._made = self._connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN "
            f"({','.join('?' * len(TABLES))})", [*TABLES]
        ).fetchall()  # fmt: skip
        for name, _ in self._made:
            self._connection.execute(f"DROP INDEX {name}")

    def put(self, rows: Rows) -> None:
        """Add rows."""
        self._connection.execute("BEGIN")
        for name, (_, columns) in TABLES.items():
            places = ",".join("?" * len(columns))
            names = ",".join(f'"{column}"' for column in columns)
            self._connection.executemany(
                f"INSERT INTO {name} ({names}) VALUES ({places})",
                ([_text(value) if isinstance(value, datetime) else value for value in row]
                 for row in rows[name]),
            )  # fmt: skip
        self._connection.execute("COMMIT")

    def end(self) -> None:
        """Build the indexes, and the planner's statistics."""
        for _, sql in self._made:
            self._connection.execute(sql)
        self._connection.execute("PRAGMA analysis_limit=1000")
        self._connection.execute("ANALYZE")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


class _Postgresql:
    """A PostgreSQL database."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(_driven(url))
        self._connection: Any = self._engine.raw_connection()
        self._cursor: Any = self._connection.cursor()
        self._indexes: Sequence[tuple[str, str]] = ()
        self._keys: Sequence[tuple[str, str, str]] = ()

    def _one(self, statement: str) -> int:
        self._cursor.execute(statement)
        return int(self._cursor.fetchone()[0])

    def count(self) -> int:
        """Documents that are there."""
        return self._one("SELECT count(*) FROM resource")

    def next_id(self) -> int:
        """Where ids go on."""
        return self._one("SELECT coalesce(max(id), 0) FROM resource")

    def begin(self) -> None:
        """Take the indexes and the foreign keys away."""
        names = tuple(TABLES)
        self._cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN %s AND indexname LIKE 'ix_%%'",
            (names,),
        )
        self._indexes = self._cursor.fetchall()
        self._cursor.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'f' AND conrelid::regclass::text IN %s", (names,),
        )  # fmt: skip
        self._keys = self._cursor.fetchall()
        for name, _ in self._indexes:
            self._cursor.execute(f'DROP INDEX "{name}"')
        for table, name, _ in self._keys:
            self._cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        self._connection.commit()

    def put(self, rows: Rows) -> None:
        """Add rows."""
        for name, (_, columns) in TABLES.items():
            lines = "".join("\t".join(_copied(value) for value in row) + "\n" for row in rows[name])
            names = ",".join(f'"{column}"' for column in columns)
            self._cursor.copy_expert(f"COPY {name} ({names}) FROM STDIN", io.StringIO(lines))
        self._connection.commit()

    def end(self) -> None:
        """Build the indexes, the foreign keys and the planner's statistics; each in a transaction of its own,
        for as long as one lasts nobody on that server follows what changes."""
        self._connection.driver_connection.autocommit = True
        self._cursor.execute("SET maintenance_work_mem = '512MB'")
        for _, sql in self._indexes:
            self._cursor.execute(sql)
        for table, name, sql in self._keys:
            self._cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {sql}')
        self._cursor.execute(
            "SELECT setval(pg_get_serial_sequence('resource', 'id'), (SELECT max(id) FROM resource))"
        )
        self._cursor.execute("VACUUM ANALYZE")

    def close(self) -> None:
        """Close it."""
        self._connection.close()
        self._engine.dispose()


ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _copied(value: Any) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return value.isoformat()
    return value.translate(ESCAPED) if isinstance(value, str) else repr(value)
