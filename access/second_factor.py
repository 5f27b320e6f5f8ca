"""The second factor of a sign-in: a time-based code (TOTP), or a code by SMS; security keys have a module of
their own.

After a right password an account with a second factor holds only a half session, which opens nothing but
this step. A TOTP code counts once, wrong codes count towards the lock-out, and codes by SMS are few,
short-lived and bound to the half session that asked for them.

Standards: RFC 6238 (TOTP), GB/T 22239 8.1.4.1 d (two factors, one of them cryptographic; SMS alone is not).
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import pyotp
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from access.accounts import (
    count_failure,
    factors_of,
    note_sign_in,
    open_session,
    require_may_manage,
    require_unlocked,
)
from access.audit import REFUSED, note
from access.caller import Action, Caller, Door
from access.model import Account, SecondFactor, Token
from access.phones import normal_phone
from access.tokens import HALF, Access, caller_of, digest_of, issue, revoke, revoke_where
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated

TOTP, SMS = "totp", "sms"
STEP_S = 30
SMS_LIFE_S = 300.0
SMS_EVERY = timedelta(minutes=1)
MOST_SMS_A_DAY = 10


class SmsSender(Protocol):
    """Sends one text message; the gateways of a site implement it."""

    def send(self, phone: str, template: str, values: dict[str, str]) -> None:
        """phone: E.164. template: a name that the site has mapped, such as `sign-in-code`."""
        ...


class WrongCode(Unauthenticated):
    """A code that is wrong, over, or was used."""

    def __init__(self) -> None:
        super().__init__("The code is wrong or no longer valid.")


class TooManyCodes(CloudfilmError):
    """Codes by SMS were asked for too often."""

    kind = Kind.TOO_MANY

    def __init__(self) -> None:
        super().__init__("A code was sent a short while ago; wait before asking for another.")


@dataclass(frozen=True, slots=True)
class TotpOffer:
    """A secret that waits to be confirmed with a first code."""

    id: str
    uri: str  # otpauth://, for a QR code


def offer_totp(access: Access, caller: Caller, login: str) -> TotpOffer:
    """Make a TOTP secret for the caller's own account; it counts once `confirm_totp` saw a code of it."""
    secret, factor_id = pyotp.random_base32(), new_id()
    with access.database.transaction() as session:
        session.execute(
            insert(SecondFactor).values(
                id=factor_id,
                account_id=caller.principal.id,
                kind=TOTP,
                secret=access.keys.seal_bytes(secret.encode(), f"totp {factor_id}"),
                created_at=access.clock.now(),
                confirmed=False,
                counter=0,
            )
        )
    return TotpOffer(factor_id, pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name="cloudfilm"))


def confirm_totp(access: Access, caller: Caller, factor_id: str, code: str) -> None:
    """Put an offered TOTP secret in force. Other sessions of the account end. Raises WrongCode."""
    with access.database.transaction() as session:
        row = session.get(SecondFactor, factor_id)
        if row is None or row.account_id != caller.principal.id or not _spend(access, row, code):
            raise WrongCode
        row.confirmed = True
        revoke_where(access, session, Token.account_id == caller.principal.id, Token.id != caller.grant)
        note(session, access.clock, caller, "add second factor", factor_id, detail=TOTP)


def remove_second_factors(access: Access, caller: Caller, account_id: str) -> None:
    """Take an account's second factors away, when its holder lost them. For security administrators."""
    caller.require(Action("Account", "u"))
    with access.database.transaction() as session:
        require_may_manage(caller, session.get_one(Account, account_id).role)
        for row in session.scalars(select(SecondFactor).where(SecondFactor.account_id == account_id)):
            session.delete(row)
        revoke_where(access, session, Token.account_id == account_id)
        note(session, access.clock, caller, "remove second factors", account_id)


