"""The web application: every HTTP door of cloudfilm, on one screen."""

import json
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from flask import Flask, Response, abort, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import access.oauth.endpoints
import access.tickets
import dicomweb.bulk
import dicomweb.capabilities
import dicomweb.frames
import dicomweb.metadata
import dicomweb.non_patient
import dicomweb.qido
import dicomweb.removals
import dicomweb.rendered
import dicomweb.signed_urls
import dicomweb.stow
import dicomweb.ups
import dicomweb.wado
import dicomweb.wado_uri
import fhir_server.routes
import hl7_listener.http
import portal.account
import portal.api
import portal.apps
import portal.asset_files
import portal.audit_trail
import portal.authorize
import portal.console
import portal.federation
import portal.film_pages
import portal.gateway_reports
import portal.health_links
import portal.home
import portal.ohif
import portal.patient
import portal.review
import portal.share_admin
import portal.share_opening
import portal.staff_shares
import portal.study_check
import portal.ui_files
import portal.wechat
from access.audit import note_refusal
from access.bearer import settle_who_asks
from access.caller import Caller
from access.share_door import ShareDoor
from access.signed_urls import PARAMETER
from archive.room import Archive
from cloudfilm import dicom_conformance, health
from cloudfilm.rooms import Rooms
from dicomweb.frame_door import FrameDoor
from fhir_server.negotiate import ROOT as FHIR
from fhir_server.outcomes import refuse, refuse_request
from kernel.errors import CloudfilmError, Kind
from kernel.http import PREFIX, problem, room
from kernel.throttle import Throttle
from kernel.traces import TracedApp, is_tracing
from portal.missing import is_a_person, missing_page

log = logging.getLogger(__name__)

BLUEPRINTS = (
    (health.blp, ""),
    (dicom_conformance.blp, ""),
    (dicomweb.qido.blp, "/dicomweb"),
    (dicomweb.wado.blp, "/dicomweb"),
    (dicomweb.metadata.blp, "/dicomweb"),
    (dicomweb.frames.blp, "/dicomweb"),
    (dicomweb.bulk.blp, "/dicomweb"),
    (dicomweb.non_patient.blp, "/dicomweb"),
    (dicomweb.removals.blp, "/dicomweb"),
    (dicomweb.rendered.blp, "/dicomweb"),
    (dicomweb.wado_uri.blp, "/dicomweb"),
    (dicomweb.capabilities.blp, "/dicomweb"),
    (dicomweb.stow.blp, "/dicomweb"),
    (dicomweb.ups.blp, "/dicomweb"),
    (dicomweb.signed_urls.blp, "/dicomweb"),
    (fhir_server.routes.blp, "/fhir"),
    (hl7_listener.http.blp, ""),
    (access.oauth.endpoints.blp, ""),
    (access.tickets.blp, ""),
    (portal.authorize.blp, ""),
    (portal.account.blp, ""),
    (portal.federation.blp, ""),
    (portal.console.blp, ""),
    (portal.audit_trail.blp, ""),
    (portal.apps.blp, ""),
    (portal.review.blp, ""),
    (portal.home.blp, ""),
    (portal.share_opening.blp, ""),
    (portal.film_pages.blp, ""),
    (portal.patient.blp, ""),
    (portal.staff_shares.blp, ""),
    (portal.share_admin.blp, ""),
    (portal.study_check.blp, ""),
    (portal.gateway_reports.blp, ""),
    (portal.health_links.blp, ""),
    (portal.wechat.blp, ""),
    (portal.ui_files.blp, ""),
    (portal.asset_files.blp, ""),
    (portal.ohif.blp, None),
)

HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "SAMEORIGIN"),
)
HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")  # RFC 6797: only ever over TLS


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is: none here is a coroutine, and to look each time, for each, takes longer."""
        return func


def create_app(rooms: Rooms) -> Flask:
    """Make the application of one process."""
    app = _App("cloudfilm", static_folder=None)
    app.extensions["cloudfilm"] = {**rooms.by_kind(), health.Readiness: health.Readiness(rooms.archive)}
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = rooms.settings.web.max_body_bytes
    for blueprint, prefix in BLUEPRINTS:
        app.register_blueprint(blueprint, **({} if prefix is None else {"url_prefix": prefix or None}))
    portal.api.register(app)
    app.register_error_handler(CloudfilmError, problem)
    app.register_error_handler(HTTPException, _framework_refusal)
    app.register_error_handler(Exception, _fault)
    app.before_request(health.before_request)
    app.before_request(settle_who_asks)
    app.before_request(_refuse_nul)
    app.after_request(health.after_request)
    app.after_request(_with_headers)
    app.after_request(_noting_refusals)
    frames = FrameDoor(app.wsgi_app, rooms.access, rooms.archive, rooms.by_kind()[Throttle], common_headers)
    app.wsgi_app = ShareDoor(frames)  # type: ignore[method-assign]
    if rooms.settings.web.trusted_proxies:
        app.wsgi_app = _TrustedProxies(app.wsgi_app, rooms.settings.web.trusted_proxies)  # type: ignore[method-assign]
    if is_tracing():
        app.wsgi_app = TracedApp(app.wsgi_app)  # type: ignore[method-assign]
    return app


class _TrustedProxies:
    """Believe X-Forwarded-* headers of requests that come from the named networks, and of no others."""

    def __init__(self, inner, addresses: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
        self._inner = inner
        self._behind_proxy = ProxyFix(inner, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)
        self._networks = tuple(ip_network(address) for address in addresses)
        self._is_trusted = lru_cache(maxsize=1024)(self._is_in_a_network)

    def __call__(self, environ, start_response):  # type: ignore[no-untyped-def]
        trusted = self._is_trusted(environ.get("REMOTE_ADDR", ""))
        return (self._behind_proxy if trusted else self._inner)(environ, start_response)

    def _is_in_a_network(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self._networks)
        except ValueError:
            return False


class NulInQuery(CloudfilmError):
    """A NUL in a query, which no identifier and no text holds; databases take none."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The query holds a NUL character.")


def _refuse_nul() -> None:
    if "\x00" in request.path:
        abort(404)
    if b"%00" in request.query_string:
        raise NulInQuery


def _with_headers(answer: Response) -> Response:
    is_signed = PARAMETER in request.args and request.path.startswith("/dicomweb/")
    for name, value in common_headers(request.environ):
        if name != "X-Frame-Options" or not is_signed:  # what is signed is for others' pages
            answer.headers.setdefault(name, value)
    answer.headers.setdefault("Cache-Control", "private, no-store")
    if PREFIX in request.environ:  # what a visitor saw stays nowhere but on the screen
        answer.headers["Cache-Control"] = "no-store"
    return answer


def _noting_refusals(answer: Response) -> Response:
    """What somebody known has no right to is in the audit trail, whichever door refused it."""
    caller: Caller | None = g.get("caller")
    if answer.status_code == 403 and caller is not None and request.url_rule is not None:
        archive = room(Archive)
        note_refusal(
            archive.database, archive.recently, archive.clock, caller,
            f"{request.method} {request.url_rule.rule}", request.path,
        )  # fmt: skip
    return answer


def common_headers(environ: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What every answer says, to a request with this environment."""
    return (*HEADERS, HSTS) if environ.get("wsgi.url_scheme") == "https" else HEADERS


def _framework_refusal(refusal: HTTPException) -> Response:
    """What the framework itself refuses: an unknown path, a method that it does not take."""
    status = refusal.code or 500
    if status == 404 and is_a_person():
        return missing_page()
    body = {"type": "about:blank", "title": refusal.name, "status": status, "detail": refusal.description}
    wrong = getattr(refusal, "data", None) or {}  # of flask-smorest: which field, and why
    body |= {"errors": wrong["messages"]} if "messages" in wrong else {}
    answer = Response(json.dumps(body), status, mimetype="application/problem+json")
    if request.path.startswith(f"{FHIR}/"):
        answer = refuse_request(status, str(refusal.description))
    answer.headers.extend(
        (name, value) for name, value in refusal.get_headers() if name in ("Allow", "Location")
    )
    return answer


def _fault(failure: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=failure)
    fault = CloudfilmError("Something went wrong on our side; it was logged.")
    return refuse(fault) if request.path.startswith(f"{FHIR}/") else problem(fault)
