"""FHIR delete and conditional delete (R4 3.1.0.7): the document goes, its history stays."""

from flask import Response, request

from access.bearer import current_caller
from access.caller import Caller, Door
from fhir_server.interactions.update import NOT_CRITERIA
from fhir_server.negotiate import if_match, outcome_answer, prefers
from kernel.http import room
from records.conditional import find_all, find_one, lock_criteria
from records.query import parse_search
from records.repository import Writing, remove, write_all
from records.room import Records


def delete_resource(resource_type: str, logical_id: str) -> Response:
    """Delete; to delete what is not there is no error."""
    records, caller = room(Records), current_caller(Door.FHIR)
    expected = if_match()
    with records.database.transaction() as session:
        version = remove(records, session, caller, resource_type, logical_id, expected)
    return _answer(version)


def delete_matching(resource_type: str) -> Response:
    """Delete the one document that the URL's criteria find; with `_count`, all of them, at most so many.

    Nobody deletes several by mistake: without `_count`, criteria that several meet are refused.
    """
    records, caller = room(Records), current_caller(Door.FHIR)
    wanted = parse_search(resource_type, request.args.items(multi=True))
    criteria = [(name, value) for name, value in request.args.items(multi=True) if name not in NOT_CRITERIA]
    expected, version = if_match(), None
    if "_count" in request.args:
        return _delete_all(records, caller, resource_type, criteria, wanted.count)
    with records.database.transaction() as session:
        lock_criteria(records, session, [f"{resource_type}?{request.query_string.decode('latin-1')}"])
        known = find_one(records, session, caller, resource_type, criteria)
        if known is not None:
            version = remove(records, session, caller, resource_type, known, expected)
    return _answer(version)


def _delete_all(
    records: Records, caller: Caller, resource_type: str, criteria: list[tuple[str, str]], most: int
) -> Response:
    with records.database.transaction() as session:
        lock_criteria(records, session, [f"{resource_type}?{request.query_string.decode('latin-1')}"])
        found = find_all(records, session, caller, resource_type, criteria, most)
        write_all(
            records, session, caller,
            [Writing(resource_type, None, each, method="DELETE") for each in found],
        )  # fmt: skip
    if prefers("return") == "OperationOutcome":
        return outcome_answer(f"Deleted: {len(found)}.")
    return Response(status=204)


def _answer(version: int | None) -> Response:
    if prefers("return") == "OperationOutcome":
        answer = outcome_answer("Deleted." if version is not None else "There was nothing to delete.")
    else:
        answer = Response(status=204)
    if version is not None:
        answer.set_etag(str(version), weak=True)
    return answer
