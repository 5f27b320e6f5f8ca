"""Accounts: people who sign in with a name and a password.

Passwords are kept hashed (`access.passwords`). Wrong tries lock an account for a while, and an unknown name
costs the same time as a wrong password. The first accounts are made with one-time codes that only who
started the server saw.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from access.audit import DONE, REFUSED, note
from access.caller import Action, Caller, Door, Permissions, Principal, PrincipalKind, Reach
from access.certificate_authorities import is_trusted
from access.model import Account, AuditEntry, PasswordHistory, SecondFactor, Token
from access.passwords import hash_password, password_matches
from access.revocation_lists import CertificateRefused, issued_by
from access.roles import ADMINISTRATORS, BEYOND_SECURITY, ROLES
from access.tokens import (
    HALF,
    SESSION,
    SETUP,
    Access,
    caller_of,
    digest_of,
    issue,
    revoke_where,
    why_password_is_due,
)
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated
from kernel.row_codes import RowChanged
from kernel.suites import Suite

MOST_FAILURES = 5
LOCKED_FOR = timedelta(minutes=15)
FIRST_RUN_S = 86400.0
HALF_LIFE_S = 300.0
MOST_SESSIONS = 10  # at once; the oldest ends when there is one more
REMEMBERED_PASSWORDS = 5
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
    must_change: bool = False,
) -> str:
    """Make an account within the caller's transaction; returns its id.

    must_change: its holder did not choose the password.
    Raises InvalidLogin, LoginTaken, WeakPassword, or Forbidden for a role beyond the caller.
    """
    if not LOGIN.fullmatch(login) or role not in ROLES:
        raise InvalidLogin
    require_may_manage(caller, role)
    check_password(password, login)
    if session.scalar(select(Account.id).where(func.lower(Account.login) == login.lower())) is not None:
        raise LoginTaken
    account_id = new_id()
    session.add(
        Account(
            id=account_id,
            login=login,
            name=name or login,
            role=role,
            institution=institution,
            department=department,
            password=hash_password(access.keys.suite, password),
            must_change=must_change,
            failures=0,
            disabled=False,
            created_at=access.clock.now(),
        )
    )
    session.flush()
    note(session, access.clock, caller, "create Account", account_id, detail=f"{login} as {role}")
    return account_id


def require_may_manage(caller: Caller, role: str) -> None:
    """Raise Forbidden for a security administrator that would reach an account beyond it."""
    if caller.principal.role == "security_administrator" and role in BEYOND_SECURITY:
        raise Forbidden(f"manage accounts of the role {role}", "The command `cloudfilm account` does it.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a right password gave: a session, or half of one when a second factor is awaited."""

    secret: str
    awaits: tuple[str, ...] = ()  # kinds of second factor, any of which completes it


def sign_in(access: Access, login: str, password: str, address: str) -> SignedIn:
    """Begin a session; its secret is for the cookie.

    Raises WrongCredentials or AccountLocked; both are written into the audit trail.
    """
    with access.database.snapshot() as session:
        require_calm(access, session, address)
        account = session.scalar(select(Account).where(func.lower(Account.login) == login.lower()))
    known = account is not None and not account.disabled and bool(account.password)
    matches = _matches(
        account.password if account is not None and known else absent(access.keys.suite), password
    )
    if account is not None:
        require_unlocked(access, account.id, login, address)
    if account is None or not known or not matches:
        if account is not None:
            count_failure(access, account.id)
        note_sign_in(access, login, address, REFUSED, "wrong name or password")
        raise WrongCredentials
    require_as_left(access, account, address)
    with access.database.transaction() as session:
        awaits = factors_of(session, account)
        if awaits:
            half = issue(access, session, HALF, life_s=HALF_LIFE_S, account_id=account.id, label=address)
            return SignedIn(half, awaits)
        return SignedIn(open_session(access, session, account.id, account.name, address, "pwd"))


def factors_of(session: Session, account: Account) -> tuple[str, ...]:
    """The kinds of second factor that an account has."""
    kinds = session.scalars(
        select(SecondFactor.kind).where(
            SecondFactor.account_id == account.id, SecondFactor.confirmed.is_(True)
        )
    )
    return tuple(sorted({*kinds, *(("sms",) if account.phone else ())}))


class UnknownCertificate(Unauthenticated):
    """A client certificate that belongs to no account, or has ended."""

    def __init__(self) -> None:
        super().__init__("This certificate belongs to no account here.")


