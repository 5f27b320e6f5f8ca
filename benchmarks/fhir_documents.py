"""The documents that the FHIR benchmark stores: a tenth Patients, the others of theirs, a few Locations."""

from collections.abc import Iterator
from typing import Any

FAMILIES = ["Zhang", "Wang", "Li", "Zhao", "Chen", "Müller", "Smith", "Garcia", "Kim", "Sato"]
LOINC = ["8867-4", "8480-6", "8462-4", "29463-7", "718-7"]


def patient(number: int) -> dict[str, Any]:
    """A Patient."""
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "meta": {"source": f"urn:bench:source:{number}"},
        "identifier": [{"system": "urn:bench:mrn", "value": f"{number:08d}"}],
        "name": [{"family": f"{FAMILIES[number % 10]}{number % 977}", "given": [f"Given{number}"]}],
        "gender": ["male", "female"][number % 2],
        "birthDate": f"{1930 + number % 90}-{1 + number % 12:02d}-{1 + number % 28:02d}",
    }


def location(number: int) -> dict[str, Any]:
    """A Location with its place on Earth."""
    return {
        "resourceType": "Location", "id": f"l{number}", "name": f"Place {number}",
        "position": {"longitude": (number * 7919) % 3600 / 10 - 180,
                     "latitude": (number * 104729) % 1600 / 10 - 80},
    }  # fmt: skip


def other(number: int, patients: int) -> dict[str, Any]:
    """An Observation, a DiagnosticReport or a ServiceRequest of one of the patients."""
    subject = {"reference": f"Patient/p{number * 7919 % patients}"}
    day = f"20{10 + number % 15}-{1 + number % 12:02d}-{1 + number % 28:02d}T{number % 24:02d}:15:30+08:00"
    if number % 9 == 0:
        return {
            "resourceType": "DiagnosticReport", "id": f"r{number}", "status": "final", "subject": subject,
            "code": {"coding": [{"system": "urn:bench:exam", "code": f"E{number % 50}"}]},
            "effectiveDateTime": day, "conclusion": f"未见异常 {number}",
        }  # fmt: skip
    if number % 9 == 1:
        return {
            "resourceType": "ServiceRequest", "id": f"s{number}", "status": "active", "intent": "order",
            "subject": subject, "authoredOn": day,
            "identifier": [{"system": "urn:bench:acc", "value": f"A{number:08d}"}],
        }  # fmt: skip
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final", "subject": subject,
        "code": {"coding": [{"system": "http://loinc.org", "code": LOINC[number % 5]}]},
        "effectiveDateTime": day,
        "valueQuantity": {"value": 60 + number % 80, "unit": "mg", "system": "http://unitsofmeasure.org",
                          "code": "mg"},
    }  # fmt: skip


def patients_of(count: int) -> int:
    """How many of so many documents are Patients."""
    return max(1, count // 10)


def documents(count: int) -> Iterator[dict[str, Any]]:
    """All of them, what is referred to first."""
    patients, locations = patients_of(count), max(1, count // 1000)
    yield from (patient(number) for number in range(patients))
    yield from (location(number) for number in range(locations))
    yield from (other(number, patients) for number in range(count - patients - locations))


def transaction(written: list[dict[str, Any]], *, under_their_ids: bool = True) -> dict[str, Any]:
    """A transaction that writes documents: under their ids, or as new ones."""
    entries = []
    for each in written:
        type_ = each["resourceType"]
        if under_their_ids:
            entries.append({"resource": each, "request": {"method": "PUT", "url": f"{type_}/{each['id']}"}})
        else:
            resource = {key: value for key, value in each.items() if key != "id"}
            entries.append({"resource": resource, "request": {"method": "POST", "url": type_}})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
