"""Search against a naive reading of the standard: any parameter, modifier, prefix and value, on documents
made at random, finds what FHIRPath of another library says, page by page and in the order that was asked for.
"""

import json
import random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access.caller import Caller
from cloudfilm.rooms import Rooms
from records import search as search_module
from records.documents import parse_document
from records.query import parse_search
from records.repository import Writing, write_all
from records.search import SearchResult, search
from tests.records.oracle import holds, leaves, parameters, spans

FAMILIES = ["Müller", "O'Brien", "Smith", "van der Berg", "Nuñez", "smithers", "Li"]
GIVEN = ["Anna", "Béla", "Wei", "Jo", "anna maria"]
DATES = ["1980", "1980-05", "1980-05-17", "1999-12-31", "2000-01-01", "2024-02-29", "2024-02", "2023-12-31"]
TIMES = [*DATES, "2024-02-29T23:59:59Z", "2024-03-01T07:30:00+08:00", "2024-03-01T00:00:00.123Z"]
CODES = [("http://loinc.org", "1234-5"), ("http://loinc.org", "9"), ("urn:x", "9"), ("", "9")]
AMOUNTS = ["1", "1.0", "1.50", "0.05", "-2", "100", "99.5", "1e2"]
UNITS = [("http://unitsofmeasure.org", "mg"), ("http://unitsofmeasure.org", "kg"), ("urn:u", "box"), ("", "")]


def _maybe(chance: random.Random, value: Any) -> Any:
    return value if chance.random() < 0.7 else None


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def patient(chance: random.Random, number: int) -> dict[str, Any]:
    """A Patient with some of what may be searched."""
    names = [
        {"family": chance.choice(FAMILIES), "given": chance.sample(GIVEN, chance.randint(1, 2))}
        for _ in range(chance.randint(0, 2))
    ]
    return _without_nothing(
        {
            "resourceType": "Patient",
            "id": f"p{number}",
            "active": _maybe(chance, chance.random() < 0.5),
            "name": names or None,
            "gender": _maybe(chance, chance.choice(["male", "female", "other"])),
            "birthDate": _maybe(chance, chance.choice(DATES)),
            "deceasedDateTime": chance.choice([None, None, "2024-02-29"]),
            "identifier": _maybe(
                chance, [{"system": chance.choice(["urn:a", "urn:b"]), "value": f"{number % 4}"}]
            ),
            "telecom": _maybe(chance, [{"system": "phone", "value": f"555{number % 3}"}]),
            "address": _maybe(chance, [{"city": chance.choice(["Köln", "Lyon"]), "postalCode": "50667"}]),
            "generalPractitioner": _maybe(chance, [{"reference": f"Practitioner/{number % 3}"}]),
        }
    )


def observation(chance: random.Random, number: int) -> dict[str, Any]:
    """An Observation with a value of some kind."""
    system, code = chance.choice(CODES)
    unit_system, unit = chance.choice(UNITS)
    amount = float(chance.choice(AMOUNTS))
    value: dict[str, Any] = chance.choice(
        [
            {
                "valueQuantity": _without_nothing(
                    {"value": amount, "system": unit_system or None, "code": unit or None}
                )
            },
            {"valueString": chance.choice(FAMILIES)},
            {"valueCodeableConcept": {"coding": [{"system": "urn:v", "code": chance.choice("ab")}]}},
            {},
        ]
    )
    effective: dict[str, Any] = chance.choice(
        [
            {"effectiveDateTime": chance.choice(TIMES)},
            {"effectivePeriod": {"start": "1999-12-31", "end": chance.choice(["2000-01-01", "2024-02"])}},
            {"effectivePeriod": {"start": chance.choice(DATES)}},
            {},
        ]
    )
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": chance.choice(["final", "preliminary"]),
        "code": {"coding": [_without_nothing({"system": system or None, "code": code})]},
        "subject": {"reference": f"Patient/p{chance.randint(0, 60)}"},
        **value,
        **effective,
    }


def corpus() -> dict[str, list[dict[str, Any]]]:
    """The documents that are searched."""
    chance = random.Random(20240229)
    return {
        "Patient": [patient(chance, number) for number in range(60)],
        "Observation": [observation(chance, number) for number in range(120)],
    }