def fingerprint_of(pem: bytes, at: datetime) -> str:
    """SHA-256 of a certificate in hex. Raises UnknownCertificate for what is none, or has ended."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        if not certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc:
            raise UnknownCertificate
    except ValueError:
        raise UnknownCertificate from None
    return certificate.fingerprint(hashes.SHA256()).hex()


def sign_in_by_certificate(access: Access, pem: bytes, address: str) -> str:
    """Begin a session for the account of a client certificate whose key the TLS side saw used.

    Where the site names its authorities, one of them has to have issued it, SM2 ones included; none of
    their lists may have it. Raises UnknownCertificate, CertificateRefused or AccountLocked.
    """
    now = access.clock.now()
    fingerprint = fingerprint_of(pem, now)
    certificate, authorities = x509.load_pem_x509_certificate(pem), access.settings.certificate_authorities
    if authorities and not is_trusted(certificate, authorities, now):
        note_sign_in(access, fingerprint, address, REFUSED, "certificate of no known authority")
        raise UnknownCertificate
    try:
        access.revocations.require_good(certificate.public_bytes(Encoding.DER), now, is_pinned=True)
    except CertificateRefused as refusal:
        note_sign_in(access, fingerprint, address, REFUSED, f"certificate: {refusal.reason}")
        raise
    with access.database.snapshot() as session:
        account = session.scalar(
            select(Account).where(Account.certificate == fingerprint, Account.disabled.is_(False))
        )
    if account is None:
        note_sign_in(access, fingerprint, address, REFUSED, "unknown certificate")
        raise UnknownCertificate
    require_unlocked(access, account.id, account.login, address)
    require_as_left(access, account, address)
    with access.database.transaction() as session:
        return open_session(access, session, account.id, account.name, address, "swk", issued_by(certificate))


class InvalidCertificate(CloudfilmError):
    """What was given as an account's certificate is none, or has ended."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("This is no certificate in PEM that is in force.")


def set_certificate(access: Access, caller: Caller, login: str, pem: bytes) -> None:
    """Let an account sign in with a certificate; none takes it away. Raises Forbidden, InvalidCertificate."""
    try:
        fingerprint = fingerprint_of(pem, access.clock.now()) if pem else ""
    except UnknownCertificate:
        raise InvalidCertificate from None
    account_id = managed_account(access, caller, login).id
    with access.database.transaction() as session:
        session.get_one(Account, account_id).certificate = fingerprint
        session.flush()
        note(session, access.clock, caller, "update Account", account_id, detail="certificate")


def open_session(
    access: Access,
    session: Session,
    account_id: str,
    name: str,
    address: str,
    factors: str,
    certificate: str = "",
) -> str:
    """Begin a session for somebody whose identity was proven, within the caller's transaction.

    certificate: by which it was, as lists of revoked ones name it; the session ends when one does.

    Over the limit of parallel sessions the oldest end.
    """
    session.execute(update(Account).where(Account.id == account_id).values(failures=0, locked_until=None))
    alive = session.scalars(
        select(Token.id)
        .where(Token.account_id == account_id, Token.kind == SESSION, Token.revoked_at.is_(None))
        .order_by(Token.created_at.desc())
        .offset(MOST_SESSIONS - 1)
    ).all()
    if alive:
        revoke_where(access, session, Token.id.in_(alive))
    secret = issue(
        access,
        session,
        SESSION,
        life_s=access.settings.session_absolute_s,
        account_id=account_id,
        label=address,
        factors=factors,
        certificate=certificate,
    )
    caller = _visitor(account_id, name, address)
    note(session, access.clock, caller, "sign in", account_id, outcome=DONE, detail=factors)
    return secret


class TooManyTries(CloudfilmError):
    """Too many wrong tries from one address, whatever the names."""

    kind = Kind.TOO_MANY

    def __init__(self) -> None:
        super().__init__("Too many wrong tries from here. Wait a quarter of an hour.")


def require_calm(access: Access, session: Session, address: str) -> None:
    """Raise TooManyTries for an address that went through many names: a try costs us a password hash."""
    if not address:
        return
    tries = session.scalar(
        select(func.count())
        .select_from(AuditEntry)
        .where(
            AuditEntry.at > access.clock.now() - LOCKED_FOR,
            AuditEntry.action == "sign in",
            AuditEntry.outcome == REFUSED,
            AuditEntry.address == address,
        )
    )
    if (tries or 0) >= access.settings.failures_per_address:
        raise TooManyTries


def require_unlocked(access: Access, account_id: str, login: str, address: str) -> None:
    """Raise AccountLocked for an account with too many wrong tries, and note it."""
    with access.database.snapshot() as session:
        until = session.scalar(select(Account.locked_until).where(Account.id == account_id))
    if until is not None and until > access.clock.now():
        note_sign_in(access, login, address, REFUSED, "locked")
        raise AccountLocked


