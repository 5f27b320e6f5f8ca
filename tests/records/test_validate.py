"""Validation: what the standard's examples keep and what breaks it, element by element; profiles."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.caller import Caller, Door
from access.site_documents import put_document
from cloudfilm.rooms import Rooms
from records.documents import parse_document
from records.issues import InvalidResource
from records.repository import write
from records.validate import VALIDATION, InvalidPolicy, findings, parse_policy

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:h", "value": "1"}],
    "name": [{"family": "张", "given": ["伟"]}],
    "gender": "male",
    "birthDate": "1970-01-15",
}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    "valueQuantity": {"value": 70, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
}


def narrative(div: str) -> dict[str, Any]:
    """A narrative with this XHTML."""
    return {"text": {"status": "generated", "div": div}}


def found(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The element and the kind of every error."""
    issues = findings(parse_document(json.dumps(document)))
    return [(each.expression, each.code) for each in issues if each.severity == "error"]


def test_the_standards_own_examples_are_valid(shared_data: Path) -> None:
    for path in sorted((shared_data / "fhir").glob("*.json")):
        document = parse_document(path.read_bytes())
        assert [each for each in findings(document) if each.severity == "error"] == [], path.name


@pytest.mark.parametrize("document", [PATIENT, OBSERVATION])
def test_what_is_right_has_no_findings(document: dict[str, Any]) -> None:
    assert found(document) == []


@pytest.mark.parametrize(
    ("changed", "expression", "code"),
    [
        ({"gender": "malex"}, "Patient.gender", "code-invalid"),
        ({"birthDate": "1970-13-01"}, "Patient.birthDate", "value"),
        ({"birthDate": "1970-02-30"}, "Patient.birthDate", "value"),
        ({"active": "true"}, "Patient.active", "value"),
        ({"multipleBirthInteger": 1.5}, "Patient.multipleBirth", "value"),
        ({"nosuch": 1}, "Patient", "structure"),
        ({"name": {"family": "x"}}, "Patient.name", "structure"),
        ({"name": []}, "Patient.name", "structure"),
        ({"name": [{}]}, "Patient.name[0]", "invariant"),
        ({"name": ["x"]}, "Patient.name[0]", "structure"),
        ({"name": [{"family": ""}]}, "Patient.name[0].family", "value"),
        ({"name": [{"period": {"start": "2020", "end": "2019"}}]}, "Patient.name[0].period", "invariant"),
        ({"deceasedBoolean": True, "deceasedDateTime": "2020"}, "Patient.deceased", "structure"),
        ({"link": [{"type": "seealso"}]}, "Patient.link[0].other", "required"),
        ({"contact": [{"gender": "male"}]}, "Patient.contact", "invariant"),
        ({"managingOrganization": {"reference": "#o"}}, "Patient.managingOrganization", "invariant"),
        ({"telecom": [{"value": "1"}]}, "Patient.telecom[0]", "invariant"),
        ({"extension": [{"url": "urn:x"}]}, "Patient.extension[0]", "invariant"),
        ({"extension": [{"valueString": "x"}]}, "Patient.extension[0].url", "required"),
        ({"_birthDate": "x"}, "Patient.birthDate", "structure"),
        ({"id": "a b"}, "Patient.id", "value"),
        ({"text": {"status": "generated", "div": "<p>x</p>"}}, "Patient.text.div", "invariant"),
        (
            {"text": {"status": "generated", "div": "<div><script>x</script></div>"}},
            "Patient.text.div",
            "invariant",
        ),
        (
            {"text": {"status": "generated", "div": "<div onclick='x'>x</div>"}},
            "Patient.text.div",
            "invariant",
        ),
        ({"contained": [{"resourceType": "Nosuch"}]}, "Patient.contained[0]", "structure"),
        (
            {"contained": [{"resourceType": "Patient", "gender": "x"}]},
            "Patient.contained[0].gender",
            "code-invalid",
        ),
        (
            {"photo": [{"contentType": "no type", "data": "AAAA"}]},
            "Patient.photo[0].contentType",
            "code-invalid",
        ),
        ({"photo": [{"data": "AAAA"}]}, "Patient.photo[0]", "invariant"),
    ],
)
def test_a_patient_that_breaks_a_rule_is_told_where(
    changed: dict[str, Any], expression: str, code: str
) -> None:
    assert (expression, code) in found(PATIENT | changed)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"dataAbsentReason": {"text": "lost"}}, "obs-6"),
        ({"component": [{"code": OBSERVATION["code"], "valueString": "x"}]}, "obs-7"),
        ({"referenceRange": [{"type": {"text": "x"}}]}, "obs-3"),
        ({"valueQuantity": {"value": 1, "code": "/min"}}, "qty-3"),
    ],
)
def test_invariants_of_the_standard_are_kept(changed: dict[str, Any], key: str) -> None:
    issues = findings(parse_document(json.dumps(OBSERVATION | changed)))
    assert key in {each.key for each in issues}


def test_a_bundles_entries_are_validated_in_their_places() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": PATIENT | {"gender": "x"}}],
    }
    assert ("Bundle.entry[0].resource.gender", "code-invalid") in found(bundle)


