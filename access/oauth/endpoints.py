"""The OAuth door's URLs that programs call; the pages that people see are `portal.authorize`.

RFC 6749 section 3.2, RFC 7009, RFC 7662, RFC 7591, OpenID Connect Core 5.3, SMART App Launch 2.2.
"""

import json
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2 import OAuth2Error
from flask import Blueprint, Response, current_app, make_response, request
from flask.blueprints import BlueprintSetupState
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import client_address, open_to_all
from access.caller import Caller, Door, Permissions, Reach
from access.model import Account, Client
from access.oauth.clients import InvalidClientMetadata, register_client
from access.oauth.discovery import (
    SMART_STYLE,
    SMART_STYLE_PATH,
    brands,
    openid_configuration,
    smart_configuration,
)
from access.oauth.fetch import KeySets
from access.oauth.keys import public_keys
from access.oauth.server import SmartServer, find_token
from access.tokens import ACCESS, REGISTRATION, Access, caller_of
from kernel.errors import CloudfilmError, Unauthenticated
from kernel.http import base_url, room
from kernel.settings import Settings

blp = Blueprint("oauth", __name__)

OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*"}
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
EXTENSION = "cloudfilm_oauth"


def issuer() -> str:
    """The authorization server's name: this site's address."""
    return base_url(room(Settings).web.public_url)


def fhir_base() -> str:
    """The audience of every token."""
    return f"{issuer()}/fhir"


@blp.record_once
def _set_up(state: BlueprintSetupState) -> None:
    rooms = state.app.extensions["cloudfilm"]
    fetcher = KeySets(frozenset(rooms[Settings].access.trusted_key_hosts))
    state.app.extensions[EXTENSION] = SmartServer(rooms[Access], issuer, fhir_base, fetcher)


def key_sets() -> KeySets:
    """What fetches from clients and providers, in this process."""
    return oauth_server().key_sets


def oauth_server() -> SmartServer:
    """The server of this process."""
    server: SmartServer = current_app.extensions[EXTENSION]
    return server


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, mimetype="application/json")


@blp.get("/fhir/.well-known/smart-configuration")
@open_to_all
def smart_discovery() -> Response:
    """What the server can do: always JSON, for anyone (SMART 2.2, 5.3)."""
    return _json(smart_configuration(issuer(), fhir_base()), headers=OPEN_TO_ALL)


@blp.get("/.well-known/openid-configuration")
@blp.get("/.well-known/oauth-authorization-server")
def openid_discovery() -> Response:
    """OpenID Connect Discovery, RFC 8414."""
    return _json(openid_configuration(issuer()), headers=OPEN_TO_ALL)


@blp.get("/fhir/.well-known/user-access-brands.json")
@open_to_all
def user_access_brands() -> AnyResponse:
    """User-access brands (SMART 2.2, 8): public, with a weak ETag."""
    text, tag = brands(room(Access), issuer(), fhir_base())
    answer = Response(text, headers=OPEN_TO_ALL, mimetype="application/fhir+json")
    answer.set_etag(tag, weak=True)
    return answer.make_conditional(request)


@blp.get(SMART_STYLE_PATH)
def smart_style() -> Response:
    """What an app that is opened from here may look like (SMART 2.2, 3.1.4): public, kept for a day."""
    return _json(SMART_STYLE, headers={**OPEN_TO_ALL, "Cache-Control": "public, max-age=86400"})


@blp.get("/oauth/jwks.json")
def jwks() -> Response:
    """The keys that ID tokens are signed with, as bare JWKs."""
    headers = {**OPEN_TO_ALL, "Cache-Control": "public, max-age=300"}
    return _json(public_keys(room(Access)), headers=headers)


@blp.post("/oauth/token")
def token() -> AnyResponse:
    """Exchange a code, a refresh token or a client's assertion for an access token."""
    return _uncached(_guarded(lambda: oauth_server().create_token_response()))


@blp.post("/oauth/introspect")
def introspect() -> AnyResponse:
    """RFC 7662."""
    return _uncached(_guarded(lambda: oauth_server().create_endpoint_response("introspection")))


@blp.post("/oauth/revoke")
def revoke() -> AnyResponse:
    """RFC 7009."""
    return _uncached(_guarded(lambda: oauth_server().create_endpoint_response("revocation")))


