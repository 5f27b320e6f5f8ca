"""Federation: people sign in at their hospital's own OpenID provider, and are known here by its subject.

Providers stand in the site document `federation`. An account is linked to `issuer subject` by an
administrator, or made at the first sign-in where the provider's row says with which role and institution. An
administrator's account is never made so. The provider is fetched from like clients' key sets: over https from
public addresses, or from hosts that the host's settings trust.

    {"providers": [{"id": "xh", "name": "Xiehe", "issuer": "https://id.example.org", "client_id": "cloudfilm",
                    "makes": {"role": "physician", "institution": "XH", "department_claim": "dept"}}]}

Standards: OpenID Connect Core 1.0 (code flow, 3.1.3.7), RFC 7636 (PKCE S256), RFC 9207 (`iss`).
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import ColumnElement, func, or_, select

from access.accounts import (
    WrongCredentials,
    managed_account,
    note_sign_in,
    open_session,
    require_as_left,
    require_unlocked,
)
from access.audit import REFUSED, note
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind, Reach
from access.document_kind import DocumentKind, current_document
from access.model import Account, Token
from access.oauth.fetch import KeySets, Unfetchable
from access.roles import ROLES, Span
from access.tokens import Access, digest_of, issue, revoke_where
from kernel.clock import new_id, new_secret
from kernel.errors import CloudfilmError, Kind, Unauthenticated

STATE = "federation"
MOST_LINK = 300  # characters of issuer and subject together
STATE_LIFE_S = 600.0
SKEW = timedelta(seconds=60)
ALGORITHMS = ("RS256", "ES256", "PS256", "RS384", "ES384", "RS512")  # never none, never a shared secret
PROVEN_TWICE = frozenset({"mfa", "otp", "hwk", "swk", "sc", "fpt", "sms"})  # RFC 8176
ID = re.compile(r"[a-z0-9-]{1,32}")


class InvalidFederation(CloudfilmError):
    """A document of providers that cannot be read; says which and why."""

    kind = Kind.UNPROCESSABLE


class NotFederated(Unauthenticated):
    """The hospital's answer does not sign anybody in here; the log says more."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Signing in at the hospital did not work: {why}.")


class ProviderUnreachable(CloudfilmError):
    """The hospital's sign-in service does not answer."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("The hospital's sign-in service does not answer; try again later.")


@dataclass(frozen=True, slots=True)
class Making:
    """What an account is that is made at the first sign-in."""

    role: str
    institution: str
    department_claim: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """One hospital's OpenID provider."""

    id: str
    name: str
    issuer: str
    client_id: str
    scope: str = "openid profile"
    makes: Making | None = None  # None: only linked accounts sign in


def parse_providers(document: str) -> tuple[Provider, ...]:
    """Read a document of providers. Raises InvalidFederation."""
    try:
        parsed = json.loads(document)
        if set(parsed) != {"providers"}:
            raise ValueError
        providers = tuple(_provider(dict(fields)) for fields in parsed["providers"])
    except (ValueError, KeyError, TypeError, RecursionError) as failure:
        raise InvalidFederation(
            f'A federation document is {{"providers": [{{"id", "name", "issuer", "client_id"}}]}}: {failure}'
        ) from None
    if len({each.id for each in providers}) != len(providers):
        raise InvalidFederation("Two providers have the same id.")
    return providers


def _provider(fields: dict[str, Any]) -> Provider:
    makes = fields.pop("makes", None)
    made = {name: str(value) for name, value in dict(makes or {}).items()}
    making = Making(**made) if makes is not None else None
    provider = Provider(**{name: str(value) for name, value in fields.items()}, makes=making)
    if not ID.fullmatch(provider.id) or not provider.name or not provider.client_id:
        raise InvalidFederation(f"Provider {provider.id[:32]!r}: an id (a-z, 0-9, -), a name, a client_id.")
    issuer = urlsplit(provider.issuer)
    if issuer.scheme not in ("https", "http") or not issuer.hostname or len(provider.issuer) > MOST_LINK - 50:
        raise InvalidFederation(f"Provider {provider.id}: issuer is an https address.")
    if "openid" not in provider.scope.split():
        raise InvalidFederation(f"Provider {provider.id}: scope has openid.")
    if making is not None:
        role = ROLES.get(making.role)
        if role is None or role.span is Span.NOTHING or role.code in ("operator", "integration"):
            raise InvalidFederation(f"Provider {provider.id}: makes.role is a clinical role.")
    return provider


FEDERATION = DocumentKind(
    "federation", "Hospitals' own sign-in (OpenID Connect).", parse_providers, '{"providers": []}', "Policy"
)


def providers(access: Access) -> tuple[Provider, ...]:
    """The providers at which one may sign in."""
    with access.database.snapshot() as session:
        return parse_providers(current_document(session, FEDERATION))


