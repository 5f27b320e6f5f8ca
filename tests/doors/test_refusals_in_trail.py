"""Whatever door refuses what somebody has no right to, it stands in the audit trail, once in a while."""

from dataclasses import replace

from sqlalchemy import select

from access.audit import REFUSED
from access.caller import Caller, Door, Permissions
from access.model import AuditEntry
from access.tokens import ACCESS, issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from tests.builders_hl7 import adt_a04


def refused(rooms: Rooms) -> list[tuple[str, str, str]]:
    """Door, what was asked, and for what exactly."""
    with rooms.database.snapshot() as session:
        return [
            (each.door, each.subject, each.detail)
            for each in session.scalars(select(AuditEntry).order_by(AuditEntry.seq))
            if (each.action, each.outcome) == ("refuse request", REFUSED)
        ]


def test_what_http_refuses_for_want_of_a_right_is_in_the_trail(rooms: Rooms) -> None:
    with rooms.database.transaction() as session:
        secret = issue(
            rooms.access, session, ACCESS, life_s=600, role="integration", scope="system/Observation.s"
        )
    client = create_app(rooms).test_client()
    headers = {"Authorization": f"Bearer {secret}"}
    entry = {"request": {"method": "GET", "url": "Encounter/e1"}}
    for _ in range(2):  # the second time is the same
        assert client.get("/dicomweb/studies?PatientName=x", headers=headers).status_code == 403
        assert client.get("/fhir/Patient/p1", headers=headers).status_code == 403
        assert client.get("/fhir/Observation", headers=headers).status_code == 200
        assert (
            client.get("/fhir/Observation").status_code == 401
        )  # nobody is known: not a refusal of somebody
        batch = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
        assert client.post("/fhir/", json=batch, headers=headers).status_code == 200

    found = refused(rooms)
    assert [(door, detail) for door, _, detail in found] == [
        ("dicomweb", "/dicomweb/studies"), ("fhir", "/fhir/Patient/p1"),
    ]  # fmt: skip
    assert all(asked.startswith("GET /") and "Patient/p1" not in asked for _, asked, _ in found)


def test_what_hl7_refuses_for_want_of_a_right_is_in_the_trail(rooms: Rooms, operator: Caller) -> None:
    hl7 = hl7_of(rooms.by_kind())
    silent = replace(operator, door=Door.HL7, permissions=Permissions())
    without = replace(operator, door=Door.HL7, permissions=Permissions.of(Message="c"))

    assert not receive(hl7, silent, adt_a04()).is_positive
    assert not receive(hl7, without, adt_a04()).is_positive

    assert [(door, asked) for door, asked, _ in refused(rooms)] == [
        ("hl7", "HL7 message"),
        ("hl7", "HL7 ADT"),
    ]