CORPUS = corpus()
ASKED = {
    "Patient": ["active", "name", "family", "given", "gender", "birthdate", "death-date", "identifier",
                "phone", "address-city", "address-postalcode", "general-practitioner", "deceased"],
    "Observation": ["status", "code", "value-quantity", "value-string", "value-concept", "date", "subject",
                    "patient"],
}  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, str, str, str]:
    """A type, a parameter of it, a modifier that goes with it, and a value."""
    type_ = draw(st.sampled_from(sorted(ASKED)))
    code = draw(st.sampled_from(ASKED[type_]))
    kind = parameters(type_)[code]["type"] if (type_, code) != ("Patient", "deceased") else "token"
    modifier = draw(st.sampled_from(["", "", "", "missing", *MODIFIERS.get(kind, ())]))
    if modifier == "missing":
        return type_, code, modifier, draw(st.sampled_from(["true", "false"]))
    return type_, code, modifier, draw(VALUES[kind])


MODIFIERS = {"token": ["not"], "string": ["exact", "contains"]}
PREFIXES = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"])
VALUES: dict[str, st.SearchStrategy[str]] = {
    "token": st.sampled_from(
        ["true", "false", "male", "other", "final", "9", "|9", "urn:x|9", "http://loinc.org|9",
         "http://loinc.org|", "urn:a|1", "urn:b|1", "1", "5551", "a", "urn:v|b", "nothing"]
    ),
    "string": st.sampled_from(
        [*FAMILIES, *GIVEN, "s", "mü", "MULLER", "van", "berg", "lyo", "506", "%", "_", "zz"]
    ),
    "date": st.builds(lambda prefix, date: prefix + date, PREFIXES, st.sampled_from(TIMES)),
    "quantity": st.builds(
        lambda prefix, amount, unit: f"{prefix}{amount}{unit}", PREFIXES, st.sampled_from(AMOUNTS),
        st.sampled_from(["", "|http://unitsofmeasure.org|mg", "|urn:u|box"]),
    ),
    "reference": st.sampled_from(["Patient/p1", "Patient/p2", "Practitioner/1", "Patient/none"]),
}  # fmt: skip


@pytest.fixture
def filled(rooms: Rooms, operator: Caller) -> Rooms:
    """Rooms with the documents in them."""
    with rooms.database.transaction() as session:
        writings = [
            Writing(document["resourceType"], parse_document(json.dumps(document)), document["id"])
            for documents in CORPUS.values()
            for document in documents
        ]
        write_all(rooms.records, session, operator, writings)
    return rooms


def found(rooms: Rooms, caller: Caller, type_: str, arguments: list[tuple[str, str]]) -> list[str]:
    """Ids of all that is found, by pages of 25."""
    ids: list[str] = []
    cursor = ""
    while True:
        wanted = parse_search(type_, [*arguments, ("_count", "25"), ("_cursor", cursor)])
        page = search(rooms.records, caller, wanted)
        ids += [stored.logical_id for stored in page.matches]
        cursor = page.next_cursor
        if not cursor:
            return ids


