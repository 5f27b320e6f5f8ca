"""FHIR capabilities: GET /metadata (R4 3.1.0.12), open to everyone."""

import json
from functools import lru_cache

from flask import Response

from conformance.capability import capability_statement
from fhir_server.negotiate import fhir_base, require_json
from fhir_server.outcomes import JSON
from kernel.clock import SystemClock
from kernel.http import room
from records.room import Records

VERSION = "0.1.0"


def metadata() -> Response:
    """The CapabilityStatement."""
    require_json()
    return Response(_statement(fhir_base(), frozenset(room(Records).projections)), mimetype=JSON)


@lru_cache(maxsize=8)
def _statement(base: str, projected: frozenset[str]) -> str:
    """Drawn once for a base URL: its date is that of the process's start."""
    return json.dumps(capability_statement(base, VERSION, SystemClock().now(), projected), ensure_ascii=False)
