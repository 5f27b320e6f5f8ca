"""Statements kept by the shape of a search: none is built again, none is mistaken for another, and what is
kept names nobody."""

import json
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from access.caller import Action, Caller, Clause, Door, Permissions, Principal, PrincipalKind, Reach
from cloudfilm.rooms import Rooms
from kernel.sealed_text import Hidden
from records import shapes
from records.dates import interval
from records.hashing import hash_of
from records.indexing import reference_hash
from records.query import parse_search
from records.repository import write
from records.search import find_ids, search
from records.shapes import NOTHING_ASKED, Asked
from tests.settling import settle

LOINC = "http://loinc.org"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_kept", {})


def documents(name: str, number: int) -> list[dict[str, Any]]:
    """A patient and what belongs to it; two numbers give documents that differ in all that is searched."""
    patient = {"reference": f"Patient/{name}"}
    day = f"20{number:02d}-03-01"
    return [
        {
            "resourceType": "Patient", "id": name, "birthDate": day, "meta": {"source": f"urn:source:{name}"},
            "name": [{"family": f"{name}family", "given": [f"{name}given"]}],
            "identifier": [{"system": f"urn:{name}", "value": f"{name}value"}],
            "text": {"status": "generated", "div": f"<div>{name}word</div>"},
        },
        {
            "resourceType": "Observation", "id": f"o{name}", "status": "final", "subject": patient,
            "code": {"coding": [{"system": LOINC, "code": f"{name}code", "display": f"{name}display"}]},
            "effectiveDateTime": day,
            "valueQuantity": {"value": number, "system": "http://unitsofmeasure.org", "code": "kg"},
        },
        {
            "resourceType": "Location", "id": f"l{name}", "name": f"{name}family",
            "position": {"latitude": number, "longitude": number + 5},
        },
        {"resourceType": "List", "id": f"i{name}", "status": "current", "mode": "working",
         "entry": [{"item": patient}]},
    ]  # fmt: skip


PEOPLE = {"alice": 11, "bertrand": 27}

QUESTIONS = (  # each finds what is of one, and nothing of the other
    "Patient?_id={name}",
    "Patient?family={name}",
    "Patient?family:exact={name}family",
    "Patient?family:contains={name}fam",
    "Patient?identifier=urn:{name}|{name}value",
    "Patient?identifier={name}value",
    "Patient?identifier=urn:{name}|",
    "Patient?identifier={name}value,nobody",
    "Patient?birthdate=20{number}-03-01",
    "Patient?birthdate=ge20{number}-02-01&birthdate=lt20{number}-04",
    "Patient?birthdate=20{number}-03-01&_sort=birthdate",
    "Patient?_source=urn:source:{name}",
    "Patient?_source:below=urn:source:{name}",
    "Patient?_text={name}word",
    "Patient?_content={name}given",
    "Patient?_list=i{name}",
    "Patient?_filter=family sw {name} and birthdate po 20{number}",
    "Patient?_has:Observation:patient:code={name}code",
    "Observation?patient={name}",
    "Observation?patient=Patient/{name}&_sort=-date",
    "Observation?patient={name}&status:not=amended",
    "Observation?patient.identifier=urn:{name}|{name}value",
    "Observation?code={name}code&status=final",
    "Observation?code={name}code&_total=accurate",
    "Observation?code:text={name}disp",
    "Observation?value-quantity={number}|http://unitsofmeasure.org|kg",
    "Observation?value-quantity=gt{less}&value-quantity=lt{more}",
    "Observation?code-value-quantity={name}code${number}",
    "Observation?date=20{number}-03-01",
    "Location?near={number}|{longitude}|3|km",
)


def filled(question: str, name: str) -> str:
    number = PEOPLE[name]
    return question.format(
        name=name, number=number, less=number - 1, more=number + 1, longitude=number + 5
    )  # fmt: skip


def found(rooms: Rooms, caller: Caller, question: str) -> list[str]:
    type_, _, query = question.partition("?")
    wanted = parse_search(type_, [tuple(each.split("=", 1)) for each in query.split("&")])  # type: ignore[misc]
    matches = search(rooms.records, caller, wanted).matches
    with rooms.database.transaction() as session:
        ids = [logical_id for _, logical_id in find_ids(rooms.records, session, caller, wanted, 10)]
    assert {each.logical_id for each in matches} == set(ids)
    return ids


