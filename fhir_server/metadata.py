"""FHIR capabilities: GET /metadata (R4 3.1.0.12), open to everyone."""

import json
from functools import lru_cache

from flask import Response, request

from access.bearer import open_to_all
from access.oauth.discovery import oauth_uris
from access.oauth.endpoints import OPEN_TO_ALL, issuer
from conformance.capability import capability_statement
from conformance.terminology_capability import terminology_capabilities
from fhir_server.library import offered_operations
from fhir_server.negotiate import document_answer, fhir_base, require_json
from kernel.clock import SystemClock
from kernel.http import room
from records.room import Records

VERSION = "0.1.0"


@open_to_all
def metadata() -> Response:
    """The CapabilityStatement; with `mode=terminology`, what the terminology service can do."""
    require_json()
    answer = document_answer(_asked_for())
    answer.headers.update(OPEN_TO_ALL)
    return answer


def _asked_for() -> str:
    if request.args.get("mode") == "terminology":
        return json.dumps(terminology_capabilities(fhir_base(), VERSION, SystemClock().now()))
    operations = tuple(sorted((name, tuple(sorted(each))) for name, each in offered_operations().items()))
    records = room(Records)
    return _statement(
        fhir_base(), frozenset(records.projections), issuer(), operations, records.references_must_exist
    )


@lru_cache(maxsize=8)
def _statement(
    base: str,
    projected: frozenset[str],
    authorization_server: str,
    operations: tuple[tuple[str, tuple[str, ...]], ...],
    enforced: bool,
) -> str:
    """Drawn once for a base URL: its date is that of the process's start."""
    now, oauth = SystemClock().now(), oauth_uris(authorization_server)
    statement = capability_statement(
        base, VERSION, now, projected, oauth, dict(operations), enforced=enforced
    )
    return json.dumps(statement, ensure_ascii=False)
