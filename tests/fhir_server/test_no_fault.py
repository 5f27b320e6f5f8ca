"""Whatever a client sends, it is answered in FHIR's own words: never a fault of the server."""

import json
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from records.parameters import parameters_of
from tests.fhir_server.test_fhir import bearer
from tests.fhir_server.test_interactions import Fhir

QUIET = settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
TYPES = [
    "Patient",
    "Observation",
    "ImagingStudy",
    "Location",
    "Bundle",
    "Binary",
    "MolecularSequence",
    "List",
]
ODD_TEXTS = [
    "\x00", "a|b|c", "||", "$", "a$b$c", "ge", "9999-12-31", "0000", "-1", "1e400", "NaN", "ne1e-400",
    "%", "*",
    "Patient/", "/", "http://", "'", '"', "1|2|3|4", "90|180|1e9|km", "2024-02-30", "2024-01-01T25:00",
    "gt2024-01-01T00:00:00+99:99", "\\", "\\,", ",,,",
]  # fmt: skip
ODD = st.one_of(st.text(max_size=30), st.sampled_from(ODD_TEXTS))
KEYS = [
    "resourceType", "id", "meta", "name", "code", "coding", "value", "system", "reference", "entry",
    "request", "method", "url", "resource", "type", "status", "valueQuantity", "contact", "part",
    "parameter", "path",
    "position", "latitude", "longitude", "text", "div", "data", "period", "start", "identifier", "given",
]  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@pytest.fixture
def fhir(rooms: Rooms) -> Fhir:
    return Fhir(create_app(rooms).test_client(), bearer(rooms))


def is_answered(answer: Any) -> bool:
    """Whether this is an answer, or a refusal that says what is wrong."""
    if answer.status_code >= 500:
        return False
    if answer.status_code >= 400 and answer.mimetype == "application/fhir+json":
        issue = json.loads(answer.data)["issue"][0]
        return bool(issue["diagnostics"]) and issue["severity"] == "error"
    return True


RESULTS = [
    "_sort", "_count", "_include", "_has:Observation:subject:code", "_filter", "_cursor", "_summary",
    "_elements", "_total", "_format", "_type", "_since", "_list", "nosuch",
]  # fmt: skip


@QUIET
@given(st.sampled_from(TYPES), st.data(), ODD)
def test_a_search_for_anything(fhir: Fhir, type_: str, data: st.DataObject, value: str) -> None:
    code = data.draw(st.sampled_from([*parameters_of(type_), *RESULTS]))
    modifier = data.draw(st.sampled_from(
        ["", "", ":exact", ":missing", ":not", ":text", ":of-type", ":below", ":identifier", ":Patient",
         ".name", ":Patient.name", ":in", ":x"]
    ))  # fmt: skip
    place = data.draw(
        st.sampled_from([f"/fhir/{type_}", "/fhir/", f"/fhir/Patient/a/{type_}", f"/fhir/{type_}/_history"])
    )
    answer = fhir.client.get(place, query_string={code + modifier: value}, headers=fhir.headers)

    assert is_answered(answer), answer.data


@QUIET
@given(st.sampled_from(TYPES), JUNK)
def test_a_document_of_anything(fhir: Fhir, type_: str, junk: Any) -> None:
    document = junk if not isinstance(junk, dict) else {**junk, "resourceType": type_}
    for method, place in (("POST", f"/{type_}"), ("PUT", f"/{type_}?identifier=1"), ("POST", "/")):
        answer = fhir.send(method, place, json.dumps(document).encode())
        assert is_answered(answer), (method, answer.data)


@QUIET
@given(st.sampled_from(["batch", "transaction"]), st.lists(JUNK, max_size=3), ODD, JUNK)
def test_a_bundle_of_anything(fhir: Fhir, type_: str, entries: list[Any], url: str, resource: Any) -> None:
    asked = [
        {"request": {"method": method, "url": url, "ifNoneExist": url}, "resource": resource, "fullUrl": url}
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET")
    ]
    for entry in (*entries, *asked):
        body = {"resourceType": "Bundle", "type": type_, "entry": [entry]}
        answer = fhir.send("POST", "/", json.dumps(body).encode())
        assert is_answered(answer), (entry, answer.data)


