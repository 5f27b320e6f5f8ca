"""Patients' accounts: signed in to by a code to the phone, by WeChat, or by a password with a second factor.

A phone or a WeChat openid is a way to an account and no proof of whose records are whose: a record comes to
an account when its name and the end of its identity number (or its number at the hospital) were told, from a
phone that is on the record. Who proves the same phone again finds the same account.
"""

import secrets

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from access.accounts import open_session
from access.audit import note
from access.caller import Caller
from access.grant_model import AccountBinding
from access.model import Account
from access.phones import masked, phone_index
from access.rates import Limit, TooOften, within_limits
from access.tokens import Access
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind

PHONE, WECHAT = "phone", "wechat"
CLAIMS_A_DAY = 5


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
    with access.database.transaction() as session:
        account = account_of_binding(session, PHONE, index) or _new_account(access, session, phone, index)
        if openid:
            _bind(access, session, account.id, WECHAT, openid_index(access, openid), openid)
        factors = "sms" if not openid else "sms wechat"
        return open_session(access, session, account.id, account.name, address, factors)


def sign_in_by_openid(access: Access, openid: str, address: str) -> str:
    """Begin a session for a WeChat user; empty when the openid leads to no account yet."""
    with access.database.transaction() as session:
        account = account_of_binding(session, WECHAT, openid_index(access, openid))
        if account is None:
            return ""
        return open_session(access, session, account.id, account.name, address, "wechat")


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
    session.execute(
        update(Account).where(Account.id == caller.principal.id).values(patients=",".join(sorted(patients)))
    )
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
