"""FHIR delete and conditional delete (R4 3.1.0.7): the document goes, its history stays."""

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.update import NOT_CRITERIA
from fhir_server.negotiate import if_match, outcome_answer, prefers
from kernel.http import room
from records.conditional import find_one, lock_criteria
from records.repository import remove
from records.room import Records


def delete_resource(resource_type: str, logical_id: str) -> Response:
    """Delete; to delete what is not there is no error."""
    records, caller = room(Records), current_caller(Door.FHIR)
    expected = if_match()
    with records.database.transaction() as session:
        version = remove(records, session, caller, resource_type, logical_id, expected)
    return _answer(version)


def delete_matching(resource_type: str) -> Response:
    """Delete the one document that the URL's criteria find."""
    records, caller = room(Records), current_caller(Door.FHIR)
    criteria = [(name, value) for name, value in request.args.items(multi=True) if name not in NOT_CRITERIA]
    expected, version = if_match(), None
    with records.database.transaction() as session:
        lock_criteria(records, session, [f"{resource_type}?{request.query_string.decode('latin-1')}"])
        known = find_one(records, session, caller, resource_type, criteria)
        if known is not None:
            version = remove(records, session, caller, resource_type, known, expected)
    return _answer(version)


def _answer(version: int | None) -> Response:
    if prefers("return") == "OperationOutcome":
        answer = outcome_answer("Deleted." if version is not None else "There was nothing to delete.")
    else:
        answer = Response(status=204)
    if version is not None:
        answer.set_etag(str(version), weak=True)
    return answer
