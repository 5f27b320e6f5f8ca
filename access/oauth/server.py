"""The authorization server: authlib's flows with SMART's rules in place of the defaults that break them.

    authorization_code   S256 for every client, exact redirect, `aud`, launch handles, codes used once
    refresh_token        rotated at each use; an old one that comes back ends the whole family
    client_credentials   system scopes only, five minutes, no refresh token

Standards: SMART App Launch 2.2, RFC 6749, RFC 7636, RFC 7009, RFC 7662, RFC 9207.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Request,
    TokenMixin,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc9101.errors import RequestNotSupportedError, RequestUriNotSupportedError
from sqlalchemy import insert, select, update

from access.audit import REFUSED, note
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind, Reach
from access.model import Account, AuthorizationCode, Launch, Token
from access.oauth.assertions import SmartClientAssertion
from access.oauth.clients import RegisteredClient, find_client
from access.oauth.discovery import SMART_STYLE_PATH
from access.oauth.fetch import KeySets
from access.oauth.keys import sign_id_token
from access.roles import ROLES
from access.scopes import InvalidScope, covers, parse_scopes, permitted
from access.tokens import ACCESS, REFRESH, Access, caller_of, digest_of, issue, revoke_where
from kernel.clock import new_id, new_secret
from kernel.errors import Unauthenticated

CODE_LIFE = timedelta(minutes=1)
SERVICE_LIFE_S = 300
REFRESH_LIFE_S = 90 * 86400
ONLINE_LIFE_S = 43200
IDENTITY_SCOPES = frozenset({"openid", "profile", "fhirUser", "offline_access", "online_access"})
BY_OBJECT = {"request": RequestNotSupportedError, "request_uri": RequestUriNotSupportedError}
CLIENT_AUTH = ["private_key_jwt", "client_secret_basic", "client_secret_post", "none"]


@dataclass(frozen=True, slots=True)
class Person:
    """Who approves: an account in a browser session."""

    account_id: str
    session_id: str
    role: str
    fhir_user: str
    auth_time: datetime


class SmartServer(AuthorizationServer):  # type: ignore[misc]
    """The server of one web process. `issuer` and `fhir_base` are asked at each request."""

    def __init__(
        self, access: Access, issuer: Callable[[], str], fhir_base: Callable[[], str], key_sets: KeySets
    ) -> None:
        super().__init__(query_client=lambda client_id: find_client(access, client_id), save_token=None)
        self.access = access
        self.issuer = issuer
        self.fhir_base = fhir_base
        self.key_sets = key_sets
        self.scopes_supported = None
        self.register_token_generator("default", self._generate)
        assertion = SmartClientAssertion(access, key_sets, lambda: f"{issuer()}/oauth/token")
        self.register_client_auth_method("private_key_jwt", assertion)
        self.register_grant(CodeGrant, [S256Challenge(required=True)])
        self.register_grant(RotatingRefreshGrant)
        self.register_grant(ServiceGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    def send_signal(self, name: str, *_: Any, **__: Any) -> None:
        """Nothing listens."""

    def _generate(
        self, grant_type: str, client: RegisteredClient, scope: str | None = None, **_: Any
    ) -> dict[str, Any]:
        life_s = SERVICE_LIFE_S if grant_type == "client_credentials" else self.access.settings.token_s
        return {
            "token_type": "Bearer",
            "access_token": new_secret(),
            "expires_in": min(life_s, 3600),
            "scope": scope or "",
        }

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Keep what was issued, and complete the answer with launch context, refresh and ID token."""
        issuing: Issuing = request.issuing
        _, words = parse_scopes(token["scope"])
        is_offline, is_online = "offline_access" in words, "online_access" in words
        bound = "" if is_offline else issuing.session_id
        shared: dict[str, Any] = {
            "account_id": issuing.account_id,
            "client_id": issuing.client.client_id,
            "role": "" if issuing.account_id else issuing.client.role,
            "context": issuing.context,
            "family": issuing.family,
            "session_id": bound,
            "label": issuing.client.name,
        }
        with self.access.database.transaction() as session:
            issue(
                self.access, session, ACCESS, life_s=token["expires_in"], scope=token["scope"],
                secret=token["access_token"], **shared,
            )  # fmt: skip
            if (is_offline or is_online) and issuing.client.check_grant_type("refresh_token"):
                token["refresh_token"] = issue(
                    self.access, session, REFRESH, scope=issuing.full_scope or token["scope"],
                    life_s=REFRESH_LIFE_S if is_offline else ONLINE_LIFE_S, **shared,
                )  # fmt: skip
            note(
                session, self.access.clock, issuing.as_caller(), "issue Token", issuing.family,
                detail=token["scope"][:500],
            )  # fmt: skip
        token.update(launch_answer(issuing.context, self.issuer()))
        if "openid" in words and issuing.auth_time:
            token["id_token"] = self._id_token(issuing, words, token)

    def _id_token(self, issuing: "Issuing", words: frozenset[str], token: dict[str, Any]) -> str:
        now = int(self.access.clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer(),
            "sub": issuing.account_id,
            "aud": issuing.client.client_id,
            "iat": now,
            "exp": now + token["expires_in"],
            "auth_time": int(issuing.auth_time.timestamp()) if issuing.auth_time else now,
            "sid": issuing.session_id,
        }
        if issuing.nonce:
            claims["nonce"] = issuing.nonce
        if words & {"fhirUser", "profile"} and issuing.fhir_user:
            claims["fhirUser"] = f"{self.fhir_base()}/{issuing.fhir_user}"
        return sign_id_token(self.access, claims)