@settings(
    max_examples=250, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(questions())
def test_a_search_finds_what_a_naive_reading_finds(
    filled: Rooms, operator: Caller, question: tuple[str, str, str, str]
) -> None:
    type_, code, modifier, value = question
    name = f"{code}:{modifier}" if modifier else code

    expected = {each["id"] for each in CORPUS[type_] if _holds(each, code, modifier, value)}
    answer = found(filled, operator, type_, [(name, value)])

    assert len(answer) == len(set(answer))
    assert (name, value, set(answer)) == (name, value, expected)


def _holds(document: dict[str, Any], code: str, modifier: str, value: str) -> bool:
    if (document["resourceType"], code) == ("Patient", "deceased"):  # always there, by its expression
        is_dead = "deceasedDateTime" in document
        if modifier == "missing":
            return value == "false"
        return (value == str(is_dead).lower()) is (modifier != "not")
    return holds(document, code, modifier, value)


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(questions(), questions())
def test_two_parameters_are_met_together(
    filled: Rooms, operator: Caller, one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    type_ = one[0]
    asked = [each for each in (one, other) if each[0] == type_]
    arguments = [(f"{code}:{modifier}" if modifier else code, value) for _, code, modifier, value in asked]

    expected = {
        document["id"]
        for document in CORPUS[type_]
        if all(_holds(document, code, modifier, value) for _, code, modifier, value in asked)
    }

    assert set(found(filled, operator, type_, arguments)) == expected


SORTS = {
    "Patient": [
        "birthdate",
        "-birthdate",
        "family",
        "-family",
        "gender,-birthdate",
        "-_lastUpdated,birthdate",
        "",
    ],
    "Observation": ["date", "-date", "value-quantity", "-value-quantity", "-_id", "code,-date", ""],
}


@settings(
    max_examples=120, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    questions(), questions(), st.integers(0, 6), st.sampled_from([0, 10, search_module.FEW]),
    st.sampled_from([0, search_module.HANDFUL]), st.sampled_from([3, search_module.WALKED]),
)  # fmt: skip
def test_what_is_found_is_in_the_same_order_whatever_drives_the_search(
    filled: Rooms,
    operator: Caller,
    one: tuple[str, str, str, str],
    other: tuple[str, str, str, str],
    sorted_by: int,
    few: int,
    handful: int,
    walked: int,
) -> None:
    type_ = one[0]
    asked = [each for each in (one, other) if each[0] == type_]
    arguments = [(f"{code}:{modifier}" if modifier else code, value) for _, code, modifier, value in asked]
    sort = ("_sort", SORTS[type_][sorted_by])
    everything = found(filled, operator, type_, [sort])
    search_module._counted.clear()
    with mock.patch.multiple(search_module, FEW=few, HANDFUL=handful, WALKED=walked):
        forwards = pages_of(filled, operator, type_, [*arguments, sort])
        backwards = pages_of(filled, operator, type_, [*arguments, sort], backwards=True)
    search_module._counted.clear()

    expected = [
        document["id"]
        for document in sorted(CORPUS[type_], key=lambda each: everything.index(each["id"]))
        if all(_holds(document, code, modifier, value) for _, code, modifier, value in asked)
    ]
    assert [each for page in forwards for each in page] == expected
    assert backwards == forwards


def pages_of(
    rooms: Rooms, caller: Caller, type_: str, arguments: list[tuple[str, str]], backwards: bool = False
) -> list[list[str]]:
    """The pages of 7, in their order: as they are gone through, or gone back from the last."""

    def page(cursor: str) -> SearchResult:
        return search(
            rooms.records, caller, parse_search(type_, [*arguments, ("_count", "7"), ("_cursor", cursor)])
        )

    pages = [page("")]
    while pages[-1].next_cursor:
        pages.append(page(pages[-1].next_cursor))
    if backwards:
        pages = pages[-1:]
        while pages[0].previous_cursor:
            pages.insert(0, page(pages[0].previous_cursor))
    return [[stored.logical_id for stored in each.matches] for each in pages if each.matches]


@pytest.mark.parametrize("descending", [False, True])
def test_pages_are_in_the_order_of_a_date_and_go_back_as_they_came(
    filled: Rooms, operator: Caller, descending: bool
) -> None:
    expression = parameters("Observation")["date"]["expression"]
    sort = "-date" if descending else "date"

    def key(logical_id: str) -> Any:
        document = next(each for each in CORPUS["Observation"] if each["id"] == logical_id)
        rows = [row for leaf in leaves(document, "Observation", expression) for row in spans(leaf)]
        if not rows:
            return (1, 0.0)
        return (0, -max(high for _, high in rows) if descending else min(low for low, _ in rows))

    ids = found(filled, operator, "Observation", [("_sort", sort)])
    assert len(ids) == len(CORPUS["Observation"])
    assert [key(each) for each in ids] == sorted(key(each) for each in ids)

    pages, cursor = [], ""
    while True:
        wanted = parse_search("Observation", [("_sort", sort), ("_count", "25"), ("_cursor", cursor)])
        page = search(filled.records, operator, wanted)
        pages.append([stored.logical_id for stored in page.matches])
        if not page.next_cursor:
            break
        cursor = page.next_cursor
    back, cursor = [pages[-1]], page.previous_cursor
    while cursor:
        wanted = parse_search("Observation", [("_sort", sort), ("_count", "25"), ("_cursor", cursor)])
        page = search(filled.records, operator, wanted)
        back.append([stored.logical_id for stored in page.matches])
        cursor = page.previous_cursor
    assert [each for each in reversed(back) if each] == pages
