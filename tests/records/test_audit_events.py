"""The audit trail and the site's own data as FHIR resources, through the FHIR door."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import insert, select

from access.accounts import create_account
from access.audit import note
from access.caller import Caller, operator
from access.model import Node
from access.tokens import ACCESS, issue
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.site_resources import publish_site
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from kernel.jobs import Worker, declared
from kernel.settings import Settings
from records.audit_events import hide_agents, hide_agents_page, index_audit
from records.model import IndexString
from tests.fhir_server.test_fhir import bearer, ids
from tests.fhir_server.test_interactions import PATIENT, Fhir


@pytest.fixture
def fhir(rooms: Rooms) -> Fhir:
    return Fhir(create_app(rooms).test_client(), bearer(rooms))


def test_what_was_done_to_a_patient_is_found_as_audit_events(rooms: Rooms, fhir: Fhir) -> None:
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 201)
    fhir.get("/Patient/a")
    index_audit(rooms.records)
    index_audit(rooms.records)

    found = fhir.get("/AuditEvent?patient=a&_sort=date")
    assert [each["resource"]["action"] for each in found["entry"]] == ["C", "R"]
    assert ids(fhir.get("/AuditEvent?patient=a&action=R&subtype=read")) == [
        found["entry"][1]["resource"]["id"]
    ]
    assert fhir.get(f"/AuditEvent/{ids(found)[0]}") == found["entry"][0]["resource"]
    refused = fhir.send("POST", "/AuditEvent", {"resourceType": "AuditEvent"})
    assert refused.status_code == 405
    assert json.loads(refused.data)["issue"][0]["code"] == "not-supported"


def test_a_long_trail_is_indexed_in_turns(
    rooms: Rooms, clock: FixedClock, operator: Caller, fhir: Fhir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("records.audit_events.INDEXED_TOGETHER", 2)
    with rooms.database.transaction() as session:
        for number in range(5):
            note(session, clock, operator, "read Patient", f"Patient/{number}", patient_id="p")
    following = declared(index_audit)
    worker = Worker(rooms.database, clock, {following.name: following}, lambda _job: rooms.records)

    index_audit(rooms.records)
    found = [len(ids(fhir.get("/AuditEvent?patient=p")))]
    while worker.run_one():
        found.append(len(ids(fhir.get("/AuditEvent?patient=p"))))
    assert found[0] == 2
    assert found[-1] >= 5


def test_who_did_it_is_found_before_and_after_the_name_is_hidden_in_the_index(
    settings: Settings, clock: FixedClock, operator: Caller
) -> None:
    clerk = replace(operator, principal=replace(operator.principal, name="Zhuge Liang"))
    before = build_rooms(replace(settings, database=replace(settings.database, seals=False)), clock)
    with before.database.transaction() as session:
        for number in range(3):
            note(session, clock, clerk, "read Patient", f"Patient/{number}")
    index_audit(before.records)
    before.close()
    rooms = build_rooms(settings, clock)
    fhir = Fhir(create_app(rooms).test_client(), bearer(rooms))

    def shown() -> int:
        with rooms.database.snapshot() as session:
            return sum("zhuge" in each for each in session.scalars(select(IndexString.c.value)))

    assert shown() == 3
    hide_agents_page(rooms.records, most=2)
    for query in ("agent-name=Zhuge%20Liang", "agent-name:exact=Zhuge%20Liang", "agent-name=zhuge%20liang"):
        assert len(ids(fhir.get(f"/AuditEvent?{query}"))) == 3, query
    hide_agents(rooms.records)
    assert shown() == 0
    assert len(ids(fhir.get("/AuditEvent?agent-name=zhuge%20liang"))) == 3
    assert ids(fhir.get("/AuditEvent?agent-name=zhuge")) == []
    rooms.close()


def test_a_patient_reads_its_own_access_log_and_nobody_elses(rooms: Rooms, fhir: Fhir) -> None:
    for name in "ab":
        fhir.send("PUT", f"/Patient/{name}", PATIENT | {"id": name}, 201)
    index_audit(rooms.records)
    narrow = bearer(rooms, "patient/AuditEvent.rs")

    answer = fhir.client.get("/fhir/AuditEvent", headers=narrow)
    assert "entry" not in json.loads(answer.data)


def test_an_audit_administrator_finds_every_audit_event_and_nothing_clinical(
    rooms: Rooms, fhir: Fhir
) -> None:
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 201)
    index_audit(rooms.records)
    with rooms.database.transaction() as session:
        account = create_account(
            rooms.access, session, operator(), "auditor", "Correct-Horse-7", "audit_administrator"
        )
        secret = issue(rooms.access, session, ACCESS, life_s=600, account_id=account, scope="user/*.rs")
    headers = {"Authorization": f"Bearer {secret}"}

    everything = ids(fhir.get("/AuditEvent"))
    found = fhir.client.get("/fhir/AuditEvent?patient=a&_include=AuditEvent:entity", headers=headers)
    assert [each["resource"]["action"] for each in json.loads(found.data)["entry"]] == ["C"]
    assert ids(json.loads(fhir.client.get("/fhir/AuditEvent", headers=headers).data)) == everything
    assert fhir.client.get(f"/fhir/AuditEvent/{everything[0]}", headers=headers).status_code == 200
    for path in ("/fhir/Patient/a", "/fhir/Patient", "/dicomweb/studies"):
        assert fhir.client.get(path, headers=headers).status_code == 403


def test_site_data_is_there_as_organizations_devices_and_endpoints(rooms: Rooms, fhir: Fhir) -> None:
    with rooms.database.transaction() as session:
        session.execute(
            insert(Node).values(ae_title="CT 1", host="10.0.0.5", port=104, institution="EAST",
                                department="Radiology", created_at=rooms.clock.now())
        )  # fmt: skip
    publish_site(rooms)
    publish_site(rooms)

    (device,) = fhir.get("/Device?identifier=CT%201&_include=Device:organization&_include=Device:location")[
        "entry"
    ][:1]
    assert device["resource"]["meta"]["versionId"] == "1"
    wado = fhir.get("/Endpoint/wado-rs")
    assert wado["address"].endswith("/dicomweb")
    assert [(each["url"].rpartition("/")[2], each["valueBoolean"]) for each in wado["extension"]] == [
        ("requires-access-token", True)
    ]
    assert len(ids(fhir.get("/Endpoint?connection-type=dicom-wado-rs"))) == 1
    assert ids(fhir.get("/Organization?identifier=EAST")) == ["site-EAST"]
    assert ids(fhir.get("/Location?name=radiology")) == ["site-EAST.Radiology"]
    with rooms.database.transaction() as session:
        session.execute(Node.__table__.delete())  # type: ignore[attr-defined]
    publish_site(rooms)
    assert ids(fhir.get("/Device?identifier=CT%201")) == []