def provider_of(access: Access, provider_id: str) -> Provider:
    """The provider of this id. Raises NotFederated."""
    for each in providers(access):
        if each.id == provider_id:
            return each
    raise NotFederated("it is not a provider of this site")


@dataclass(frozen=True, slots=True)
class Journey:
    """Where the browser goes, and what it has to bring back in its cookie."""

    url: str
    state: str


def begin(access: Access, fetcher: KeySets, provider: Provider, back: str, wanted: str) -> Journey:
    """Send a person to the provider. back: our redirect URI. wanted: a path here to go on to.

    Raises ProviderUnreachable.
    """
    described = _described(fetcher, provider)
    state, nonce, verifier = new_secret(), new_secret(), new_secret()
    context = {"provider": provider.id, "nonce": nonce, "verifier": verifier, "wanted": wanted[:1000]}
    with access.database.transaction() as session:
        issue(
            access, session, STATE, life_s=STATE_LIFE_S, context=context, secret=f"state {state}",
            label=provider.id,
        )  # fmt: skip
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code", "client_id": provider.client_id, "redirect_uri": back,
        "scope": provider.scope, "state": state, "nonce": nonce,
        "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    endpoint = str(described["authorization_endpoint"])
    return Journey(f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}", state)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A session that a provider's answer began, and where its holder wanted to go."""

    secret: str
    wanted: str


def arrive(
    access: Access, fetcher: KeySets, provider: Provider, back: str,
    answer: Mapping[str, str], state: str, address: str,
) -> Arrival:  # fmt: skip
    """Begin a session with what the provider sent back. state: of the browser's cookie.

    Raises NotFederated, ProviderUnreachable or AccountLocked; refusals are noted.
    """
    told = _spent_state(access, provider, answer.get("state", ""), state)
    try:
        if "iss" in answer and answer["iss"] != provider.issuer:
            raise NotFederated("another provider answered")
        if not answer.get("code"):
            raise NotFederated("it was not approved")
        claims = _claims(access, fetcher, provider, back, answer["code"], told)
        account = _account(access, provider, claims)
    except NotFederated as refusal:
        note_sign_in(access, provider.id, address, REFUSED, str(refusal)[:200])
        raise
    require_unlocked(access, account.id, account.login, address)
    require_as_left(access, account, address)
    named = claims.get("amr")
    methods = {each for each in named if isinstance(each, str)} if isinstance(named, list) else set()
    factors = "fed mfa" if methods & PROVEN_TWICE else "fed"
    with access.database.transaction() as session:
        secret = open_session(access, session, account.id, account.name, address, factors)
    return Arrival(secret, told["wanted"])


def _spent_state(access: Access, provider: Provider, sent: str, kept: str) -> dict[str, str]:
    """What was remembered for this journey, spent by asking. Raises NotFederated."""
    if not sent or not hmac.compare_digest(sent.encode(), kept.encode()):
        raise NotFederated("it was not begun in this browser")
    digest = digest_of(access, f"state {sent}")
    with access.database.transaction() as session:
        row = session.scalar(select(Token).where(Token.digest == digest, Token.kind == STATE))
        alive = row is not None and row.expires_at > access.clock.now() and row.label == provider.id
        if row is None or not alive or not revoke_where(access, session, Token.id == row.id):
            raise NotFederated("it took too long, or was used already")
        told: dict[str, str] = json.loads(row.context)
    return told


def _described(fetcher: KeySets, provider: Provider) -> Mapping[str, Any]:
    """The provider's metadata, whose issuer is the one that was configured (Discovery 4.3)."""
    try:
        described = fetcher.fetch(f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(described, dict) or described.get("issuer") != provider.issuer:
            raise ProviderUnreachable
        if any(urlsplit(str(described[name])).scheme not in ("https", "http") for name in ENDPOINTS):
            raise ProviderUnreachable
    except (Unfetchable, KeyError, ValueError):
        raise ProviderUnreachable from None
    return described


ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


def _claims(
    access: Access, fetcher: KeySets, provider: Provider, back: str, code: str, told: Mapping[str, str]
) -> Mapping[str, Any]:
    """The claims of the ID token that the code is worth (OpenID Connect Core 3.1.3.7)."""
    described = _described(fetcher, provider)
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": back,
        "code_verifier": told["verifier"], "client_id": provider.client_id,
    }  # fmt: skip
    secret = _secret_of(access, provider)
    try:
        answer = fetcher.post(str(described["token_endpoint"]), form, (provider.client_id, secret))
        keys = KeySet.import_key_set(fetcher.fetch(str(described["jwks_uri"])))
        token = jwt.decode(str(answer["id_token"]), keys, algorithms=list(ALGORITHMS))
    except Unfetchable:
        raise NotFederated("it does not accept the code") from None
    except (JoseError, KeyError, TypeError, ValueError):
        raise NotFederated("its ID token does not verify") from None
    claims: Mapping[str, Any] = token.claims
    now = access.clock.now().timestamp()
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expires, issued = claims.get("exp"), claims.get("iat")
    fits = (
        claims.get("iss") == provider.issuer
        and provider.client_id in audiences
        and (len(audiences) == 1 or claims.get("azp") == provider.client_id)
        and isinstance(expires, int | float)
        and expires > now - SKEW.total_seconds()
        and isinstance(issued, int | float)
        and issued < now + SKEW.total_seconds()
        and hmac.compare_digest(str(claims.get("nonce", "")).encode(), told["nonce"].encode())
        and isinstance(claims.get("sub"), str)
        and 0 < len(claims["sub"]) <= MOST_LINK - len(provider.issuer)
    )
    if not fits:
        raise NotFederated("its ID token is not for this sign-in")
    return _with_user_info(fetcher, str(described.get("userinfo_endpoint", "")), answer, claims)


