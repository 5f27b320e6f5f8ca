"""FHIR update and conditional update (R4 3.1.0.4)."""

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.binary import binary_of_request, is_native_binary
from fhir_server.interactions.bodies import BodyDisagrees, document_of_type, require_id
from fhir_server.negotiate import if_match, must_be_new, require_json, written_answer
from kernel.http import room
from records.conditional import find_one, lock_criteria, with_references
from records.repository import write
from records.room import Records


def update_resource(resource_type: str, logical_id: str) -> Response:
    """Make a new version, or a new document under the client's id; with If-Match, of that version only."""
    require_json()
    records, caller = room(Records), current_caller(Door.FHIR)
    if is_native_binary(resource_type):
        document = binary_of_request() | {"id": logical_id}
    else:
        document = document_of_type(resource_type)
    require_id(document, logical_id)
    expected, is_new = if_match(), must_be_new()
    with records.database.transaction() as session:
        document = with_references(records, session, caller, document)
        stored = write(
            records, session, caller, document,
            logical_id=logical_id, if_match=expected, must_be_new=is_new,
        )  # fmt: skip
    return written_answer(stored)


def update_matching(resource_type: str) -> Response:
    """Make a new version of what the URL's criteria find; a new document when they find nothing."""
    require_json()
    records, caller = room(Records), current_caller(Door.FHIR)
    document = document_of_type(resource_type)
    criteria = [(name, value) for name, value in request.args.items(multi=True) if name not in NOT_CRITERIA]
    expected = if_match()
    with records.database.transaction() as session:
        lock_criteria(records, session, [f"{resource_type}?{request.query_string.decode('latin-1')}"])
        known = find_one(records, session, caller, resource_type, criteria)
        wanted = document.get("id")
        if known is not None and wanted not in (None, known):
            raise BodyDisagrees("id")
        if known is None and wanted is not None:
            require_id(document, str(wanted))
        document = with_references(records, session, caller, document)
        stored = write(
            records, session, caller, document,
            logical_id=known or wanted or "", if_match=expected, method="PUT" if known or wanted else "POST",
        )  # fmt: skip
    return written_answer(stored)


NOT_CRITERIA = frozenset({"_format", "_pretty"})
