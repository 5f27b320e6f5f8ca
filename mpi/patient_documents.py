"""The Patient document of each source record, for FHIR: drawn from what the source said, one version a
change.

FHIR R4 Patient; names of China have one representation in characters and one in letters, told apart by the
iso21090-EN-representation extension.
"""

import re
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from kernel.changes import Change
from mpi.demographics import Demographics
from mpi.model import IdentifierDomain, PatientRecord
from mpi.resolve import demographics_of
from mpi.room import Mpi
from records.repository import write

CALLER = system("patient-documents")
REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
RESIDENT_IDENTITY_NUMBER = "urn:oid:2.16.156.10011.1.3"
GENDERS = {"M": "male", "F": "female", "O": "other"}
OID = re.compile(r"[0-2](\.[1-9]?[0-9]+)+")


def follow_patients(mpi: Mpi, session: Session, change: Change) -> None:
    """Write the document of a record that is new or says something new."""
    row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == change.subject))
    if row is None:
        return
    document = patient_document(demographics_of(mpi, row), system_of(session, row.issuer))
    if row.replaced_by is not None:
        survivor = session.get(PatientRecord, row.replaced_by)
        document["active"] = False
        if survivor is not None:
            document["link"] = [
                {"other": {"reference": f"Patient/{survivor.patient_id}"}, "type": "replaced-by"}
            ]
    write(mpi.records, session, CALLER, document, logical_id=row.patient_id, institution=row.institution)


def system_of(session: Session, issuer: str) -> str:
    """The identifier system of an issuer: as the site says, else made from its code."""
    domain = session.get(IdentifierDomain, issuer)
    if domain is not None:
        return domain.system
    return f"urn:oid:{issuer}" if OID.fullmatch(issuer) else f"urn:cloudfilm:issuer:{issuer}"


def patient_document(said: Demographics, system_uri: str) -> dict[str, Any]:
    """What a source says of a patient as a FHIR Patient."""
    identifiers: list[dict[str, Any]] = []
    if not said.identifier.startswith("~"):
        identifiers.append({"use": "usual", **_typed("MR"), "system": system_uri, "value": said.identifier})
    if said.identity_number:
        identifiers.append(
            {
                "use": "official",
                **_typed("NI"),
                "system": RESIDENT_IDENTITY_NUMBER,
                "value": said.identity_number,
            }
        )
    if said.insurance_number:
        identifiers.append({**_typed("SS"), "value": said.insurance_number})
    for other in said.other_identifiers:
        identifiers.append({**_typed(other.type), **_if("system", other.system), "value": other.value})
    document: dict[str, Any] = {"resourceType": "Patient", **_if("identifier", identifiers), "active": True}
    document |= _if("name", _names(said.name))
    phones = [phone.strip() for phone in said.phone.split(";") if phone.strip()]
    document |= _if("telecom", [{"system": "phone", "value": phone} for phone in phones])
    document["gender"] = GENDERS.get(said.sex, "unknown")
    if said.birth_date:
        document["birthDate"] = said.birth_date.isoformat()
    return document | _if("address", [{"text": said.address}] if said.address else [])


def _if(key: str, value: Any) -> dict[str, Any]:
    return {key: value} if value else {}


def _typed(code: str) -> dict[str, Any]:
    return {"type": {"coding": [{"system": IDENTIFIER_TYPES, "code": code}]}} if code else {}


def _names(name: str) -> list[dict[str, Any]]:
    """The component groups of a DICOM person name (PS3.5 6.2.1) as HumanNames."""
    codes = ("ABC", "IDE", "SYL")
    return [_name(group, codes[at]) for at, group in enumerate(name.split("=")[:3]) if group.strip("^ ")]


def _name(group: str, code: str) -> dict[str, Any]:
    family, given, middle, prefix, suffix = [
        *(part.strip() for part in group.split("^")),
        "",
        "",
        "",
        "",
        "",
    ][:5]
    is_chinese = any("\u4e00" <= each <= "\u9fff" for each in group)
    parts = (family, given, middle) if is_chinese else (prefix, given, middle, family, suffix)
    return {
        "extension": [{"url": REPRESENTATION, "valueCode": "IDE" if is_chinese else code}],
        "use": "official",
        "text": ("" if is_chinese else " ").join(part for part in parts if part),
        **_if("family", family),
        **_if("given", [part for part in (given, middle) if part]),
        **_if("prefix", [prefix] if prefix else []),
        **_if("suffix", [suffix] if suffix else []),
    }
