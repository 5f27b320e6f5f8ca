"""The checker of FHIR servers by URL, against a running server; and what the server says of itself."""

import json
import subprocess
import threading
from typing import Any

import requests
from websockets.sync.client import connect

from conformance.fhir.report import check_fhir
from tests.live import ROOT, LiveServer


def test_every_row_holds_at_our_own_server(common_server: LiveServer) -> None:
    report = check_fhir(f"{common_server.url}/fhir", common_server.token())
    assert [each for each in report.results if not each.passed] == []
    assert f"{len(report.results)} of {len(report.results)} rows of FHIR R4 hold" in report.as_text()
    assert json.loads(report.as_json())["passed"] is True


def test_a_server_that_is_none_fails_every_row(common_server: LiveServer) -> None:
    report = check_fhir(f"{common_server.url}/nothing")
    assert not any(each.passed for each in report.results)


def test_the_capability_statement_is_made_from_what_runs(common_server: LiveServer) -> None:
    statement = requests.get(f"{common_server.url}/fhir/metadata", timeout=60).json()
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
    terminology = requests.get(f"{common_server.url}/fhir/metadata?mode=terminology", timeout=60).json()
    assert terminology["resourceType"] == "TerminologyCapabilities"


def test_the_definitions_behind_it_are_served(common_server: LiveServer) -> None:
    http, base = common_server.session(), f"{common_server.url}/fhir"
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


def test_a_document_is_provided_and_found_as_mhd_says(common_server: LiveServer) -> None:
    """IHE MHD: Provide Document Bundle (ITI-65), Find Document References (ITI-67), Retrieve (ITI-68)."""
    http, base = common_server.session(), f"{common_server.url}/fhir"
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


def test_care_services_are_found_as_mcsd_says(common_server: LiveServer) -> None:
    """IHE mCSD: Find Matching Care Services (ITI-90), Retrieve Care Services (ITI-91: by _lastUpdated)."""
    http, base = common_server.session(), f"{common_server.url}/fhir"
    hospital = {"resourceType": "Organization", "id": "mcsd-o", "active": True, "name": "Mcsd Hospital",
                "identifier": [{"system": "urn:mcsd", "value": "1"}]}  # fmt: skip
    ward = {"resourceType": "Organization", "id": "mcsd-w", "active": True, "name": "Mcsd Ward",
            "partOf": {"reference": "Organization/mcsd-o"}}  # fmt: skip
    place = {"resourceType": "Location", "id": "mcsd-l", "status": "active", "name": "Mcsd Site",
             "managingOrganization": {"reference": "Organization/mcsd-o"},
             "position": {"longitude": 121.47, "latitude": 31.23}}  # fmt: skip
    doctor = {"resourceType": "Practitioner", "id": "mcsd-p", "active": True, "name": [{"family": "Mcsd"}]}
    role = {"resourceType": "PractitionerRole", "id": "mcsd-r", "active": True,
            "practitioner": {"reference": "Practitioner/mcsd-p"},
            "organization": {"reference": "Organization/mcsd-o"},
            "location": [{"reference": "Location/mcsd-l"}],
            "specialty": [{"coding": [{"system": "urn:s", "code": "radiology"}]}]}  # fmt: skip
    service = {"resourceType": "HealthcareService", "id": "mcsd-h", "active": True, "name": "Mcsd Imaging",
               "providedBy": {"reference": "Organization/mcsd-o"},
               "location": [{"reference": "Location/mcsd-l"}]}  # fmt: skip
    for each in (hospital, ward, place, doctor, role, service):
        url = f"{base}/{each['resourceType']}/{each['id']}"
        assert http.put(url, json=each, timeout=60).status_code == 201
    for query, expected in (
        ("Organization?identifier=urn:mcsd|1&_revinclude=Location:organization", {"mcsd-o", "mcsd-l"}),
        ("Organization?active=true&name:contains=csd hosp", {"mcsd-o"}),
        ("Organization?partof=Organization/mcsd-o&_include=Organization:partof", {"mcsd-w", "mcsd-o"}),
        ("Location?near=31.2|121.5|20|km&organization=Organization/mcsd-o", {"mcsd-l"}),
        ("Practitioner?family:exact=Mcsd&active=true", {"mcsd-p"}),
        ("PractitionerRole?specialty=urn:s|radiology&practitioner.family=mcsd"
         "&_include=PractitionerRole:practitioner", {"mcsd-r", "mcsd-p"}),
        ("PractitionerRole?location=Location/mcsd-l&organization=Organization/mcsd-o", {"mcsd-r"}),
        ("HealthcareService?name=Mcsd&location=Location/mcsd-l&_include=HealthcareService:organization",
         {"mcsd-h", "mcsd-o"}),
        ("HealthcareService?_lastUpdated=gt2020-01-01&organization=Organization/mcsd-o", {"mcsd-h"}),
    ):  # fmt: skip
        found = http.get(f"{base}/{query}", timeout=60).json()
        assert {each["resource"]["id"] for each in found["entry"]} == expected, query


def test_a_client_by_curl_gets_on_as_with_any_server(common_server: LiveServer) -> None:
    script = ROOT / "examples" / "fhir-client.sh"
    done = subprocess.run(
        [str(script), f"{common_server.url}/fhir", common_server.token()],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_websocket_hears_of_what_its_subscription_asks_for(common_server: LiveServer) -> None:
    http, base = common_server.session(), f"{common_server.url}/fhir"
    wanted = {"resourceType": "Subscription", "id": "ws-1", "status": "requested", "reason": "x",
              "criteria": "Basic?identifier=urn:ws|1", "channel": {"type": "websocket"}}  # fmt: skip
    assert http.put(f"{base}/Subscription/ws-1", json=wanted, timeout=60).status_code == 201
    for _ in range(600):
        if http.get(f"{base}/Subscription/ws-1", timeout=60).json()["status"] == "active":
            break
        threading.Event().wait(0.1)
    url = f"ws://127.0.0.1:{common_server.push_port}/ws/fhir/subscriptions"
    shown = {"Authorization": str(http.headers["Authorization"])}
    with connect(url, additional_headers=shown, proxy=None, open_timeout=60) as socket:
        socket.send("bind ws-1")
        assert socket.recv(timeout=60) == "bound ws-1"
        for value in ("2", "1"):
            basic = {"resourceType": "Basic", "code": {"text": "x"},
                     "identifier": [{"system": "urn:ws", "value": value}]}  # fmt: skip
            assert http.post(f"{base}/Basic", json=basic, timeout=60).status_code == 201
        assert socket.recv(timeout=60) == "ping ws-1"