def _guarded(answer: Any) -> AnyResponse:
    """Parameters come in the body, each once; a fault of the request is answered as RFC 6749 5.2 says."""
    if any(len(values) > 1 for _, values in request.form.lists()) or request.args:
        return _json(
            {"error": "invalid_request", "error_description": "Each parameter once, in the body."}, 400
        )
    try:
        made: AnyResponse = answer()
    except OAuth2Error as refusal:
        return _json(dict(refusal.get_body()), refusal.status_code)
    except CloudfilmError:
        raise
    except ValueError:  # authlib refuses to put some characters of the request into its own message
        return _json({"error": "invalid_request"}, 400)
    return made


def _uncached(answer: AnyResponse) -> AnyResponse:
    answer.headers.update(NO_STORE)
    return answer


@blp.route("/oauth/userinfo", methods=["GET", "POST"])
def userinfo() -> Response:
    """Who approved the token (OpenID Connect Core 5.3)."""
    access = room(Access)
    secret = request.headers.get("Authorization", "").partition(" ")[2].strip()
    caller_of(access, secret, (ACCESS,), Door.WEB, client_address())
    known = find_token(access, secret)
    if known is None or not known.account_id or "openid" not in known.scope.split():
        raise Unauthenticated
    with access.database.snapshot() as session:
        account = session.get(Account, known.account_id)
    answer: dict[str, str] = {"sub": known.account_id}
    if account is not None and set(known.scope.split()) & {"fhirUser", "profile"}:
        answer |= {"name": account.name}
        answer |= {"fhirUser": f"{fhir_base()}/{account.fhir_user}"} if account.fhir_user else {}
    return _json(answer, headers=NO_STORE)


@blp.post("/oauth/register")
def register() -> Response:
    """Dynamic registration (RFC 7591), with an initial token from the administrator."""
    access = room(Access)
    secret = request.headers.get("Authorization", "").partition(" ")[2].strip()
    initial = caller_of(access, secret, (REGISTRATION,), Door.WEB, client_address())
    metadata = request.get_json(silent=True)
    if not isinstance(metadata, dict):
        return _json({"error": "invalid_client_metadata", "error_description": "Send a JSON object."}, 400)
    caller = Caller(
        initial.principal, Door.WEB, Permissions.of(Client="c"), Reach.nowhere(), initial.address,
        grant=initial.grant,
    )  # fmt: skip
    try:
        registered = register_client(access, caller, metadata)
    except InvalidClientMetadata as refusal:
        error = "invalid_redirect_uri" if refusal.field == "redirect_uris" else "invalid_client_metadata"
        return _json({"error": error, "error_description": str(refusal)}, 400)
    return _json(registered, 201, NO_STORE)


CORS_PATHS = ("/fhir", "/dicomweb", "/oauth/token", "/oauth/userinfo", "/oauth/revoke", "/oauth/introspect")
DISCOVERY_PATHS = ("/fhir/metadata", "/fhir/.well-known/")  # what apps read before they are known
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Accept, If-Match, If-None-Match, If-None-Exist, If-Modified-Since, "
        "If-Range, Prefer, Range"
    ),
    "Access-Control-Max-Age": "600",
}
EXPOSED = (
    "ETag, Location, Content-Location, Last-Modified, Warning, Accept-Ranges, Content-Range, Content-Length"
)


@blp.before_app_request
def preflight() -> Response | None:
    """Answer a browser that asks whether another site's page may call."""
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if is_preflight and request.path.startswith(CORS_PATHS):
        is_discovery = request.path.startswith(DISCOVERY_PATHS)
        return make_response("", 204, {**PREFLIGHT, **(OPEN_TO_ALL if is_discovery else {})})
    return None


@blp.after_app_request
def allow_origin(answer: Response) -> Response:
    """Let pages of registered apps read answers; cookies never go with such requests."""
    origin = request.headers.get("Origin")
    if origin and request.path.startswith(CORS_PATHS) and "Access-Control-Allow-Origin" not in answer.headers:
        answer.headers.add("Vary", "Origin")
        if _is_known_origin(origin):
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Expose-Headers"] = EXPOSED
    return answer


def _is_known_origin(origin: str) -> bool:
    """Whether an app is registered there, or the site's settings name it."""
    named = room(Settings).web.cors_origins
    if origin in named or "*" in named:
        return True
    with room(Access).database.snapshot() as session:
        uris = session.scalars(
            select(Client.redirect_uris).where(
                Client.disabled.is_(False), Client.redirect_uris.contains(origin, autoescape=True)
            )
        ).all()
    return any(_origin(uri) == origin for text in uris for uri in text.splitlines())


def _origin(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
