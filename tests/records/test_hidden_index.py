"""Numbers, ways to reach somebody, lines of addresses, texts: found by equality, neither read nor guessed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, type_coerce
from sqlalchemy.types import String

from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from kernel.settings import Settings
from records.hashing import hash_of
from records.identifiers import find_by_identifier
from records.model import (
    IndexHiddenWord,
    IndexReference,
    IndexString,
    IndexToken,
    IndexWord,
    SealingPass,
)
from records.parameters import parameter_number
from records.sealing import hide_words, seal_documents, seal_page
from tests.fhir_server.test_fhir import bearer
from tests.fhir_server.test_interactions import Fhir
from tests.records.test_search import found, put
from tests.settling import settle

CARD, NUMBER, PHONE = "urn:card", "510104198506121234", "13912345678"
KIND = {"coding": [{"system": "urn:kinds", "code": "NI"}], "text": "Krankenkasse"}
PERSON: dict[str, Any] = {
    "identifier": [{"system": CARD, "value": NUMBER, "type": KIND}],
    "telecom": [{"system": "phone", "value": PHONE}, {"system": "email", "value": "Wei@Example.org"}],
    "address": [{"text": "成都市学府路306号", "line": ["学府路306号"], "city": "成都市"}],
    "name": [{"text": "张伟", "family": "Zhang"}],
    "text": {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">Herr Zhang, {PHONE}</div>',
    },
}
FINDING: dict[str, Any] = {
    "status": "final",
    "code": {"text": "CT"},
    "valueString": "双肺未见明显异常",
    "subject": {"identifier": {"system": CARD, "value": NUMBER}},
}
ASKED = [  # what finds Patient/a, and Observation/o
    ("Patient", f"identifier={CARD}|{NUMBER}"),
    ("Patient", f"identifier={NUMBER}"),
    ("Patient", f"identifier={CARD}|"),
    ("Patient", f"identifier:of-type=urn:kinds|NI|{NUMBER}"),
    ("Patient", "identifier:text=kranken"),
    ("Patient", f"phone={PHONE}"),
    ("Patient", f"telecom=phone|{PHONE}"),
    ("Patient", "email=Wei@Example.org"),
    ("Patient", "address=学府路306号"),
    ("Patient", "address=成都市学府路306号"),
    ("Patient", "address:exact=学府路306号"),
    ("Patient", "address=成都"),  # of a city the beginning
    ("Patient", "address-city=成都"),
    ("Patient", "address:contains=都市"),
    ("Patient", "name=张"),
    ("Patient", f"phone:not=1&identifier={NUMBER}"),
    ("Patient", f"_filter=identifier eq {CARD}|{NUMBER}"),
    ("Patient", "_content=herr zhang"),
    ("Patient", "_text=zha"),
    ("Observation", "value-string=双肺未见明显异常"),
    ("Observation", "value-string:exact=双肺未见明显异常"),
    ("Observation", "code-value-string=x$双肺未见明显异常"),
    ("Observation", f"subject:identifier={CARD}|{NUMBER}"),
    ("Observation", "_content=双肺未见明显异常"),
    ("Observation", "_content=肺"),
    ("Observation", "_content=xyz OR 明显"),
]
NOT_FOUND = [
    ("Patient", f"identifier={NUMBER[:-1]}"),
    ("Patient", "identifier:text=5101"),
    ("Patient", "address=学府路"),
    ("Patient", "address:contains=府路"),
    ("Patient", f"_content={PHONE}"),
    ("Patient", f"_text={PHONE}"),
    ("Observation", "value-string=双肺"),
    ("Observation", "_text=双肺"),
    ("Observation", "_content=双肺 异物"),
]


def write(rooms: Rooms) -> Fhir:
    fhir = Fhir(create_app(rooms).test_client(), bearer(rooms))
    put(fhir, "Patient", "a", **PERSON)
    put(fhir, "Patient", "b", name=[{"text": "王芳"}], identifier=[{"system": "urn:other", "value": "1"}])
    coded = FINDING | {"code": {"coding": [{"code": "x"}]}}
    put(fhir, "Observation", "o", **coded)
    settle(rooms)
    return fhir


def tells(text: str) -> bool:
    """Whether it tells of a number or the house; the hexadecimal digits of a hash may hold any three."""
    return PHONE in text or NUMBER in text or "路306" in text or text.startswith("306")


def shown(rooms: Rooms) -> set[str]:
    """All texts of the index as they stand there."""
    columns = (IndexToken.c.text, IndexString.c.value, IndexString.c.exact, IndexWord.c.word)
    with rooms.database.snapshot() as session:
        return {text for column in columns for text in session.scalars(select(type_coerce(column, String)))}


def hashes(rooms: Rooms) -> set[int]:
    with rooms.database.snapshot() as session:
        return {
            each
            for column in (IndexToken.c.value, IndexToken.c.code, IndexReference.c.identifier)
            for each in session.scalars(select(column))
        }


def words(rooms: Rooms) -> tuple[int, int]:
    """How many rows of words stand in clear, and how many hidden."""
    with rooms.database.snapshot() as session:
        counts = [session.scalar(select(func.count()).select_from(t)) for t in (IndexWord, IndexHiddenWord)]
    return counts[0] or 0, counts[1] or 0


GUESSED = {hash_of(CARD, NUMBER), hash_of(NUMBER), hash_of(PHONE), hash_of("urn:kinds", "NI", NUMBER)}


@pytest.fixture
def old(settings: Settings, clock: FixedClock) -> Iterator[Rooms]:
    """A host whose documents are from before there was sealing."""
    built = build_rooms(replace(settings, database=replace(settings.database, seals=False)), clock)
    write(built)
    built.close()
    built = build_rooms(settings, clock)
    yield built
    built.close()


def test_what_is_hidden_is_found_by_equality(rooms: Rooms) -> None:
    fhir = write(rooms)

    for type_, query in ASKED:
        expected = {"Patient": "a", "Observation": "o"}[type_]
        assert found(fhir, f"/{type_}?{query}") == {expected}, query
    for type_, query in NOT_FOUND:
        assert found(fhir, f"/{type_}?{query}") == set(), query


def test_the_index_neither_shows_it_nor_lets_it_be_guessed(rooms: Rooms) -> None:
    write(rooms)

    texts = shown(rooms)
    assert not [each for each in texts if tells(each) or "wei@" in each]
    assert "双肺未见明显异常" not in texts
    assert {"成都市", "krankenkasse"} <= texts
    assert not hashes(rooms) & GUESSED
    assert words(rooms)[0] == 0


def test_what_is_there_already_is_found_before_and_after_a_pass_has_hidden_it(old: Rooms) -> None:
    fhir = Fhir(create_app(old).test_client(), bearer(old))
    assert PHONE in shown(old)
    assert hashes(old) >= GUESSED

    while True:
        for type_, query in ASKED:
            assert found(fhir, f"/{type_}?{query}") == {{"Patient": "a", "Observation": "o"}[type_]}, query
        with old.database.snapshot() as session:
            assert find_by_identifier(session, "Patient", CARD, NUMBER) == "a"
        if not seal_page(old.records, most=1):
            break

    for type_, query in NOT_FOUND:
        assert found(fhir, f"/{type_}?{query}") == set(), query
    assert not [each for each in shown(old) if tells(each)]
    tokens = parameter_number("Patient", "identifier"), parameter_number("Patient", "phone")
    with old.database.snapshot() as session:
        kept = set(session.scalars(select(IndexToken.c.value).where(IndexToken.c.parameter.in_(tokens))))
    assert not kept & GUESSED


def test_a_pass_that_was_over_before_the_index_hid_anything_begins_anew(old: Rooms) -> None:
    with old.database.transaction() as session:
        session.add(SealingPass(id=1, key_id="k1", sealed_to=1 << 40, is_done=True))

    seal_documents(old.records)

    assert not [each for each in shown(old) if PHONE in each]
    with old.database.snapshot() as session:
        place = session.get_one(SealingPass, 1)
        assert (place.is_done, place.is_indexed) == (True, True)


def test_a_turned_ring_finds_what_it_hid_before(rooms: Rooms) -> None:
    fhir = write(rooms)
    rooms.keys.rotate()
    seal_documents(rooms.records)

    assert found(fhir, f"/Patient?identifier={CARD}|{NUMBER}") == {"a"}


def test_a_scope_narrowed_to_one_number_opens_that_patient_alone(rooms: Rooms) -> None:
    fhir = write(rooms)
    narrowed = Fhir(fhir.client, bearer(rooms, f"user/Patient.rs?identifier={CARD}|{NUMBER}"))

    assert found(narrowed, "/Patient") == {"a"}


def test_words_are_found_while_they_are_hidden_document_by_document(old: Rooms) -> None:
    fhir = Fhir(create_app(old).test_client(), bearer(old))
    asked = [(type_, query) for type_, query in ASKED if query.startswith(("_content", "_text"))]
    in_clear, hidden = words(old)
    assert (in_clear > 0, hidden) == (True, 0)

    last = 0
    while last := hide_words(old.records, last, most=1):
        assert words(old)[0] < in_clear
        in_clear = words(old)[0]
        for type_, query in asked:
            assert found(fhir, f"/{type_}?{query}") == {{"Patient": "a", "Observation": "o"}[type_]}, query

    assert words(old)[0] == 0
    for type_, query in NOT_FOUND:
        if query.startswith(("_content", "_text")):
            assert found(fhir, f"/{type_}?{query}") == set(), query


def test_the_pass_hides_words_of_what_older_code_wrote_beside_it(rooms: Rooms, settings: Settings) -> None:
    seal_documents(rooms.records)
    beside = build_rooms(replace(settings, database=replace(settings.database, seals=False)), rooms.clock)
    write(beside)
    beside.close()
    assert words(rooms)[0]

    seal_documents(rooms.records)

    assert words(rooms)[0] == 0
    assert found(Fhir(create_app(rooms).test_client(), bearer(rooms)), "/Observation?_content=双肺") == {"o"}


def test_words_stay_in_clear_while_nothing_is_sealed(settings: Settings, clock: FixedClock) -> None:
    rooms = build_rooms(replace(settings, database=replace(settings.database, seals=False)), clock)
    fhir = write(rooms)

    assert hide_words(rooms.records, 0) == 0
    assert words(rooms)[1] == 0
    for query in ("_content=双肺", "_content=肺", "_content=fina"):
        assert found(fhir, f"/Observation?{query}") == {"o"}, query
    rooms.close()


def test_words_of_letters_are_found_by_their_beginnings_and_numbers_whole(rooms: Rooms) -> None:
    told = "Pneumothorax at L4-L5, T2-FLAIR, case 12345678, 左肺nodules"
    fhir = Fhir(create_app(rooms).test_client(), bearer(rooms))
    put(fhir, "Observation", "o", status="final", code={"text": "CT"}, valueString=told)
    put(fhir, "Observation", "p", status="final", code={"text": "CT"}, valueString="Pneumonia of both lungs")
    settle(rooms)

    for query, expected in {
        "pneumothorax": "o", "pneum": "op", "pne": "op", "pn": "", "l4": "o", "l4-l": "o", "t2": "o",
        "nodule": "o", "12345678": "o", "12345": "", "final": "op", "fin": "", "ct": "op", "左肺 pneumon": "",
        "both lung": "p",
    }.items():  # fmt: skip
        assert found(fhir, f"/Observation?_content={query}") == set(expected), query
