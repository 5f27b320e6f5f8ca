"""Opaque tokens: access tokens for programs, sessions for browsers, and the first sign-in's one-time code.

Only a keyed hash of a secret is kept, so the table lets nobody in. A token's row is read at every request,
with the numbers that tell whether rules, consents or broken glass have changed since, so that revoking one
or changing a rule takes effect at the next request; the decision itself is made once for what was read.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from access.caller import Caller, Clause, Door, Principal, PrincipalKind
from access.changed_rows import require_intact
from access.consents import read_consent
from access.document_kind import DocumentKind, current_document
from access.model import Account, BreakGlass, Client, ConsentVersion, SiteDocument, Token
from access.policy import Decision, Site, decide
from access.revocation_lists import RevocationLists
from access.roles import PERSONAL
from access.rules import RULES, parse_rules
from access.scopes import parse_scopes
from kernel.clock import Clock, new_id, new_secret
from kernel.crypto import KeyRing
from kernel.database import Database
from kernel.errors import Unauthenticated
from kernel.row_codes import Coded
from kernel.settings import AccessSettings

ACCESS, REFRESH, SESSION = "access", "refresh", "session"
HALF = "half"  # a password was right, the second factor is awaited
SETUP, REGISTRATION = "setup", "registration"

USED_EVERY = timedelta(minutes=1)  # how exactly the last use of a session is known


class Remembered:
    """The newest answers of a pure function, by what they were made from."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The answer for a key, made now if it is not remembered."""
        known = self._answers.get(key)
        if known is None:
            known = make()
            with self._lock:
                self._answers[key] = known
                while len(self._answers) > self._most:
                    self._answers.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class Access:
    """The room: what its functions need. Made once in `cloudfilm.rooms`."""

    database: Database
    clock: Clock
    keys: KeyRing
    settings: AccessSettings
    documents: tuple[DocumentKind, ...] = (RULES,)  # every kind of site document
    revocations: RevocationLists = field(default_factory=RevocationLists)
    sites: Remembered = field(default_factory=lambda: Remembered(2))
    decisions: Remembered = field(default_factory=lambda: Remembered(10000))

    def require_intact(self, row: Coded) -> None:
        """Raise RowChanged for a row that was changed behind our back; not within a transaction."""
        require_intact(self.database, self.keys, self.clock, row)


def digest_of(access: Access, secret: str) -> bytes:
    """The keyed hash under which a secret is kept."""
    return access.keys.sign(secret)


def issue(
    access: Access,
    session: Session,
    kind: str,
    *,
    life_s: float,
    account_id: str = "",
    client_id: str = "",
    role: str = "",
    scope: str = "",
    context: dict[str, str] | None = None,
    label: str = "",
    family: str = "",
    session_id: str = "",
    factors: str = "",
    certificate: str = "",
    secret: str = "",
) -> str:
    """Make a token within the caller's transaction and return its secret, which is not kept anywhere."""
    secret = secret or new_secret()
    now = access.clock.now()
    session.execute(
        insert(Token).values(
            id=new_id(),
            digest=digest_of(access, secret),
            kind=kind,
            account_id=account_id,
            client_id=client_id,
            role=role,
            scope=scope,
            context=json.dumps(context or {}),
            label=label[:200],
            family=family,
            session_id=session_id,
            factors=factors,
            certificate=certificate,
            created_at=now,
            used_at=now,
            expires_at=now + timedelta(seconds=life_s),
        )
    )
    return secret


SITE_REVISION = (  # which rules and consents are in force, as columns of a statement that asks for more
    select(func.max(SiteDocument.version)).where(SiteDocument.name == RULES.name).scalar_subquery(),
    select(func.max(ConsentVersion.id)).scalar_subquery(),
)
_SESSION = aliased(Token)
_TOKENS = (
    select(
        Token.used_at, Token.expires_at, Token.revoked_at, _SESSION.revoked_at, _SESSION.expires_at,
        Account.disabled, Client.disabled,
        Token.id, Token.kind, Token.client_id, Token.role, Token.scope, Token.context, Token.label,
        Token.account_id, Token.factors, Token.certificate, _SESSION.certificate,
        *SITE_REVISION,
        # what tells that one of the rows is another now
        Account.name, Account.role, Account.institution, Account.department, Account.fhir_user,
        Account.patients, Account.must_change, Account.password_changed_at, Account.login, Account.integrity,
        Client.name, Client.institution, Client.integrity,
        select(func.max(BreakGlass.id)).scalar_subquery(),
    )
    .outerjoin(Account, Account.id == Token.account_id)
    .outerjoin(Client, Client.id == Token.client_id)
    .outerjoin(_SESSION, _SESSION.id == Token.session_id)
)  # fmt: skip
DECIDING = 11 + len(SITE_REVISION)  # the first of the facts; the rows behind them are read, and looked at
_LOOK_UP = _TOKENS.where(Token.digest == bindparam("digest"))
_LOOK_UP_BY_ID = _TOKENS.where(Token.id == bindparam("id"))


