"""Registered apps and services, as values that authlib's flows can ask.

RFC 6749 section 2, RFC 7591 (dynamic registration), SMART App Launch 2.2 section 4.
"""

import hmac
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import ClientMixin
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select

from access.audit import note
from access.caller import Action, Caller
from access.model import Client, Token
from access.roles import ROLES, Span
from access.scopes import InvalidScope, intersect, launch_scope, parse_scopes
from access.tokens import Access, digest_of, revoke_where
from kernel.clock import new_id, new_secret
from kernel.errors import CloudfilmError, Kind

AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
OTHER_SCOPES = frozenset(
    {
        "openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter",
        "launch/imagingstudy", "offline_access", "online_access",
    }
)  # fmt: skip
EVERY_SCOPE = parse_scopes("patient/*.cruds user/*.cruds system/*.cruds")[0]
MOST_URIS = 20


class InvalidClientMetadata(CloudfilmError):
    """A registration that cannot be accepted; says which field and why (RFC 7591 3.2.2)."""

    kind = Kind.INVALID

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


@dataclass(frozen=True, slots=True)
class RegisteredClient(ClientMixin):  # type: ignore[misc]
    """One registered client."""

    client_id: str
    name: str
    auth_method: str
    redirect_uris: tuple[str, ...]
    launch_uri: str
    grant_types: tuple[str, ...]
    scope: str
    role: str
    institution: str
    jwks: str
    jwks_uri: str
    secret: bytes
    access: Access

    def get_client_id(self) -> str:
        """Its id."""
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """None: a redirect URI is always stated (SMART 2.2, 2.0.8)."""
        return

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What of the requested scopes this client may be granted; None when that is nothing."""
        try:
            resources, others = parse_scopes(scope or "")
            allowed = parse_scopes(self.scope)
        except InvalidScope:
            return None
        granted = [str(each) for each in intersect(resources, allowed[0] or EVERY_SCOPE)]
        registered = {launch_scope(word)[0] for word in allowed[1]} or OTHER_SCOPES
        known = {word for word in others if launch_scope(word)[0] in OTHER_SCOPES & registered}
        return " ".join([*granted, *(word for word in (scope or "").split() if word in known)]) or None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether it is, character for character, a registered one."""
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether it is the secret that was handed out."""
        return bool(self.secret) and hmac.compare_digest(self.secret, digest_of(self.access, client_secret))

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """Whether the client is registered for this way to authenticate."""
        return method == self.auth_method

    def check_response_type(self, response_type: str) -> bool:
        """Only codes."""
        return response_type == "code" and "authorization_code" in self.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the client is registered for the grant."""
        return grant_type in self.grant_types


def find_client(access: Access, client_id: str | None) -> RegisteredClient | None:
    """The client of this id, unless it is disabled or there is none. Raises RowChanged."""
    with access.database.snapshot() as session:
        row = session.scalar(select(Client).where(Client.id == client_id, Client.disabled.is_(False)))
    if row is None:
        return None
    access.require_intact(row)
    return _value(access, row)


def list_clients(access: Access, caller: Caller) -> tuple[RegisteredClient, ...]:
    """All clients by name. Raises Forbidden."""
    caller.require(Action("Client", "s"))
    with access.database.snapshot() as session:
        rows = session.scalars(select(Client).where(Client.disabled.is_(False)).order_by(Client.name)).all()
    return tuple(_value(access, row) for row in rows)


def launched_clients(access: Access) -> tuple[RegisteredClient, ...]:
    """The apps that are opened from our own pages, by name: those with a launch address."""
    with access.database.snapshot() as session:
        rows = session.scalars(
            select(Client).where(Client.disabled.is_(False), Client.launch_uri != "").order_by(Client.name)
        ).all()
    return tuple(_value(access, row) for row in rows)


def _value(access: Access, row: Client) -> RegisteredClient:
    return RegisteredClient(
        row.id,
        row.name,
        row.auth_method,
        tuple(row.redirect_uris.splitlines()),
        row.launch_uri,
        tuple(row.grant_types.split()),
        row.scope,
        row.role,
        row.institution,
        row.jwks,
        row.jwks_uri,
        row.secret,
        access,
    )


