"""Patient/$match: who may this be (R4 Patient-match; IHE PDQm ITI-119)."""

from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.negotiate import fhir_base, request_document, require_json
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from mpi.matching import match
from mpi.patient_document import demographics_of_patient
from mpi.room import Mpi
from records.repository import ResourceNotFound, read
from records.room import Records

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
MOST = 50


class InvalidMatch(CloudfilmError):
    """Parameters of $match that do not hold a Patient."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Send Parameters with a Patient as the parameter 'resource'.")


def match_patient() -> Response:
    """Patients that may be the one described, the likeliest first, each with its score and grade."""
    require_json()
    caller, records = current_caller(Door.FHIR), room(Records)
    patient, count, only_certain = _parameters(request_document())
    said = demographics_of_patient(patient, {}, caller.principal.institution or records.institution)
    entries = []
    for found in match(room(Mpi), caller, said, count, only_certain):
        try:
            stored = read(records, caller, "Patient", found.patient_id)
        except ResourceNotFound:  # its document is written a moment after the record
            continue
        grade = {"url": GRADE, "valueCode": found.grade}
        search = {"extension": [grade], "mode": "match", "score": round(found.score, 4)}
        entries.append(Entry(f"{fhir_base()}/Patient/{found.patient_id}", stored.body, search))
    return bundle_answer("searchset", entries, [], len(entries))


def _parameters(document: dict[str, Any]) -> tuple[dict[str, Any], int, bool]:
    """The Patient, `count` and `onlyCertainMatches`. Raises InvalidMatch."""
    if document["resourceType"] == "Patient":
        return document, 10, False
    given = [each for each in document.get("parameter", []) if isinstance(each, dict)]
    values = {str(each.get("name")): each for each in given}
    patient = values.get("resource", {}).get("resource")
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        raise InvalidMatch
    count = values.get("count", {}).get("valueInteger", 10)
    if not isinstance(count, int) or count < 1:
        raise InvalidMatch
    return patient, min(count, MOST), values.get("onlyCertainMatches", {}).get("valueBoolean") is True
