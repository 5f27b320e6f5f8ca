"""Plain requests for programmes that do not speak HL7 v2: patient, order, report, status.

A request is a flat set of named fields, as JSON or XML. It becomes an HL7 v2 message and goes the way of
every message: kept, answered, processed once, replayed. FIELDS is all there is to know: the doors read it,
and the OpenAPI description is drawn from it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hl7_listener.er7 import escape, segment, write
from kernel.errors import CloudfilmError, Kind

Get = Callable[[str], str]
"""Looks up a field's value, escaped for a message; empty when it was not given."""


class InvalidRequest(CloudfilmError):
    """A plain request that lacks a field, or has one that is not known."""

    kind = Kind.INVALID


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a request."""

    name: str
    requests: frozenset[str]  # which requests have it
    meaning: str
    required: bool = False


PATIENT, ORDER, REPORT, STATUS = "patient", "order", "report", "status"
EVERY = frozenset({PATIENT, ORDER, REPORT, STATUS})
WITH_ORDER = frozenset({ORDER, REPORT, STATUS})

FIELDS = (
    Field("messageId", EVERY, "Number of this request; the same one is processed once"),
    Field("patientId", EVERY, "The source's own patient number", required=True),
    Field("issuer", EVERY, "Who gave the patient number, if not the institution itself"),
    Field("name", EVERY, "Name in Chinese, or as FAMILY^GIVEN"),
    Field("pinyin", EVERY, "Name in letters, as FAMILY^GIVEN"),
    Field("sex", EVERY, "M or F, 男 or 女, 1 or 2"),
    Field("birthDate", EVERY, "YYYYMMDD or YYYY-MM-DD"),
    Field("identityNumber", EVERY, "Resident identity number"),
    Field("insuranceNumber", EVERY, "Medical insurance number"),
    Field("phone", EVERY, "Telephone number"),
    Field("address", EVERY, "Address"),
    Field("visitNumber", EVERY, "Number of the visit or stay"),
    Field("patientClass", EVERY, "O outpatient, I inpatient, E emergency"),
    Field("orderNumber", WITH_ORDER, "The ordering system's number"),
    Field("fillerNumber", WITH_ORDER, "The performing system's number"),
    Field("accessionNumber", WITH_ORDER, "Accession number; one is made for an order without"),
    Field("studyInstanceUid", WITH_ORDER, "Study Instance UID"),
    Field("action", frozenset({ORDER}), "place (the default), change or cancel"),
    Field("status", frozenset({REPORT, STATUS}), "Of a report: preliminary, final, corrected, cancelled;"
          " of an order: active, completed, on-hold, cancelled"),
    Field("procedureCode", WITH_ORDER, "Code of the examination"),
    Field("procedure", WITH_ORDER, "The examination in words"),
    Field("modality", WITH_ORDER, "CT, MR, DX, US, ..."),
    Field("scheduledAt", frozenset({ORDER}), "YYYYMMDDHHMMSS"),
    Field("stationAeTitle", frozenset({ORDER}), "AE title of the modality"),
    Field("physician", WITH_ORDER, "Who ordered, or who reported"),
    Field("reason", frozenset({ORDER}), "Why"),
    Field("reportNumber", frozenset({REPORT}), "The reporting system's number"),
    Field("reportedAt", frozenset({REPORT}), "YYYYMMDDHHMMSS"),
    Field("findings", frozenset({REPORT}), "Findings"),
    Field("impression", frozenset({REPORT}), "Impression"),
    Field("pdf", frozenset({REPORT}), "The report as PDF, base64"),
)  # fmt: skip

MESSAGE_TYPES = {
    PATIENT: "ADT^A08^ADT_A01", ORDER: "ORM^O01^ORM_O01", REPORT: "ORU^R01^ORU_R01",
    STATUS: "ORM^O01^ORM_O01",
}  # fmt: skip
CONTROLS = {"": "NW", "place": "NW", "change": "XO", "cancel": "CA"}
ORDER_STATUS = {"active": "IP", "completed": "CM", "on-hold": "HD", "cancelled": "CA"}
REPORT_STATUS = {"": "F", "final": "F", "preliminary": "P", "corrected": "C", "cancelled": "X"}


def fields_of(request: str) -> tuple[Field, ...]:
    """The fields of one kind of request. Raises InvalidRequest for a kind that is not known."""
    if request not in MESSAGE_TYPES:
        raise InvalidRequest(f"{request[:32]!r} is none of {', '.join(MESSAGE_TYPES)}.")
    return tuple(field for field in FIELDS if request in field.requests)


def to_message(request: str, values: Mapping[str, str], sender: str, at: datetime) -> bytes:
    """The HL7 v2 message that says the same. Raises InvalidRequest, which names the field."""
    known = {field.name: field for field in fields_of(request)}
    for name in values:
        if name not in known:
            raise InvalidRequest(f"A request {request!r} has no field {name[:32]!r}.")
    for field in known.values():
        if field.required and not values.get(field.name):
            raise InvalidRequest(f"The field {field.name!r} is needed.")

    def value(name: str) -> str:
        return escape(values.get(name, ""))

    msh = segment(
        "MSH", "^~\\&", escape(sender), "", "CLOUDFILM", "", f"{at:%Y%m%d%H%M%S}+0000", "",
        MESSAGE_TYPES[request], _control_id(request, values), "P", "2.5.1", "", "", "", "", "",
        "UNICODE UTF-8",
    )  # fmt: skip
    return write([msh, _pid(value), _pv1(value), *BODIES[request](value)])


def _control_id(request: str, values: Mapping[str, str]) -> str:
    """The caller's own number, or one that the same request has again."""
    if values.get("messageId"):
        return escape(values["messageId"][:199])
    return hashlib.sha256(repr((request, sorted(values.items()))).encode()).hexdigest()[:40]


