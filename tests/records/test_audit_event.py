"""Audit entries as FHIR AuditEvent, judged by the R4 model of another library."""

from dataclasses import replace

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from sqlalchemy import select

from access.audit import note
from access.caller import Caller
from access.model import AuditEntry
from cloudfilm.rooms import Rooms
from records.audit_event import audit_event


@pytest.mark.parametrize(
    ("action", "subject", "patient", "outcome", "code"),
    [
        ("read ImagingStudy", "1.2.3", "p1", "done", "R"),
        ("search Patient", "", "", "done", "E"),
        ("create Consent", "Consent/c1", "", "refused", "C"),
        ("sign in", "a1", "", "failed", "E"),
        ("break glass", "Patient/p1", "p1", "done", "E"),
    ],
)
def test_every_entry_is_a_valid_audit_event(
    rooms: Rooms, operator: Caller, action: str, subject: str, patient: str, outcome: str, code: str
) -> None:
    caller = replace(operator, grant="token-id", address="10.0.0.1")
    with rooms.database.transaction() as session:
        note(session, rooms.clock, caller, action, subject, outcome=outcome, patient_id=patient)
        drawn = audit_event(session.scalars(select(AuditEntry)).one())

    event = AuditEvent.model_validate(drawn)

    assert event.action == code
    assert event.agent[0].policy == ["urn:ietf:params:oauth:jti:token-id"]
    assert drawn["outcome"] == {"done": "0", "refused": "4", "failed": "8"}[outcome]
    references = [entity["what"].get("reference") for entity in drawn.get("entity", ())]
    assert (f"Patient/{patient}" in references) == bool(patient)
