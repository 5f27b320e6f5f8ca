"""HL7 v2 data types as FHIR ones (chapter 2A; the HL7 v2-to-FHIR guide's data type maps)."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hl7_listener.er7 import Value, escape

CODE_SYSTEMS = {  # HL7 table 0396
    "LN": "http://loinc.org", "SCT": "http://snomed.info/sct", "SNM": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM", "UCUM": "http://unitsofmeasure.org",
    "I10": "http://hl7.org/fhir/sid/icd-10", "I9": "http://hl7.org/fhir/sid/icd-9-cm",
    "C4": "http://www.ama-assn.org/go/cpt",
}  # fmt: skip
NOT_SAID = "U^Unknown^HL70353"
TIMESTAMP = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.\d{1,6})?([+-]\d{4})?")


def date_of(text: str) -> date | None:
    """DT or the day of a DTM; None when it is no date."""
    found = re.match(r"(\d{4})[-/.]?(\d\d)[-/.]?(\d\d)", text)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def moment_of(text: str, zone: timezone) -> datetime | None:
    """DTM with at least a day (2A.22), in UTC; `zone` stands where it names none. None when it is none."""
    found = TIMESTAMP.match(text)
    if not found or not found[3]:
        return None
    try:
        moment = datetime(
            int(found[1]), int(found[2]), int(found[3]),
            int(found[4] or 0), int(found[5] or 0), int(found[6] or 0), tzinfo=_zone(found[7]) or zone,
        )  # fmt: skip
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(offset: str | None) -> timezone | None:
    if not offset:
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def parse_zone(offset: str) -> timezone:
    """`+08:00` as a time zone. Raises ValueError."""
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)", offset)
    if not found:
        raise ValueError(offset)
    return _zone(found[1] + found[2] + found[3]) or UTC


def fhir_date_time(text: str, zone: timezone) -> str:
    """DTM as a FHIR dateTime of the same precision; empty when it is none."""
    found = TIMESTAMP.match(text)
    if not found:
        return ""
    if not found[4]:
        return "-".join(part for part in found.groups()[:3] if part)
    moment = moment_of(text, zone)
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


def st(value: Value, zone: timezone) -> str:
    """A text."""
    return value.component(1)


def dtm(value: Value, zone: timezone) -> str:
    """A dateTime."""
    return fhir_date_time(value.component(1), zone)


def cwe(value: Value, zone: timezone) -> dict[str, Any]:
    """A CodeableConcept: the code, its alternate, and the text."""
    codings = []
    for at in (1, 4):
        code, display, system = (value.component(at + offset) for offset in range(3))
        if code or (display and at == 1):
            coding = {"system": code_system(system), "code": code, "display": display}
            codings.append({key: text for key, text in coding.items() if text})
    text = value.component(9) or value.component(2) or value.component(1)
    coded = [coding for coding in codings if "code" in coding]
    return {**({"coding": coded} if coded else {}), **({"text": text} if text else {})}


def code_system(name: str) -> str:
    """The URI of a coding system of table 0396; a local one gets a URN of ours."""
    if not name:
        return ""
    if name.upper() in CODE_SYSTEMS:
        return CODE_SYSTEMS[name.upper()]
    if re.fullmatch(r"HL7\d{4}", name.upper()):
        return f"http://terminology.hl7.org/CodeSystem/v2-{name[3:]}"
    return f"urn:cloudfilm:code:{re.sub(r'[^A-Za-z0-9.-]', '-', name)}"


def cx(value: Value, zone: timezone) -> dict[str, Any]:
    """An Identifier."""
    number, authority = value.component(1), authority_of(value, 4)
    if not number:
        return {}
    return {**({"system": f"urn:cloudfilm:issuer:{authority}"} if authority else {}), "value": number}


def authority_of(value: Value, component: int) -> str:
    """An HD: the namespace id, or the universal id where there is none."""
    return value.component(component) or value.component(component, 2)


def xcn(value: Value, zone: timezone) -> dict[str, Any]:
    """A person as a Reference by identifier and display."""
    number, name = value.component(1), display_name(value, 2)
    if not number and not name:
        return {}
    if not number:
        return {"display": name}
    authority = authority_of(value, 9)
    system = {"system": f"urn:cloudfilm:issuer:{authority}"} if authority else {}
    return {
        "type": "Practitioner",
        "identifier": system | {"value": number},
        **({"display": name} if name else {}),
    }


def ndl(value: Value, zone: timezone) -> dict[str, Any]:
    """The person of an NDL: its first component is a CNN."""
    return xcn(value.subvalue(1), zone)


def xon(value: Value, zone: timezone) -> dict[str, Any]:
    """An organization as a Reference by its number, or its name where it has none."""
    name, number = value.component(1), value.component(10) or value.component(3)
    if not name and not number:
        return {}
    return {
        "type": "Organization",
        "identifier": {"system": "urn:cloudfilm:organization", "value": number or name},
        **({"display": name} if name else {}),
    }


def pl(value: Value, zone: timezone) -> dict[str, Any]:
    """A location as a Reference by display: point of care, room, bed, facility."""
    parts = [value.component(at) for at in (4, 1, 2, 3)]
    text = " ".join(part for part in parts if part)
    return {"display": text} if text else {}


def participant(value: Value, zone: timezone) -> dict[str, Any]:
    """A person as an element of Encounter.participant."""
    person = xcn(value, zone)
    return {"individual": person} if person else {}


def location(value: Value, zone: timezone) -> dict[str, Any]:
    """A location as an element of Encounter.location."""
    place = pl(value, zone)
    return {"location": place} if place else {}


def note(value: Value, zone: timezone) -> dict[str, Any]:
    """An Annotation."""
    return {"text": value.whole} if value.whole else {}


def display_name(value: Value, first: int) -> str:
    """Family and given name for people to read; Chinese ones are not parted."""
    family, given = value.component(first), value.component(first + 1)
    return (
        family + given if any(ord(each) > 0x2E80 for each in family + given) else f"{given} {family}".strip()
    )


def person_name(value: Value, first: int = 1) -> str:
    """A DICOM person name group from XPN (first 1) or XCN (first 2) components."""
    parts = [value.component(first + at) for at in range(3)]
    prefix, suffix = value.component(first + 4), value.component(first + 3)
    return "^".join((*parts, prefix, suffix)).rstrip("^")


CONVERTERS: dict[str, Callable[[Value, timezone], Any]] = {
    "ST": st, "DTM": dtm, "CWE": cwe, "CX": cx, "XCN": xcn, "NDL": ndl, "XON": xon, "PL": pl, "NTE": note,
    "PARTICIPANT": participant, "LOCATION": location,
}  # fmt: skip


def service_of(document: dict[str, Any]) -> str:
    """OBR-4, which has to be there: what an order or a report is about, as its source says it."""
    code: dict[str, Any] = document.get("code", {})
    coding: dict[str, str] = next(iter(code.get("coding", [])), {})
    text = code.get("text", coding.get("display", ""))
    if not coding.get("code") and not text:
        return NOT_SAID
    return f"{escape(coding.get('code', ''))}^{escape(text)}"