def caller_of(access: Access, secret: str, kinds: tuple[str, ...], door: Door, address: str) -> Caller:
    """Who holds this secret. Raises Unauthenticated when it is unknown, expired, idle or revoked."""
    return decision_of(access, secret, kinds, door, address).caller


def decision_of(access: Access, secret: str, kinds: tuple[str, ...], door: Door, address: str) -> Decision:
    """The same with the steps that led there. Raises Unauthenticated."""
    found = access.database.row(_LOOK_UP, {"digest": digest_of(access, secret)})
    return _decision(access, found, kinds, door, address, is_use=True)


def caller_of_token(access: Access, token_id: str, door: Door, address: str) -> Caller:
    """Who holds a token or session, by its id, for what stays open when its secret was shown once.

    Asking is no use of a session, so one that is left alone ends. Raises Unauthenticated.
    """
    found = access.database.row(_LOOK_UP_BY_ID, {"id": token_id})
    return _decision(access, found, (ACCESS, SESSION), door, address, is_use=False).caller


def _decision(
    access: Access,
    found: tuple[Any, ...] | None,
    kinds: tuple[str, ...],
    door: Door,
    address: str,
    is_use: bool,
) -> Decision:
    if found is None:
        raise Unauthenticated
    now = access.clock.now()
    used_at, expires_at, revoked_at, session_revoked_at, session_expires_at, *disabled = found[:7]
    facts = tuple(found[7:])
    token_id, kind = facts[:2]
    is_over = (
        kind not in kinds
        or revoked_at is not None
        or expires_at <= now
        or session_revoked_at is not None
        or (session_expires_at is not None and session_expires_at <= now)
        or any(disabled)
        or (kind == SESSION and used_at < now - timedelta(seconds=access.settings.session_idle_s))
    )
    if is_over:
        raise Unauthenticated
    if is_use and kind == SESSION and used_at < now - USED_EVERY:
        with access.database.transaction() as session:
            session.execute(update(Token).where(Token.id == token_id).values(used_at=now))
    minute = now.replace(second=0, microsecond=0)  # rules about times, and glass, are exact to the minute
    decision: Decision = access.decisions.get(
        (facts, door, address, minute), lambda: _decide(access, facts, door, address, minute)
    )
    return decision


def _decide(access: Access, facts: tuple[Any, ...], door: Door, address: str, at: datetime) -> Decision:
    (token_id, kind, client_id, role, scope, context, label, account_id, factors, certificate,
     session_certificate, *revision) = facts[:DECIDING]  # fmt: skip
    if any(access.revocations.has_revoked(each or "", at) for each in (certificate, session_certificate)):
        raise Unauthenticated
    account, client = _rows_behind(access, account_id, client_id)
    told: dict[str, str] = json.loads(context)
    own: tuple[str, ...] = ()
    unproven = ""  # an app's token was approved in a session that counted
    if account is not None:
        principal = Principal(
            PrincipalKind.ACCOUNT, account.id, account.name, account.institution, account.department,
            role_in_force(access.settings, account.role), account.fhir_user,
        )  # fmt: skip
        own = tuple((account.patients or "").replace(",", " ").split())
        if kind == SESSION:
            chosen_at = account.password_changed_at or account.created_at
            unproven = why_password_is_due(
                access.settings, account.must_change, factors, chosen_at, at
            ) or _why_factor_is_due(access.settings, account.role, factors)
    else:
        principal = Principal(
            PrincipalKind.CLIENT,
            client_id or token_id,
            client.name if client is not None and client.name else label,
            (client is not None and client.institution) or access.settings.institution,
            role=role,
        )
    return decide(
        principal,
        door,
        scopes=None if kind == SESSION else parse_scopes(scope)[0],
        context=told,
        granted=(Clause(patients=frozenset(own)),) if own else (),
        glass=broken_glass(access, account_id, at),
        site=site_of(access, tuple(revision)),
        address=address,
        at=at,
        purpose=told.get("purpose") or ("PATRQT" if principal.role in PERSONAL else "TREAT"),
        grant=token_id,
        login=account.login if account is not None else "",
        unproven=unproven,
    )


