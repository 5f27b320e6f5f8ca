"""Mapping: which field of a message becomes which element of a document, as data.

After the HL7 v2-to-FHIR guide's segment maps. A site adds or replaces rows without code: rows of the same
columns are its document `hl7-mapping`, with history. A field that no row names is not lost: the message
is kept, and Z segments with it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import timezone
from functools import lru_cache
from typing import Any

from sqlalchemy.orm import Session

from access.document_kind import DocumentKind, current_document
from hl7_listener.data_types import CONVERTERS
from hl7_listener.er7 import Segment
from kernel.errors import CloudfilmError, Kind


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the first source that says something fills the element.

    element: a path such as `period.start`; `[]` at its end collects every repetition.
    source: `OBR-27.6`; several are alternatives, in order. table: codes of the source -> codes of FHIR.
    """

    resource: str
    element: str
    source: tuple[str, ...]
    type: str
    table: str = ""
    sender: str = ""  # MSH-3 that the row is for; empty: every one


TABLES = {
    "priority": {  # HL7 table 0027 and 0485
        "S": "stat", "A": "asap", "R": "routine", "U": "urgent", "T": "urgent", "P": "routine", "C": "asap",
    },
    "order-status": {  # table 0038
        "CA": "revoked", "CM": "completed", "DC": "revoked", "ER": "entered-in-error", "HD": "on-hold",
        "IP": "active", "RP": "revoked", "SC": "active", "A": "active",
    },
    "encounter-class": {  # table 0004 -> v3 ActCode
        "E": "EMER", "I": "IMP", "O": "AMB", "P": "PRENC", "R": "AMB", "B": "IMP",
    },
    "appointment-status": {  # table 0278
        "PENDING": "pending", "WAITLIST": "waitlist", "BOOKED": "booked", "STARTED": "arrived",
        "COMPLETE": "fulfilled", "CANCELLED": "cancelled", "DC": "cancelled", "DELETED": "entered-in-error",
        "BLOCKED": "booked", "OVERBOOK": "booked", "NOSHOW": "noshow",
    },
}  # fmt: skip

ROWS = (
    Row("ServiceRequest", "code", ("OBR-4", "OBR-44"), "CWE"),
    Row("ServiceRequest", "status", ("ORC-5",), "ST", "order-status"),
    Row("ServiceRequest", "priority", ("TQ1-9", "ORC-7.6", "OBR-27.6", "OBR-5"), "ST", "priority"),
    Row("ServiceRequest", "authoredOn", ("ORC-9", "OBR-6"), "DTM"),
    Row("ServiceRequest", "requester", ("ORC-12", "OBR-16"), "XCN"),
    Row("ServiceRequest", "performer[]", ("OBR-34",), "NDL"),
    Row("ServiceRequest", "occurrenceDateTime", ("TQ1-7", "OBR-36", "ORC-7.4", "OBR-27.4"), "DTM"),
    Row("ServiceRequest", "reasonCode[]", ("OBR-31", "ORC-16"), "CWE"),
    Row("ServiceRequest", "bodySite[]", ("OBR-15.4",), "CWE"),
    Row("ServiceRequest", "note[]", ("NTE-3",), "NTE"),
    Row("DiagnosticReport", "code", ("OBR-4",), "CWE"),
    Row("DiagnosticReport", "effectiveDateTime", ("OBR-7", "OBR-36"), "DTM"),
    Row("DiagnosticReport", "issued", ("OBR-22", "MSH-7"), "DTM"),
    Row("DiagnosticReport", "resultsInterpreter[]", ("OBR-32", "OBX-16"), "NDL"),
    Row("Observation", "code", ("OBX-3",), "CWE"),
    Row("Observation", "effectiveDateTime", ("OBX-14",), "DTM"),
    Row("Observation", "interpretation[]", ("OBX-8",), "CWE"),
    Row("Observation", "bodySite", ("OBX-20",), "CWE"),
    Row("Encounter", "identifier[]", ("PV1-19", "PID-18"), "CX"),
    Row("Encounter", "class.code", ("PV1-2",), "ST", "encounter-class"),
    Row("Encounter", "type[]", ("PV1-4",), "CWE"),
    Row("Encounter", "period.start", ("PV1-44",), "DTM"),
    Row("Encounter", "period.end", ("PV1-45",), "DTM"),
    Row("Encounter", "serviceProvider", ("PV1-39", "PV1-3.4"), "XON"),
    Row("Encounter", "serviceType", ("PV1-10",), "CWE"),
    Row("Encounter", "participant[]", ("PV1-7", "PV1-17", "PV1-9"), "PARTICIPANT"),
    Row("Encounter", "location[]", ("PV1-3",), "LOCATION"),
    Row("Encounter", "hospitalization.admitSource", ("PV1-14",), "CWE"),
    Row("Encounter", "hospitalization.dischargeDisposition", ("PV1-36",), "CWE"),
    Row("Encounter", "reasonCode[]", ("PV2-3",), "CWE"),
    Row("Appointment", "status", ("SCH-25",), "ST", "appointment-status"),
    Row("Appointment", "appointmentType", ("SCH-8",), "CWE"),
    Row("Appointment", "reasonCode[]", ("SCH-7", "SCH-6"), "CWE"),
    Row("Appointment", "serviceType[]", ("AIS-3",), "CWE"),
    Row("Appointment", "start", ("AIS-4", "SCH-11.4", "TQ1-7"), "DTM"),
    Row("Appointment", "end", ("SCH-11.5", "TQ1-8"), "DTM"),
    Row("Appointment", "comment", ("NTE-3",), "ST"),
    Row("DocumentReference", "type", ("TXA-2",), "CWE"),
    Row("DocumentReference", "date", ("TXA-7", "TXA-6", "TXA-4"), "DTM"),
    Row("DocumentReference", "author[]", ("TXA-9", "TXA-5"), "XCN"),
    Row("DocumentReference", "authenticator", ("TXA-22",), "XCN"),
)  # fmt: skip

