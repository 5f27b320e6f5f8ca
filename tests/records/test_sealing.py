"""Documents that are there already are sealed page by page, while others write."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Text, select, type_coerce, update

from access.caller import Caller
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock
from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import table_of
from kernel.sealed_text import SealedDocument
from kernel.settings import Settings
from records.history import Wanted, history
from records.model import Resource, ResourceVersion, SealingPass
from records.repository import read, read_version, remove, write
from records.sealing import begin_pass, open_documents, seal_documents, seal_page

TABLES = tuple(table_of(model) for model in (Resource, ResourceVersion))


def patient(number: int, name: str = "Zhang") -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"p{number}", "name": [{"text": name}]}


def put(rooms: Rooms, caller: Caller, document: dict[str, Any]) -> None:
    with rooms.database.transaction() as session:
        write(rooms.records, session, caller, document, logical_id=str(document["id"]))


def kept(rooms: Rooms) -> set[str]:
    """How what is kept begins."""
    with rooms.database.snapshot() as session:
        return {
            each[:3] if each else ""
            for table in TABLES
            for each in session.scalars(select(type_coerce(table.c.body, Text)))
        }


def in_clear(rooms: Rooms) -> None:
    """As it was before there was sealing."""
    with rooms.database.transaction() as session:
        open_documents(session.connection(), rooms.keys)
        session.execute(table_of(SealingPass).delete())


def name_of(body: str) -> str:
    return str(json.loads(body)["name"][0]["text"])


def test_what_was_there_before_is_sealed_and_is_read_all_the_way(rooms: Rooms, operator: Caller) -> None:
    for number in range(5):
        put(rooms, operator, patient(number))
    put(rooms, operator, patient(1, "Wang"))
    with rooms.database.transaction() as session:
        remove(rooms.records, session, operator, "Patient", "p2")
    in_clear(rooms)
    assert kept(rooms) == {'{"r', ""}

    counts = []
    while count := seal_page(rooms.records, most=2):
        counts.append(count)
        assert name_of(read(rooms.records, operator, "Patient", "p1").body) == "Wang"
        assert len(history(rooms.records, operator, Wanted("Patient")).versions) == 7

    assert counts == [2, 2, 1]
    assert kept(rooms) == {"k1.", ""}
    assert name_of(read_version(rooms.records, operator, "Patient", "p1", 1).body) == "Zhang"
    assert seal_page(rooms.records) == 0  # over


def test_a_pass_that_was_stopped_goes_on_where_it_was(rooms: Rooms, operator: Caller) -> None:
    for number in range(4):
        put(rooms, operator, patient(number))
    in_clear(rooms)
    assert seal_page(rooms.records, most=2) == 2

    assert seal_page(rooms.records, most=10) == 2
    seal_documents(rooms.records)
    assert kept(rooms) == {"k1."}


def test_a_document_that_changes_under_the_pass_stays_as_it_was_changed(
    rooms: Rooms, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rooms, operator, patient(1, "before"))
    in_clear(rooms)
    seal, changed = SealedDocument.seal, iter((True,))

    def seal_late(self: SealedDocument, text: str, keys: KeyRing) -> str:
        if next(changed, False):  # the pass has read its page, and not written it yet
            put(rooms, operator, patient(1, "after"))
        return seal(self, text, keys)

    monkeypatch.setattr(SealedDocument, "seal", seal_late)
    seal_page(rooms.records)

    assert name_of(read(rooms.records, operator, "Patient", "p1").body) == "after"
    assert name_of(read_version(rooms.records, operator, "Patient", "p1", 1).body) == "before"
    assert kept(rooms) == {"k1."}


def test_a_turned_ring_is_followed_though_another_process_turned_it(
    rooms: Rooms, operator: Caller, settings: Settings
) -> None:
    put(rooms, operator, patient(1))
    seal_documents(rooms.records)
    elsewhere = build_rooms(settings)
    elsewhere.keys.rotate()
    elsewhere.close()

    seal_documents(rooms.records)

    assert kept(rooms) == {"k2."}
    assert name_of(read(rooms.records, operator, "Patient", "p1").body) == "Zhang"


def test_while_older_code_runs_beside_nothing_is_sealed(
    settings: Settings, clock: FixedClock, operator: Caller
) -> None:
    rooms = build_rooms(replace(settings, database=replace(settings.database, seals=False)), clock)
    try:
        put(rooms, operator, patient(1))
        seal_documents(rooms.records)
        assert kept(rooms) == {'{"r'}
    finally:
        rooms.close()
    rooms = build_rooms(settings, clock)
    try:
        assert name_of(read(rooms.records, operator, "Patient", "p1").body) == "Zhang"
        begin_pass(rooms.records)
        seal_documents(rooms.records)
        assert kept(rooms) == {"k1."}
    finally:
        rooms.close()


def test_a_document_in_the_row_of_another_is_not_taken_for_it(rooms: Rooms, operator: Caller) -> None:
    put(rooms, operator, patient(1, "Zhang"))
    put(rooms, operator, patient(2, "Wang"))
    with rooms.database.transaction() as session:
        for table in TABLES:
            other = session.scalars(select(type_coerce(table.c.body, Text))).all()
            session.execute(update(table).values(body=other[0]))

    for number in (1, 2):
        names = []
        try:
            names.append(name_of(read(rooms.records, operator, "Patient", f"p{number}").body))
            names.append(name_of(read_version(rooms.records, operator, "Patient", f"p{number}", 1).body))
        except DamagedBlob:
            continue
        assert set(names) == {("Zhang", "Wang")[number - 1]}
    with pytest.raises(DamagedBlob):
        history(rooms.records, operator, Wanted("Patient"))
