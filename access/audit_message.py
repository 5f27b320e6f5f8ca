"""Entries of the trail as audit messages that any audit repository reads, in the envelope of syslog.

The table of events says which of DICOM's events an action is; the action in our own words goes along as the
event's type, and the entry's number and hash as an object of the message, so that what a repository holds can
be compared with the trail.

Standards: DICOM PS3.15 A.5 (audit message), IHE ITI TF-2 3.20 (Record Audit Event), RFC 5424 (syslog).
"""

import socket
from base64 import b64encode
from datetime import UTC

from lxml import etree

from access.model import AuditEntry

Code = tuple[str, str]  # of the code system DCM, and its meaning

LOGIN, LOGOUT = ("110122", "Login"), ("110123", "Logout")
USER_AUTHENTICATION = ("110114", "User Authentication")
AUDIT_LOG_USED = ("110101", "Audit Log Used")
SECURITY_ALERT = ("110113", "Security Alert")
APPLICATION_ACTIVITY = ("110100", "Application Activity")

EVENTS: tuple[tuple[str, Code, Code | None], ...] = (
    # how an action begins, the event (PS3.15 A.5.3), and its type; the first that fits
    ("sign in", USER_AUTHENTICATION, LOGIN),
    ("sign out", USER_AUTHENTICATION, LOGOUT),
    ("search Audit", AUDIT_LOG_USED, None),
    ("export Audit", AUDIT_LOG_USED, None),
    ("read Audit", AUDIT_LOG_USED, None),
    ("read own access log", AUDIT_LOG_USED, None),
    ("read access log", AUDIT_LOG_USED, None),
    ("break glass", SECURITY_ALERT, ("110127", "Emergency Override Started")),
    ("refuse request", SECURITY_ALERT, ("110132", "Use of Restricted Function")),
    ("alarm", SECURITY_ALERT, None),
    ("reuse", SECURITY_ALERT, None),
    ("create Account", SECURITY_ALERT, ("110137", "User Security Attributes Changed")),
    ("update Account", SECURITY_ALERT, ("110137", "User Security Attributes Changed")),
    ("change password", SECURITY_ALERT, ("110137", "User Security Attributes Changed")),
    ("add second factor", SECURITY_ALERT, ("110137", "User Security Attributes Changed")),
    ("remove second factor", SECURITY_ALERT, ("110137", "User Security Attributes Changed")),
    ("update Policy", SECURITY_ALERT, ("110129", "Security Configuration")),
    ("update Node", SECURITY_ALERT, ("110128", "Network Configuration")),
    ("create Node", SECURITY_ALERT, ("110128", "Network Configuration")),
    ("delete Node", SECURITY_ALERT, ("110128", "Network Configuration")),
    ("create Share", ("110106", "Export"), None),
    ("search", ("110112", "Query"), None),
    ("store ImagingStudy", ("110104", "DICOM Instances Transferred"), None),
    ("read ImagingStudy", ("110103", "DICOM Instances Accessed"), None),
    ("delete ImagingStudy", ("110105", "DICOM Study Deleted"), None),
    ("create Patient", ("110110", "Patient Record"), None),
    ("read Patient", ("110110", "Patient Record"), None),
    ("update Patient", ("110110", "Patient Record"), None),
    ("delete Patient", ("110110", "Patient Record"), None),
    ("create ServiceRequest", ("110109", "Order Record"), None),
    ("read ServiceRequest", ("110109", "Order Record"), None),
    ("update ServiceRequest", ("110109", "Order Record"), None),
    ("delete ServiceRequest", ("110109", "Order Record"), None),
    ("", APPLICATION_ACTIVITY, None),
)
ACTION_CODES = {  # first word of an action: EventActionCode; others execute something
    "create": "C", "store": "C", "read": "R", "retrieve": "R", "update": "U", "delete": "D",
}  # fmt: skip
OUTCOMES = {"done": "0", "refused": "4", "failed": "8"}
SEVERITIES = {"done": 5, "refused": 4, "failed": 4}
FACILITY = 10  # security and authorization
BYTE_ORDER_MARK = "\ufeff"  # RFC 5424 6.4: the message is UTF-8
MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
OWN = "99CLOUDFILM"
DETAILS = ("hash", "door", "purpose", "grant", "detail")


