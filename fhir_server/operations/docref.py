"""DocumentReference/$docref: which documents are there of a patient (IPA, US Core; IHE MHD's find as
well)."""

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import bundle_answer, entries_of
from fhir_server.operations.given import InvalidParameter, given
from kernel.http import room
from records.query import Criterion, Search
from records.room import Records
from records.search import search

MOST = 1000


def find_documents() -> Response:
    """Current documents of a patient, of a type and within a span of care when these are given."""
    caller = current_caller(Door.FHIR)
    said = given()
    patient = said.text("patient")
    if not patient:
        raise InvalidParameter("patient", "the id of a patient")
    criteria = [
        Criterion("patient", (f"Patient/{patient.removeprefix('Patient/')}",)),
        Criterion("status", ("current",)),
    ]
    if said.text("start"):
        criteria.append(Criterion("period", (f"ge{said.text('start')}",)))
    if said.text("end"):
        criteria.append(Criterion("period", (f"le{said.text('end')}",)))
    types = [f"{each.get('system', '')}|{each.get('code', '')}" for each in said.structures("type", "Coding")]
    types += list(said.texts("type"))
    for concept in said.structures("type", "CodeableConcept"):
        codings = [each for each in concept.get("coding") or () if isinstance(each, dict)]
        types += [f"{each.get('system', '')}|{each.get('code', '')}" for each in codings]
    if types:
        criteria.append(Criterion("type", tuple(types)))
    name = "DocumentReference"
    wanted = Search(name, tuple(criteria), count=MOST, sort=("-date",), types=(name,))
    found = search(room(Records), caller, wanted)
    return bundle_answer("searchset", entries_of(found), [], len(found.matches))
