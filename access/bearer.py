"""The caller of an HTTP request: from a bearer token (RFC 6750), a signed URL or a browser's session.

Every HTTP door asks here and nowhere else. A request that changes something by cookie must come from our own
pages (Sec-Fetch-Site, else Origin), which no other site can forge.
"""

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import current_app, g, request

from access.caller import Caller, Door, PrincipalKind
from access.share_door import GRANT, visitor
from access.signed_urls import PARAMETER, redeem_url
from access.tokens import ACCESS, SESSION, Access, caller_of
from kernel.errors import Forbidden, Unauthenticated
from kernel.http import room
from kernel.throttle import Throttle

COOKIE = "cloudfilm_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = "is_open_to_all"
DATA_DOORS = {  # first step of a path
    "dicomweb": Door.DICOMWEB,
    "fhir": Door.FHIR,
    "hl7": Door.HL7,
}

View = TypeVar("View", bound=Callable[..., Any])


def open_to_all(view: View) -> View:
    """Mark a view of a data door that answers whoever asks, or that asks for the caller itself."""
    setattr(view, OPEN, True)
    return view


def settle_who_asks() -> None:
    """Before anything of a request to a data door is read: who is nobody learns nothing, not even what of
    the request was wrong. Raises Unauthenticated or Forbidden."""
    rule = request.url_rule
    if rule is None or request.method == "OPTIONS":
        return
    door = DATA_DOORS.get(rule.rule.split("/", 2)[1])
    if door is not None and not hasattr(current_app.view_functions[rule.endpoint], OPEN):
        current_caller(door)


def current_caller(door: Door) -> Caller:
    """Who makes this request, as seen at `door`. Raises Unauthenticated, or Forbidden for a forged
    request, or TooManyRequests."""
    known: Caller | None = g.get("caller")
    if known is None:
        known = _authenticate(door)
        room(Throttle).require(known.grant or known.principal.id)
        g.caller = known
    is_visitor = known.principal.kind is PrincipalKind.VISITOR  # seen at the share door, whatever it asks for
    return known if known.door is door or is_visitor else known.through(door)


def _authenticate(door: Door) -> Caller:
    access = room(Access)
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    grant_id = request.environ.get(GRANT)
    if grant_id:
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        return visitor(access, grant_id, bearer, client_address())
    if scheme.lower() == "bearer" and credentials:
        return caller_of(access, credentials.strip(), (ACCESS,), door, client_address())
    if PARAMETER in request.args:
        if request.method not in SAFE_METHODS:
            raise Unauthenticated
        query = request.query_string.decode("latin-1")
        return redeem_url(access, request.path, query, door, client_address())
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise Unauthenticated
    if request.method not in SAFE_METHODS and not is_same_origin():
        raise Forbidden("a change from another site's page", "Use this site's own pages.")
    return caller_of(access, secret, (SESSION,), door, client_address())


def is_same_origin() -> bool:
    """Whether a page of ours makes this request: browsers say so, and no page can make them say otherwise."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc == request.host


def client_address() -> str:
    """The address that a request came from; proxies are believed only where `cloudfilm.web` set them up."""
    text = request.remote_addr or ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text[:64]
