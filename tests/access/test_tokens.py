"""Tokens: what ends one ends it at the next request."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import select

from access.accounts import create_account
from access.caller import Action, Caller, Door
from access.model import Account, Token
from access.revocation_lists import RevocationLists, issued_by
from access.tokens import ACCESS, SESSION, Access, caller_of, digest_of, issue, revoke, revoke_where
from kernel.clock import FixedClock
from kernel.errors import Unauthenticated
from tests.access.conftest import MakeAccount
from tests.certificates import Authority

READ = Action("ImagingStudy", "r")


def new_token(access: Access, kind: str = ACCESS, **given: Any) -> str:
    values: dict[str, Any] = {"life_s": 600.0, "role": "radiologist", "scope": "user/*.rs", **given}
    with access.database.transaction() as session:
        return issue(access, session, kind, **values)


def ask(access: Access, secret: str, kind: str = ACCESS) -> Caller:
    return caller_of(access, secret, (kind,), Door.DICOMWEB, "127.0.0.1")


def end_by_revocation(access: Access, secret: str) -> None:
    with access.database.transaction() as session:
        token_id = session.scalar(select(Token.id).where(Token.digest == digest_of(access, secret)))
        assert revoke(access, session, token_id or "")


def end_by_family(access: Access, _: str) -> None:
    with access.database.transaction() as session:
        assert revoke_where(access, session, Token.family == "f") == 1


def end_by_account(access: Access, _: str) -> None:
    with access.database.transaction() as session:
        session.scalars(select(Account)).one().disabled = True


@pytest.mark.parametrize("end", [end_by_revocation, end_by_family, end_by_account])
def test_an_ended_token_is_refused_at_the_next_request(
    access: Access, make_account: MakeAccount, end: Callable[[Access, str], None]
) -> None:
    secret = new_token(access, account_id=make_account("reader", "radiologist"), family="f")
    assert ask(access, secret).may(READ)

    end(access, secret)

    with pytest.raises(Unauthenticated):
        ask(access, secret)


def test_a_session_and_its_apps_end_with_the_certificate_that_it_began_with(
    access: Access, make_account: MakeAccount, clock: FixedClock, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    shown = x509.load_pem_x509_certificate(authority.issue("doctor").certificate.read_bytes())
    lists = RevocationLists((str(authority.revocation_list(at=clock.now())),), (str(authority.certificate),))
    access = replace(access, revocations=lists)
    account_id = make_account("doctor", "radiologist")
    session = new_token(access, SESSION, account_id=account_id, certificate=issued_by(shown))
    with access.database.snapshot() as reading:
        session_id = reading.scalars(select(Token.id)).one()
    app = new_token(access, account_id=account_id, session_id=session_id)
    offline = new_token(access, account_id=account_id)
    ask(access, session, SESSION)
    ask(access, app)

    authority.revocation_list(authority.issue("doctor"), at=clock.now())
    clock.advance(timedelta(minutes=1))

    for secret, kind in ((session, SESSION), (app, ACCESS)):
        with pytest.raises(Unauthenticated):
            ask(access, secret, kind)
    ask(access, offline)  # outlives the sign-in that allowed it


def test_a_changed_role_holds_at_the_next_request(access: Access, make_account: MakeAccount) -> None:
    secret = new_token(access, account_id=make_account("reader", "radiologist"))
    assert ask(access, secret).may(READ)

    with access.database.transaction() as session:
        session.scalars(select(Account)).one().role = "audit_administrator"

    assert not ask(access, secret).may(READ)


def test_a_token_ends_at_its_time(access: Access, clock: FixedClock) -> None:
    secret = new_token(access)
    clock.advance(timedelta(seconds=599))
    ask(access, secret)
    clock.advance(timedelta(seconds=1))

    with pytest.raises(Unauthenticated):
        ask(access, secret)


def test_an_idle_session_ends_and_a_used_one_goes_on(
    access: Access, clock: FixedClock, make_account: MakeAccount
) -> None:
    secret = new_token(access, SESSION, account_id=make_account("reader", "radiologist"), life_s=43200.0)
    for _ in range(3):
        clock.advance(timedelta(minutes=25))
        ask(access, secret, SESSION)
    clock.advance(timedelta(minutes=31))

    with pytest.raises(Unauthenticated):
        ask(access, secret, SESSION)


def test_a_token_of_a_session_ends_with_it(access: Access, make_account: MakeAccount) -> None:
    account_id = make_account("reader", "radiologist")
    session_secret = new_token(access, SESSION, account_id=account_id, life_s=43200.0)
    session_id = ask(access, session_secret, SESSION).grant
    secret = new_token(access, account_id=account_id, session_id=session_id)
    ask(access, secret)

    end_by_revocation(access, session_secret)

    with pytest.raises(Unauthenticated):
        ask(access, secret)


@pytest.mark.parametrize("wrong", ["", "x", "x" * 5000, "a\x00b", "令牌"])
def test_a_secret_that_nobody_was_given_is_refused(access: Access, wrong: str) -> None:
    new_token(access)

    with pytest.raises(Unauthenticated):
        ask(access, wrong)


def test_a_token_is_good_for_its_own_use_only(access: Access) -> None:
    with pytest.raises(Unauthenticated):
        ask(access, new_token(access, SESSION), ACCESS)


def test_the_secret_itself_is_not_kept(access: Access) -> None:
    secret = new_token(access)

    with access.database.snapshot() as session:
        row = session.scalars(select(Token)).one()
    assert secret.encode() not in row.digest
    assert secret not in {row.id, row.label, row.context, row.scope}


def test_two_people_cannot_have_one_name(access: Access, operator: Caller, make_account: MakeAccount) -> None:
    from access.accounts import LoginTaken

    make_account("reader", "radiologist")

    with access.database.transaction() as session, pytest.raises(LoginTaken):
        create_account(access, session, operator, "READER", "Another-Pass-9", "physician")
