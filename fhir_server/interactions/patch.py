"""FHIR patch and conditional patch (R4 3.1.0.6): JSON Patch and FHIRPath Patch."""

from collections.abc import Callable
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from access.bearer import current_caller
from access.caller import Caller, Door
from fhir_server.interactions.bodies import BodyDisagrees
from fhir_server.interactions.update import NOT_CRITERIA
from fhir_server.negotiate import if_match, request_body, request_document, require_json, written_answer
from kernel.http import room
from records.conditional import find_one, lock_criteria
from records.documents import parse_document, parse_json
from records.fhirpath_patch import apply_fhirpath_patch
from records.json_patch import InvalidPatch, apply_json_patch
from records.repository import ResourceNotFound, Stored, lock, read_in, write
from records.room import Records

JSON_PATCH = "application/json-patch+json"

Change = Callable[[dict[str, Any]], dict[str, Any]]


def patch_resource(resource_type: str, logical_id: str) -> Response:
    """Change a part of a document; with If-Match, of that version only."""
    require_json()
    records, caller = room(Records), current_caller(Door.FHIR)
    change, expected = change_of_request(), if_match()
    with records.database.transaction() as session:
        stored = patch_in(records, session, caller, resource_type, logical_id, change, expected)
    return written_answer(stored)


def patch_matching(resource_type: str) -> Response:
    """Change a part of the one document that the URL's criteria find."""
    require_json()
    records, caller = room(Records), current_caller(Door.FHIR)
    change, expected = change_of_request(), if_match()
    criteria = [(name, value) for name, value in request.args.items(multi=True) if name not in NOT_CRITERIA]
    with records.database.transaction() as session:
        lock_criteria(records, session, [f"{resource_type}?{request.query_string.decode('latin-1')}"])
        known = find_one(records, session, caller, resource_type, criteria)
        if known is None:
            raise ResourceNotFound(resource_type, "what the criteria describe")
        stored = patch_in(records, session, caller, resource_type, known, change, expected)
    return written_answer(stored)


def change_of_request() -> Change:
    """What the body says is to be changed."""
    if request.mimetype == JSON_PATCH:
        return json_change(parse_json(request_body()))
    return fhirpath_change(request_document())


def json_change(patch: Any) -> Change:
    """A JSON Patch as a change."""
    return lambda document: apply_json_patch(document, patch)


def fhirpath_change(parameters: dict[str, Any]) -> Change:
    """A FHIRPath Patch as a change. Raises InvalidPatch for another resource than Parameters."""
    if parameters["resourceType"] != "Parameters":
        raise InvalidPatch("send Parameters, or a JSON Patch as application/json-patch+json")
    return lambda document: apply_fhirpath_patch(document, parameters)


def patch_in(
    records: Records,
    session: Session,
    caller: Caller,
    resource_type: str,
    logical_id: str,
    change: Change,
    expected: int | None,
) -> Stored:
    """Change a document within a transaction."""
    document = patched(records, session, caller, resource_type, logical_id, change)
    return write(records, session, caller, document, logical_id=logical_id, if_match=expected, method="PATCH")


def patched(
    records: Records, session: Session, caller: Caller, resource_type: str, logical_id: str, change: Change
) -> dict[str, Any]:
    """A document as it will be, its row locked. Raises BodyDisagrees when type or id would be another."""
    lock(session, resource_type, logical_id)
    present = parse_document(read_in(records, session, caller, resource_type, logical_id).body)
    document = change(present)
    if (document.get("resourceType"), document.get("id")) != (resource_type, logical_id):
        raise BodyDisagrees("resourceType or id")
    return document
