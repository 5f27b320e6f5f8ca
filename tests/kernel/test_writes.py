"""Writes that go together are what each of them is by itself, whatever stands in their values."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from cloudfilm.rooms import Rooms
from kernel.database import Database
from kernel.writes import MANY, MOST_BYTES, write_all

THINGS = Table(
    "things", MetaData(), Column("id", Integer, primary_key=True), Column("said", String),
    Column("data", LargeBinary), Column("at", DateTime(timezone=True)), Column("short", String(5)),
    Column("is_so", Boolean), Column("number", Float(53)),
)  # fmt: skip
COUNTS = Table("counts", MetaData(), Column("id", Integer, primary_key=True), Column("seq", Integer))
ADD, COUNT = insert(THINGS), insert(COUNTS)
ADVANCE = update(COUNTS).where(COUNTS.c.id == bindparam("row")).values(seq=bindparam("to"))
AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
SAID = ["", "100 %", "%(said)s %s", "O'Neill; DROP TABLE things; --", 'a "b" \\ c', "张三 𠮷", "a\nb", None]


@pytest.fixture
def database(rooms: Rooms) -> Iterator[Database]:
    with rooms.database.transaction() as session:
        for table in (THINGS, COUNTS):
            table.create(session.connection())
    yield rooms.database
    with rooms.database.transaction() as session:
        for table in (THINGS, COUNTS):
            table.drop(session.connection())


def thing(number: int, said: str | None = "x", data: bytes | None = b"") -> dict[str, object]:
    return {
        "id": number, "said": said, "data": data, "at": AT, "short": None, "is_so": number % 2 == 0,
        "number": number / 3,
    }  # fmt: skip


def test_inserts_and_updates_happen_in_their_order(database: Database) -> None:
    things = [thing(number, said, bytes([0, 37, 39, 255]) * number) for number, said in enumerate(SAID)]
    with database.transaction() as session:
        write_all(
            session.connection(),
            [
                (COUNT, [{"id": 1, "seq": 0}, {"id": 2, "seq": 0}]),
                (ADD, things),
                (ADD, []),
                (ADVANCE, [{"row": 1, "to": 7}, {"row": 2, "to": 8}]),
            ],
        )
    with database.snapshot() as session:
        kept = session.execute(select(THINGS.c.id, THINGS.c.said, THINGS.c.data).order_by(THINGS.c.id)).all()
        counted = session.execute(select(COUNTS.c.seq).order_by(COUNTS.c.id)).scalars().all()

    assert [tuple(row) for row in kept] == [(each["id"], each["said"], each["data"]) for each in things]
    assert counted == [7, 8]


def test_more_than_one_message_holds_is_written_whole(database: Database) -> None:
    with database.transaction() as session:
        large = [(ADD, [thing(number, "x" * (MOST_BYTES // 2))]) for number in range(5)]
        write_all(session.connection(), large)
    with database.snapshot() as session:
        assert len(session.execute(select(THINGS.c.id)).all()) == 5


def test_one_that_is_refused_undoes_all(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as session:
        write_all(session.connection(), [(COUNT, [{"id": 1, "seq": 0}]), (ADD, [thing(1), thing(1)])])
    with database.snapshot() as session:
        assert session.execute(select(COUNTS.c.id)).all() == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_any_text_is_kept_as_it_is(database: Database, texts: list[str]) -> None:
    with database.transaction() as session:
        session.execute(THINGS.delete())
        write_all(session.connection(), [(ADD, [thing(at, said) for at, said in enumerate(texts)])])
    with database.snapshot() as session:
        kept = session.execute(select(THINGS.c.said).order_by(THINGS.c.id)).scalars().all()
    assert kept == texts


@pytest.mark.parametrize("count", [1, MANY - 1, MANY, 500])
def test_rows_are_the_same_however_many_go_together(database: Database, count: int) -> None:
    things = [
        thing(number, SAID[number % len(SAID)], None if number % 3 else b"\x00'")
        | {"at": None if number % 5 else AT, "number": [0.1, 1e300, float("inf"), None][number % 4]}
        for number in range(count)
    ]
    with database.transaction() as session:
        write_all(session.connection(), [(ADD, things)])
    with database.snapshot() as session:
        kept = [dict(row._mapping) for row in session.execute(select(THINGS).order_by(THINGS.c.id))]
    for row in kept:
        row["at"] = row["at"] and row["at"].replace(tzinfo=UTC)
    assert kept == things


@pytest.mark.parametrize("count", [1, MANY])
def test_a_text_that_is_too_long_is_refused_and_never_cut(database: Database, count: int) -> None:
    if database.is_sqlite:
        count = 0  # it has no lengths
    refused = pytest.raises(DataError) if count else nullcontext()
    with refused, database.transaction() as session:
        write_all(session.connection(), [(ADD, [thing(at) | {"short": "123456"} for at in range(count)])])