def register_client(
    access: Access, caller: Caller, metadata: dict[str, Any], role: str = "integration"
) -> dict[str, Any]:
    """Register a client; returns its metadata with its id and, this once, its secret.

    metadata: as RFC 7591 2 and SMART's `launch_url`. Raises InvalidClientMetadata or Forbidden.
    """
    caller.require(Action("Client", "c"))
    values = _checked(metadata)
    if ROLES.get(role) is None or ROLES[role].span is Span.NOTHING or role == "operator":
        raise InvalidClientMetadata("role", "a service has a clinical role")
    secret = new_secret() if values["auth_method"].startswith("client_secret") else ""
    client_id = new_id()
    with access.database.transaction() as session:
        session.add(
            Client(
                id=client_id,
                secret=digest_of(access, secret) if secret else b"",
                role=role,
                institution=caller.principal.institution or access.settings.institution,
                disabled=False,
                created_at=access.clock.now(),
                **values,
            )
        )
        session.flush()
        note(session, access.clock, caller, "create Client", client_id, detail=values["name"])
    answer = {"client_id": client_id, **metadata, "scope": values["scope"]}
    return answer | ({"client_secret": secret, "client_secret_expires_at": 0} if secret else {})


def disable_client(access: Access, caller: Caller, client_id: str) -> bool:
    """End a client and every token it has, at once. Returns whether there was one. Raises Forbidden."""
    caller.require(Action("Client", "d"))
    with access.database.transaction() as session:
        ended = session.scalar(select(Client).where(Client.id == client_id, Client.disabled.is_(False)))
        if ended is not None:
            ended.disabled = True
            session.flush()
        revoke_where(access, session, Token.client_id == client_id)
        note(session, access.clock, caller, "delete Client", client_id)
    return ended is not None


def _checked(metadata: dict[str, Any]) -> dict[str, str]:
    method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
    if method not in AUTH_METHODS:
        raise InvalidClientMetadata("token_endpoint_auth_method", f"one of {', '.join(AUTH_METHODS)}")
    grants = _strings(metadata, "grant_types") or ("authorization_code",)
    if set(grants) - set(GRANT_TYPES):
        raise InvalidClientMetadata("grant_types", f"some of {', '.join(GRANT_TYPES)}")
    if method == "none" and "client_credentials" in grants:
        raise InvalidClientMetadata("grant_types", "a public client has no client_credentials")
    redirect_uris = _strings(metadata, "redirect_uris")
    if ("authorization_code" in grants) != bool(redirect_uris) or len(redirect_uris) > MOST_URIS:
        raise InvalidClientMetadata("redirect_uris", "with authorization_code, and only then, from 1 to 20")
    for uri in redirect_uris:
        _require_uri("redirect_uris", uri)
    launch_uri = str(metadata.get("launch_url") or metadata.get("initiate_login_uri") or "")
    if launch_uri:
        _require_uri("launch_url", launch_uri)
    jwks_uri = str(metadata.get("jwks_uri") or "")
    jwks = json.dumps(metadata["jwks"]) if metadata.get("jwks") else ""
    if method == "private_key_jwt" and bool(jwks) == bool(jwks_uri):
        raise InvalidClientMetadata("jwks", "private_key_jwt needs either jwks or jwks_uri")
    if jwks:
        _require_public_keys(metadata["jwks"])
    if jwks_uri and urlsplit(jwks_uri).scheme not in ("https", "http"):
        raise InvalidClientMetadata("jwks_uri", "an https address")
    scope = str(metadata.get("scope") or "")
    try:
        parse_scopes(scope)
    except InvalidScope as refusal:
        raise InvalidClientMetadata("scope", str(refusal)) from None
    return {
        "name": str(metadata.get("client_name") or "")[:200],
        "auth_method": method,
        "grant_types": " ".join(grants),
        "redirect_uris": "\n".join(redirect_uris),
        "launch_uri": launch_uri,
        "jwks": jwks,
        "jwks_uri": jwks_uri,
        "scope": scope,
    }


def _strings(metadata: dict[str, Any], field: str) -> tuple[str, ...]:
    values = metadata.get(field) or ()
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InvalidClientMetadata(field, "a list of texts")
    return tuple(values)


def _require_uri(field: str, uri: str) -> None:
    """An absolute URI without fragment or user, https, or http on this machine for native apps (RFC 8252)."""
    parts = urlsplit(uri)
    native = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    private = "." in parts.scheme  # an app's own scheme, as org.example.app:/callback
    broken = parts.fragment or parts.username or not uri.isascii() or not uri.isprintable() or " " in uri
    if broken or "\\" in uri or not (native or private or (parts.scheme == "https" and parts.hostname)):
        raise InvalidClientMetadata(field, "an https address without fragment, or http on localhost")


def _require_public_keys(jwks: Any) -> None:
    try:
        keys = KeySet.import_key_set(jwks).keys
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise InvalidClientMetadata("jwks", "a JWK set") from None
    if not keys or any(key.key_type not in ("RSA", "EC") or key.is_private for key in keys):
        raise InvalidClientMetadata("jwks", "public RSA or EC keys")