@dataclass(slots=True)
class Issuing:
    """What a token response is made from, whichever grant led to it."""

    client: RegisteredClient
    account_id: str = ""
    fhir_user: str = ""
    context: dict[str, str] | None = None
    family: str = ""
    session_id: str = ""
    nonce: str = ""
    auth_time: datetime | None = None
    full_scope: str = ""  # of the refresh token, when the access token was asked for narrower

    def as_caller(self) -> Caller:
        """For the audit trail."""
        kind = PrincipalKind.ACCOUNT if self.account_id else PrincipalKind.CLIENT
        principal = Principal(kind, self.account_id or self.client.client_id, self.client.name)
        return Caller(principal, Door.WEB, Permissions(), Reach.nowhere(), grant=self.family)


def launch_answer(context: dict[str, str] | None, issuer: str) -> dict[str, Any]:
    """The launch context as a token response carries it (SMART 2.2, 3.1): `fhirContext` for the rest."""
    told = context or {}
    names = ("patient", "encounter", "intent", "tenant")
    answer: dict[str, Any] = {name: told[name] for name in names if told.get(name)}
    if "imagingstudy" in told:
        reference = {"reference": f"ImagingStudy/{told['imagingstudy']}"}
        roles = told.get("imagingstudy_roles", "").split()
        answer["fhirContext"] = [reference | {"role": role} for role in roles] or [reference]
    if "patient" in told:  # who starts by itself has no banner of ours around it
        answer["need_patient_banner"] = told.get("banner", "no" if "launch" in told else "yes") == "yes"
    if "launch" in told:
        answer["smart_style_url"] = f"{issuer}{SMART_STYLE_PATH}"
    return answer


