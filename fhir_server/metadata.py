"""FHIR capabilities: GET /metadata (R4 3.1.0.12), open to everyone."""

import json
from functools import lru_cache

from flask import Response

from access.oauth.discovery import oauth_uris
from access.oauth.endpoints import issuer
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
    text = _statement(fhir_base(), frozenset(room(Records).projections), issuer())
    return Response(text, mimetype=JSON)


@lru_cache(maxsize=8)
def _statement(base: str, projected: frozenset[str], authorization_server: str) -> str:
    """Drawn once for a base URL: its date is that of the process's start."""
    now, oauth = SystemClock().now(), oauth_uris(authorization_server)
    return json.dumps(capability_statement(base, VERSION, now, projected, oauth), ensure_ascii=False)