@QUIET
@given(JUNK, st.sampled_from(["json", "fhirpath"]), ODD)
def test_a_patch_of_anything(fhir: Fhir, junk: Any, kind: str, path: str) -> None:
    fhir.send("PUT", "/Patient/a", {"resourceType": "Patient", "id": "a", "name": [{"family": "x"}]})
    if kind == "json":
        patch: Any = [{"op": op, "path": path, "from": path, "value": junk} for op in ("add", "move", "test")]
        answer = fhir.send("PATCH", "/Patient/a", patch, Content_Type="application/json-patch+json")
    else:
        parts = [{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": f"Patient.{path}"},
                 {"name": "value", "valueString": "x"}]  # fmt: skip
        operations = [junk, {"name": "operation", "part": parts}]
        answer = fhir.send("PATCH", "/Patient/a", {"resourceType": "Parameters", "parameter": operations})

    assert is_answered(answer), answer.data


@QUIET
@given(
    st.binary(max_size=200), st.sampled_from(["application/fhir+json", "application/fhir+xml", "text/plain"])
)
def test_bytes_of_anything(fhir: Fhir, body: bytes, media_type: str) -> None:
    for place in ("/Patient", "/Binary", "/", "/Patient/_search"):
        answer = fhir.send("POST", place, body, Content_Type=media_type)
        assert is_answered(answer), (place, answer.data)


CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "Prefer", "Accept", "If-None-Exist")


@QUIET
@given(ODD, ODD)
def test_headers_and_places_of_anything(fhir: Fhir, place: str, header: str) -> None:
    named = header.encode("ascii", "ignore").decode().translate(dict.fromkeys(range(32)))
    headers = dict.fromkeys(CONDITIONS, named)
    for method in ("GET", "PUT", "DELETE", "POST"):
        answer = fhir.client.open(
            f"/fhir/Patient/{place}", method=method, headers=fhir.headers | headers, data=b"{}"
        )
        assert is_answered(answer), answer.data


def description(app: Flask) -> dict[str, Any]:
    """The FHIR door as an OpenAPI document: every route with what may be in its path, query and body."""
    paths: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/fhir/"):
            continue
        places = [
            {"name": name, "in": "path", "required": True, "schema": PLACES.get(name, TEXT)}
            for name in sorted(rule.arguments)
        ]
        query = [{"name": name, "in": "query", "schema": schema} for name, schema in QUERY.items()]
        operations = paths.setdefault(rule.rule.replace("<", "{").replace(">", "}"), {})
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation: dict[str, Any] = {"parameters": [*places, *query], "responses": {}}
            operation["operationId"] = f"{method} {rule.rule}"
            operation["responses"] = {"default": {"description": "an answer"}}
            if method in ("POST", "PUT", "PATCH"):
                operation["requestBody"] = {"content": {"application/json": {"schema": BODY}}}
            operations[method.lower()] = operation
    return {"openapi": "3.0.3", "info": {"title": "FHIR", "version": "1"}, "paths": paths}


PLACES = {"resource_type": {"type": "string", "enum": [*TYPES, "Nothing"]},
          "compartment": {"type": "string", "enum": ["Patient", "Encounter", "Nothing"]}}  # fmt: skip
TEXT = {"type": "string", "maxLength": 40}
QUERY = dict.fromkeys(("_count", "_sort", "_since", "code", "identifier", "date", "url", "name"), TEXT)
BODY = {
    "type": "object",
    "properties": {
        "resourceType": {"enum": [*TYPES, "Parameters", "Nothing"]},
        "id": TEXT,
        "parameter": {"type": "array", "items": {"type": "object", "properties": {
            "name": TEXT, "valueString": TEXT, "valueUri": TEXT, "resource": {"type": "object"}}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
def test_no_route_has_a_request_that_makes_a_fault(rooms: Rooms, mode: schemathesis.GenerationMode) -> None:
    app = create_app(rooms)
    described = json.dumps(description(app))
    app.add_url_rule("/described.json", view_func=lambda: described)
    schema: Any = schemathesis.openapi.from_wsgi("/described.json", app)
    headers = bearer(rooms)
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) > 60
    for operation in operations:

        @settings(
            max_examples=5, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call(headers=headers)
            assert answer.status_code < 500, f"{case.operation.label}: {answer.text}"

        ask()
