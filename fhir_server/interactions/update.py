"""FHIR update (R4 3.1.0.4): a new version, or a new document under the client's id."""

import re

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.bodies import BodyDisagrees, document_of_type
from fhir_server.negotiate import if_match, require_json_body, written_answer
from kernel.http import room
from records.documents import InvalidDocument
from records.repository import write
from records.room import Records

LOGICAL_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def update_resource(resource_type: str, logical_id: str) -> Response:
    """Make a new version; with If-Match, of that version only."""
    require_json_body()
    if not LOGICAL_ID.fullmatch(logical_id):
        raise InvalidDocument("an id has 1 to 64 letters, digits, - and .")
    records, caller = room(Records), current_caller(Door.FHIR)
    document = document_of_type(request.get_data(), resource_type)
    if document.get("id") != logical_id:
        raise BodyDisagrees("id")
    with records.database.transaction() as session:
        stored = write(records, session, caller, document, logical_id=logical_id, if_match=if_match())
    return written_answer(stored)