def syslog_message(entry: AuditEntry) -> str:
    """One entry as an RFC 5424 message whose text is an audit message."""
    priority = FACILITY * 8 + SEVERITIES.get(entry.outcome, 5)
    host = socket.gethostname()[:255]
    message: str = etree.tostring(audit_message(entry), encoding="unicode")
    return f"<{priority}>1 {_moment(entry)} {host} cloudfilm - {MESSAGE_ID} - {BYTE_ORDER_MARK}{message}"


def audit_message(entry: AuditEntry) -> etree._Element:
    """One entry as an AuditMessage (PS3.15 A.5.1)."""
    message = etree.Element("AuditMessage")
    _event(message, entry)
    who = {"UserID": _clean(entry.principal_id) or "unknown", "UserIsRequestor": "true"}
    if entry.principal_name:
        who["UserName"] = _clean(entry.principal_name)
    if entry.address:
        who |= {"NetworkAccessPointID": _clean(entry.address), "NetworkAccessPointTypeCode": "2"}
    etree.SubElement(message, "ActiveParticipant", who)
    server = etree.SubElement(message, "ActiveParticipant", UserID="cloudfilm", UserIsRequestor="false")
    _code(server, "RoleIDCode", "110150", "DCM", "Application")
    source = etree.SubElement(message, "AuditSourceIdentification", AuditSourceID=socket.gethostname())
    etree.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    if entry.subject:
        _subject(message, _clean(entry.subject))
    if entry.patient_id:
        patient = _object(message, _clean(entry.patient_id), "1", "1")
        _code(patient, "ParticipantObjectIDTypeCode", "2", "RFC-3881", "Patient Number")
        etree.SubElement(patient, "ParticipantObjectName").text = _clean(entry.patient_id)
    _own_entry(message, entry)
    return message


def _event(message: etree._Element, entry: AuditEntry) -> None:
    event_id, event_type = next(codes for begins, *codes in EVENTS if entry.action.startswith(begins))
    event = etree.SubElement(
        message,
        "EventIdentification",
        EventActionCode=ACTION_CODES.get(entry.action.partition(" ")[0], "E"),
        EventDateTime=_moment(entry),
        EventOutcomeIndicator=OUTCOMES.get(entry.outcome, "8"),
    )
    for name, code in (("EventID", event_id), ("EventTypeCode", event_type)):
        if code:
            _code(event, name, code[0], "DCM", code[1])
    _code(event, "EventTypeCode", _clean(entry.action), OWN, _clean(entry.action))
    if entry.outcome != "done":
        etree.SubElement(event, "EventOutcomeDescription").text = _clean(entry.detail or entry.outcome)


def _subject(message: etree._Element, subject: str) -> None:
    is_uid = subject[:1].isdigit()
    about = _object(message, subject, "2", "3" if is_uid else "13")
    if is_uid:
        _code(about, "ParticipantObjectIDTypeCode", "110180", "DCM", "Study Instance UID")
    else:
        _code(about, "ParticipantObjectIDTypeCode", "12", "RFC-3881", "URI")
    etree.SubElement(about, "ParticipantObjectName").text = subject


def _own_entry(message: etree._Element, entry: AuditEntry) -> None:
    about = _object(message, str(entry.seq), "2", "13")
    _code(about, "ParticipantObjectIDTypeCode", "entry", OWN, "Number in the audit trail")
    etree.SubElement(about, "ParticipantObjectName").text = "Security Audit Log"
    for name in DETAILS:
        if value := str(getattr(entry, name) or ""):
            kept = b64encode(value.encode("utf-8", "replace")).decode()
            etree.SubElement(about, "ParticipantObjectDetail", type=name, value=kept)


def _object(message: etree._Element, object_id: str, kind: str, role: str) -> etree._Element:
    return etree.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=object_id,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )


def _code(parent: etree._Element, name: str, code: str, system: str, meaning: str) -> None:
    etree.SubElement(parent, name, {"csd-code": code, "codeSystemName": system, "originalText": meaning})


def _moment(entry: AuditEntry) -> str:
    return entry.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clean(text: str) -> str:
    """Text on one line, of characters that XML has."""
    return "".join(each if each.isprintable() else " " for each in text)
