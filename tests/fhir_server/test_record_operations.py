"""Operations on records: $everything, $meta, $document, $docref, $lastn, $validate, as a client sees them."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from access.tokens import issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app

CODE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}


class Client:
    """A client with two patients on the server."""

    def __init__(self, rooms: Rooms, scope: str = "user/*.cruds") -> None:
        self.rooms = rooms
        self.flask: FlaskClient = create_app(rooms).test_client()
        with rooms.database.transaction() as session:
            secret = issue(rooms.access, session, "access", life_s=600, role="operator", scope=scope)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def put(self, resource_type: str, id_: str, **content: Any) -> dict[str, Any]:
        body = {"resourceType": resource_type, "id": id_, **content}
        answer = self.flask.put(f"/fhir/{resource_type}/{id_}", json=body, headers=self.headers)
        assert answer.status_code == 201, answer.data
        return dict(json.loads(answer.data))

    def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = self.flask.get(f"/fhir/{path}", headers=self.headers)
        assert answer.status_code == status, answer.data
        return dict(json.loads(answer.data))

    def post(self, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
        answer = self.flask.post(f"/fhir/{path}", json=body, headers=self.headers)
        assert answer.status_code == status, answer.data
        return dict(json.loads(answer.data))


@pytest.fixture
def client(rooms: Rooms) -> Client:
    made = Client(rooms)
    made.put("Practitioner", "d1", name=[{"family": "Li"}])
    for patient in ("p1", "p2"):
        made.put("Patient", patient)
    ambulatory = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
    visit = {"status": "finished", "subject": ref("Patient/p1"), "class": ambulatory}
    made.put("Encounter", "e1", **visit)
    for number, (patient, day) in enumerate(
        (("p1", "2026-01-01"), ("p1", "2026-02-01"), ("p2", "2026-01-05"))
    ):
        made.put(
            "Observation", f"o{number}", status="final", code=CODE, subject=ref(f"Patient/{patient}"),
            effectiveDateTime=day, performer=[ref("Practitioner/d1")],
            **({"encounter": ref("Encounter/e1")} if number == 0 else {}),
        )  # fmt: skip
    return made


def ref(name: str) -> dict[str, str]:
    return {"reference": name}


def names(bundle: dict[str, Any]) -> set[str]:
    return {
        f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in bundle.get("entry", ())
    }


def test_everything_of_a_patient_is_what_belongs_and_what_it_refers_to(client: Client) -> None:
    found = client.get("Patient/p1/$everything")
    assert names(found) == {
        "Patient/p1", "Encounter/e1", "Observation/o0", "Observation/o1", "Practitioner/d1",
    }  # fmt: skip
    modes = {each["resource"]["id"]: each["search"]["mode"] for each in found["entry"]}
    assert (modes["o0"], modes["d1"]) == ("match", "include")
    assert names(client.get("Patient/p1/$everything?_type=Observation")) == {
        "Observation/o0",
        "Observation/o1",
    }
    in_january = client.get("Patient/p1/$everything?_type=Observation&start=2026-01-01&end=2026-01-31")
    assert names(in_january) == {"Observation/o0"}
    assert names(client.get("Patient/p1/$everything?_since=2100-01-01")) == set()
    assert names(client.get("Encounter/e1/$everything")) >= {"Encounter/e1", "Observation/o0"}
    client.get("Patient/none/$everything", 404)
    client.get("Observation/o0/$everything", 405)


def test_everything_of_a_group_is_that_of_its_members_and_of_patients_that_of_all(client: Client) -> None:
    left = {"entity": ref("Patient/p1"), "inactive": True}
    client.put("Group", "g", type="person", actual=True, member=[left, {"entity": ref("Patient/p2")}])
    client.put("Group", "empty", type="person", actual=True)
    of_p2 = {"Patient/p2", "Observation/o2", "Practitioner/d1"}

    assert names(client.get("Group/g/$everything")) - {"Group/g"} == of_p2
    assert names(client.get("Group/empty/$everything")) == set()
    assert names(client.get("Patient/$everything?_type=Patient,Observation")) == {
        "Patient/p1", "Patient/p2", "Observation/o0", "Observation/o1", "Observation/o2",
    }  # fmt: skip
    client.get("Group/none/$everything", 404)
    first = client.get("Patient/$everything?_type=Observation&_count=2")
    (following,) = (each["url"] for each in first["link"] if each["relation"] == "next")
    second = client.get(following.partition("/fhir/")[2])
    assert names(first) | names(second) == {"Observation/o0", "Observation/o1", "Observation/o2"}


def test_everything_comes_in_pages(client: Client) -> None:
    url, seen = "Patient/p1/$everything?_count=2&_type=Observation,Encounter,Patient", set[str]()
    while url:
        page = client.get(url)
        assert not seen & names(page)
        seen |= names(page)
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        url = following[0].partition("/fhir/")[2] if following else ""
    assert seen == {"Patient/p1", "Encounter/e1", "Observation/o0", "Observation/o1"}


def test_labels_are_added_and_taken_away_as_versions(client: Client) -> None:
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"security": [label], "profile": ["urn:p"]}}],
    }
    added = client.post("Patient/p1/$meta-add", body)["parameter"][0]["valueMeta"]
    assert (added["security"], added["profile"], added["versionId"]) == ([label], ["urn:p"], "2")
    again = client.post("Patient/p1/$meta-add", body)["parameter"][0]["valueMeta"]
    assert again["versionId"] == "2"
    assert client.get("Patient/p1/$meta")["parameter"][0]["valueMeta"]["security"] == [label]
    gone = client.post("Patient/p1/$meta-delete", body)["parameter"][0]["valueMeta"]
    assert "security" not in gone
    assert gone["versionId"] == "3"
    assert client.get("Patient/p1/_history/2/$meta")["parameter"][0]["valueMeta"]["security"] == [label]
    client.post("Patient/p1/$meta-add", {"resourceType": "Parameters"}, 400)


def test_labels_in_use_are_told_of_a_type_and_of_all(client: Client) -> None:
    tags = [{"system": "urn:t", "code": code, "display": code.upper()} for code in "ab"]
    client.put("Patient", "p9", meta={"tag": tags, "profile": ["urn:p"]})
    client.put("Organization", "o1", name="O", meta={"tag": tags[:1], "profile": ["urn:o"]})
    client.put("Organization", "o2", name="O", meta={"tag": tags[:1]})
    assert client.get("Patient/$meta")["parameter"][0]["valueMeta"] == {"profile": ["urn:p"], "tag": tags}
    told = client.get("Organization/$meta")["parameter"][0]["valueMeta"]
    assert told == {"profile": ["urn:o"], "tag": tags[:1]}
    everything = client.get("$meta")["parameter"][0]["valueMeta"]
    assert everything == {"profile": ["urn:o", "urn:p"], "tag": tags}
    assert client.get("Location/$meta")["parameter"][0]["valueMeta"] == {}


def test_a_composition_becomes_a_document(client: Client) -> None:
    client.put(
        "Composition", "c1", status="final", type=CODE, subject=ref("Patient/p1"), date="2026-02-02",
        author=[ref("Practitioner/d1")], title="Report",
        section=[{"title": "Findings", "entry": [ref("Observation/o0")]}],
    )  # fmt: skip
    document = client.get("Composition/c1/$document")
    assert document["type"] == "document"
    assert document["entry"][0]["resource"]["resourceType"] == "Composition"
    assert names(document) == {
        "Composition/c1", "Patient/p1", "Practitioner/d1", "Observation/o0", "Encounter/e1",
    }  # fmt: skip
    kept = client.flask.post("/fhir/Composition/c1/$document?persist=true", headers=client.headers)
    assert kept.status_code == 201
    stored = client.get(kept.headers["Location"].partition("/fhir/")[2])
    assert names(stored) == names(document)


def test_documents_of_a_patient_are_found_for_apps(client: Client) -> None:
    for id_, status in (("r1", "current"), ("r2", "superseded")):
        client.put(
            "DocumentReference", id_, status=status, subject=ref("Patient/p1"), type=CODE,
            content=[{"attachment": {"url": "Binary/b1", "contentType": "application/pdf"}}],
        )  # fmt: skip
    assert names(client.get("DocumentReference/$docref?patient=p1")) == {"DocumentReference/r1"}
    assert names(client.get("DocumentReference/$docref?patient=p2")) == set()
    client.get("DocumentReference/$docref", 400)


def test_the_last_of_each_kind(client: Client) -> None:
    assert names(client.get("Observation/$lastn?patient=p1")) == {"Observation/o1"}
    assert names(client.get("Observation/$lastn?patient=p1&max=2")) == {"Observation/o0", "Observation/o1"}
    client.get("Observation/$lastn", 400)


def test_validate_answers_what_is_wrong_without_writing(client: Client) -> None:
    wrong = {"resourceType": "Patient", "gender": "x"}
    outcome = client.post("Patient/$validate", wrong)
    assert outcome["issue"][0]["expression"] == ["Patient.gender"]
    wrapped = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": wrong}]}
    assert client.post("Patient/$validate", wrapped)["issue"][0]["severity"] == "error"
    assert client.get("Patient/p1/$validate")["issue"][0]["severity"] == "information"
    heart_rate = "http://hl7.org/fhir/StructureDefinition/heartrate"
    told = client.get(f"Observation/o0/$validate?profile={heart_rate}")["issue"]
    assert "Observation.category" in {each["expression"][0] for each in told}
    refused = client.post("Patient", wrong, 422)
    assert refused["issue"][0]["code"] == "code-invalid"


def test_operations_ask_for_the_rights_of_what_they_do(rooms: Rooms, client: Client) -> None:
    reader = Client(rooms, "user/Observation.rs")
    reader.get("Patient/p1/$everything", 403)
    meta = {
        "resourceType": "Parameters",
        "parameter": [{"name": "meta", "valueMeta": {"profile": ["urn:p"]}}],
    }
    reader.post("Observation/o0/$meta-add", meta, 403)
    assert names(reader.get("Observation/$lastn?patient=p1")) == {"Observation/o1"}
