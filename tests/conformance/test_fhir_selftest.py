"""The checker of FHIR servers by URL, against a running server; and what the server says of itself."""

import json
from typing import Any

import requests

from conformance.fhir.report import check_fhir
from tests.live import LiveServer


def test_every_row_holds_at_our_own_server(live_server: LiveServer) -> None:
    report = check_fhir(f"{live_server.url}/fhir", live_server.token())
    assert [each for each in report.results if not each.passed] == []
    assert f"{len(report.results)} of {len(report.results)} rows of FHIR R4 hold" in report.as_text()
    assert json.loads(report.as_json())["passed"] is True


def test_a_server_that_is_none_fails_every_row(live_server: LiveServer) -> None:
    report = check_fhir(f"{live_server.url}/nothing")
    assert not any(each.passed for each in report.results)


def test_the_capability_statement_is_made_from_what_runs(live_server: LiveServer) -> None:
    statement = requests.get(f"{live_server.url}/fhir/metadata", timeout=60).json()
    rest = statement["rest"][0]
    types = {each["type"]: each for each in rest["resource"]}
    assert {each["code"] for each in rest["interaction"]} >= {"transaction", "batch", "history-system"}
    assert {
        "name": "expand",
        "definition": "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    } in types["ValueSet"]["operation"]
    assert "everything" in {each["name"] for each in types["Patient"]["operation"]}
    assert "create" not in {each["code"] for each in types["ImagingStudy"]["interaction"]}
    assert "export" in {each["name"] for each in rest["operation"]}
    assert any("MHD" in each for each in statement["instantiates"])
    terminology = requests.get(f"{live_server.url}/fhir/metadata?mode=terminology", timeout=60).json()
    assert terminology["resourceType"] == "TerminologyCapabilities"


def test_the_definitions_behind_it_are_served(live_server: LiveServer) -> None:
    http, base = live_server.session(), f"{live_server.url}/fhir"
    for name in (
        "StructureDefinition/Patient",
        "OperationDefinition/ValueSet-expand",
        "CompartmentDefinition/patient",
        "SearchParameter/ImagingStudy-modality",
        "CodeSystem/administrative-gender",
        "ValueSet/administrative-gender",
    ):
        assert http.get(f"{base}/{name}", timeout=60).json()["id"] == name.partition("/")[2]
    url = "http://hl7.org/fhir/StructureDefinition/ImagingStudy"
    found = http.get(f"{base}/StructureDefinition", params={"url": url}, timeout=60).json()
    assert [each["resource"]["url"] for each in found["entry"]] == [url]
    assert http.get(f"{base}/StructureDefinition/none", timeout=60).status_code == 404
    assert requests.get(f"{base}/StructureDefinition/Patient", timeout=60).status_code == 401


def test_a_document_is_provided_and_found_as_mhd_says(live_server: LiveServer) -> None:
    """IHE MHD: Provide Document Bundle (ITI-65), Find Document References (ITI-67), Retrieve (ITI-68)."""
    http, base = live_server.session(), f"{live_server.url}/fhir"
    patient = http.post(f"{base}/Patient", json={"resourceType": "Patient"}, timeout=60).json()["id"]
    binary, reference = "urn:uuid:11111111-1111-4111-8111-111111111111", f"Patient/{patient}"
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": reference},
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"},
        "content": [{"attachment": {"contentType": "text/plain", "url": binary}}],
    }
    manifest = {
        "resourceType": "DocumentManifest",
        "status": "current",
        "subject": {"reference": reference},
        "content": [{"reference": "urn:uuid:22222222-2222-4222-8222-222222222222"}],
    }
    entries: list[tuple[dict[str, Any], str]] = [
        (manifest, "urn:uuid:33333333-3333-4333-8333-333333333333"),
        (document, "urn:uuid:22222222-2222-4222-8222-222222222222"),
        ({"resourceType": "Binary", "contentType": "text/plain", "data": "aGVsbG8="}, binary),
    ]
    bundle = {
        "resourceType": "Bundle",
        "meta": {
            "profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.ProvideBundle"]
        },
        "type": "transaction",
        "entry": [
            {"fullUrl": url, "resource": each, "request": {"method": "POST", "url": each["resourceType"]}}
            for each, url in entries
        ],
    }
    answer = http.post(base, json=bundle, timeout=60)
    assert answer.status_code == 200, answer.text
    assert [each["response"]["status"][:3] for each in answer.json()["entry"]] == ["201"] * 3
    query = {"patient": reference, "status": "current"}
    found = http.get(f"{base}/DocumentReference", params=query, timeout=60).json()
    attachment = found["entry"][0]["resource"]["content"][0]["attachment"]
    location = attachment["url"] if "://" in attachment["url"] else f"{base}/{attachment['url']}"
    content = http.get(location, headers={"Accept": "text/plain"}, timeout=60)
    assert (content.text, content.headers["Content-Type"].partition(";")[0]) == ("hello", "text/plain")
    manifests = http.get(f"{base}/DocumentManifest", params=query, timeout=60).json()
    assert manifests["entry"][0]["resource"]["content"][0]["reference"].startswith("DocumentReference/")
