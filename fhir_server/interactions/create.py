"""FHIR create (R4 3.1.0.8)."""

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.bodies import document_of_type
from fhir_server.negotiate import require_json_body, written_answer
from kernel.http import room
from records.repository import write
from records.room import Records


def create_resource(resource_type: str) -> Response:
    """Store a new document under an id of ours; an id in the body is not taken."""
    require_json_body()
    records, caller = room(Records), current_caller(Door.FHIR)
    document = document_of_type(request.get_data(), resource_type)
    document.pop("id", None)
    with records.database.transaction() as session:
        stored = write(records, session, caller, document, method="POST")
    return written_answer(stored)
