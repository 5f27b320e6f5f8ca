"""Patient/$match and Patient/$ihe-pix, as a client sees them."""

import json
from datetime import date
from typing import Any

import pytest
from flask import g
from flask.testing import FlaskClient

from access.caller import Caller
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from mpi.demographics import Authority, Demographics
from mpi.resolve import identify
from tests.settling import settle

SYSTEM = "urn:cloudfilm:issuer:"


@pytest.fixture
def client(rooms: Rooms, operator: Caller) -> FlaskClient:
    """A client, known as the operator, of an archive that knows one person at two hospitals."""
    number = "51010419850612001X"
    for issuer, identifier in (("HIS", "1"), ("EMR", "2")):
        said = Demographics(
            issuer, identifier, "H1", "Zhang^Wei=张^伟", date(1985, 6, 12), "M", number,
            phone="13912345678", authority=Authority.REGISTRATION,
        )  # fmt: skip
        with rooms.database.transaction() as session:
            identify(rooms.mpi, session, operator, said)
    settle(rooms)
    app = create_app(rooms)

    def known() -> None:
        g.caller = operator

    app.before_request_funcs.setdefault(None, []).insert(0, known)
    return app.test_client()


def test_a_described_patient_is_found_with_score_and_grade(client: FlaskClient) -> None:
    patient = {
        "resourceType": "Patient",
        "name": [{"text": "張偉"}],
        "birthDate": "1985-06-12",
        "gender": "male",
        "telecom": [{"system": "phone", "value": "+8613912345678"}],
    }
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "resource", "resource": patient}, {"name": "count", "valueInteger": 5}],
    }
    bundle = json.loads(client.post("/fhir/Patient/$match", json=parameters).data)
    assert bundle["type"] == "searchset"
    assert len(bundle["entry"]) == 2
    search = bundle["entry"][0]["search"]
    assert search["score"] > 0.9
    assert search["extension"][0]["valueCode"] in ("certain", "probable")


@pytest.mark.parametrize("body", [{"resourceType": "Parameters"}, {"resourceType": "Basic"}])
def test_a_match_without_a_patient_is_refused(client: FlaskClient, body: dict[str, Any]) -> None:
    assert client.post("/fhir/Patient/$match", json=body).status_code == 400


def pix(client: FlaskClient, query: str) -> tuple[int, dict[str, Any]]:
    answer = client.get(f"/fhir/Patient/$ihe-pix?{query}")
    return answer.status_code, json.loads(answer.data)


def test_the_other_numbers_of_a_patient_are_told(client: FlaskClient) -> None:
    status, answer = pix(client, f"sourceIdentifier={SYSTEM}HIS|1&targetSystem={SYSTEM}EMR")
    assert status == 200
    assert answer["parameter"][0]["valueIdentifier"] == {"system": f"{SYSTEM}EMR", "value": "2"}
    assert answer["parameter"][1]["name"] == "targetId"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        (f"sourceIdentifier={SYSTEM}HIS|none", 404, "not-found"),
        (f"sourceIdentifier={SYSTEM}NOWHERE|1", 400, "code-invalid"),
        (f"sourceIdentifier={SYSTEM}HIS|1&targetSystem={SYSTEM}NOWHERE", 403, "code-invalid"),
        ("sourceIdentifier=1", 400, "invalid"),
        ("", 400, "invalid"),
    ],
)
def test_what_is_not_known_is_refused_as_the_profile_says(
    client: FlaskClient, query: str, status: int, code: str
) -> None:
    found, answer = pix(client, query)
    assert (found, answer["issue"][0]["code"]) == (status, code)


def feed(
    client: FlaskClient, *entries: dict[str, Any], event: str = "patient-feed"
) -> tuple[int, dict[str, Any]]:
    header = {
        "resourceType": "MessageHeader", "id": "m1", "eventUri": f"urn:ihe:iti:pmir:2019:{event}",
        "source": {"endpoint": "http://his"}, "focus": [{"reference": "Bundle/b1"}],
    }  # fmt: skip
    history = {"resourceType": "Bundle", "id": "b1", "type": "history", "entry": list(entries)}
    message = {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [{"resource": header}, {"resource": history}],
    }
    answer = client.post("/fhir/$process-message", json=message)
    return answer.status_code, json.loads(answer.data)


def told(number: str, **values: Any) -> dict[str, Any]:
    patient = {
        "resourceType": "Patient", "id": number, "active": True, "name": [{"text": "王芳"}],
        "birthDate": "1990-02-03", "identifier": [{"system": f"{SYSTEM}HIS", "value": number}],
    }  # fmt: skip
    request = {"method": "POST", "url": "Patient"}
    return {"fullUrl": f"http://his/Patient/{number}", "resource": patient | values, "request": request}


def patients(client: FlaskClient, query: str) -> list[dict[str, Any]]:
    return [
        each["resource"] for each in json.loads(client.get(f"/fhir/Patient?{query}").data).get("entry", [])
    ]


def test_a_patient_identity_feed_is_taken_with_its_merges_and_deletions(
    client: FlaskClient, rooms: Rooms
) -> None:
    status, answer = feed(
        client, told("71"), told("72", telecom=[{"system": "phone", "value": "13700001111"}])
    )
    assert status == 200
    assert answer["entry"][0]["resource"]["response"] == {"identifier": "m1", "code": "ok"}
    settle(rooms)
    assert len(patients(client, "name=王芳")) == 2
    gone = told(
        "71", active=False, link=[{"other": {"reference": "http://his/Patient/72"}, "type": "replaced-by"}]
    )
    assert feed(client, gone, told("72"))[0] == 200
    settle(rooms)
    (replaced,) = patients(client, f"identifier={SYSTEM}HIS|71&active=false")
    assert replaced["link"][0]["type"] == "replaced-by"
    delete = {"request": {"method": "DELETE", "url": f"Patient?identifier={SYSTEM}HIS|72"}}
    assert feed(client, delete)[0] == 200
    assert patients(client, f"identifier={SYSTEM}HIS|72") == []


@pytest.mark.parametrize(
    "entry",
    [
        {"request": {"method": "GET"}},
        {"request": {"method": "POST"}},
        {"resource": {}},
        told("9", identifier=[]),
    ],
)
def test_a_feed_that_cannot_be_read_changes_nothing(
    client: FlaskClient, rooms: Rooms, entry: dict[str, Any]
) -> None:
    assert feed(client, told("88"), entry)[0] == 400
    settle(rooms)
    assert patients(client, f"identifier={SYSTEM}HIS|88") == []
    assert feed(client, told("88"), event="something-else")[0] == 400


@pytest.mark.parametrize(
    "query",
    [
        f"identifier={SYSTEM}HIS|1", f"identifier={SYSTEM}HIS|", "family=张&given=伟", "family=Zhang",
        "birthdate=1985-06-12", "birthdate=ge1985", "gender=male&birthdate=1985-06-12", "telecom=13912345678",
        "active=true&family=张", "family:exact=张", "_count=1&family=张",
    ],
)  # fmt: skip
def test_patients_are_found_by_what_pdqm_asks_by(client: FlaskClient, query: str) -> None:
    assert patients(client, query)