def require_as_left(access: Access, account: Account, address: str) -> None:
    """Raise RowChanged for an account that somebody changed behind our back, and note who came by it."""
    try:
        access.require_intact(account)
    except RowChanged:
        note_sign_in(access, account.login, address, REFUSED, "the account was changed outside of cloudfilm")
        raise


@lru_cache
def absent(suite: Suite) -> str:
    """What a password is compared with when the name is not known, so that it takes the same time."""
    return hash_password(suite, "no account has this password")


def _matches(kept: str, password: str) -> bool:
    return password_matches(kept, password[:MOST_PASSWORD])


def count_failure(access: Access, account_id: str) -> None:
    """Count one wrong try; enough of them lock the account for a while."""
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


def note_sign_in(access: Access, login: str, address: str, outcome: str, detail: str) -> None:
    """Write a try to sign in into the audit trail."""
    with access.database.transaction() as session:
        printable = "".join(each for each in login[:64] if each.isprintable())
        note(
            session, access.clock, _visitor("", printable, address), "sign in", outcome=outcome, detail=detail
        )


def _visitor(account_id: str, name: str, address: str) -> Caller:
    principal = Principal(PrincipalKind.ACCOUNT, account_id, name)
    return Caller(principal, Door.WEB, Permissions(), Reach.nowhere(), address=address)


class PasswordUsedBefore(CloudfilmError):
    """One of the last few passwords again."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__(f"This was one of your last {REMEMBERED_PASSWORDS} passwords; choose another one.")


def change_password(access: Access, caller: Caller, old: str, new: str) -> None:
    """Change the caller's own password; its other sessions and tokens end.

    Raises WrongCredentials, AccountLocked, WeakPassword or PasswordUsedBefore.
    """
    with access.database.snapshot() as session:
        account = session.get(Account, caller.principal.id)
        if account is None:
            raise WrongCredentials
        earlier = session.scalars(
            select(PasswordHistory.password)
            .where(PasswordHistory.account_id == account.id)
            .order_by(PasswordHistory.id.desc())
            .limit(REMEMBERED_PASSWORDS - 1)
        ).all()
    require_unlocked(access, account.id, account.login, caller.address)
    if not _matches(account.password, old):
        count_failure(access, account.id)
        raise WrongCredentials
    check_password(new, account.login)
    if any(_matches(hashed, new) for hashed in (account.password, *earlier)):
        raise PasswordUsedBefore
    _keep_password(access, caller, account.id, new, must_change=False)


def choose_password(access: Access, caller: Caller, new: str) -> None:
    """The first password of the caller's own account, which was signed in to by other means until now.

    Raises WrongCredentials where there is a password already, or WeakPassword.
    """
    with access.database.snapshot() as session:
        account = session.get(Account, caller.principal.id)
    if account is None or account.password:
        raise WrongCredentials
    check_password(new, account.login)
    _keep_password(access, caller, account.id, new, must_change=False)


def reset_password(access: Access, caller: Caller, login: str, new: str) -> None:
    """Give an account a password that its holder must change. For security administrators.

    Raises Forbidden, NoSuchAccount or WeakPassword.
    """
    account = managed_account(access, caller, login)
    check_password(new, login)
    _keep_password(access, caller, account.id, new, must_change=True)


def _keep_password(access: Access, caller: Caller, account_id: str, new: str, *, must_change: bool) -> None:
    hashed, now = hash_password(access.keys.suite, new), access.clock.now()
    with access.database.transaction() as session:
        account = session.get_one(Account, account_id)
        if account.password:
            session.execute(
                insert(PasswordHistory).values(account_id=account_id, password=account.password, at=now)
            )
        account.password, account.password_changed_at, account.must_change = hashed, now, must_change
        account.failures, account.locked_until = 0, None
        session.flush()
        revoke_where(access, session, Token.account_id == account_id, Token.id != caller.grant)
        note(session, access.clock, caller, "change password", account_id)


def password_due(access: Access, caller: Caller) -> str:
    """Why the caller's password has to be changed before anything else; empty: it has not."""
    with access.database.snapshot() as session:
        row = session.execute(
            select(Account.must_change, Token.factors, Account.password_changed_at, Account.created_at)
            .join(Token, Token.account_id == Account.id)
            .where(Account.id == caller.principal.id, Token.id == caller.grant)
        ).first()
    if row is None:
        return ""
    must_change, factors, chosen_at, made_at = row
    now = access.clock.now()
    return why_password_is_due(access.settings, must_change, factors, chosen_at or made_at, now)


