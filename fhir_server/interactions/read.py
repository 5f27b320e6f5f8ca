"""FHIR read and vread (R4 3.1.0.2, 3.1.0.3)."""

from flask import Response

from access.bearer import current_caller
from access.caller import Caller, Door
from fhir_server.interactions.binary import native_answer, wants_native
from fhir_server.library import shipped_resource
from fhir_server.negotiate import require_json, resource_answer
from kernel.http import room
from records.repository import ResourceNotFound, Stored, read, read_version
from records.room import Records


def read_resource(resource_type: str, logical_id: str) -> Response:
    """The present version; 304 when the client has it (If-None-Match, If-Modified-Since)."""
    caller = current_caller(Door.FHIR)
    return _answer(resource_type, stored_or_shipped(room(Records), caller, resource_type, logical_id))


def stored_or_shipped(records: Records, caller: Caller, resource_type: str, logical_id: str) -> Stored:
    """The present version, or a definition that comes with the program, open to all who may read its type.

    Raises as `read`.
    """
    try:
        return read(records, caller, resource_type, logical_id)
    except ResourceNotFound:
        shipped = shipped_resource(resource_type, logical_id)
        if shipped is None:
            raise
        return shipped


def vread_resource(resource_type: str, logical_id: str, version: str) -> Response:
    """One version."""
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise ResourceNotFound(resource_type, f"{logical_id}/_history/{version[:20]}")
    caller = current_caller(Door.FHIR)
    return _answer(
        resource_type, read_version(room(Records), caller, resource_type, logical_id, int(version))
    )


def _answer(resource_type: str, stored: Stored) -> Response:
    if resource_type == "Binary" and wants_native():
        return native_answer(stored)
    require_json()
    return resource_answer(stored)
