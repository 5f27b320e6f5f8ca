"""The share door: `/share/<grant>/dicomweb/...` and `/share/<grant>/fhir/...` are everyone's doors, as a
visitor of that grant sees them.

The path says which share is meant and the visit's cookie (or bearer token) proves it, so a person may have
several shares open, and an account beside them, without one's rights mixing with another's. Only reading
passes; whole DICOM objects and unmarked pictures pass where the grant lets them be taken away.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import request

from access.caller import Caller
from access.grants import may_take_away, visitor_caller
from access.tokens import Access
from kernel.errors import Forbidden, Unauthenticated
from kernel.http import PREFIX

GRANT = "cloudfilm.grant"
VISITED = re.compile(r"/share/([0-9a-f-]{36})(/(?:dicomweb|fhir)(?:/.*)?)")
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOKED_AT = re.compile(
    r"/dicomweb(/.*)?/(studies|series|instances|metadata|frames/[0-9,]+|bulkdata/.+)"
)  # whole objects, and pictures without a watermark, end otherwise


class ShareDoor:
    """Leads requests below a share to the doors that they are for."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match = VISITED.fullmatch(environ.get("PATH_INFO", ""))
        if match is not None:
            environ[GRANT], environ["PATH_INFO"] = match[1], match[2]
            environ[PREFIX] = f"/share/{match[1]}"
        return self._inner(environ, start_response)


def cookie_name(grant_id: str) -> str:
    """The cookie of a visit: one for each grant."""
    return f"cloudfilm_visit_{grant_id[:8]}"


def visitor(access: Access, grant_id: str, bearer: str, address: str) -> Caller:
    """Who visits a share by this request. Raises Unauthenticated or Forbidden."""
    secret = bearer or request.cookies.get(cookie_name(grant_id), "")
    if not secret:
        raise Unauthenticated
    caller = visitor_caller(access, grant_id, secret, address)
    looks = request.method in READ_METHODS and (
        request.path.startswith("/fhir/") or LOOKED_AT.fullmatch(request.path) is not None
    )
    if not looks and not (request.method in READ_METHODS and may_take_away(caller)):
        raise Forbidden("take this away", "This share is for looking at only.")
    return caller