class NoSuchAccount(CloudfilmError):
    """No account has this name."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("No account has this name.")


def account_of(access: Access, login: str) -> Account:
    """The account of a name. Raises NoSuchAccount."""
    with access.database.snapshot() as session:
        account = session.scalar(select(Account).where(func.lower(Account.login) == login.lower()))
    if account is None:
        raise NoSuchAccount
    return account


def managed_account(access: Access, caller: Caller, login: str) -> Account:
    """The account that the caller is about to change. Raises Forbidden or NoSuchAccount."""
    caller.require(Action("Account", "u"))
    account = account_of(access, login)
    require_may_manage(caller, account.role)
    return account


def list_accounts(access: Access, caller: Caller) -> tuple[Account, ...]:
    """All accounts by name. Raises Forbidden."""
    caller.require(Action("Account", "s"))
    with access.database.snapshot() as session:
        return tuple(session.scalars(select(Account).order_by(Account.login)))


CHANGEABLE = frozenset({"name", "role", "institution", "department", "fhir_user", "patients", "disabled"})


def change_account(access: Access, caller: Caller, login: str, **values: str | bool) -> None:
    """Change what an account is; its sessions and tokens end, and its holder signs in anew.

    values: of CHANGEABLE. An account has one role, so nobody holds two administrators' (GB/T 22239 8.1.4.2).
    Nobody changes their own account. Raises Forbidden, NoSuchAccount or InvalidLogin.
    """
    account = managed_account(access, caller, login)
    if account.id == caller.principal.id:
        raise Forbidden("change your own account", "Another security administrator has to.")
    role = str(values.get("role", account.role))
    if role not in ROLES or set(values) - CHANGEABLE:
        raise InvalidLogin
    require_may_manage(caller, role)
    with access.database.transaction() as session:
        row = session.get_one(Account, account.id)
        for name, value in values.items():
            setattr(row, name, value)
        session.flush()
        revoke_where(access, session, Token.account_id == account.id)
        note(session, access.clock, caller, "update Account", account.id, detail=", ".join(sorted(values)))


def revoke_own(access: Access, caller: Caller, token_id: str) -> None:
    """End one of the caller's own sessions or apps, with all that came from it. Raises NoSuchToken."""
    with access.database.transaction() as session:
        token = session.scalar(
            select(Token).where(Token.id == token_id, Token.account_id == caller.principal.id)
        )
        if token is None:
            raise NoSuchToken
        same = or_(Token.id == token.id, and_(Token.family == token.family, Token.family != ""))
        revoke_where(access, session, same)
        note(session, access.clock, caller, "revoke Token", token_id)


class NoSuchToken(CloudfilmError):
    """It is not there, or somebody else's."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("This device or app is not there any more.")


def sign_out(access: Access, secret: str) -> None:
    """End the session of a cookie; nothing happens when it has ended already."""
    with access.database.transaction() as session:
        token = session.scalar(
            select(Token).where(Token.digest == digest_of(access, secret), Token.revoked_at.is_(None))
        )
        if token is not None:
            token.revoked_at = access.clock.now()
            note(session, access.clock, _visitor(token.account_id, "", ""), "sign out", token.account_id)


def roles_to_fill(access: Access, session: Session) -> tuple[str, ...]:
    """The roles of the first accounts that nobody has yet: one for everything, or three apart."""
    if access.settings.administrators == "one":
        return () if session.scalar(select(Account.id).limit(1)) is not None else ("operator",)
    held = set(session.scalars(select(Account.role).where(Account.role.in_(ADMINISTRATORS)).distinct()))
    return tuple(role for role in ADMINISTRATORS if role not in held)


def first_run_codes(access: Access) -> dict[str, str]:
    """A one-time code for each first account by its role; none once all are there. Earlier codes end."""
    with access.database.transaction() as session:
        roles = roles_to_fill(access, session)
        if not roles:
            return {}
        revoke_where(access, session, Token.kind == SETUP)
        return {
            role: issue(access, session, SETUP, life_s=FIRST_RUN_S, role=role, label="first run")
            for role in roles
        }


def set_up(access: Access, code: str, login: str, password: str, address: str) -> str:
    """Make the first account of the code's role and sign it in; returns the session's secret.

    Raises Unauthenticated for a wrong or used code, InvalidLogin, LoginTaken or WeakPassword.
    """
    caller = caller_of(access, code, (SETUP,), Door.WEB, address)
    role = caller.principal.role
    with access.database.transaction() as session:
        if role not in roles_to_fill(access, session):
            raise Unauthenticated
        create_account(access, session, caller, login, password, role)
        revoke_where(access, session, Token.id == caller.grant)
    return sign_in(access, login, password, address).secret