def _pid(value: Get) -> str:
    name, pinyin = _components(value("name")), _components(value("pinyin"))
    names = "~".join(each for each in (name, _alphabetic(pinyin)) if each)
    identifiers = [f"{value('patientId')}^^^{value('issuer')}^MR"]
    identifiers += [f"{value('identityNumber')}^^^^NI"] if value("identityNumber") else []
    identifiers += [f"{value('insuranceNumber')}^^^^HC"] if value("insuranceNumber") else []
    birth_date = value("birthDate").replace("-", "")
    return segment(
        "PID", "1", "", "~".join(identifiers), "", names, "", birth_date, value("sex"), "", "",
        value("address"), "", value("phone"),
    )  # fmt: skip


def _components(name: str) -> str:
    """`FAMILY^GIVEN` is meant as two components, though it came escaped as one."""
    return name.replace("\\S\\", "^")


def _alphabetic(name: str) -> str:
    """With XPN-8 (name representation code) A."""
    return f"{name}{'^' * (7 - name.count('^'))}A" if name else ""


def _pv1(value: Get) -> str:
    if not value("visitNumber") and not value("patientClass"):
        return segment("PV1", "1", "O")
    return segment("PV1", "1", value("patientClass") or "O", *[""] * 16, value("visitNumber"))


def _procedure(value: Get) -> str:
    code = value("procedureCode")
    return f"{code}^{value('procedure')}^L" if code else f"^{value('procedure')}"


def _order(value: Get) -> list[str]:
    control = CONTROLS.get(value("action"))
    if control is None:
        raise InvalidRequest("The field 'action' is place, change or cancel.")
    numbers = value("orderNumber"), value("fillerNumber")
    orc = segment("ORC", control, *numbers, *[""] * 8, f"^{value('physician')}")
    obr = segment(
        "OBR", "1", value("orderNumber"), value("fillerNumber"), _procedure(value), *[""] * 13,
        value("accessionNumber"), *[""] * 5, value("modality"), *[""] * 6, f"^{value('reason')}", *[""] * 4,
        value("scheduledAt"),
    )  # fmt: skip
    return [orc, obr, _ipc(value)]


def _ipc(value: Get) -> str:
    return segment(
        "IPC", value("accessionNumber"), "", value("studyInstanceUid"), "", value("modality"), "", "", "",
        value("stationAeTitle"),
    )  # fmt: skip


def _status(value: Get) -> list[str]:
    status = ORDER_STATUS.get(value("status"))
    if status is None:
        raise InvalidRequest("The field 'status' is active, completed, on-hold or cancelled.")
    orc = segment("ORC", "SC", value("orderNumber"), value("fillerNumber"), "", status)
    numbers = value("orderNumber"), value("fillerNumber")
    return [orc, segment("OBR", "1", *numbers, *[""] * 14, value("accessionNumber"))]


def _report(value: Get) -> list[str]:
    status = REPORT_STATUS.get(value("status"))
    if status is None:
        raise InvalidRequest("The field 'status' is preliminary, final, corrected or cancelled.")
    number = value("reportNumber") or value("fillerNumber")
    obr = segment(
        "OBR", "1", value("orderNumber"), number, _procedure(value), "", "", value("reportedAt"), *[""] * 10,
        value("accessionNumber"), *[""] * 3, value("reportedAt"), *[""] * 2, status, *[""] * 6,
        f"&{value('physician')}",
    )  # fmt: skip
    rows = [
        ("TX", "FIND^检查所见", value("findings")),
        ("TX", "IMP^诊断意见", value("impression")),
        ("ED", "PDF^报告", f"^Application^PDF^Base64^{value('pdf')}" if value("pdf") else ""),
        ("ST", "110180^Study Instance UID^DCM", value("studyInstanceUid")),
    ]
    filled = [row for row in rows if row[2]]
    return [
        obr,
        *(
            segment("OBX", str(at), kind, code, "", text, "", "", "", "", "", status)
            for at, (kind, code, text) in enumerate(filled, 1)
        ),
    ]


BODIES: dict[str, Callable[[Get], list[str]]] = {
    PATIENT: lambda _: [],
    ORDER: _order,
    REPORT: _report,
    STATUS: _status,
}
