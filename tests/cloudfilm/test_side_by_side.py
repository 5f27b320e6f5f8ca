"""Upgrading and going back with data, and old code beside new schema: each migration, one after the other.

What code before a migration does is what its schema lets it do: name the tables and columns that it knows,
and no others. So with every migration rows are written and read through the tables as they were before it;
what was written on either side has to be there after the next step up, and after each step down.
"""

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    insert,
    select,
    text,
)

from access.caller import Caller
from archive.ingest import ingest
from archive.retrieve import find_instances
from cloudfilm.migrate import FOLDER, downgrade, expected_revision, is_usable, migrate
from cloudfilm.rooms import build_rooms
from cloudfilm.web import create_app
from kernel.database import Database
from kernel.settings import Settings
from tests.builders import ROOT, ct_slice
from tests.conftest import BACKENDS, POSTGRESQL, empty_database

ALONE = frozenset({"0002_site_documents", "0009_search_tables"})  # say that older code does not run beside
BEGUN_ANEW = {"0030_sealed_requests": "sealing_pass"}  # how far a job is: it goes through all once more
MOVED = frozenset({"0002_site_documents"})  # rows find another home: tested in test_migrations


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()][::-1]


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    like = "sqlite://" if request.param == "sqlite" else POSTGRESQL
    with empty_database(like, tmp_path / "cloudfilm.db") as url:
        opened = Database(url)
        yield opened
        opened.close()


class Code:
    """Code of one time: it knows the tables and columns that there were then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        metadata = MetaData()
        metadata.reflect(database.engine)
        self.tables: list[Table] = [each for each in metadata.sorted_tables if each.name != "alembic_version"]

    def write(self, number: int) -> None:
        """A row into every table."""
        written: dict[str, dict[str, Any]] = {}
        with self._database.transaction() as session:
            for table in self.tables:
                row = {column.name: _value(column, number, written) for column in table.columns}
                session.execute(insert(table).values(row))
                written[table.name] = row

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table."""
        with self._database.snapshot() as session:
            return {
                table.name: [dict(row) for row in session.execute(select(table)).mappings()]
                for table in self.tables
            }

    def knows(self, table: str, column: str) -> bool:
        """Whether there was this column."""
        return any(column in each.columns for each in self.tables if each.name == table)


def _value(column: Column[Any], number: int, written: dict[str, dict[str, Any]]) -> Any:
    for key in column.foreign_keys:
        return written.get(key.column.table.name, {}).get(key.column.name)
    match column.type:
        case Boolean():
            return False
        case Integer() | Float():
            return number
        case DateTime():
            return datetime(2026, 3, 1, 8, 30, number % 60, tzinfo=UTC)
        case Date():
            return date(2026, 3, 1)
        case LargeBinary():
            return number.to_bytes(4)
        case String():
            return f"{{}}{number}"[-(column.type.length or 16) :]
        case other:
            raise TypeError(f"{column}: {other}")


def common(rows: dict[str, list[dict[str, Any]]], code: Code) -> dict[str, list[dict[str, Any]]]:
    """Rows as far as code of another time knows them."""
    return {
        table: sorted(
            ({name: value for name, value in row.items() if code.knows(table, name)} for row in found),
            key=str,
        )
        for table, found in rows.items()
        if any(each.name == table for each in code.tables)
    }


def test_every_step_up_and_down_keeps_the_data_and_lets_older_code_go_on(database: Database) -> None:
    url, steps = database.url.render_as_string(hide_password=False), revisions()
    migrate(url, steps[0])
    codes = {steps[0]: Code(database)}
    for number, (before, after) in enumerate(pairwise(steps), 1):
        older = codes[before]
        older.write(10 * number)
        kept = older.read()
        migrate(url, after)
        newer = codes[after] = Code(database)
        if after in MOVED:
            continue
        found = newer.read()
        if (place := BEGUN_ANEW.get(after)) is not None:
            found[place] = kept[place]
        assert common(found, older) == common(kept, older), after
        if after in ALONE:
            continue
        older.write(10 * number + 1)  # beside the new schema
        assert {table: len(rows) for table, rows in older.read().items()} == {
            table: len(rows) + 1 for table, rows in kept.items()
        }, after
    codes[steps[-1]].write(10_000)
    for before, after in reversed(list(pairwise(steps))):
        kept = codes[after].read()
        downgrade(url, before)
        if after not in MOVED:
            assert common(codes[before].read(), codes[after]) == common(kept, codes[before]), before
    migrate(url)


def test_code_serves_its_own_schema_and_a_newer_one_and_no_older_one() -> None:
    assert not is_usable("nothing")
    assert not any(is_usable(revision) for revision in revisions()[:-1])
    assert is_usable(expected_revision())
    assert is_usable("0999_made_by_newer_code")


def test_a_host_goes_on_while_a_newer_schema_is_put_beneath_it(settings: Settings, operator: Caller) -> None:
    """What a rolling upgrade does: first the schema, then the machines one after the other."""
    rooms = build_rooms(settings)
    browser = create_app(rooms).test_client()
    ingest(rooms.archive, operator, io.BytesIO(ct_slice(instance=1)))
    with rooms.database.transaction() as session:
        session.execute(text("ALTER TABLE study ADD COLUMN future VARCHAR(8) DEFAULT '' NOT NULL"))
        session.execute(text("ALTER TABLE instance ADD COLUMN future INTEGER"))
        session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        session.execute(text("INSERT INTO alembic_version VALUES ('0999_made_by_newer_code')"))
    try:
        ingest(rooms.archive, operator, io.BytesIO(ct_slice(instance=2)))
        assert len(list(find_instances(rooms.archive, operator, f"{ROOT}.1"))) == 2
        assert browser.get("/readyz").status_code == 200
    finally:
        with rooms.database.transaction() as session:
            session.execute(text("DROP TABLE alembic_version"))
            session.execute(text("ALTER TABLE study DROP COLUMN future"))
            session.execute(text("ALTER TABLE instance DROP COLUMN future"))
        rooms.close()
