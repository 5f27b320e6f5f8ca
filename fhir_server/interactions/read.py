"""FHIR read and vread (R4 3.1.0.2, 3.1.0.3)."""

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.negotiate import require_json, resource_answer
from kernel.http import room
from records.repository import ResourceNotFound, read, read_version
from records.room import Records


def read_resource(resource_type: str, logical_id: str) -> Response:
    """The present version."""
    require_json()
    return resource_answer(read(room(Records), current_caller(Door.FHIR), resource_type, logical_id))


def vread_resource(resource_type: str, logical_id: str, version: str) -> Response:
    """One version."""
    require_json()
    if not version.isdigit():
        raise ResourceNotFound(resource_type, f"{logical_id}/_history/{version[:20]}")
    caller = current_caller(Door.FHIR)
    return resource_answer(read_version(room(Records), caller, resource_type, logical_id, int(version)))
