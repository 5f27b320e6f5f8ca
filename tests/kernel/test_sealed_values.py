"""Texts and bytes in sealed columns: sealed in the row, as they were when they come back, found by a hash."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, insert, or_, select, type_coerce, update

import cloudfilm.models
from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import Base, Database
from kernel.sealed_values import MARK, MARK_BYTES, KeyedHash, SealedBytes, SealedText
from kernel.suites import COMMERCIAL, INTERNATIONAL, Suite
from kernel.writes import write_all

TEXT, BYTES = SealedText("guest.name"), SealedBytes("guest.picture")
GUEST = Table(
    "guest",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("name_index", KeyedHash("guest.name"), nullable=False, server_default=""),
    Column("picture", BYTES, nullable=False, default=b""),
)


def ring(suite: Suite = INTERNATIONAL) -> KeyRing:
    return KeyRing({"k1": secrets.token_bytes(32)}, "k1", suite=suite)


@pytest.fixture
def keys() -> KeyRing:
    return ring()


@pytest.fixture
def people(database_url: str, keys: KeyRing) -> Iterator[Database]:
    """A database with one table."""
    database = Database(database_url, keys=keys)
    GUEST.create(database.engine)
    yield database
    GUEST.drop(database.engine)
    database.close()


def kept(database: Database, name: str) -> list[Any]:
    """A column as it stands in the rows."""
    column = GUEST.c[name]
    raw = type_coerce(column, column.type.impl_instance)  # type: ignore[attr-defined]
    with database.snapshot() as session:
        return list(session.scalars(select(raw).order_by(GUEST.c.id)))


@given(st.text(), st.binary())
@pytest.mark.parametrize("suite", [INTERNATIONAL, COMMERCIAL], ids=lambda suite: suite.name)
def test_any_value_comes_back_as_it_was(suite: Suite, text: str, data: bytes) -> None:
    keys = ring(suite)

    assert TEXT.open(TEXT.seal(text, keys), keys) == text
    assert BYTES.open(BYTES.seal(data, keys), keys) == data
    assert TEXT.seal(text, keys) != TEXT.seal(text, keys)  # equal values do not look equal


def test_what_was_changed_or_is_of_another_column_or_ring_does_not_open(keys: KeyRing) -> None:
    sealed, data = TEXT.seal("张伟", keys), BYTES.seal(b"{}", keys)
    at = len(sealed) // 2
    changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
    foreign = SealedText("guest.other").seal("张伟", keys)

    wrong = (changed, sealed[:-8], MARK, f"{MARK}k1.", f"{MARK}k9.AAAA", foreign, TEXT.seal("张伟", ring()))
    for each in wrong:
        with pytest.raises(DamagedBlob):
            TEXT.open(each, keys)
    for damaged in (data[:-1], MARK_BYTES, data + b"1", SealedBytes("guest.other").seal(b"{}", keys)):
        with pytest.raises(DamagedBlob):
            BYTES.open(damaged, keys)


def test_every_way_to_a_row_seals_and_every_way_back_opens(people: Database, keys: KeyRing) -> None:
    with people.transaction() as session:
        session.execute(insert(GUEST).values(id=1, name="张伟", name_index="张伟", picture=b"{1}"))
        rows = [{"id": n, "name": "李娜", "name_index": "李娜", "picture": b"{2}"} for n in range(2, 8)]
        write_all(session.connection(), [(insert(GUEST), rows)])
        session.execute(insert(GUEST).values(id=8, name=""))
    with people.snapshot() as session:
        read = session.execute(select(GUEST.c.name, GUEST.c.picture).order_by(GUEST.c.id)).all()
        assert [tuple(row) for row in read] == [("张伟", b"{1}"), *[("李娜", b"{2}")] * 6, ("", b"")]
    one = select(GUEST.c.name, GUEST.c.picture).where(GUEST.c.id == 2)
    assert [people.row(one, {}) for _ in range(3)] == [("李娜", b"{2}")] * 3  # prepared, too
    names, pictures = kept(people, "name"), kept(people, "picture")
    assert all(each.startswith(f"{MARK}k1.") for each in names[:7])
    assert all(each.startswith(f"{MARK}k1.".encode()) for each in pictures[:7])
    assert (names[7], pictures[7]) == ("", b"")
    with people.transaction() as session:
        session.execute(update(GUEST).where(GUEST.c.id == 1).values(name="王芳", name_index="王芳"))
        assert session.scalar(select(GUEST.c.id).where(GUEST.c.name_index == "王芳")) == 1
    assert "王芳" not in str(kept(people, "name")) + str(kept(people, "name_index"))


def test_a_text_is_found_by_its_hash_or_where_it_stands_in_clear(people: Database, keys: KeyRing) -> None:
    in_clear = type_coerce("李娜", GUEST.c.name.type.impl_instance)  # type: ignore[attr-defined]
    with people.transaction() as session:
        session.execute(insert(GUEST).values(id=1, name="张伟", name_index="张伟"))
        session.execute(insert(GUEST).values(id=2, name=in_clear))
    with people.snapshot() as session:
        found = [
            session.scalars(
                select(GUEST.c.id).where(or_(GUEST.c.name_index == asked, GUEST.c.name == asked))
            ).all()
            for asked in ("张伟", "李娜", "王芳")
        ]
        assert found == [[1], [2], []]
        assert session.scalar(select(GUEST.c.name).where(GUEST.c.id == 2)) == "李娜"


def test_where_nothing_is_sealed_what_looks_sealed_comes_back_all_the_same(
    database_url: str, keys: KeyRing
) -> None:
    database = Database(database_url, keys=keys, seals=False)
    GUEST.create(database.engine)
    try:
        for number, name in enumerate(("张伟", f"{MARK}k1.AAAA")):
            with database.transaction() as session:
                session.execute(insert(GUEST).values(id=number, name=name, picture=b"{}"))
        with database.snapshot() as session:
            assert session.scalars(select(GUEST.c.name).order_by(GUEST.c.id)).all() == [
                "张伟",
                f"{MARK}k1.AAAA",
            ]
        assert (kept(database, "name")[0], kept(database, "picture")[0]) == ("张伟", b"{}")
    finally:
        GUEST.drop(database.engine)
        database.close()


def test_every_sealed_column_is_bound_to_itself() -> None:
    assert cloudfilm.models.MODULES
    types = (SealedText, SealedBytes)
    sealed = [
        each for table in Base.metadata.tables.values() for each in table.c if isinstance(each.type, types)
    ]

    assert sealed
    assert {each.type.context: str(each) for each in sealed} == {str(each): str(each) for each in sealed}  # type: ignore[attr-defined]
