"""FHIR create and conditional create (R4 3.1.0.8)."""

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.binary import binary_of_request, is_native_binary
from fhir_server.interactions.bodies import document_of_type
from fhir_server.negotiate import require_json, written_answer
from kernel.http import room
from records.conditional import criteria_of, find_one, lock_criteria, with_references
from records.repository import read_in, write
from records.room import Records


def create_resource(resource_type: str) -> Response:
    """Store a new document under an id of ours; an id in the body is not taken.

    With If-None-Exist, only when nothing meets its criteria; what does is the answer then.
    """
    require_json()
    records, caller = room(Records), current_caller(Door.FHIR)
    document = binary_of_request() if is_native_binary(resource_type) else document_of_type(resource_type)
    document.pop("id", None)
    condition = request.headers.get("If-None-Exist")
    with records.database.transaction() as session:
        if condition is not None:
            lock_criteria(records, session, [f"{resource_type}?{condition}"])
            known = find_one(records, session, caller, resource_type, criteria_of(condition))
            if known is not None:
                return written_answer(read_in(records, session, caller, resource_type, known), 200)
        document = with_references(records, session, caller, document)
        stored = write(records, session, caller, document, method="POST")
    return written_answer(stored)
