"""FHIR delete (R4 3.1.0.7): the document goes, its history stays."""

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from kernel.http import room
from records.repository import remove
from records.room import Records


def delete_resource(resource_type: str, logical_id: str) -> Response:
    """Delete; to delete what is not there is no error."""
    records, caller = room(Records), current_caller(Door.FHIR)
    with records.database.transaction() as session:
        version = remove(records, session, caller, resource_type, logical_id)
    answer = Response(status=204)
    if version is not None:
        answer.set_etag(str(version), weak=True)
    return answer