def test_primitive_extensions_stand_for_values() -> None:
    unknown = {
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
        ]
    }
    assert found({**PATIENT, "name": [{"given": ["伟", None], "_given": [None, unknown]}]}) == []
    without = {key: value for key, value in OBSERVATION.items() if key != "status"}
    assert found(without | {"_status": unknown}) == []


KEYS = [
    "name",
    "value",
    "extension",
    "url",
    "reference",
    "coding",
    "period",
    "start",
    "id",
    "contained",
    "resourceType",
    "entry",
    "resource",
    "valueQuantity",
    "_status",
    "text",
    "div",
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(KEYS),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(["Patient", "Observation", "Bundle", "Parameters", "Consent"]), JSON_VALUES)
def test_whatever_comes_is_judged_and_never_breaks_the_judge(type_: str, value: Any) -> None:
    content = value if isinstance(value, dict) else {"extension": value}
    findings({**content, "resourceType": type_})


PROFILE: dict[str, Any] = {
    "resourceType": "StructureDefinition",
    "url": "http://film.example.org/StructureDefinition/patient",
    "name": "FilmPatient",
    "status": "active",
    "kind": "resource",
    "abstract": False,
    "type": "Patient",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
    "derivation": "constraint",
    "differential": {
        "element": [
            {
                "id": "Patient",
                "path": "Patient",
                "constraint": [
                    {
                        "key": "film-1",
                        "severity": "error",
                        "human": "A patient is a person of today",
                        "expression": "birthDate > @1900-01-01",
                    }
                ],
            },
            {
                "id": "Patient.identifier",
                "path": "Patient.identifier",
                "slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "open"},
                "min": 1,
            },
            {
                "id": "Patient.identifier:card",
                "path": "Patient.identifier",
                "sliceName": "card",
                "min": 1,
                "max": "1",
            },
            {
                "id": "Patient.identifier:card.system",
                "path": "Patient.identifier.system",
                "fixedUri": "urn:card",
            },
            {"id": "Patient.identifier:card.value", "path": "Patient.identifier.value", "min": 1},
            {"id": "Patient.deceased[x]", "path": "Patient.deceased[x]", "type": [{"code": "boolean"}]},
            {
                "id": "Patient.maritalStatus",
                "path": "Patient.maritalStatus",
                "binding": {
                    "strength": "required",
                    "valueSet": "http://hl7.org/fhir/ValueSet/marital-status",
                },
            },
            {"id": "Patient.photo", "path": "Patient.photo", "max": "0"},
        ]
    },
}
GOOD = PATIENT | {"identifier": [{"system": "urn:card", "value": "9"}, {"system": "urn:h", "value": "1"}]}
SINGLE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M"}]}


@pytest.fixture
def profiled(rooms: Rooms, operator: Caller) -> Rooms:
    """Rooms in which the profile above stands."""
    with rooms.database.transaction() as session:
        write(rooms.records, session, operator, dict(PROFILE), method="POST")
    return rooms


@pytest.mark.parametrize(
    ("changed", "expression"),
    [
        ({}, ""),
        ({"maritalStatus": SINGLE}, ""),
        ({"identifier": [{"system": "urn:h", "value": "1"}]}, "Patient.identifier"),
        ({"identifier": [{"system": "urn:card"}]}, "Patient.identifier[0].value"),
        ({"deceasedDateTime": "2020"}, "Patient.deceased"),
        ({"maritalStatus": {"coding": [{"system": "urn:x", "code": "M"}]}}, "Patient.maritalStatus"),
        ({"photo": [{"title": "x"}]}, "Patient.photo"),
        ({"birthDate": "1800-01-01"}, "Patient"),
    ],
)
def test_a_profile_of_the_site(profiled: Rooms, changed: dict[str, Any], expression: str) -> None:
    document = parse_document(json.dumps(GOOD | changed))
    with profiled.database.snapshot() as session:
        issues = profiled.records.validation.against(session, document, [PROFILE["url"]])
    assert [each.expression for each in issues if each.severity == "error"] == (
        [expression] if expression else []
    )


def test_the_policy_of_a_type_holds_on_write(profiled: Rooms, operator: Caller) -> None:
    policy = json.dumps({"profiles": {"Patient": [PROFILE["url"]]}})
    put_document(profiled.access, operator, VALIDATION, policy)
    caller = operator.through(Door.FHIR)
    with profiled.database.transaction() as session:
        assert write(profiled.records, session, caller, dict(GOOD), method="POST").is_new
    with pytest.raises(InvalidResource) as refused, profiled.database.transaction() as session:
        write(profiled.records, session, caller, dict(PATIENT), method="POST")
    assert "Patient.identifier" in {each.expression for each in refused.value.issues}


@pytest.mark.parametrize(
    "text", ['{"profiles": []}', '{"profiles": {"Nosuch": []}}', '{"profiles": {"Patient": "x"}}']
)
def test_a_policy_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidPolicy):
        parse_policy(text)


def test_a_profile_of_the_standard_itself(rooms: Rooms) -> None:
    url = "http://hl7.org/fhir/StructureDefinition/heartrate"
    with rooms.database.snapshot() as session:
        issues = rooms.records.validation.against(session, parse_document(json.dumps(OBSERVATION)), [url])
    assert "Observation.category" in {each.expression for each in issues if each.severity == "error"}
