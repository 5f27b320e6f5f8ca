"""$graphql as a client sees it: the examples of R4's page, what it refuses, and that it opens nothing."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from access.tokens import issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app

PATIENT: dict[str, Any] = {  # of R4's example Patient, as far as the page's examples go
    "resourceType": "Patient",
    "id": "example",
    "identifier": [{"use": "usual", "system": "urn:oid:1.2.36.146.595.217.0.1", "value": "12345"}],
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://example.org/t", "valueDateTime": "1974-12-25T14:35:45Z"}]},
    "extension": [{"url": "http://example.org/a", "valueString": "some value"},
                  {"url": "http://example.org/b", "valueString": "another"}],
}  # fmt: skip
LOINC = "http://loinc.org"


class Client:
    """A client of a server with one patient, some observations and a condition."""

    def __init__(self, rooms: Rooms, scope: str, **context: str) -> None:
        self.flask: FlaskClient = create_app(rooms).test_client()
        with rooms.database.transaction() as session:
            secret = issue(
                rooms.access, session, "access", life_s=600, role="operator", scope=scope, context=context
            )  # fmt: skip
        self.headers = {"Authorization": f"Bearer {secret}"}

    def put(self, document: dict[str, Any]) -> None:
        path = f"/fhir/{document['resourceType']}/{document['id']}"
        answer = self.flask.put(path, data=json.dumps(document), headers=self.headers,
                                content_type="application/fhir+json")  # fmt: skip
        assert answer.status_code == 201, answer.data

    def ask(self, query: str, on: str = "", status: int = 200, **more: Any) -> Any:
        """The data that a query selects, or the error that it meets."""
        path = f"/fhir/{on}/$graphql" if on else "/fhir/$graphql"
        answer = self.flask.post(path, json={"query": query, **more}, headers=self.headers)
        assert (answer.status_code, answer.mimetype) == (status, "application/json"), answer.data
        content = json.loads(answer.data)
        return content["data"] if status == 200 else content["errors"][0]

    def of_patient(self, query: str) -> Any:
        return self.ask(query, "Patient/example")


def observation(id_: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": id_, "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
        "subject": {"reference": "Patient/example"}, **more,
    }  # fmt: skip


@pytest.fixture
def connect(rooms: Rooms) -> Callable[..., Client]:
    return lambda scope="user/*.cruds", **context: Client(rooms, scope, **context)


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    made = connect()
    made.put(PATIENT)
    for number in range(5):
        quantity = {
            "value": f"@{number}.50@",
            "unit": "mg",
            "system": "http://unitsofmeasure.org",
            "code": "mg",
        }
        document = observation(f"o{number}", valueQuantity=quantity)
        text = json.dumps(document).replace('"@', "").replace('@"', "")
        answer = made.flask.put(f"/fhir/Observation/o{number}", data=text, headers=made.headers,
                                content_type="application/fhir+json")  # fmt: skip
        assert answer.status_code == 201
    made.put(
        {
            "resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/example"},
            "clinicalStatus": {"coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "relapse"}
            ]},
        }
    )  # fmt: skip
    return made


def test_fields_are_selected_by_their_names_in_json(client: Client) -> None:
    assert client.of_patient("{ name { text given family } }") == {
        "name": [
            {"given": ["Peter", "James"], "family": "Chalmers"},
            {"given": ["Jim"]},
            {"given": ["Peter", "James"], "family": "Windsor"},
        ]
    }
    assert client.of_patient("{ birthDate _birthDate { extension { valueDateTime } } }") == {
        "birthDate": "1974-12-25",
        "_birthDate": {"extension": [{"valueDateTime": "1974-12-25T14:35:45Z"}]},
    }
    assert client.of_patient("{ resourceType __typename is: active }") == {
        "resourceType": "Patient", "__typename": "Patient", "is": True,
    }  # fmt: skip


def test_decimals_come_as_they_were_written(client: Client) -> None:
    answer = client.flask.get(
        "/fhir/Observation/o1/$graphql?query={valueQuantity{value,unit}}", headers=client.headers
    )
    assert b'"value":1.50' in answer.data


@pytest.mark.parametrize(
    ("arguments", "families"),
    [
        ('fhirpath: "family.exists()"', ["Chalmers", "Windsor"]),
        ("use: official", ["Chalmers"]),
        ('use: "maiden"', ["Windsor"]),
        ("use: [official, maiden]", ["Chalmers", "Windsor"]),
        ("_count: 1", ["Chalmers"]),
        ("_count: 1, _offset: 2", ["Windsor"]),
        ('fhirpath: "family.exists()", _offset: 1', ["Windsor"]),
        ("text: null, family: Chalmers", ["Chalmers"]),
        ("use: old", []),
    ],
)
def test_arguments_narrow_a_list(client: Client, arguments: str, families: list[str]) -> None:
    found = client.of_patient(f"{{ name({arguments}) {{ family }} }}").get("name", [])

    assert [each["family"] for each in found] == families


def test_extensions_are_selected_by_their_url(client: Client) -> None:
    found = client.of_patient('{ myext: extension(url: "http://example.org/a") { value: valueString } }')

    assert found == {"myext": [{"value": "some value"}]}


FLAT: dict[str, Any] = {"system": ["urn:oid:1.2.36.146.595.217.0.1"], "value": ["12345"], "active": True}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "{ identifier @flatten { system value } active name @flatten { text given family } }",
            {**FLAT, "given": ["Peter", "James", "Jim", "Peter", "James"], "family": ["Chalmers", "Windsor"]},
        ),
        (
            "{ identifier @flatten { system value } active name @flatten { text given @first family } }",
            {**FLAT, "given": ["Peter", "Jim", "Peter"], "family": ["Chalmers", "Windsor"]},
        ),
        (
            "{ identifier @flatten { system @singleton value @singleton } active "
            "name @flatten @first { text given family @singleton } }",
            {"system": FLAT["system"][0], "value": "12345", "active": True, "given": ["Peter", "James"],
             "family": "Chalmers"},
        ),
        (
            '{ identifier @flatten { system value } active name @flatten @slice(path: "use") '
            "{ given family @singleton } }",
            {**FLAT, "given.official": ["Peter", "James"], "family.official": "Chalmers",
             "given.usual": ["Jim"], "given.maiden": ["Peter", "James"], "family.maiden": "Windsor"},
        ),
        (
            '{ identifier @flatten { system value } active name @flatten @slice(path: "$index") '
            "{ given family @singleton } }",
            {**FLAT, "given.0": ["Peter", "James"], "family.0": "Chalmers", "given.1": ["Jim"],
             "given.2": ["Peter", "James"], "family.2": "Windsor"},
        ),
        ('{ name @slice(path: "use") { given @first @singleton } }',
         {"name.official": [{"given": "Peter"}], "name.usual": [{"given": "Jim"}],
          "name.maiden": [{"given": "Peter"}]}),
    ],
)  # fmt: skip
def test_a_graph_is_flattened_as_on_the_page(client: Client, query: str, expected: dict[str, Any]) -> None:
    found = client.of_patient(query)

    assert found == expected
    assert list(found) == list(expected)


def test_references_are_resolved(client: Client) -> None:
    client.put({"resourceType": "Patient", "id": "other", "generalPractitioner": [
        {"reference": "#d"}, {"display": "Dr. No"}], "contained": [
        {"resourceType": "Practitioner", "id": "d", "birthDate": "1960-01-01"}]})  # fmt: skip
    of = "Observation/o1"
    fragments = "{ id subject { reference resource { ...on Patient { birthDate } ...on Group { type } } } }"
    assert client.ask(fragments, of) == {
        "id": "o1",
        "subject": {"reference": "Patient/example", "resource": {"birthDate": "1974-12-25"}},
    }
    by_type = "{ subject { resource(type: Patient) { birthDate } resource(type: Group) { type } } }"
    assert client.ask(by_type, of) == {"subject": {"resource": {"birthDate": "1974-12-25"}}}
    contained = '{ generalPractitioner(fhirpath: "reference.exists()") { resource { birthDate } } }'
    assert client.ask(contained, "Patient/other") == {
        "generalPractitioner": [{"resource": {"birthDate": "1960-01-01"}}]
    }
    client.ask("{ generalPractitioner { resource { id } } }", "Patient/other", 404)
    optional = "{ generalPractitioner { display resource(optional: true) { id } } }"
    assert client.ask(optional, "Patient/other") == {
        "generalPractitioner": [{"resource": {"id": "d"}}, {"display": "Dr. No"}]
    }


def test_one_resource_a_list_and_what_refers_to_it(client: Client) -> None:
    assert client.ask("{ Patient(id: example) { id active } }") == {
        "Patient": {"id": "example", "active": True}
    }
    assert client.ask("{ ConditionList(clinical_status: relapse, patient: example) { id } }") == {
        "ConditionList": [{"id": "c1"}]
    }
    assert client.ask("{ ConditionList(clinical_status: active) { id } }") == {"ConditionList": []}
    assert client.ask('{ PatientList(_id: [a, example, "b"]) { name @first { family } } }') == {
        "PatientList": [{"name": {"family": "Chalmers"}}]
    }
    reverse = "{ id ConditionList(_reference: patient) { id } FlagList(_reference: patient) { id } }"
    assert client.of_patient(reverse) == {"id": "example", "ConditionList": [{"id": "c1"}], "FlagList": []}
    observations = 'ObservationList(_reference: subject, _sort: "_id", _count: 2) { id }'
    nested = f"{{ PatientList(name: peter) {{ {observations} }} }}"
    assert client.ask(nested) == {"PatientList": [{"ObservationList": [{"id": "o0"}, {"id": "o1"}]}]}
    matching = '{ ObservationList(fhirpath: "value.value > 3") { id } }'
    assert client.ask(matching) == {"ObservationList": [{"id": "o3"}, {"id": "o4"}]}
    client.ask("{ Patient(id: nobody) { id } }", status=404)


def test_a_connection_is_walked_by_its_cursors(client: Client) -> None:
    fields = "{ count offset pagesize first previous next last edges { mode score resource { id } } }"
    page = client.ask(f'{{ ObservationConnection(patient: example, _sort: "-_id", _count: 2) {fields} }}')
    first = page["ObservationConnection"]
    assert (first["count"], first["offset"], first["pagesize"]) == (5, 0, 2)
    assert "previous" not in first
    assert first["edges"][0] == {"mode": "match", "resource": {"id": "o4"}}
    seen, cursor = [], first["first"]
    while cursor:
        page = client.ask(f'{{ ObservationConnection(_cursor: "{cursor}") {fields} }}')[
            "ObservationConnection"
        ]
        seen += [each["resource"]["id"] for each in page["edges"]]
        cursor = page.get("next", "")
    assert seen == ["o4", "o3", "o2", "o1", "o0"]
    nested = (
        "{ ConditionConnection(_reference: patient) { count edges { resource { ...on Condition { id } } } } }"
    )
    assert client.of_patient(nested) == {
        "ConditionConnection": {"count": 1, "edges": [{"resource": {"id": "c1"}}]}
    }
    client.ask(f'{{ ConditionConnection(_cursor: "{first["next"]}") {{ count }} }}', status=400)
    client.ask('{ ConditionConnection(_cursor: "x") { count } }', status=400)


def test_variables_fragments_and_conditions(client: Client) -> None:
    query = """
        query One($id: ID!, $how_many: Int = 1, $with: Boolean!, $use: code) {
          Patient(id: $id) { ...Named active @include(if: $with) birthDate @skip(if: $with) }
        }
        fragment Named on Patient { name(_count: $how_many, use: $use) { ...Family } }
        fragment Family on HumanName { family }
        query Other { PatientList { id } }
    """
    asked: dict[str, Any] = {"operationName": "One", "variables": {"id": "example", "with": True}}
    assert client.ask(query, **asked) == {"Patient": {"name": [{"family": "Chalmers"}], "active": True}}
    asked["variables"] = {"id": "example", "with": False, "use": "maiden", "how_many": 5}
    assert client.ask(query, **asked) == {
        "Patient": {"name": [{"family": "Windsor"}], "birthDate": "1974-12-25"}
    }
    assert "$id" in client.ask(query, status=400, operationName="One", variables={"with": True})["message"]
    client.ask(query, status=400, variables={"id": "example", "with": True})


def test_a_query_comes_by_get_as_text_in_json_or_in_parameters(client: Client) -> None:
    query, expected = "{birthDate}", {"data": {"birthDate": "1974-12-25"}}
    path, fhir = "/fhir/Patient/example/$graphql", "application/fhir+json"
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "query", "valueString": query}]}
    answers = [
        client.flask.get(f"{path}?query={quote(query)}", headers=client.headers),
        client.flask.post(path, data=query, content_type="application/graphql", headers=client.headers),
        client.flask.post(path, json={"query": query}, headers=client.headers),
        client.flask.post(path, json=parameters, content_type=fhir, headers=client.headers),
    ]  # fmt: skip
    assert [json.loads(each.data) for each in answers] == [expected] * 4
    refused = client.flask.post(path, data=query, content_type="text/plain", headers=client.headers)
    assert refused.status_code == 415


@pytest.mark.parametrize(
    "query",
    [
        "{ nam { family } }",  # no such field, beside one that is there
        "{ photo { nonsense } }",  # nor where there is nothing
        "{ name }",  # a complex field without a selection
        "{ birthDate { value } }",
        "{ birthDate(use: x) }",
        "{ name(nonsense: x) { family } }",
        "{ name(period: x) { family } }",
        "{ name @unknown { family } }",
        "{ name @slice { family } }",
        "{ name { family } name { family @first } family: birthDate family: active }",
        "{ ...on Nonsense { id } }",
        "{ ...Missing }",
        "{ ConditionList { id } }",  # of what, here
        "{ ConditionList(_reference: code) { id } }",
        '{ ConditionConnection(_reference: patient, _cursor: "x") { count } }',
        "{ ConditionList(_reference: patient, nonsense: 1) { id } }",
        "{ ConditionList(_reference: patient, _include: \"Condition:subject\") { id } }",
        "{ name(use: $x) { family } }",
        "{ name(fhirpath: \"family.matches('(a+)+$')\") { family } }",
        '{ name(fhirpath: "nonsense((") { family } }',
        "{ identifier @flatten { value @singleton } name @flatten { value: family } }",
        "mutation { PatientDelete(id: example) { id } }",
        "subscription { id }",
        "fragment A on Patient { ...B } fragment B on Patient { ...A } query { ...A }",
        "{ __schema { types { name } } }",
        "nonsense",
        "",
        "{",
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_an_error_with_an_outcome(client: Client, query: str) -> None:
    error = client.ask(query, "Patient/example", 400)

    issue = error["extensions"]["resource"]["issue"][0]
    assert (issue["severity"], issue["code"]) == ("error", "invalid")
    assert issue["diagnostics"] == error["message"]


def test_an_error_says_where(client: Client) -> None:
    assert client.ask("{\n  id\n  nonsense }", "Patient/example", 400)["locations"] == [
        {"line": 3, "column": 3}
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("{ id " + "contained { id " * 60 + "}" * 60 + "}", 422),
        ("{" + "".join(f"a{number}: id " for number in range(1100)) + "}", 422),
        ("{ ...F0 } fragment F12 on Patient { id } "
         + " ".join(f"fragment F{at} on Patient {{ ...F{at + 1} ...F{at + 1} }}" for at in range(12)), 422),
        ("{" + "a{" * 1500 + "id" + "}" * 1501, 400),
        ("{" + "id " * 5000 + "}", 400),
    ],
)  # fmt: skip
def test_what_would_grow_without_bounds_is_refused(client: Client, query: str, status: int) -> None:
    client.ask(query, "Patient/example", status)


def test_an_answer_that_grows_too_large_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.graph.MOST_COST", 300)
    query = "{ " + " ".join(f"a{at}: ObservationList {{ id status }}" for at in range(3)) + " }"

    error = client.ask(query, status=422)

    assert error["extensions"]["resource"]["issue"][0]["code"] == "too-costly"


def test_a_query_reaches_nothing_that_its_parts_would_not_reach(
    client: Client, connect: Callable[..., Client]
) -> None:
    only = connect("user/Observation.rs")
    assert only.ask("{ ObservationList(_id: o1) { id } }") == {"ObservationList": [{"id": "o1"}]}
    assert only.ask("{ subject { reference resource(optional: true) { ...on Patient { birthDate } } } }",
                    "Observation/o1") == {"subject": {"reference": "Patient/example"}}  # fmt: skip
    for query in ("{ subject { resource { id } } }", "{ x: subject { resource(type: Patient) { id } } }"):
        only.ask(query, "Observation/o1", 403)
    for query in ("{ Patient(id: example) { id } }", "{ PatientList { id } }",
                  "{ PatientConnection { count } }",
                  "{ ObservationList(_id: o1) { subject { resource { id } } } }"):  # fmt: skip
        only.ask(query, status=403)
    only.ask("{ id }", "Patient/example", 403)
    reads = connect("user/Observation.r")
    assert reads.ask("{ id }", "Observation/o1") == {"id": "o1"}
    reads.ask("{ ObservationList { id } }", status=403)
    reads.ask("{ AuditEventList(_reference: entity) { id } }", "Observation/o1", 403)


def test_a_context_of_one_patient_bounds_every_part(client: Client, connect: Callable[..., Client]) -> None:
    client.put({"resourceType": "Patient", "id": "secret", "birthDate": "1950-01-01"})
    client.put(observation("hidden") | {"subject": {"reference": "Patient/secret"}})
    client = connect("patient/*.rs", patient="example")
    seen = client.ask('{ PatientList { id } ObservationList(_sort: "_id") { id } }')
    assert [each["id"] for each in seen["PatientList"]] == ["example"]
    assert "hidden" not in [each["id"] for each in seen["ObservationList"]]
    client.ask("{ Patient(id: secret) { id } }", status=404)
    client.ask("{ id }", "Observation/hidden", 404)
    client.ask("{ id }", "Patient/secret", 404)


def test_it_is_announced(client: Client) -> None:
    statement = json.loads(client.flask.get("/fhir/metadata").data)["rest"][0]
    definition = "http://hl7.org/fhir/OperationDefinition/Resource-graphql"
    patient = next(each for each in statement["resource"] if each["type"] == "Patient")
    for operations in (statement["operation"], patient["operation"]):
        assert {"name": "graphql", "definition": definition} in operations
    found = client.flask.get("/fhir/OperationDefinition/Resource-graphql", headers=client.headers)
    assert json.loads(found.data)["url"] == definition


def test_shipped_definitions_are_resources_too(client: Client) -> None:
    assert client.ask("{ url }", "StructureDefinition/Patient") == {
        "url": "http://hl7.org/fhir/StructureDefinition/Patient"
    }
