"""Documents in columns: sealed in the row, as they were when they come back."""

import json
import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, type_coerce, update
from sqlalchemy.exc import StatementError

from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import Database
from kernel.sealed_text import CLEAR, SealedDocument
from kernel.suites import COMMERCIAL, INTERNATIONAL, Suite
from kernel.writes import write_all

WORDS = (b"the first words", b'{"resourceType":"Patient","id":"","name":[{"text":"')
TYPE = SealedDocument("document", WORDS)
NOTE = Table("note", MetaData(), Column("id", Integer, primary_key=True), Column("body", TYPE))
TOLD = '{"resourceType":"Patient","name":[{"text":"张伟"}]}'


def ring(suite: Suite = INTERNATIONAL) -> KeyRing:
    return KeyRing({"k1": secrets.token_bytes(32)}, "k1", suite=suite)


@pytest.mark.parametrize("suite", [INTERNATIONAL, COMMERCIAL], ids=lambda suite: suite.name)
@pytest.mark.parametrize("size", [0, 1, 16_000, 17_000, 2_000_000])
def test_a_document_comes_back_as_it_was(suite: Suite, size: int) -> None:
    keys, text = ring(suite), json.dumps({"data": secrets.token_hex(size // 2), "text": "影像" * size})

    sealed = TYPE.seal(text, keys)

    assert sealed[0] != CLEAR
    assert TYPE.open(sealed, keys) == text
    assert TYPE.seal(text, keys) != sealed  # equal documents do not look equal


@given(st.dictionaries(st.text(), st.text(max_size=500), max_size=8))
def test_any_document_comes_back_as_it_was(document: dict[str, str]) -> None:
    keys, text = ring(), json.dumps(document, ensure_ascii=True)

    assert TYPE.open(TYPE.seal(text, keys), keys) == text


def test_what_was_packed_with_earlier_words_still_opens() -> None:
    keys = ring()

    assert TYPE.open(SealedDocument("document", WORDS[:1]).seal(TOLD, keys), keys) == TOLD


def test_what_was_changed_or_is_of_another_column_or_ring_does_not_open() -> None:
    keys = ring()
    sealed = TYPE.seal(TOLD, keys)
    at = len(sealed) // 2
    changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
    foreign = SealedDocument("other", WORDS).seal(TOLD, keys)

    for wrong in (changed, sealed[:-8], "k1.", "k1.AAAA", foreign, TYPE.seal(TOLD, ring())):
        with pytest.raises(DamagedBlob):
            TYPE.open(wrong, keys)
    with pytest.raises(DamagedBlob):
        TYPE.open(sealed.replace("k1.", "k9."), keys)


def test_a_turned_ring_seals_with_its_new_key_and_opens_the_old() -> None:
    keys = ring()
    old = TYPE.seal(TOLD, keys)
    keys.rotate()

    assert TYPE.open(old, keys) == TOLD
    assert TYPE.seal(TOLD, keys).startswith("k2.")


def test_every_way_to_a_row_seals_and_every_way_back_opens(database_url: str) -> None:
    keys = ring()
    database = Database(database_url, keys=keys)
    NOTE.create(database.engine)
    try:
        with database.transaction() as session:
            session.execute(insert(NOTE).values(id=1, body=TOLD))
            write_all(
                session.connection(), [(insert(NOTE), [{"id": 2, "body": TOLD}, {"id": 3, "body": ""}])]
            )
            session.execute(insert(NOTE).values(id=4, body=TYPE.seal(TOLD, keys)))
            session.execute(insert(NOTE).values(id=5, body=type_coerce(TOLD, Text)))
        with database.snapshot() as session:
            kept = session.scalars(select(type_coerce(NOTE.c.body, Text)).order_by(NOTE.c.id)).all()
            read = session.scalars(select(NOTE.c.body).order_by(NOTE.c.id)).all()
            filled = session.scalars(select(NOTE.c.id).where(NOTE.c.body != "").order_by(NOTE.c.id)).all()
        assert [each[:3] for each in kept] == ["k1.", "k1.", "", "k1.", TOLD[:3]]
        assert read == [TOLD, TOLD, "", TOLD, TOLD]
        assert filled == [1, 2, 4, 5]
        one = select(NOTE.c.body).where(NOTE.c.id == 2)
        assert [database.row(one, {}) for _ in range(3)] == [(TOLD,)] * 3  # prepared, too
        with database.transaction() as session:
            session.execute(update(NOTE).where(NOTE.c.id == 5).values(body=TOLD))
            assert session.scalar(select(type_coerce(NOTE.c.body, Text)).where(NOTE.c.id == 5)) != TOLD
    finally:
        NOTE.drop(database.engine)
        database.close()


def test_without_keys_nothing_is_written_in_clear_and_nothing_sealed_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/notes.db"
    with_keys, without = Database(url, keys=ring()), Database(url)
    NOTE.create(with_keys.engine)
    with with_keys.transaction() as session:
        session.execute(insert(NOTE).values(id=1, body=TOLD))

    with without.snapshot() as session, pytest.raises(DamagedBlob):
        session.scalar(select(NOTE.c.body))
    with pytest.raises(StatementError, match="without the key ring"), without.transaction() as session:
        session.execute(insert(NOTE).values(id=2, body=TOLD))
    with_keys.close()
    without.close()
