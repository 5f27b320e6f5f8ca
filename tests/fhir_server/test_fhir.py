"""The FHIR door as its clients see it: patients and studies from images, documents written and found."""

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from access.caller import operator as make_operator
from access.tokens import issue
from archive.ingest import ingest
from archive.rest import rest_study
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from tests.builders import ROOT, ct_slice
from tests.settling import settle

JSON = {"Content-Type": "application/fhir+json"}


@pytest.fixture
def client(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def bearer(rooms: Rooms, scope: str = "user/*.cruds", role: str = "operator") -> dict[str, str]:
    with rooms.database.transaction() as session:
        secret = issue(rooms.access, session, "access", life_s=600, role=role, scope=scope)
    return {"Authorization": f"Bearer {secret}"}


def store(rooms: Rooms, **attributes: Any) -> None:
    ingest(rooms.archive, make_operator(), io.BytesIO(ct_slice(**attributes)))


def get(client: FlaskClient, path: str, headers: dict[str, str]) -> dict[str, Any]:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.data
    return dict(json.loads(answer.data))


def ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", ())]


def test_a_stored_study_is_there_as_patient_and_imaging_study(rooms: Rooms, client: FlaskClient) -> None:
    for instance in (1, 2):
        store(rooms, instance=instance)
    settle(rooms)
    headers = bearer(rooms)

    found = get(client, "/fhir/ImagingStudy?patient.name=zhang&_include=ImagingStudy:patient", headers)
    study, patient = (entry["resource"] for entry in found["entry"])
    assert study["resourceType"] == "ImagingStudy"
    assert study["identifier"][0] == {
        "use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{ROOT}.1",
    }  # fmt: skip
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (1, 2)
    assert study["started"] == "2026-02-28T10:15:30+08:00"
    assert study["referrer"] == {"display": "吴刚"}
    assert [instance["uid"] for instance in study["series"][0]["instance"]] == [
        f"{ROOT}.1.1.1", f"{ROOT}.1.1.2",
    ]  # fmt: skip
    assert study["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert {name["text"] for name in patient["name"]} == {"张伟", "Wei Zhang"}
    assert patient["birthDate"] == "1970-01-15"
    assert get(client, f"/fhir/ImagingStudy/{study['id']}", headers) == study


@pytest.mark.parametrize(
    "query",
    [
        "identifier=urn:dicom:uid|urn:oid:{root}.1",
        "identifier=A0001",
        "modality=CT",
        "modality=http://dicom.nema.org/resources/ontology/DCM|CT",
        "started=2026-02",
        "started=ge2026-02-28&started=lt2026-03-01",
        "patient.identifier=P1",
        "patient.birthdate=1970-01-15",
        "subject:Patient.gender=male",
        "series={root}.1.1",
        "instance={root}.1.1.1",
        "_lastUpdated=gt2020",
    ],
)
def test_a_study_is_found_by_the_standards_parameters(rooms: Rooms, client: FlaskClient, query: str) -> None:
    store(rooms)
    store(rooms, study=2, Modality="MR", PatientID="P2", PatientName="Li^Na=李^娜", StudyDate="20250101",
          PatientBirthDate="19800202", PatientSex="F")  # fmt: skip
    settle(rooms)

    found = get(client, f"/fhir/ImagingStudy?{query.format(root=ROOT)}", bearer(rooms))
    numbers = {entry["resource"]["numberOfInstances"] for entry in found["entry"]}
    uids = {entry["resource"]["identifier"][0]["value"] for entry in found["entry"]}
    assert numbers == {1}
    assert f"urn:oid:{ROOT}.1" in uids
    if "_lastUpdated" not in query:
        assert uids == {f"urn:oid:{ROOT}.1"}


@pytest.mark.parametrize("name", ["张", "张伟", "zhang", "ZHANG", "Wei", "zhangwei"])
def test_a_patient_is_found_by_chinese_name_and_by_pinyin(
    rooms: Rooms, client: FlaskClient, name: str
) -> None:
    store(rooms)
    store(rooms, study=2, PatientID="P2", PatientName="Li^Na=李^娜")
    settle(rooms)

    assert len(ids(get(client, f"/fhir/Patient?name={name}", bearer(rooms)))) == 1


def test_the_study_grows_and_its_document_and_index_with_it(rooms: Rooms, client: FlaskClient) -> None:
    store(rooms)
    settle(rooms)
    store(rooms, series=2, Modality="SR")
    rest_study(rooms.archive, f"{ROOT}.1")
    settle(rooms)

    (study,) = get(client, "/fhir/ImagingStudy?modality=SR", bearer(rooms))["entry"]
    assert study["resource"]["numberOfSeries"] == 2


def test_a_study_is_not_written_through_this_door(rooms: Rooms, client: FlaskClient) -> None:
    answer = client.post(
        "/fhir/ImagingStudy", data='{"resourceType":"ImagingStudy"}', headers=bearer(rooms) | JSON
    )

    assert answer.status_code == 405
    assert "DICOMweb" in json.loads(answer.data)["issue"][0]["diagnostics"]


def test_a_document_keeps_what_the_client_wrote(rooms: Rooms, client: FlaskClient) -> None:
    body = (
        '{"resourceType":"Observation","status":"final","code":{"text":"体重"},'
        '"effectiveDateTime":"2026-02-28T10:15:30.500+08:00","valueQuantity":{"value":70.50,"unit":"kg"}}'
    )
    headers = bearer(rooms)
    created = client.post("/fhir/Observation", data=body.encode(), headers=headers | JSON)
    assert created.status_code == 201
    logical_id = json.loads(created.data)["id"]
    text = client.get(f"/fhir/Observation/{logical_id}", headers=headers).text

    assert '"value":70.50' in text
    assert "2026-02-28T10:15:30.500+08:00" in text
    assert created.headers["Location"].endswith(f"/fhir/Observation/{logical_id}/_history/1")
    assert ids(get(client, "/fhir/Observation?value-quantity=70.5||kg", headers)) == [logical_id]
    assert ids(get(client, "/fhir/Observation?value-quantity=72||kg", headers)) == []


def test_versions_conditions_and_deletion(rooms: Rooms, client: FlaskClient) -> None:
    headers = bearer(rooms)
    first = client.put(
        "/fhir/Organization/o1", data='{"resourceType":"Organization","id":"o1","name":"一院"}'.encode(),
        headers=headers | JSON,
    )  # fmt: skip
    assert (first.status_code, first.headers["ETag"]) == (201, 'W/"1"')
    changed = '{"resourceType":"Organization","id":"o1","name":"第一医院"}'.encode()
    stale = client.put("/fhir/Organization/o1", data=changed, headers=headers | JSON | {"If-Match": 'W/"7"'})
    assert stale.status_code == 412
    second = client.put("/fhir/Organization/o1", data=changed, headers=headers | JSON | {"If-Match": 'W/"1"'})
    assert (second.status_code, second.headers["ETag"]) == (200, 'W/"2"')
    assert (
        client.get("/fhir/Organization/o1", headers=headers | {"If-None-Match": 'W/"2"'}).status_code == 304
    )
    assert json.loads(client.get("/fhir/Organization/o1/_history/1", headers=headers).data)["name"] == "一院"
    assert client.delete("/fhir/Organization/o1", headers=headers).status_code == 204
    assert client.get("/fhir/Organization/o1", headers=headers).status_code == 410
    history = get(client, "/fhir/Organization/o1/_history", headers)
    assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE", "PUT", "PUT"]
    assert ids(get(client, "/fhir/Organization?name=第一", headers)) == []


def test_pages_follow_each_other_without_gap_or_repetition(rooms: Rooms, client: FlaskClient) -> None:
    headers = bearer(rooms)
    for number in range(7):
        body = {"resourceType": "Organization", "name": f"Hospital {number % 3}"}
        client.post("/fhir/Organization", data=json.dumps(body), headers=headers | JSON)
    for sort in ("", "&_sort=name", "&_sort=-name,_id", "&_sort=-_lastUpdated"):
        url, seen = f"/fhir/Organization?_count=3{sort}", list[str]()
        while url:
            page = get(client, url, headers)
            seen += ids(page)
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
        assert len(seen) == len(set(seen)) == 7
    assert client.get("/fhir/Organization?_cursor=AAAA", headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/fhir/Patient?nosuch=1", "", 400),
        ("GET", "/fhir/Patient?birthdate=yesterday", "", 400),
        ("GET", "/fhir/Patient?_include=Patient", "", 400),
        ("GET", "/fhir/NoSuchType", "", 404),
        ("GET", "/fhir/Patient/none", "", 404),
        ("GET", "/fhir/Patient/none/_history/x", "", 404),
        ("POST", "/fhir/Patient", "not json", 400),
        ("POST", "/fhir/Patient", '{"resourceType":"Group"}', 400),
        ("POST", "/fhir/Patient", "[" * 5000, 400),
        ("POST", "/fhir/Patient", '{"resourceType":"Patient","active":true,"active":false}', 400),
        ("PUT", "/fhir/Patient/a", '{"resourceType":"Patient","id":"b"}', 400),
    ],
)
def test_bad_input_gets_an_operation_outcome(
    rooms: Rooms, client: FlaskClient, method: str, path: str, body: str, status: int
) -> None:
    answer = client.open(path, method=method, data=body, headers=bearer(rooms) | JSON)

    assert answer.status_code == status
    assert json.loads(answer.data)["resourceType"] == "OperationOutcome"


def test_an_unknown_parameter_is_left_out_and_named_for_a_lenient_client(
    rooms: Rooms, client: FlaskClient
) -> None:
    store(rooms)
    settle(rooms)
    found = get(client, "/fhir/Patient?nosuch=1", bearer(rooms) | {"Prefer": "handling=lenient"})

    assert [entry["search"]["mode"] for entry in found["entry"]] == ["match", "outcome"]
    assert "nosuch" not in found["link"][0]["url"]


def test_nothing_is_read_without_a_token_and_only_what_its_scopes_allow(
    rooms: Rooms, client: FlaskClient
) -> None:
    store(rooms)
    settle(rooms)

    assert client.get("/fhir/Patient").status_code == 401
    assert client.get("/fhir/metadata").status_code == 200
    images_only = bearer(rooms, "user/ImagingStudy.rs")
    assert client.get("/fhir/Patient", headers=images_only).status_code == 403
    assert len(ids(get(client, "/fhir/ImagingStudy", images_only))) == 1
    elsewhere = bearer(rooms, "patient/*.rs")
    assert ids(get(client, "/fhir/ImagingStudy", elsewhere)) == []


def test_what_is_claimed_in_metadata_is_what_search_takes(rooms: Rooms, client: FlaskClient) -> None:
    statement = get(client, "/fhir/metadata", {})
    headers = bearer(rooms)

    assert statement["fhirVersion"] == "4.0.1"
    for resource in statement["rest"][0]["resource"]:
        if resource["type"] in ("Patient", "ImagingStudy", "DiagnosticReport", "ServiceRequest"):
            for parameter in resource["searchParam"]:
                value = {"date": "2026", "number": "1", "quantity": "1", "reference": "Patient/1"}.get(
                    parameter["type"], "x"
                )
                get(client, f"/fhir/{resource['type']}?{parameter['name']}={value}", headers)
