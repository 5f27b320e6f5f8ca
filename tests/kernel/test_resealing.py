"""The pass that seals what is in clear, or under an older key, in the rows of a table."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select, type_coerce, update

from kernel import resealing
from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import Database, Overtaken
from kernel.resealing import open_columns, reseal_page
from kernel.sealed_values import MARK, KeyedHash, SealedBytes, SealedText
from kernel.writes import write_all

GUEST = Table(
    "guest",
    MetaData(),
    Column("id", String(8), primary_key=True),
    Column("name", SealedText("guest.name"), nullable=False),
    Column("name_index", KeyedHash("guest.name"), nullable=False, server_default=""),
    Column("picture", SealedBytes("guest.picture"), nullable=False),
)
NAMES = ["张伟", "李娜", "", "王芳", "赵敏"]


def raw(name: str) -> Any:
    """A column as it stands in the row."""
    column = GUEST.c[name]
    return type_coerce(column, column.type.impl_instance)  # type: ignore[attr-defined]


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing({"k1": bytes(32)}, "k1")


@pytest.fixture
def people(database_url: str, keys: KeyRing) -> Iterator[Database]:
    """People from before there was sealing."""
    before = Database(database_url, keys=keys, seals=False)
    GUEST.create(before.engine)
    with before.transaction() as session:
        for number, name in enumerate(NAMES):
            session.execute(insert(GUEST).values(id=f"p{number}", name=name, picture=f"{{{name}}}".encode()))
    before.close()
    database = Database(database_url, keys=keys)
    yield database
    GUEST.drop(database.engine)
    database.close()


def begins(database: Database) -> set[str]:
    """How names and pictures begin, as they stand there."""
    with database.snapshot() as session:
        rows = session.execute(select(raw("name"), raw("picture"))).all()
    return {text[:3] for row in rows for text in (row[0], row[1].decode("latin-1")) if text}


def read(database: Database) -> list[str]:
    with database.snapshot() as session:
        rows = session.execute(select(GUEST.c.name, GUEST.c.picture).order_by(GUEST.c.id)).all()
    assert [row.picture.decode() for row in rows] == [f"{{{row.name}}}" for row in rows]
    return [row.name for row in rows]


def test_what_is_in_clear_is_sealed_page_by_page_while_everything_reads_on(
    people: Database, keys: KeyRing
) -> None:
    counts = []
    while count := reseal_page(people, keys, GUEST, most=2):
        counts.append(count)
        assert read(people) == NAMES

    assert counts == [2, 2, 1]
    assert begins(people) == {f"{MARK}k1"}
    with people.snapshot() as session:
        assert session.scalars(select(GUEST.c.id).where(GUEST.c.name_index == "王芳")).all() == ["p3"]
    assert reseal_page(people, keys, GUEST) == 0  # over


def test_a_turned_ring_is_followed_from_the_beginning(people: Database, keys: KeyRing) -> None:
    while reseal_page(people, keys, GUEST):
        pass
    keys.rotate()

    while reseal_page(people, keys, GUEST):
        pass

    assert begins(people) == {f"{MARK}k2"}
    assert read(people) == NAMES


def test_a_row_that_changes_under_the_pass_stays_as_it_was_changed(
    people: Database, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal, changed = SealedText.seal, iter((True,))

    def seal_late(self: SealedText, text: str, keys: KeyRing) -> str:
        if next(changed, False):  # the pass has read its page, and not written it yet
            with people.transaction() as session:
                values = {"name": "孙丽", "name_index": "孙丽", "picture": "{孙丽}".encode()}
                session.execute(update(GUEST).where(GUEST.c.id == "p1").values(values))
        return seal(self, text, keys)

    monkeypatch.setattr(SealedText, "seal", seal_late)
    while reseal_page(people, keys, GUEST):
        pass

    assert read(people) == ["张伟", "孙丽", *NAMES[2:]]
    assert begins(people) == {f"{MARK}k1"}


def test_a_page_that_the_database_undoes_for_another_is_sealed_once_more(
    people: Database, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone = iter((True,))

    def write_or_be_undone(*asked: Any) -> None:
        if next(undone, False):
            raise Overtaken("Something else was stored at the same time; try again.")
        write_all(*asked)

    monkeypatch.setattr(resealing, "write_all", write_or_be_undone)

    assert resealing.reseal_table(people, keys, GUEST) == len(NAMES)
    assert begins(people) == {f"{MARK}k1"}
    assert read(people) == NAMES


def test_while_nothing_is_to_be_sealed_the_pass_does_nothing(
    people: Database, keys: KeyRing, database_url: str
) -> None:
    quiet = Database(database_url, keys=keys, seals=False)

    assert reseal_page(quiet, keys, GUEST) == 0
    assert f"{MARK}k1" not in begins(people)
    quiet.close()


def test_rows_are_put_in_clear_again_for_older_code_and_not_without_keys(
    people: Database, keys: KeyRing
) -> None:
    while reseal_page(people, keys, GUEST):
        pass
    known = Table("guest", MetaData())
    for column in (GUEST.c.id, GUEST.c.name, GUEST.c.picture):
        known.append_column(Column(column.name, column.type, primary_key=column.primary_key))

    with pytest.raises(DamagedBlob), people.transaction() as session:
        open_columns(session.connection(), None, known)
    assert begins(people) == {f"{MARK}k1"}
    with people.transaction() as session:
        open_columns(session.connection(), keys, known)

    with people.snapshot() as session:
        assert list(session.scalars(select(raw("name")).order_by(GUEST.c.id))) == NAMES
    assert reseal_page(people, keys, GUEST) == len(NAMES)  # a newer code's pass begins anew
    assert begins(people) == {f"{MARK}k1"}