def _rows_behind(access: Access, account_id: str, client_id: str) -> tuple[Account | None, Client | None]:
    """The account and the app that a token is of, as they are now. Raises RowChanged."""
    with access.database.snapshot() as session:
        account = session.get(Account, account_id) if account_id else None
        client = session.get(Client, client_id) if client_id else None
    for row in (account, client):
        if row is not None:
            access.require_intact(row)
    return account, client


def role_in_force(settings: AccessSettings, role: str) -> str:
    """The role that counts: where administrators are apart, nobody may do everything."""
    return "" if role == "operator" and settings.administrators == "three" else role


def why_password_is_due(
    settings: AccessSettings, must_change: bool, factors: str, chosen_at: datetime, at: datetime
) -> str:
    """Why a browser session may do nothing but change the password; empty: the password is in force."""
    if must_change:
        return "Somebody else chose the password: it has to be changed first."
    is_by_password = factors.partition(" ")[0] == "pwd"
    if settings.password_days and is_by_password and chosen_at < at - timedelta(days=settings.password_days):
        return "The password is older than the site allows: it has to be changed first."
    return ""


def _why_factor_is_due(settings: AccessSettings, role: str, factors: str) -> str:
    if role in settings.second_factor_roles and factors in ("pwd", "fed"):
        return "The role takes a second factor: set one up, and sign in with it."
    return ""


def site_revision(session: Session) -> tuple[int | None, int | None]:
    """Which rules and consents are in force, for `site_of`."""
    rules, consents = session.execute(select(*SITE_REVISION)).one()
    return rules, consents


def site_of(access: Access, revision: tuple[Any, ...] | None = None) -> Site:
    """What the site has decided; `revision` names what is in force, when that is known already."""
    site: Site = access.sites.get(revision, lambda: _read_site(access)) if revision else _read_site(access)
    return site


def _read_site(access: Access) -> Site:
    with access.database.snapshot() as session:
        rules = current_document(session, RULES)
        newest = select(func.max(ConsentVersion.id)).group_by(ConsentVersion.consent)
        documents = session.scalars(
            select(ConsentVersion.document).where(
                ConsentVersion.id.in_(newest), ConsentVersion.document != ""
            )
        ).all()
    consents = [consent for text in documents if (consent := read_consent(json.loads(text)))]
    return Site(parse_rules(rules), tuple(consents))


def broken_glass(access: Access, account_id: str | None, at: datetime) -> frozenset[str]:
    """The patients for whom this account has broken the glass."""
    if not account_id:
        return frozenset()
    with access.database.snapshot() as session:
        rows = session.scalars(
            select(BreakGlass.patient).where(BreakGlass.account_id == account_id, BreakGlass.until > at)
        )
        return frozenset(rows)


def signed_in_at(access: Access, session_id: str) -> datetime:
    """When a session began, and so when its holder proved who it is."""
    with access.database.snapshot() as session:
        return session.get_one(Token, session_id).created_at


def label_token(access: Access, secret: str, label: str) -> None:
    """Say what a token is called in the list of its holder."""
    with access.database.transaction() as session:
        session.execute(
            update(Token).where(Token.digest == digest_of(access, secret)).values(label=label[:200])
        )


def revoke(access: Access, session: Session, token_id: str, at: datetime | None = None) -> bool:
    """End a token within the caller's transaction. Returns whether it was alive."""
    ended = session.execute(
        update(Token)
        .where(Token.id == token_id, Token.revoked_at.is_(None))
        .values(revoked_at=at or access.clock.now())
    )
    return bool(ended.rowcount)  # type: ignore[attr-defined]


def revoke_where(access: Access, session: Session, *conditions: ColumnElement[bool]) -> int:
    """End every living token that meets the conditions, within the caller's transaction; returns how many."""
    ended = session.execute(
        update(Token).where(Token.revoked_at.is_(None), *conditions).values(revoked_at=access.clock.now())
    )
    return int(ended.rowcount)  # type: ignore[attr-defined]
