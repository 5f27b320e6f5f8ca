"""Patients' accounts: signed in to by a code to the phone, by WeChat, or by a password with a second factor.

A phone or a WeChat openid is a way to an account and no proof of whose records are whose: a record comes to
an account when its name and the end of its identity number (or its number at the hospital) were told, from a
phone that is on the record. Who proves the same phone again finds the same account.
"""

import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from access.accounts import change_password, choose_password, open_session, require_as_left
from access.audit import note
from access.caller import Caller
from access.grant_model import AccountBinding
from access.model import Account, Token
from access.phones import InvalidPhone, masked, normal_phone, phone_index
from access.rates import Limit, TooOften, within_limits
from access.tokens import Access
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind

PHONE, WECHAT, EMAIL = "phone", "wechat", "email"
BY_CODE = "sms"  # first of a session's factors, when it was begun by a code to the phone
FRESH = timedelta(minutes=15)  # for how long after it a password may be chosen
EMAIL_CODE_S = 900
MOST_EMAIL = 200  # characters
EMAIL_FORM = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+\.[^@\s<>,;\"]+")
CLAIMS_A_DAY = 5


class SignInAgain(CloudfilmError):
    """What only somebody may do who proved the phone a short while ago."""

    kind = Kind.FORBIDDEN

    def __init__(self) -> None:
        super().__init__("Sign in with a code to your phone first.")


class InvalidEmail(CloudfilmError):
    """A text that is no e-mail address."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("This is not an e-mail address.")


class NotOnRecord(CloudfilmError):
    """What was told fits no record that this phone is on; which part of it is not said."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("No record fits what you entered. Check it, or ask at the hospital's desk.")


def openid_index(access: Access, openid: str) -> str:
    """The keyed hash under which a WeChat openid is found again."""
    return access.keys.blind_index(f"wechat {openid}")


def account_of_binding(session: Session, kind: str, index: str) -> Account | None:
    """The account that a phone or openid leads to."""
    return session.scalar(
        select(Account)
        .join(AccountBinding, AccountBinding.account_id == Account.id)
        .where(AccountBinding.kind == kind, AccountBinding.value_index == index, Account.disabled.is_(False))
    )


def sign_in_by_phone(access: Access, phone: str, address: str, openid: str = "") -> str:
    """Begin a session for a phone that was just proven, making its account at the first time.

    openid: of the WeChat user in whose browser it was proven; the next time it alone signs in.
    """
    index = phone_index(access.keys, phone)
    _require_as_left(access, PHONE, index, address)
    with access.database.transaction() as session:
        account = account_of_binding(session, PHONE, index) or _new_account(access, session, phone, index)
        if openid:
            _bind(access, session, account.id, WECHAT, openid_index(access, openid), openid)
        factors = "sms" if not openid else "sms wechat"
        return open_session(access, session, account.id, account.name, address, factors)


def _require_as_left(access: Access, kind: str, index: str, address: str) -> None:
    with access.database.snapshot() as session:
        account = account_of_binding(session, kind, index)
    if account is not None:
        require_as_left(access, account, address)


def sign_in_by_openid(access: Access, openid: str, address: str) -> str:
    """Begin a session for a WeChat user; empty when the openid leads to no account yet."""
    index = openid_index(access, openid)
    _require_as_left(access, WECHAT, index, address)
    with access.database.transaction() as session:
        account = account_of_binding(session, WECHAT, index)
        if account is None:
            return ""
        return open_session(access, session, account.id, account.name, address, "wechat")


def login_of(access: Access, text: str) -> str:
    """The login name of the account that a phone number leads to; any other text is one itself."""
    try:
        index = phone_index(access.keys, normal_phone(text))
    except InvalidPhone:
        return text
    with access.database.snapshot() as session:
        account = account_of_binding(session, PHONE, index)
        return account.login if account is not None else text


@dataclass(frozen=True, slots=True)
class Ways:
    """How somebody signs in to an account, and is told of things: what its page shows."""

    phones: tuple[str, ...]  # masked
    has_wechat: bool
    has_password: bool
    email: str


def ways_of(access: Access, caller: Caller) -> Ways:
    """The caller's own ways to its account."""
    with access.database.snapshot() as session:
        account = session.get_one(Account, caller.principal.id)
        return Ways(
            tuple(masked(phone) for phone in bound(access, session, account.id, PHONE)),
            bool(bound(access, session, account.id, WECHAT)),
            bool(account.password),
            next(iter(bound(access, session, account.id, EMAIL)), ""),
        )


def set_password(access: Access, caller: Caller, old: str, new: str) -> None:
    """Give the caller's own account a password, beside phone and WeChat.

    A code to its phone is asked for besides from then on; an authenticator or a security key may be added.
    The first password needs a session that a code began a short while ago, a later one the password before.
    Raises SignInAgain, WrongCredentials, AccountLocked, WeakPassword or PasswordUsedBefore.
    """
    with access.database.transaction() as session:
        account = session.get_one(Account, caller.principal.id)
        begun = session.get(Token, caller.grant)
        is_first = not account.password
        if is_first and (
            begun is None
            or begun.factors.split()[:1] != [BY_CODE]
            or begun.created_at < access.clock.now() - FRESH
        ):
            raise SignInAgain
        for phone in bound(access, session, account.id, PHONE)[:1]:
            account.phone = access.keys.seal_bytes(phone.encode(), f"phone {account.id}")
    if is_first:
        choose_password(access, caller, new)
    else:
        change_password(access, caller, old, new)


