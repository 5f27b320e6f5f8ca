"""References that have to lead somewhere, where a site asks for it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from kernel.settings import FhirSettings, Settings
from records.audit_events import index_audit
from tests.fhir_server.test_fhir import bearer
from tests.fhir_server.test_interactions import Fhir

PATIENT = {"resourceType": "Patient", "id": "p"}


@pytest.fixture
def strict(settings: Settings, clock: FixedClock) -> Iterator[Rooms]:
    """Rooms of a site whose references have to lead somewhere."""
    rooms = build_rooms(replace(settings, fhir=FhirSettings(references_must_exist=True)), clock)
    yield rooms
    rooms.close()


@pytest.fixture
def fhir(strict: Rooms) -> Fhir:
    return Fhir(create_app(strict).test_client(), bearer(strict))


def about(reference: str) -> dict[str, Any]:
    subject = {"reference": reference}
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject}


def transaction(*entries: tuple[str, str, dict[str, Any] | None]) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    for method, url, resource in entries:
        made.append(
            {"request": {"method": method, "url": url}} | ({"resource": resource} if resource else {})
        )
    return {"resourceType": "Bundle", "type": "transaction", "entry": made}


def test_a_reference_leads_to_what_is_there(fhir: Fhir) -> None:
    fhir.send("POST", "/Observation", about("Patient/p"), 422)
    fhir.send("PUT", "/Patient/p", PATIENT, 201)

    made = fhir.make(about("Patient/p"))
    fhir.make(about("Patient/p/_history/1"))
    fhir.make(about("https://elsewhere.example.org/fhir/Patient/none"))

    fhir.send("PUT", f"/Observation/{made}", about("Patient/none") | {"id": made}, 422)
    assert fhir.get(f"/Observation/{made}")["subject"] == {"reference": "Patient/p"}


def test_what_others_name_is_not_deleted(strict: Rooms, fhir: Fhir) -> None:
    fhir.send("PUT", "/Patient/p", PATIENT, 201)
    made = fhir.make(about("Patient/p"))

    refused = fhir.send("DELETE", "/Patient/p", status=409)

    assert json.loads(refused.data)["resourceType"] == "OperationOutcome"
    fhir.send("GET", "/Patient/p", status=200)
    index_audit(strict.records)
    index_audit(strict.records)
    assert fhir.get("/AuditEvent?patient=p")["entry"]  # which keeps nothing from being deleted
    fhir.send("DELETE", f"/Observation/{made}", status=204)
    fhir.send("DELETE", "/Patient/p", status=204)
    fhir.send("POST", "/Observation", about("Patient/p"), 422)


def test_a_transaction_is_judged_by_what_it_leaves(fhir: Fhir) -> None:
    both = transaction(
        ("PUT", "Observation/o", about("Patient/p") | {"id": "o"}), ("PUT", "Patient/p", PATIENT)
    )
    fhir.send("POST", "", both, 200)

    fhir.send("POST", "", transaction(("DELETE", "Patient/p", None)), 409)
    fhir.send("POST", "", transaction(("DELETE", "Patient/p", None), ("DELETE", "Observation/o", None)), 200)


def test_the_capability_statement_says_so(fhir: Fhir) -> None:
    (patient,) = (each for each in fhir.get("/metadata")["rest"][0]["resource"] if each["type"] == "Patient")

    assert "enforced" in patient["referencePolicy"]
