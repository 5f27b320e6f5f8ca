"""Accounts: people who sign in with a name and a password.

Passwords are kept as argon2id. Wrong tries lock an account for a while, and an unknown name costs the
same time
as a wrong password. The very first account is made with a one-time code that only who started the server saw.
"""

import re
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from access.audit import DONE, REFUSED, note
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind, Reach
from access.model import Account, Token
from access.roles import ROLES
from access.tokens import SESSION, SETUP, Access, caller_of, digest_of, issue
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind, Unauthenticated

HASHER = PasswordHasher()
ABSENT = HASHER.hash("no account has this password")  # compared with when the name is not known

MOST_FAILURES = 5
LOCKED_FOR = timedelta(minutes=15)
FIRST_RUN_S = 86400.0
LOGIN = re.compile(r"[A-Za-z0-9._@-]{2,64}")
LEAST_PASSWORD, LONG_PASSWORD, MOST_PASSWORD = 8, 16, 256
CLASSES = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")


class WrongCredentials(Unauthenticated):
    """The name or the password is wrong; which of them is not said."""

    def __init__(self) -> None:
        super().__init__("The name or the password is wrong.")


class AccountLocked(CloudfilmError):
    """Too many wrong passwords in a row."""

    kind = Kind.TOO_MANY

    def __init__(self) -> None:
        super().__init__("Too many wrong tries. Wait a quarter of an hour, or ask the administrator.")


class WeakPassword(CloudfilmError):
    """A password that is too easy to guess (GB/T 22239 8.1.4.1 a)."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__(
            f"Choose at least {LEAST_PASSWORD} characters of three kinds (small, capital, digit, other), or "
            f"{LONG_PASSWORD} of any kind, and not your name."
        )


class InvalidLogin(CloudfilmError):
    """A name that an account cannot have."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("A sign-in name has 2 to 64 letters, digits and . _ @ -")


class LoginTaken(CloudfilmError):
    """Another account has this name."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("Another account has this name; choose another one.")


def check_password(password: str, login: str) -> None:
    """Raise WeakPassword for one that is too easy to guess."""
    kinds = sum(bool(re.search(each, password)) for each in CLASSES)
    strong = len(password) >= LONG_PASSWORD or (len(password) >= LEAST_PASSWORD and kinds >= 3)
    if not strong or len(password) > MOST_PASSWORD or login.lower() in password.lower():
        raise WeakPassword


def create_account(
    access: Access,
    session: Session,
    caller: Caller,
    login: str,
    password: str,
    role: str,
    *,
    name: str = "",
    institution: str = "",
    department: str = "",
) -> str:
    """Make an account within the caller's transaction; returns its id.

    Raises InvalidLogin, LoginTaken or WeakPassword.
    """
    if not LOGIN.fullmatch(login) or role not in ROLES:
        raise InvalidLogin
    check_password(password, login)
    if session.scalar(select(Account.id).where(func.lower(Account.login) == login.lower())) is not None:
        raise LoginTaken
    account_id = new_id()
    session.execute(
        insert(Account).values(
            id=account_id,
            login=login,
            name=name or login,
            role=role,
            institution=institution,
            department=department,
            password=HASHER.hash(password),
            failures=0,
            disabled=False,
            created_at=access.clock.now(),
        )
    )
    note(session, access.clock, caller, "create Account", account_id, detail=f"{login} as {role}")
    return account_id


def sign_in(access: Access, login: str, password: str, address: str) -> str:
    """Begin a session; returns its secret for the cookie.

    Raises WrongCredentials or AccountLocked; both are written into the audit trail.
    """
    with access.database.snapshot() as session:
        account = session.scalar(select(Account).where(func.lower(Account.login) == login.lower()))
    known = account is not None and not account.disabled and bool(account.password)
    matches = _matches(account.password if account is not None and known else ABSENT, password)
    now = access.clock.now()
    if account is not None and account.locked_until is not None and account.locked_until > now:
        _note(access, login, address, REFUSED, "locked")
        raise AccountLocked
    if account is None or not known or not matches:
        if account is not None:
            _count_failure(access, account.id)
        _note(access, login, address, REFUSED, "wrong name or password")
        raise WrongCredentials
    with access.database.transaction() as session:
        session.execute(update(Account).where(Account.id == account.id).values(failures=0, locked_until=None))
        secret = issue(
            access, session, SESSION, life_s=access.settings.session_absolute_s, account_id=account.id
        )
        note(
            session,
            access.clock,
            _visitor(account.id, account.name, address),
            "sign in",
            account.id,
            outcome=DONE,
        )
    return secret


def _matches(hashed: str, password: str) -> bool:
    try:
        return HASHER.verify(hashed, password[:MOST_PASSWORD])
    except (VerifyMismatchError, InvalidHashError):
        return False


def _count_failure(access: Access, account_id: str) -> None:
    with access.database.transaction() as session:
        failures = session.scalar(
            update(Account)
            .where(Account.id == account_id)
            .values(failures=Account.failures + 1)
            .returning(Account.failures)
        )
        if (failures or 0) >= MOST_FAILURES:
            until = access.clock.now() + LOCKED_FOR
            session.execute(
                update(Account).where(Account.id == account_id).values(failures=0, locked_until=until)
            )


def _note(access: Access, login: str, address: str, outcome: str, detail: str) -> None:
    with access.database.transaction() as session:
        printable = "".join(each for each in login[:64] if each.isprintable())
        note(
            session, access.clock, _visitor("", printable, address), "sign in", outcome=outcome, detail=detail
        )


def _visitor(account_id: str, name: str, address: str) -> Caller:
    principal = Principal(PrincipalKind.ACCOUNT, account_id, name)
    return Caller(principal, Door.WEB, Permissions(), Reach.nowhere(), address=address)


def sign_out(access: Access, secret: str) -> None:
    """End the session of a cookie; nothing happens when it has ended already."""
    with access.database.transaction() as session:
        token = session.scalar(
            select(Token).where(Token.digest == digest_of(access, secret), Token.revoked_at.is_(None))
        )
        if token is not None:
            token.revoked_at = access.clock.now()
            note(session, access.clock, _visitor(token.account_id, "", ""), "sign out", token.account_id)


def has_accounts(session: Session) -> bool:
    """Whether anybody can sign in yet."""
    return session.scalar(select(Account.id).limit(1)) is not None


def first_run_code(access: Access) -> str:
    """A one-time code for the first account; empty once there is one. An earlier code no longer counts."""
    with access.database.transaction() as session:
        if has_accounts(session):
            return ""
        now = access.clock.now()
        session.execute(
            update(Token).where(Token.kind == SETUP, Token.revoked_at.is_(None)).values(revoked_at=now)
        )
        return issue(access, session, SETUP, life_s=FIRST_RUN_S, label="first run")


def set_up(access: Access, code: str, login: str, password: str, address: str) -> str:
    """Make the first account, which may do everything, and sign it in; returns the session's secret.

    Raises Unauthenticated for a wrong or used code, InvalidLogin or WeakPassword.
    """
    caller = caller_of(access, code, (SETUP,), Door.WEB, address)
    with access.database.transaction() as session:
        if has_accounts(session):
            raise Unauthenticated
        create_account(access, session, caller, login, password, "operator")
        session.execute(update(Token).where(Token.id == caller.grant).values(revoked_at=access.clock.now()))
    return sign_in(access, login, password, address)
