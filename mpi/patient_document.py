"""Demographics and the FHIR Patient document: one said as the other.

Chinese names carry their writing as the ISO 21090 name representation: IDE for characters, ABC for the Latin
form, SYL for a phonetic one. Standards: FHIR R4 Patient; HL7 table 0203 (identifier type).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

from mpi.characters import has_han
from mpi.demographics import Authority, Demographics, Identifier
from mpi.identity_number import parse_identity_number

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
RESIDENT_IDENTITY = "urn:oid:2.16.156.10011.1.3"
PASSPORT = "urn:oid:2.16.156.10011.1.4"
INSURANCE = "urn:oid:2.16.156.10011.1.15"
ISSUER = "urn:cloudfilm:issuer:"
GENDERS = {"M": "male", "F": "female", "O": "other", "U": "unknown"}
SEXES = {gender: sex for sex, gender in GENDERS.items()}
GROUPS = ("ABC", "IDE", "SYL")  # of a DICOM person name (PS3.5 6.2.1)


def system_of(issuer: str, domains: Mapping[str, str]) -> str:
    """The identifier system of an issuer: as registered, a URI or OID as it is, else a URN of ours."""
    if issuer in domains:
        return domains[issuer]
    if ":" in issuer:
        return issuer
    if issuer and issuer.replace(".", "").isdigit() and "." in issuer:
        return f"urn:oid:{issuer}"
    return ISSUER + issuer


def issuer_of(system: str, domains: Mapping[str, str]) -> str:
    """The inverse of `system_of`."""
    registered = next((issuer for issuer, known in domains.items() if known == system), None)
    return registered if registered is not None else system.removeprefix(ISSUER).removeprefix("urn:oid:")


def patient_document(said: Demographics, domains: Mapping[str, str], replaced_by: str = "") -> dict[str, Any]:
    """The Patient document of one record. replaced_by: logical id of the Patient it was merged into."""
    document: dict[str, Any] = {"resourceType": "Patient", "active": not replaced_by}
    identifiers = [_identifier(system_of(said.issuer, domains), said.identifier.partition("~")[0], "MR")]
    if said.identity_number:
        number = parse_identity_number(said.identity_number)
        resident = number is None or number.is_resident
        identifiers.append(
            _identifier(
                RESIDENT_IDENTITY if resident else PASSPORT, said.identity_number, "NI" if resident else "PPN"
            )
        )
    if said.insurance_number:
        identifiers.append(_identifier(INSURANCE, said.insurance_number, "SS"))
    identifiers += [
        _identifier(system_of(item.system, domains) if item.system else "", item.value, item.type)
        for item in said.other_identifiers
    ]
    document["identifier"] = [identifier for identifier in identifiers if identifier.get("value")]
    document["name"] = [_human_name(group, code) for group, code in _groups(said.name)]
    document["telecom"] = [
        {"system": "phone", "value": phone.strip()} for phone in said.phone.split(";") if phone.strip()
    ]
    if said.sex in GENDERS:
        document["gender"] = GENDERS[said.sex]
    if said.birth_date:
        document["birthDate"] = said.birth_date.isoformat()
    if said.address:
        document["address"] = [{"text": said.address}]
    if replaced_by:
        document["link"] = [{"other": {"reference": f"Patient/{replaced_by}"}, "type": "replaced-by"}]
    return {key: value for key, value in document.items() if value not in ([], "")}


def _identifier(system: str, value: str, type_: str) -> dict[str, Any]:
    identifier: dict[str, Any] = {}
    if type_:
        identifier["type"] = {"coding": [{"system": IDENTIFIER_TYPE, "code": type_}]}
    if system:
        identifier["system"] = system
    return identifier | {"value": value}


def _groups(name: str) -> list[tuple[str, str]]:
    """The groups of a person name that are filled, characters first, each with its representation."""
    found = []
    for group, code in zip(name.split("="), GROUPS, strict=False):
        if group.strip(" ^"):
            found.append((group, "IDE" if has_han(group) and code == "ABC" else code))
    return sorted(found, key=lambda row: row[1] != "IDE")


def _human_name(group: str, code: str) -> dict[str, Any]:
    family, given, middle, prefix, suffix = (
        part.strip() for part in (*group.split("^"), "", "", "", "", "")[:5]
    )
    joined = family + given if code == "IDE" else " ".join(part for part in (given, middle, family) if part)
    name: dict[str, Any] = {
        "extension": [{"url": REPRESENTATION, "valueCode": code}],
        "use": "official" if code in ("IDE", "ABC") else "usual",
        "text": joined,
        "family": family,
        "given": [part for part in (given, middle) if part],
        "prefix": [prefix] if prefix else [],
        "suffix": [suffix] if suffix else [],
    }
    return {key: value for key, value in name.items() if value not in ([], "")}


def demographics_of_patient(
    document: Mapping[str, Any], domains: Mapping[str, str], institution: str
) -> Demographics:
    """What a FHIR Patient says. Its record goes by the first identifier that is no identity or insurance
    number."""
    identity = insurance = issuer = identifier = ""
    others = []
    for item in _list(document.get("identifier")):
        system, value = str(item.get("system") or ""), str(item.get("value") or "")
        codings = _list(item.get("type", {}).get("coding") if isinstance(item.get("type"), dict) else [])
        type_ = str(codings[0].get("code") or "") if codings else ""
        if system in (RESIDENT_IDENTITY, PASSPORT) or type_ in ("NI", "NNCHN", "PPN"):
            identity = identity or value
        elif system == INSURANCE or type_ in ("SS", "HC", "MC"):
            insurance = insurance or value
        elif value and not identifier:
            issuer, identifier = issuer_of(system, domains) or institution, value
        elif value:
            others.append(Identifier(issuer_of(system, domains), value, type_))
    return Demographics(
        issuer=(issuer or institution)[:64],
        identifier=identifier[:64],
        institution=institution,
        name=_person_name(_list(document.get("name"))),
        birth_date=_date(document.get("birthDate")),
        sex=SEXES.get(str(document.get("gender")), ""),
        identity_number=identity,
        insurance_number=insurance,
        phone=";".join(
            str(item.get("value"))
            for item in _list(document.get("telecom"))
            if item.get("system") in ("phone", "sms", None) and item.get("value")
        ),
        address=next((_address(item) for item in _list(document.get("address"))), ""),
        other_identifiers=tuple(others),
        authority=Authority.REGISTRATION,
    )


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _person_name(names: list[dict[str, Any]]) -> str:
    groups = dict.fromkeys(GROUPS, "")
    for name in names:
        given = " ".join(str(part) for part in name.get("given") or [])
        family = str(name.get("family") or "")
        text = f"{family}^{given}" if family or given else str(name.get("text") or "")
        stated = next(
            (
                item.get("valueCode")
                for item in _list(name.get("extension"))
                if item.get("url") == REPRESENTATION
            ),
            None,
        )
        code = stated if stated in groups else "IDE" if has_han(text) else "ABC"
        groups[code] = groups[code] or text.strip("^")
    return "=".join(groups.values()).rstrip("=")


def _date(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _address(address: dict[str, Any]) -> str:
    if address.get("text"):
        return str(address["text"])
    parts = [address.get("state"), address.get("city"), address.get("district"), *(address.get("line") or [])]
    return "".join(str(part) for part in parts if part)