SOURCE = re.compile(r"([A-Z][A-Z0-9]{2})-(\d{1,3})(?:\.(\d{1,2}))?")


def draw(
    rows: Sequence[Row], resource: str, segments: Iterable[Segment], zone: timezone, sender: str = ""
) -> dict[str, Any]:
    """The elements of a document that its rows find in some segments; of rows for one element, the first
    that finds something."""
    by_name: dict[str, list[Segment]] = {}
    for segment in segments:
        by_name.setdefault(segment.name, []).append(segment)
    document: dict[str, Any] = {}
    filled: set[str] = set()
    for row in rows:
        if row.resource == resource and row.sender in ("", sender) and row.element not in filled:
            values = next(
                (found for source in row.source if (found := _find(row, source, by_name, zone))), []
            )
            if values:
                filled.add(row.element)
                _put(document, row.element, values)
    return document


def _find(row: Row, source: str, by_name: dict[str, list[Segment]], zone: timezone) -> list[Any]:
    match = SOURCE.fullmatch(source)
    if match is None:
        return []
    name, field, component = match[1], int(match[2]), match[3]
    found = []
    for segment in by_name.get(name, ()):
        for value in segment.values(field):
            converted = CONVERTERS[row.type](value.subvalue(int(component)) if component else value, zone)
            if row.table:
                converted = TABLES[row.table].get(str(converted).upper())
            if converted:
                found.append(converted)
    return found


def _put(document: dict[str, Any], element: str, values: list[Any]) -> None:
    *path, last = element.removesuffix("[]").split(".")
    for name in path:
        document = document.setdefault(name, {})
    document[last] = values if element.endswith("[]") else values[0]


class InvalidMapping(CloudfilmError):
    """A site's mapping that cannot be gone by."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f'The mapping is {{"rows": [...]}}: {reason}.')


def parse_rows(document: str) -> tuple[Row, ...]:
    """The shipped rows with the site's own in front. Raises InvalidMapping."""
    try:
        rows = json.loads(document)["rows"]
        own = tuple(_parse_row(plain) for plain in rows)
    except (ValueError, TypeError, KeyError):
        raise InvalidMapping("it cannot be read") from None
    replaced = {(row.resource, row.element, row.sender) for row in own}
    return (*own, *(row for row in ROWS if (row.resource, row.element, "") not in replaced))


def _parse_row(plain: Any) -> Row:
    names = {field.name for field in fields(Row)}
    if not isinstance(plain, dict) or not {"resource", "element", "source", "type"} <= set(plain) <= names:
        raise InvalidMapping("each has resource, element, source and type, and may have table and sender")
    if not isinstance(plain["source"], list) or not all(
        isinstance(source, str) and SOURCE.fullmatch(source) for source in plain["source"]
    ):
        raise InvalidMapping("source is a list of SEG-1 or SEG-1.2")
    texts = {name: value for name, value in plain.items() if name != "source"}
    if not all(isinstance(value, str) for value in texts.values()):
        raise InvalidMapping("all but source are texts")
    row = Row(source=tuple(plain["source"]), **texts)
    if row.resource not in RESOURCES or not re.fullmatch(r"[A-Za-z]+(\.[A-Za-z]+)*(\[\])?", row.element):
        raise InvalidMapping(f"{row.resource} {row.element} is no element that is drawn from a message")
    if row.type not in CONVERTERS or row.table not in ("", *TABLES):
        raise InvalidMapping("a type or table is not one of those that are known")
    return row


RESOURCES = frozenset(row.resource for row in ROWS)

MAPPING = DocumentKind(
    name="hl7-mapping",
    about="Which field of an HL7 v2 message becomes which element, where this site differs",
    check=parse_rows,
    default='{"rows": []}',
)

_parsed = lru_cache(maxsize=8)(parse_rows)


def rows_in_force(session: Session) -> tuple[Row, ...]:
    """The rows that hold now, with the site's own."""
    return _parsed(current_document(session, MAPPING))
