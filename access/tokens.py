"""Opaque tokens: access tokens for programs, sessions for browsers, and the first sign-in's one-time code.

Only a keyed hash of a secret is kept, so the table lets nobody in. A token is looked up at every request,
and a revoked one is refused at the next.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from access.caller import Caller, Door, Principal, PrincipalKind
from access.model import Account, Token
from access.policy import decide
from access.scopes import parse_scopes
from kernel.clock import Clock, new_id, new_secret
from kernel.crypto import KeyRing
from kernel.database import Database
from kernel.errors import Unauthenticated
from kernel.settings import AccessSettings

ACCESS, SESSION, SETUP = "access", "session", "setup"

USED_EVERY = timedelta(minutes=1)  # how exactly the last use of a session is known


@dataclass(frozen=True, slots=True)
class Access:
    """The room: what its functions need. Made once in `cloudfilm.rooms`."""

    database: Database
    clock: Clock
    keys: KeyRing
    settings: AccessSettings


def digest_of(access: Access, secret: str) -> bytes:
    """The keyed hash under which a secret is kept."""
    return hmac.new(access.keys.signing_key, secret.encode(), hashlib.sha256).digest()


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
) -> str:
    """Make a token within the caller's transaction and return its secret, which is not kept anywhere."""
    secret = new_secret()
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
            label=label,
            created_at=now,
            used_at=now,
            expires_at=now + timedelta(seconds=life_s),
        )
    )
    return secret


def caller_of(access: Access, secret: str, kinds: tuple[str, ...], door: Door, address: str) -> Caller:
    """Who holds this secret. Raises Unauthenticated when it is unknown, expired, idle or revoked."""
    with access.database.snapshot() as session:
        found = session.execute(
            select(
                Token.id, Token.kind, Token.client_id, Token.role, Token.scope, Token.context, Token.label,
                Token.used_at, Token.expires_at, Token.revoked_at,
                Account.id, Account.name, Account.role, Account.institution, Account.department,
                Account.disabled,
            )
            .outerjoin(Account, Account.id == Token.account_id)
            .where(Token.digest == digest_of(access, secret))
        ).first()  # fmt: skip
    now = access.clock.now()
    if found is None:
        raise Unauthenticated
    (token_id, kind, client_id, role, scope, context, label, used_at, expires_at, revoked_at,
     account_id, name, account_role, institution, department, disabled) = found  # fmt: skip
    idle = kind == SESSION and used_at < now - timedelta(seconds=access.settings.session_idle_s)
    if kind not in kinds or revoked_at is not None or expires_at <= now or idle or disabled:
        raise Unauthenticated
    if kind == SESSION and used_at < now - USED_EVERY:
        with access.database.transaction() as session:
            session.execute(update(Token).where(Token.id == token_id).values(used_at=now))
    if account_id:
        principal = Principal(PrincipalKind.ACCOUNT, account_id, name, institution, department, account_role)
    else:
        principal = Principal(
            PrincipalKind.CLIENT, client_id or token_id, label, access.settings.institution, role=role
        )
    scopes = None if kind == SESSION else parse_scopes(scope)[0]
    return decide(
        principal, door, scopes=scopes, context=json.loads(context), address=address, grant=token_id
    )


def revoke(access: Access, session: Session, token_id: str, at: datetime | None = None) -> bool:
    """End a token within the caller's transaction. Returns whether it was alive."""
    ended = session.execute(
        update(Token)
        .where(Token.id == token_id, Token.revoked_at.is_(None))
        .values(revoked_at=at or access.clock.now())
    )
    return bool(ended.rowcount)  # type: ignore[attr-defined]
