"""What operations are given that nobody should give them: each is answered, none with a fault of ours."""

import json
from typing import Any

import pytest

from cloudfilm.rooms import Rooms
from tests.fhir_server.test_record_operations import Client

SYSTEM = "http://hl7.org/fhir/administrative-gender"
DEEP: Any = "x"
for _ in range(60):
    DEEP = {"concept": [DEEP]} if isinstance(DEEP, dict) else {"code": DEEP}

PATHS = (
    "CodeSystem/$lookup", "CodeSystem/$validate-code", "CodeSystem/$subsumes", "CodeSystem/$find-matches",
    "ValueSet/$expand", "ValueSet/$validate-code", "ConceptMap/$translate", "$closure", "Patient/$validate",
    "Patient/p1/$meta-add", "Patient/p1/$everything", "DocumentReference/$docref", "Observation/$lastn",
    "$export", "$import", "Subscription/s/$events", "Composition/c/$document",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None,
    1,
    "x",
    [],
    {},
    [None],
    {"coding": None},
    {"coding": ["x"]},
    {"coding": [{"system": 1, "code": []}]},
    {"system": SYSTEM, "code": "male", "version": "9|9"},
    DEEP,
)

NAMES = (
    "url", "system", "code", "coding", "codeableConcept", "valueSet", "codeSystem", "conceptMap", "concept",
    "name", "version", "filter", "count", "offset", "property", "meta", "resource", "tx-resource", "codingA",
    "displayLanguage", "useSupplement", "system-version", "patient", "type", "_count", "start", "max",
    "input", "profile",
)  # fmt: skip


def bodies() -> list[Any]:
    """Parameters with every name in every form, and things that are no Parameters."""
    found: list[Any] = [{"resourceType": "Parameters"}, {"resourceType": "Parameters", "parameter": "x"}]
    found.append({"resourceType": "Parameters", "parameter": [None, 1, {"name": 1}, {"part": "x"}]})
    for value in VALUES:
        given: list[dict[str, Any]] = []
        for name in NAMES:
            for key in (
                "valueString",
                "valueCoding",
                "valueCodeableConcept",
                "valueMeta",
                "resource",
                "part",
            ):
                given.append({"name": name, key: value})
        found.append({"resourceType": "Parameters", "parameter": given})
        found.append({"resourceType": "ValueSet", "compose": value})
        found.append({"resourceType": "ValueSet", "compose": {"include": [value]}})
        inline = {"resourceType": "ValueSet", "compose": {"include": [{"system": SYSTEM, "filter": [value]}]}}
        found.append({"resourceType": "Parameters", "parameter": [{"name": "valueSet", "resource": inline}]})
        system = {"resourceType": "CodeSystem", "url": "urn:x", "content": "complete", "concept": value}
        asked = [{"name": "tx-resource", "resource": system}, {"name": "system", "valueUri": "urn:x"}]
        asked += [{"name": "url", "valueUri": "urn:x"}, {"name": "code", "valueCode": "x"}]
        found.append({"resourceType": "Parameters", "parameter": asked})
    return found


@pytest.fixture(scope="module")
def hostile_bodies() -> list[bytes]:
    return [json.dumps(each).encode() for each in bodies()] + [b"", b"[", b"\xff", b'"x"', b"[" * 100000]


@pytest.mark.parametrize("path", PATHS)
def test_no_operation_breaks(rooms: Rooms, hostile_bodies: list[bytes], path: str) -> None:
    client = Client(rooms)
    client.put("Patient", "p1")
    headers = client.headers | {"Content-Type": "application/fhir+json"}
    for body in hostile_bodies:
        answer = client.flask.post(f"/fhir/{path}", data=body, headers=headers)
        assert answer.status_code < 500, (body[:300], answer.data[:300])
    for query in (
        "?url=%00&code=%ff",
        "?count=99999999999&url=x",
        "?_count=-1",
        "?code=" + "x" * 3000,
        "?max=x&patient=p1",
    ):
        answer = client.flask.get(f"/fhir/{path}{query}", headers=client.headers)
        assert answer.status_code < 500, (query[:100], answer.data[:300])