@pytest.fixture
def filled_rooms(rooms: Rooms, operator: Caller) -> Rooms:
    for name, number in PEOPLE.items():
        for document in documents(name, number):
            with rooms.database.transaction() as session:
                write(rooms.records, session, operator, document, logical_id=document["id"],
                      institution=name.upper())  # fmt: skip
    settle(rooms)
    return rooms


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_search_like_one_before_it_builds_no_statement_and_finds_its_own(
    filled_rooms: Rooms, operator: Caller, question: str
) -> None:
    of_one = found(filled_rooms, operator, filled(question, "alice"))
    kept = len(shapes._kept)
    of_other = found(filled_rooms, operator, filled(question, "bertrand"))

    assert kept > 0
    assert len(shapes._kept) == kept
    assert len(of_one) == len(of_other) == 1
    assert of_one[0].replace("alice", "bertrand") == of_other[0]


def test_what_is_kept_names_nobody(filled_rooms: Rooms, operator: Caller) -> None:
    for question in QUESTIONS:
        found(filled_rooms, operator, filled(question, "alice"))

    texts = [
        f"{key} {(compiled := statement.compile(dialect=sqlite.dialect())).string} {compiled.params}"
        for key, statement in shapes._kept.items()
    ]
    told = ("alice", str(interval("2011-03-01")[0]), str(reference_hash("Patient/alice")),
            str(hash_of("alicevalue")), str(hash_of("urn:alice", "alicevalue")))  # fmt: skip
    assert len(texts) > len(QUESTIONS)
    assert [text for text in texts for secret in told if secret in text] == []


def reaching(*clauses: Clause) -> Caller:
    everything = Permissions(frozenset(Action("*", verb) for verb in "rs"))
    principal = Principal(PrincipalKind.ACCOUNT, "x")
    return Caller(principal, Door.FHIR, everything, Reach.everywhere().narrowed(*clauses))


def test_a_statement_is_of_one_reach(filled_rooms: Rooms, operator: Caller) -> None:
    """The same question of callers of other institutions, and of the same ones again, in between."""
    seen = {
        name: found(
            filled_rooms,
            reaching(Clause(institutions=frozenset({name.upper()}))),
            "Patient?active:missing=true",
        )
        for name in [*PEOPLE, *PEOPLE]
    }

    assert seen == {"alice": ["alice"], "bertrand": ["bertrand"]}
    assert found(filled_rooms, operator, "Patient?active:missing=true") == ["alice", "bertrand"]


@pytest.mark.parametrize(
    "clause",
    [
        Clause(patients=frozenset({"alice"})),
        Clause(documents=frozenset({"Patient/alice"})),
        Clause(except_patients=frozenset({"bertrand"})),
        Clause(search="identifier=alicevalue"),
    ],
)
def test_a_reach_that_names_somebody_is_not_kept(filled_rooms: Rooms, clause: Clause) -> None:
    caller = reaching(clause)

    assert found(filled_rooms, caller, "Patient?active:missing=true") == ["alice"]
    assert found(filled_rooms, caller, "Observation?patient.identifier=urn:alice|alicevalue") in (
        ["oalice"],
        [],
    )
    assert shapes._kept == {}


def test_a_value_that_is_asked_twice_is_one_and_two_alike_are_two() -> None:
    once, other = Asked(Hidden(5)), Asked(Hidden(5))

    assert NOTHING_ASKED.with_more(once, [once]).values == {"asked_0": 5}
    assert NOTHING_ASKED.with_more(once, [other]).values == {"asked_0": 5, "asked_1": 5}
    assert NOTHING_ASKED.with_more(once, [once]).key != NOTHING_ASKED.with_more(once, [other]).key


def test_what_has_no_shape_is_not_kept() -> None:
    assert NOTHING_ASKED.with_more(object()).key is None
    assert NOTHING_ASKED.with_more(object()).with_more(1).key is None
    assert NOTHING_ASKED.with_more([Asked(each) for each in range(1000)]).key is None
    assert json.dumps(NOTHING_ASKED.with_more("x", 1, None, (True,)).key) == '["x", 1, null, [true]]'


def test_what_was_begun_to_be_named_is_asked_all_the_same(filled_rooms: Rooms, operator: Caller) -> None:
    """More values than a kept statement has."""
    ids = [f"family={name}" for name in ("alice,nobody", *["nobody,alice"] * 40)]

    assert found(filled_rooms, operator, f"Patient?{'&'.join(ids)}") == ["alice"]
