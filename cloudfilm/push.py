"""The push role: WebSockets for everything that is pushed, and who may open one.

A program shows its access token in the Authorization header. A browser cannot: a page of ours comes with its
session's cookie, any other page with a ticket (`?ticket=`, see `access.tickets`).
"""

import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import dicomweb.event_reports
import fhir_server.subscription_socket
from access.bearer import COOKIE
from access.caller import Caller, Door
from access.certificate import server_tls, speaks_tls, web_certificate
from access.tickets import redeem_ticket
from access.tokens import ACCESS, SESSION, caller_of, caller_of_token
from cloudfilm.rooms import Rooms
from kernel.errors import Forbidden, Unauthenticated
from kernel.websocket import Channel, Opening, PushServer

CHANNELS: tuple[Callable[[Rooms], Channel], ...] = (  # each made with the rooms it needs
    lambda rooms: dicomweb.event_reports.EventReports(rooms.archive),
    lambda rooms: fhir_server.subscription_socket.SubscriptionSocket(rooms.records),
)


def run(rooms: Rooms, stop: threading.Event) -> None:
    """Serve until `stop` is set. Raises OSError when the port cannot be listened on."""
    settings = rooms.settings
    tls = None
    if speaks_tls(settings.web):
        tls = server_tls(web_certificate(settings.web, settings.data_dir), settings.web.tls_client_ca)
    PushServer(
        rooms.database,
        settings.push,
        [make(rooms) for make in CHANNELS],
        lambda opening: authenticate(rooms, opening),
        lambda caller: caller_of_token(rooms.access, caller.grant, caller.door, caller.address),
        tls,
    ).run(stop)


def authenticate(rooms: Rooms, opening: Opening) -> Caller:
    """Who opens a socket. Raises Unauthenticated, or Forbidden for a page of another site."""
    access, address = rooms.access, _address(rooms, opening)
    scheme, _, credentials = opening.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return caller_of(access, credentials.strip(), (ACCESS,), Door.WEB, address)
    if "ticket" in opening.query:
        return redeem_ticket(access, opening.query["ticket"], Door.WEB, address)
    secret = _cookie(opening)
    if not secret:
        raise Unauthenticated
    if not _is_own_page(rooms, opening):
        raise Forbidden("a socket of another site's page", "Take a ticket.")
    return caller_of(access, secret, (SESSION,), Door.WEB, address)


def _cookie(opening: Opening) -> str:
    for pair in opening.headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _is_own_page(rooms: Rooms, opening: Opening) -> bool:
    """Whether the page's host is ours: any page may open a socket, and browsers send our cookie with it."""
    page = urlsplit(opening.headers.get("origin", ""))
    own = {urlsplit(rooms.settings.web.public_url).hostname, _host(opening.headers.get("host", ""))} - {None}
    return page.hostname is not None and page.hostname in own


def _host(header: str) -> str | None:
    return urlsplit(f"//{header}").hostname


def _address(rooms: Rooms, opening: Opening) -> str:
    """The client's address: as the proxy says it, where the site trusts the proxy."""
    if opening.address in rooms.settings.web.trusted_proxies:
        return opening.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or opening.address
    return opening.address