def send_code(access: Access, sender: SmsSender, half_secret: str, address: str) -> None:
    """Send a code to the account's phone. Raises Unauthenticated or TooManyCodes."""
    half = caller_of(access, half_secret, (HALF,), Door.WEB, address)
    now, code = access.clock.now(), f"{secrets.randbelow(10**6):06d}"
    with access.database.transaction() as session:
        account = session.get(Account, half.principal.id)
        if account is None or not account.phone:
            raise Unauthenticated
        sent = select(func.count(), func.max(Token.created_at)).where(
            Token.account_id == account.id, Token.kind == SMS, Token.created_at > now - timedelta(days=1)
        )
        count, latest = session.execute(sent).one()
        if count >= MOST_SMS_A_DAY or (latest is not None and latest > now - SMS_EVERY):
            raise TooManyCodes
        revoke_where(access, session, Token.account_id == account.id, Token.kind == SMS)
        issue(
            access, session, SMS, life_s=SMS_LIFE_S, account_id=account.id,
            secret=f"sms {half.grant} {code}",
        )  # fmt: skip
        phone = access.keys.open_bytes(account.phone, f"phone {account.id}").decode()
        note(session, access.clock, half, "send sign-in code", account.id)
    sender.send(phone, "sign-in-code", {"code": code, "minutes": str(int(SMS_LIFE_S) // 60)})


def awaited(access: Access, half_secret: str, address: str) -> tuple[str, ...]:
    """The kinds of factor that complete this half session. Raises Unauthenticated when it is over."""
    half = caller_of(access, half_secret, (HALF,), Door.WEB, address)
    with access.database.snapshot() as session:
        return factors_of(session, session.get_one(Account, half.principal.id))


def list_factors(access: Access, caller: Caller) -> tuple[SecondFactor, ...]:
    """The caller's own second factors, the oldest first."""
    with access.database.snapshot() as session:
        return tuple(
            session.scalars(
                select(SecondFactor)
                .where(SecondFactor.account_id == caller.principal.id, SecondFactor.confirmed.is_(True))
                .order_by(SecondFactor.created_at)
            )
        )


def remove_own_factor(access: Access, caller: Caller, factor_id: str) -> None:
    """Take one of the caller's own factors away, from a session that was begun with one.

    Raises Forbidden for a session of the password alone, WrongCode for a factor that is not there.
    """
    with access.database.transaction() as session:
        token, row = session.get(Token, caller.grant), session.get(SecondFactor, factor_id)
        if token is None or token.factors in ("", "pwd"):
            raise Forbidden("remove a second factor", "Sign in with a second factor first.")
        if row is None or row.account_id != caller.principal.id:
            raise WrongCode
        session.delete(row)
        revoke_where(access, session, Token.account_id == caller.principal.id, Token.id != caller.grant)
        note(session, access.clock, caller, "remove second factor", factor_id, detail=row.kind)


def finish_sign_in(access: Access, half_secret: str, code: str, address: str) -> str:
    """Begin the session that the password alone did not open; returns its secret.

    Raises Unauthenticated when the half session is over, AccountLocked, or WrongCode.
    """
    half = caller_of(access, half_secret, (HALF,), Door.WEB, address)
    account_id = half.principal.id
    require_unlocked(access, account_id, half.principal.name, address)
    with access.database.transaction() as session:
        factor = _matching(access, session, account_id, half.grant, code)
        if factor:
            revoke(access, session, half.grant)
            return open_session(access, session, account_id, half.principal.name, address, f"pwd {factor}")
    count_failure(access, account_id)
    note_sign_in(access, half.principal.name, address, REFUSED, "wrong code")
    raise WrongCode


def _matching(access: Access, session: Session, account_id: str, half_id: str, code: str) -> str:
    """The kind of factor that the code belongs to, spent by asking; empty: of none."""
    rows = session.scalars(
        select(SecondFactor).where(
            SecondFactor.account_id == account_id,
            SecondFactor.kind == TOTP,
            SecondFactor.confirmed.is_(True),
        )
    ).all()
    if any(_spend(access, row, code) for row in rows):
        return "otp"
    spent = revoke_where(
        access,
        session,
        Token.digest == digest_of(access, f"sms {half_id} {code.strip()}"),
        Token.account_id == account_id,
        Token.kind == SMS,
        Token.expires_at > access.clock.now(),
    )
    return SMS if spent else ""


def _spend(access: Access, row: SecondFactor, code: str) -> bool:
    """Whether a TOTP code is right and newer than the last one that counted; one step of drift either way."""
    totp = pyotp.TOTP(access.keys.open_bytes(row.secret, f"totp {row.id}").decode())
    now = int(access.clock.now().timestamp()) // STEP_S
    for step in (now - 1, now, now + 1):
        expected = totp.at(step * STEP_S)
        if step > row.counter and hmac.compare_digest(expected.encode(), code.strip().encode()):
            row.counter = step
            return True
    return False


def set_phone(access: Access, caller: Caller, account_id: str, phone: str) -> None:
    """Where an account's codes go; kept sealed. For security administrators.

    phone: as people write it; empty: nowhere. Raises Forbidden or InvalidPhone.
    """
    caller.require(Action("Account", "u"))
    phone = normal_phone(phone) if phone else ""
    with access.database.snapshot() as session:
        require_may_manage(caller, session.get_one(Account, account_id).role)
    sealed = access.keys.seal_bytes(phone.encode(), f"phone {account_id}") if phone else b""
    with access.database.transaction() as session:
        session.execute(update(Account).where(Account.id == account_id).values(phone=sealed))
        note(session, access.clock, caller, "update Account", account_id, detail="phone")
