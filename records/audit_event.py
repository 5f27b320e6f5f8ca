"""The audit trail drawn as FHIR: one entry becomes one AuditEvent.

Standards: FHIR R4 AuditEvent, IHE Basic Audit Log Patterns (BALP) 1.1: the patterns for create, read, update,
delete and query with and without a patient, sign-in, and minimal token use (the grant's id, never the token).
"""

from typing import Any

from access.audit_message import ACTION_CODES, LOGIN, LOGOUT, OUTCOMES
from access.model import AuditEntry
from records.documents import instant

RESTFUL = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition"

VERBS = {  # first word of an action: interaction, BALP's name for it
    "create": ("create", "Create"),
    "store": ("create", "Create"),
    "read": ("read", "Read"),
    "retrieve": ("read", "Read"),
    "update": ("update", "Update"),
    "delete": ("delete", "Delete"),
    "search": ("search", "Query"),
    "find": ("search", "Query"),
}
PEOPLE = ("account", "visitor", "operator")
PERSON = {
    "system": "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
    "code": "humanuser",
}
PROGRAM = {"system": DICOM, "code": "110153", "display": "Source Role ID"}
SIGN_IN = {"sign in": LOGIN, "sign out": LOGOUT}


def audit_event(entry: AuditEntry) -> dict[str, Any]:
    """The AuditEvent of one entry."""
    first_word = entry.action.partition(" ")[0]
    verb = VERBS.get(first_word)
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": f"audit-{entry.seq}",
        "type": {"system": RESTFUL, "code": "rest", "display": "RESTful Operation"},
        "action": ACTION_CODES.get(first_word, "E"),
        "recorded": instant(entry.at),
        "outcome": OUTCOMES.get(entry.outcome, "8"),
        "agent": [_agent(entry)],
        "source": {"observer": {"display": "cloudfilm"}, "site": entry.door},
    }
    if entry.outcome != "done":
        event["outcomeDesc"] = entry.detail or entry.outcome
    if entry.action in SIGN_IN:
        code, display = SIGN_IN[entry.action]
        event["type"] = {"system": DICOM, "code": "110114", "display": "User Authentication"}
        event["subtype"] = [{"system": DICOM, "code": code, "display": display}]
    elif verb:
        event["subtype"] = [{"system": INTERACTION, "code": verb[0]}]
        event["meta"] = {
            "profile": [f"{BALP}/IHE.BasicAudit.{'Patient' if entry.patient_id else ''}{verb[1]}"]
        }
    else:
        event["subtype"] = [{"display": entry.action}]
    if entry.purpose:
        event["purposeOfEvent"] = [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": entry.purpose}
                ]
            }
        ]
    entities = [_subject(entry)] if entry.subject else []
    if entry.patient_id:
        entities.append(_patient(entry))
    return event | ({"entity": entities} if entities else {})


def _agent(entry: AuditEntry) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "type": {"coding": [PERSON if entry.principal_kind in PEOPLE else PROGRAM]},
        "who": {"identifier": {"value": entry.principal_id or "unknown"}},
        "requestor": True,
    }
    if entry.principal_name:
        agent["name"] = entry.principal_name
        agent["who"]["display"] = entry.principal_name
    if entry.grant:
        agent["policy"] = [f"urn:ietf:params:oauth:jti:{entry.grant}"]
    if entry.address:
        agent["network"] = {"address": entry.address, "type": "2"}
    return agent


def _subject(entry: AuditEntry) -> dict[str, Any]:
    is_uid = entry.subject[:1].isdigit()
    what: dict[str, Any] = (
        {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{entry.subject}"}}
        if is_uid
        else {"reference": entry.subject}
        if "/" in entry.subject
        else {"identifier": {"value": entry.subject}}
    )
    kind = {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "2"}
    return {"what": what, "type": kind}


def _patient(entry: AuditEntry) -> dict[str, Any]:
    return {
        "what": {"reference": f"Patient/{entry.patient_id}"},
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1"},
        "role": {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1"},
    }