def forget_binding(access: Access, caller: Caller, kind: str) -> None:
    """WeChat no longer signs in to the caller's account, or an e-mail address is no longer told of things."""
    if kind not in (WECHAT, EMAIL):
        return
    with access.database.transaction() as session:
        session.execute(
            delete(AccountBinding).where(
                AccountBinding.account_id == caller.principal.id, AccountBinding.kind == kind
            )
        )
        note(session, access.clock, caller, "remove sign-in", caller.principal.id, detail=kind)


def ask_for_email(
    access: Access, caller: Caller, address: str, send: Callable[[Session, str, dict[str, str]], None]
) -> str:
    """Send a code to an e-mail address; returns what the browser shows again with the code.

    Raises InvalidEmail or TooOften.
    """
    address = address.strip()
    if len(address) > MOST_EMAIL or EMAIL_FORM.fullmatch(address) is None:
        raise InvalidEmail
    code, now = f"{secrets.randbelow(10**6):06d}", access.clock.now()
    with access.database.transaction() as session:
        within = within_limits(session, now, f"email {caller.principal.id}", Limit(5, 3600))
        if within:
            send(session, address, {"code": code, "minutes": str(EMAIL_CODE_S // 60)})
    if not within:
        raise TooOften
    asked = {"address": address, "code": code, "until": int(now.timestamp()) + EMAIL_CODE_S}
    return access.keys.seal_bytes(json.dumps(asked).encode(), f"email {caller.principal.id}").hex()


def prove_email(access: Access, caller: Caller, asked: str, code: str) -> bool:
    """Tell the account by this address from now on, if the code is right. Raises TooOften for many tries."""
    now, account_id = access.clock.now(), caller.principal.id
    with access.database.transaction() as session:
        within = within_limits(session, now, f"email try {account_id}", Limit(10, 3600))
    if not within:
        raise TooOften
    try:
        told = json.loads(access.keys.open_bytes(bytes.fromhex(asked), f"email {account_id}"))
    except (ValueError, CloudfilmError):
        return False
    right = hmac.compare_digest(told["code"].encode(), code.strip().encode())
    if not right or told["until"] < now.timestamp():
        return False
    with access.database.transaction() as session:
        session.execute(
            delete(AccountBinding).where(
                AccountBinding.account_id == account_id, AccountBinding.kind == EMAIL
            )
        )
        # one address may be told of several accounts, as in a family
        index = access.keys.blind_index(f"email {account_id} {told['address'].lower()}")
        _bind(access, session, account_id, EMAIL, index, told["address"])
        note(session, access.clock, caller, "add e-mail address", account_id)
    return True


def _new_account(access: Access, session: Session, phone: str, index: str) -> Account:
    account = Account(
        id=new_id(),
        login=f"patient-{secrets.token_hex(8)}",
        name=masked(phone),
        role="patient",
        password="",
        failures=0,
        disabled=False,
        patients="",
        created_at=access.clock.now(),
    )
    session.add(account)
    session.flush()
    _bind(access, session, account.id, PHONE, index, phone)
    return account


def _bind(access: Access, session: Session, account_id: str, kind: str, index: str, value: str) -> None:
    known = session.get(AccountBinding, (kind, index))
    if known is None:
        sealed = access.keys.seal_bytes(value.encode(), f"binding {kind}")
        session.execute(
            insert(AccountBinding).values(
                kind=kind, value_index=index, account_id=account_id, sealed=sealed,
                created_at=access.clock.now(),
            )
        )  # fmt: skip
    elif known.account_id != account_id:
        known.account_id = account_id


def bound(access: Access, session: Session, account_id: str, kind: str) -> tuple[str, ...]:
    """The phones or openids that lead to an account, for messages to it."""
    rows = session.scalars(
        select(AccountBinding.sealed).where(
            AccountBinding.account_id == account_id, AccountBinding.kind == kind
        )
    )
    return tuple(access.keys.open_bytes(sealed, f"binding {kind}").decode() for sealed in rows)


def count_claim(access: Access, caller: Caller) -> None:
    """Count one try to add a record to the caller's account. Raises TooOften."""
    with access.database.transaction() as session:
        limit = Limit(CLAIMS_A_DAY, 86400)
        within = within_limits(session, access.clock.now(), f"claim {caller.principal.id}", limit)
    if not within:
        raise TooOften


def set_patients(access: Access, session: Session, caller: Caller, patients: frozenset[str]) -> None:
    """The records that the caller's own account holds from now on, within the caller's transaction."""
    session.get_one(Account, caller.principal.id).patients = ",".join(sorted(patients))
    session.flush()
    note(session, access.clock, caller, "claim Patient", detail=f"{len(patients)} records")


def accounts_with(session: Session, patients: frozenset[str]) -> tuple[str, ...]:
    """The accounts that hold one of these records; they are few, and the column is a list."""
    found = set()
    for patient in patients:
        found |= set(
            session.scalars(
                select(Account.id).where(
                    Account.role == "patient", Account.disabled.is_(False),
                    Account.patients.contains(patient, autoescape=True),
                )
            )
        )  # fmt: skip
    return tuple(sorted(found))