def _with_user_info(
    fetcher: KeySets, endpoint: str, answer: Mapping[str, Any], claims: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Also what the provider says beside the ID token, as most do of names (OpenID Connect Core 5.3.2)."""
    token = answer.get("access_token")
    if not endpoint or not isinstance(token, str) or not token.isascii() or not token.isprintable():
        return claims
    try:
        told = fetcher.get(endpoint, {"Authorization": f"Bearer {token}"})
    except Unfetchable:
        return claims
    is_same = isinstance(told, dict) and told.get("sub") == claims["sub"]
    return {**told, **claims} if is_same else claims


def _secret_of(access: Access, provider: Provider) -> str:
    """Our secret at a provider, which stands in the host's settings and not in the document."""
    named = dict(each.partition(":")[::2] for each in access.settings.federation_secrets)
    return named.get(provider.id, "")


def _account(access: Access, provider: Provider, claims: Mapping[str, Any]) -> Account:
    """The account of the subject, made now where the provider's row says so."""
    federated = f"{provider.issuer} {claims['sub']}"
    with access.database.transaction() as session:
        account = session.scalar(select(Account).where(_is_linked_to(federated)))
        if account is None and provider.makes is not None:
            account = Account(
                id=new_id(), login=_login(provider, claims), role=provider.makes.role,
                name=str(claims.get("name") or claims["sub"])[:200], institution=provider.makes.institution,
                department=str(claims.get(provider.makes.department_claim, ""))[:64], federated=federated,
                federated_index=federated, created_at=access.clock.now(), failures=0, disabled=False,
            )  # fmt: skip
            taken = session.scalar(
                select(Account.id).where(func.lower(Account.login) == account.login.lower())
            )
            if taken is not None:
                raise NotFederated("the name it gives belongs to somebody else here")
            session.add(account)
            session.flush()
            caller = _as_provider(provider)
            note(session, access.clock, caller, "create Account", account.id, detail=f"as {account.role}")
    if (
        account is None or account.disabled or account.federated != federated
    ):  # a hash may stand in another's row
        raise NotFederated("no account here is linked to yours; ask the administrator")
    return account


def _is_linked_to(federated: str) -> ColumnElement[bool]:
    """Which account is: by the keyed hash, or by the text where it is from before there was sealing."""
    return or_(Account.federated_index == federated, Account.federated == federated)


def _login(provider: Provider, claims: Mapping[str, Any]) -> str:
    """A sign-in name that nobody types: the provider and a hash of the subject."""
    digest = hashlib.sha256(f"{provider.issuer} {claims['sub']}".encode()).hexdigest()[:16]
    return f"{provider.id}.{digest}"


def _as_provider(provider: Provider) -> Caller:
    principal = Principal(PrincipalKind.CLIENT, provider.id, provider.name)
    return Caller(principal, Door.WEB, Permissions(), Reach.nowhere())


def link_account(access: Access, caller: Caller, login: str, issuer: str, subject: str) -> None:
    """Let an account sign in at a provider; an empty subject takes that away. For security administrators.

    Raises Forbidden, NoSuchAccount, or WrongCredentials for a subject that is linked already.
    """
    account = managed_account(access, caller, login)
    federated = f"{issuer} {subject}"[:320] if subject else ""
    with access.database.transaction() as session:
        held = select(Account.id).where(_is_linked_to(federated), Account.id != account.id)
        if federated and session.scalar(held) is not None:
            raise WrongCredentials
        row = session.get_one(Account, account.id)
        row.federated = row.federated_index = federated
        session.flush()
        revoke_where(access, session, Token.account_id == account.id)
        note(session, access.clock, caller, "update Account", account.id, detail="federated")