class S256Challenge(CodeChallenge):  # type: ignore[misc]
    """PKCE for every client, S256 only (SMART 2.2, 2.0.7); authlib takes `plain` and none at all."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse a request without a challenge, or with another method than S256, stated or by default."""
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("A code_challenge with code_challenge_method S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)

    def get_authorization_code_challenge_method(self, _code: Any) -> str:
        """S256, as nothing else was accepted."""
        return "S256"


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """The authorization code flow with SMART's parameters."""

    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH

    def validate_authorization_request(self) -> str:
        """Also the audience, and the launch handle when there is one."""
        redirect_uri: str = super().validate_authorization_request()
        data = self.request.payload.data
        try:
            for name, refusal_of in BY_OBJECT.items():
                if data.get(name):
                    raise refusal_of
            self._check_audience(data)
            self.request.launch = self._launch(data)
            if not data.get("state"):
                raise InvalidRequestError("state is required.")
        except OAuth2Error as refusal:
            refusal.redirect_uri = redirect_uri
            raise
        return redirect_uri

    @staticmethod
    def validate_authorization_redirect_uri(request: OAuth2Request, client: RegisteredClient) -> str:
        """The registered address that was stated; authlib would put a wrong one into its message."""
        redirect_uri: str | None = request.payload.redirect_uri
        if not redirect_uri or not client.check_redirect_uri(redirect_uri):
            raise InvalidRequestError("redirect_uri is not one that is registered for this client.")
        return redirect_uri

    def _check_audience(self, data: Any) -> None:
        """SMART 2.2, 2.0.8: `aud` is the FHIR base; `resource` says the same (RFC 8707).

        Who only asks who somebody is (OpenID Connect, no data) has no use for it and need not state it.
        """
        said = data.get("aud") or data.get("resource") or ""
        if not said and set((self.request.scope or "").split()) <= IDENTITY_SCOPES:
            return
        if said.rstrip("/") != self.server.fhir_base().rstrip("/"):
            raise InvalidRequestError("aud is the base URL of the FHIR server.")

    def _launch(self, data: Any) -> dict[str, str] | None:
        handle, words = data.get("launch"), (self.request.scope or "").split()
        if "launch" not in words:
            return None
        if not handle:
            raise InvalidRequestError("The scope launch needs the parameter launch.")
        access: Access = self.server.access
        with access.database.snapshot() as session:
            row = session.get(Launch, digest_of(access, handle))
        person: Person | None = self.request.user
        alive = (
            row is not None
            and row.used_at is None
            and row.expires_at > access.clock.now()
            and row.client_id == self.request.client.client_id
            and (person is None or row.session_id == person.session_id)
        )
        if row is None or not alive:
            raise InvalidRequestError("The launch is not known, not for this app, or used already.")
        found: dict[str, str] = json.loads(row.context)
        return found

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        """Keep the code's hash with all that the exchange will need; spend the launch handle with it."""
        access: Access = self.server.access
        now, person, data = access.clock.now(), request.user, request.payload.data
        with access.database.transaction() as session:
            if request.launch is not None:
                spent = session.execute(
                    update(Launch)
                    .where(Launch.digest == digest_of(access, data["launch"]), Launch.used_at.is_(None))
                    .values(used_at=now)
                )
                if not spent.rowcount:  # type: ignore[attr-defined]
                    raise InvalidRequestError("The launch was used already.")
            session.execute(
                insert(AuthorizationCode).values(
                    digest=digest_of(access, code),
                    client_id=request.client.client_id,
                    account_id=person.account_id,
                    session_id=person.session_id,
                    family=new_id(),
                    redirect_uri=request.payload.redirect_uri,
                    scope=request.approved_scope,
                    context=json.dumps(request.context),
                    nonce=(data.get("nonce") or "")[:256],
                    code_challenge=data["code_challenge"],
                    auth_time=person.auth_time,
                    expires_at=now + CODE_LIFE,
                )
            )

    def query_authorization_code(self, code: str, client: RegisteredClient) -> "Code | None":
        """The code of this client, spent by asking; a second use ends what the first one gave."""
        access: Access = self.server.access
        now = access.clock.now()
        with access.database.transaction() as session:
            row = session.get(AuthorizationCode, digest_of(access, code))
            if row is None or row.client_id != client.client_id:
                return None
            spent = session.execute(
                update(AuthorizationCode)
                .where(AuthorizationCode.digest == row.digest, AuthorizationCode.used_at.is_(None))
                .values(used_at=now)
            )
            if not spent.rowcount:  # type: ignore[attr-defined]
                revoke_where(access, session, Token.family == row.family)
                caller = Issuing(client, row.account_id, family=row.family).as_caller()
                note(session, access.clock, caller, "reuse code", row.family, outcome=REFUSED)
                return None
            if row.expires_at <= now:
                return None
            account = session.get(Account, row.account_id)
            if account is None or account.disabled:
                return None
            return Code(
                client.client_id, row.redirect_uri, row.scope, row.code_challenge,
                Issuing(
                    client, row.account_id, account.fhir_user, json.loads(row.context), row.family,
                    row.session_id, row.nonce, row.auth_time,
                ),
            )  # fmt: skip

    def delete_authorization_code(self, _code: "Code") -> None:
        """It was spent when it was asked for, and stays so that a second use is seen."""

    def authenticate_user(self, code: "Code") -> str:
        """The account that approved."""
        self.request.issuing = code.issuing
        return code.issuing.account_id


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code, as authlib asks about it."""

    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    issuing: Issuing

    def get_redirect_uri(self) -> str:
        """Where it was sent."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What was approved."""
        return self.scope


@dataclass(frozen=True, slots=True)
class KnownToken(TokenMixin):  # type: ignore[misc]
    """A token's row, as authlib asks about it."""

    id: str
    kind: str
    client_id: str
    account_id: str
    scope: str
    context: dict[str, str]
    family: str
    session_id: str
    issued_at: datetime
    expires_at: datetime
    is_alive: bool

    def check_client(self, client: RegisteredClient) -> bool:
        """Whether it was issued to this client."""
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        """Its scope."""
        return self.scope

    def is_expired(self) -> bool:
        """Whether it is over, for any reason."""
        return not self.is_alive

    def is_revoked(self) -> bool:
        """The same."""
        return not self.is_alive


def find_token(access: Access, secret: str, kinds: tuple[str, ...] = (ACCESS, REFRESH)) -> KnownToken | None:
    """The token of a secret, alive or not."""
    with access.database.snapshot() as session:
        row = session.scalar(
            select(Token).where(Token.digest == digest_of(access, secret), Token.kind.in_(kinds))
        )
        if row is None:
            return None
        parent = session.get(Token, row.session_id) if row.session_id else None
    now = access.clock.now()
    alive = row.revoked_at is None and row.expires_at > now
    if parent is not None:
        alive = alive and parent.revoked_at is None and parent.expires_at > now
    return KnownToken(
        row.id, row.kind, row.client_id, row.account_id, row.scope, json.loads(row.context), row.family,
        row.session_id, row.created_at, row.expires_at, alive,
    )  # fmt: skip


class RotatingRefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """Refresh tokens are used once; scopes may only shrink, in meaning, not as words."""

    TOKEN_ENDPOINT_AUTH_METHODS = CLIENT_AUTH
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> KnownToken | None:
        """The token, unless it is over; one that was used before ends its family."""
        access: Access = self.server.access
        known = find_token(access, refresh_token, (REFRESH,))
        if known is None or not known.check_client(self.request.client):
            return None
        if not known.is_alive:
            with access.database.transaction() as session:
                revoke_where(access, session, Token.family == known.family)
                caller = Issuing(self.request.client, known.account_id, family=known.family).as_caller()
                note(session, access.clock, caller, "reuse refresh token", known.family, outcome=REFUSED)
            return None
        return known

    def _validate_token_scope(self, token: KnownToken) -> None:
        asked = self.request.payload.scope
        if not asked:
            return
        try:
            resources, words = parse_scopes(asked)
        except InvalidScope:
            raise InvalidScopeError from None
        granted, granted_words = parse_scopes(token.scope)
        if not words <= granted_words or not all(
            any(covers(wide, narrow) for wide in granted) for narrow in resources
        ):
            raise InvalidScopeError

    def authenticate_user(self, token: KnownToken) -> str | None:
        """The account, if it may still sign in. Spends the old token: only one of two wins."""
        access: Access = self.server.access
        with access.database.transaction() as session:
            account = session.get(Account, token.account_id)
            if account is None or account.disabled:
                return None
            if not revoke_where(access, session, Token.id == token.id):
                return None
            fhir_user = account.fhir_user
        self.request.issuing = Issuing(
            self.request.client, token.account_id, fhir_user, token.context, token.family, token.session_id,
            full_scope=token.scope,
        )  # fmt: skip
        return token.account_id

    def issue_token(self, user: str, refresh_token: KnownToken) -> dict[str, Any]:
        """The new token; words such as offline_access stay in force even when a narrower scope is asked."""
        asked = self.request.payload.scope or refresh_token.scope
        kept = [word for word in refresh_token.scope.split() if word in ("offline_access", "online_access")]
        scope = " ".join(dict.fromkeys([*asked.split(), *kept]))
        token: dict[str, Any] = self.generate_token(user=user, scope=scope)
        return token

    def revoke_old_credential(self, _refresh_token: KnownToken) -> None:
        """It was spent before the new one was made."""


class ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc]
    """SMART Backend Services: system scopes that were registered, by signed assertion or secret."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("private_key_jwt", "client_secret_basic", "client_secret_post")

    def validate_token_request(self) -> None:
        """Also the scope: each one system-level, registered, and within the role of the client."""
        super().validate_token_request()
        client: RegisteredClient = self.request.client
        granted = client.get_allowed_scope(self.request.payload.scope) or ""
        resources = [each for each in parse_scopes(granted)[0] if each.level == "system"]
        allowed = permitted(resources, ROLES[client.role].permissions)
        if not client.scope or not allowed:
            raise InvalidScopeError
        self._scope = " ".join(map(str, allowed))
        self.request.issuing = Issuing(client, family=new_id())

    def create_token_response(self) -> Any:
        """The token, for what was left of the scope."""
        token = self.generate_token(scope=self._scope, include_refresh_token=False)
        self.save_token(token)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """RFC 7009. A refresh token takes its whole family with it."""

    CLIENT_AUTH_METHODS = CLIENT_AUTH

    def query_token(self, token_string: str, token_type_hint: str | None) -> KnownToken | None:
        """The token, whatever the hint says."""
        return find_token(self.server.access, token_string)

    def revoke_token(self, token: KnownToken, request: OAuth2Request) -> None:
        """End it at once."""
        access: Access = self.server.access
        with access.database.transaction() as session:
            family = token.kind == REFRESH and token.family
            revoke_where(access, session, Token.family == family if family else Token.id == token.id)
            caller = Issuing(request.client, token.account_id, family=token.family).as_caller()
            note(session, access.clock, caller, "revoke Token", token.family)


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    """RFC 7662 as SMART 2.2 section 6 has it: the caller is a client, or an app with a Bearer token."""

    CLIENT_AUTH_METHODS = ("private_key_jwt", "client_secret_basic", "client_secret_post")

    def authenticate_endpoint_client(self, request: OAuth2Request) -> RegisteredClient:
        """The client, by its own credentials or by an access token that it holds."""
        scheme, _, bearer = (request.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            client: RegisteredClient = super().authenticate_endpoint_client(request)
            return client
        access: Access = self.server.access
        try:
            caller_of(access, bearer.strip(), (ACCESS,), Door.WEB, "")
        except Unauthenticated:
            raise InvalidClientError(status_code=401, description="The bearer token is not valid.") from None
        known = find_token(access, bearer.strip())
        found = find_client(access, known.client_id) if known else None
        if found is None:
            raise InvalidClientError(status_code=401, description="The token is not an app's.")
        return found

    def query_token(self, token_string: str, token_type_hint: str | None) -> KnownToken | None:
        """The token, whatever the hint says."""
        return find_token(self.server.access, token_string)

    def check_permission(self, token: KnownToken, client: RegisteredClient, _request: OAuth2Request) -> bool:
        """Its own tokens; a resource server (a service with system scopes) any."""
        return token.check_client(client) or client.check_grant_type("client_credentials")

    def introspect_token(self, token: KnownToken) -> dict[str, Any]:
        """What the token gives, with the launch context and who approved it."""
        answer: dict[str, Any] = {
            "active": True,
            "scope": token.scope,
            "client_id": token.client_id,
            "exp": int(token.expires_at.timestamp()),
            "iat": int(token.issued_at.timestamp()),
            "token_type": "Bearer",
            "aud": self.server.fhir_base(),
            **launch_answer(token.context, self.server.issuer()),
        }
        if "openid" in token.scope.split():
            access: Access = self.server.access
            with access.database.snapshot() as session:
                account = session.get(Account, token.account_id)
            answer |= {"iss": self.server.issuer(), "sub": token.account_id}
            if account is not None and account.fhir_user:
                answer["fhirUser"] = f"{self.server.fhir_base()}/{account.fhir_user}"
        return answer


def begin_launch(
    access: Access, caller: Caller, client: RegisteredClient, issuer: str, context: dict[str, str]
) -> str:
    """An EHR launch: the address to open the app at, with a handle for this session, once, for five minutes.

    issuer: the FHIR base. Raises InvalidRequestError for an app without a launch address.
    """
    if not client.launch_uri:
        raise InvalidRequestError("The app has no launch address.")
    handle = new_secret()
    with access.database.transaction() as session:
        session.execute(
            insert(Launch).values(
                digest=digest_of(access, handle),
                client_id=client.client_id,
                session_id=caller.grant,
                context=json.dumps({**context, "launch": "ehr", "tenant": caller.principal.institution}),
                expires_at=access.clock.now() + timedelta(minutes=5),
            )
        )
        note(session, access.clock, caller, "launch app", client.client_id)
    joiner = "&" if "?" in client.launch_uri else "?"
    return f"{client.launch_uri}{joiner}iss={quote(issuer, safe='')}&launch={handle}"
