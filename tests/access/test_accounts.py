"""Accounts: signing in, being locked out, the first one, passwords and second factors."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pyotp
import pytest
from sqlalchemy import select, update

from access.accounts import (
    AccountLocked,
    PasswordUsedBefore,
    TooManyTries,
    WeakPassword,
    WrongCredentials,
    change_account,
    change_password,
    check_password,
    create_account,
    first_run_codes,
    open_session,
    password_due,
    reset_password,
    set_certificate,
    set_up,
    sign_in,
    sign_out,
)
from access.caller import Caller, Door
from access.model import Account, AuditEntry, SecondFactor
from access.roles import ADMINISTRATORS, ROLES
from access.second_factor import (
    TooManyCodes,
    WrongCode,
    confirm_totp,
    finish_sign_in,
    offer_totp,
    remove_second_factors,
    send_code,
    set_phone,
)
from access.tokens import SESSION, Access, caller_of
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock
from kernel.errors import Forbidden, Unauthenticated
from tests.access.conftest import PASSWORD, MakeAccount


def enter(access: Access, login: str = "reader", password: str = PASSWORD) -> Caller:
    return caller_of(access, sign_in(access, login, password, "10.0.0.1").secret, (SESSION,), Door.WEB, "")


def test_a_session_is_the_accounts_own(access: Access, make_account: MakeAccount) -> None:
    account_id = make_account("reader", "radiologist", institution="MAIN")

    assert enter(access).principal.id == account_id
    assert enter(access, "READER").principal.role == "radiologist"


@pytest.mark.parametrize(
    ("login", "password"), [("reader", "wrong"), ("nobody", PASSWORD), ("", ""), ("a'--", "x")]
)
def test_a_wrong_name_or_password_is_refused_alike(
    access: Access, make_account: MakeAccount, login: str, password: str
) -> None:
    make_account("reader", "radiologist")

    with pytest.raises(WrongCredentials) as refusal:
        sign_in(access, login, password, "10.0.0.1")
    assert str(refusal.value) == "The name or the password is wrong."
    with access.database.snapshot() as session:
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())).first()
    assert entry is not None
    assert (entry.action, entry.outcome, entry.address) == ("sign in", "refused", "10.0.0.1")


def test_five_wrong_tries_lock_an_account_for_a_while_even_for_the_right_password(
    access: Access, make_account: MakeAccount, clock: FixedClock
) -> None:
    make_account("reader", "radiologist")
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            sign_in(access, "reader", "wrong", "10.0.0.1")

    with pytest.raises(AccountLocked):
        sign_in(access, "reader", PASSWORD, "10.0.0.1")
    clock.advance(timedelta(minutes=15))
    enter(access)


def test_an_address_that_goes_through_many_names_has_to_wait(
    access: Access, make_account: MakeAccount, clock: FixedClock
) -> None:
    make_account("reader", "radiologist")
    few = replace(access, settings=replace(access.settings, failures_per_address=3))
    for number in range(3):
        with pytest.raises(WrongCredentials):
            sign_in(few, f"name{number}", "wrong", "10.0.0.66")

    with pytest.raises(TooManyTries):
        sign_in(few, "reader", PASSWORD, "10.0.0.66")
    assert sign_in(few, "reader", PASSWORD, "10.0.0.1")
    clock.advance(timedelta(minutes=16))
    assert sign_in(few, "reader", PASSWORD, "10.0.0.66")


@pytest.mark.parametrize(
    "password", ["", "short1A", "alllowercase", "12345678", "Reader-2024x-reader", "x" * 300, "abcdefg1"]
)
def test_a_password_that_is_easy_to_guess_is_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_password(password, "reader")


def test_the_first_account_is_made_once_with_the_code_of_the_start(access: Access) -> None:
    old, code = first_run_codes(access)["operator"], first_run_codes(access)["operator"]
    with pytest.raises(Unauthenticated):
        set_up(access, old, "chief", PASSWORD, "")
    with pytest.raises(WeakPassword):
        set_up(access, code, "chief", "weak", "")

    session = set_up(access, code, "chief", PASSWORD, "")

    assert caller_of(access, session, (SESSION,), Door.WEB, "").principal.role == "operator"
    assert first_run_codes(access) == {}
    with pytest.raises(Unauthenticated):
        set_up(access, code, "second", PASSWORD, "")


def test_signing_out_ends_the_session(access: Access, make_account: MakeAccount) -> None:
    make_account("reader", "radiologist")
    secret = sign_in(access, "reader", PASSWORD, "").secret
    sign_out(access, secret)

    with pytest.raises(Unauthenticated):
        caller_of(access, secret, (SESSION,), Door.WEB, "")


def test_the_eleventh_session_ends_the_oldest(
    access: Access, make_account: MakeAccount, clock: FixedClock
) -> None:
    make_account("reader", "radiologist")
    secrets = []
    for _ in range(11):
        secrets.append(sign_in(access, "reader", PASSWORD, "").secret)
        clock.advance(timedelta(seconds=1))

    with pytest.raises(Unauthenticated):
        caller_of(access, secrets[0], (SESSION,), Door.WEB, "")
    for secret in secrets[1:]:
        caller_of(access, secret, (SESSION,), Door.WEB, "")


def test_a_changed_password_ends_other_sessions_and_does_not_come_back(
    access: Access, make_account: MakeAccount
) -> None:
    make_account("reader", "radiologist")
    other = sign_in(access, "reader", PASSWORD, "").secret
    caller = enter(access)
    change_password(access, caller, PASSWORD, "Another-Horse-8")

    with pytest.raises(Unauthenticated):
        caller_of(access, other, (SESSION,), Door.WEB, "")
    for used in (PASSWORD, "Another-Horse-8"):
        with pytest.raises(PasswordUsedBefore):
            change_password(access, caller, "Another-Horse-8", used)
    with pytest.raises(WrongCredentials):
        change_password(access, caller, PASSWORD, "Third-Horse-9")


def test_a_reset_password_has_to_be_changed(
    access: Access, operator: Caller, make_account: MakeAccount
) -> None:
    make_account("reader", "radiologist")
    reset_password(access, operator, "reader", "Given-Horse-1")

    caller = enter(access, password="Given-Horse-1")
    assert not caller.permissions.verbs
    change_password(access, caller, "Given-Horse-1", "Chosen-Horse-2")
    assert enter(access, password="Chosen-Horse-2").permissions == ROLES["radiologist"].permissions


def test_nobody_changes_their_own_account_and_no_security_administrator_makes_an_operator(
    access: Access, operator: Caller, make_account: MakeAccount
) -> None:
    make_account("guard", "security_administrator")
    make_account("reader", "radiologist")
    guard = enter(access, "guard")

    with pytest.raises(Forbidden):
        change_account(access, guard, "guard", role="audit_administrator")
    with pytest.raises(Forbidden):
        change_account(access, guard, "reader", role="operator")
    change_account(access, guard, "reader", role="physician")
    with pytest.raises(Forbidden):
        change_account(access, enter(access), "guard", role="patient")


def test_no_security_administrator_makes_an_operator_account(
    access: Access, make_account: MakeAccount
) -> None:
    make_account("guard", "security_administrator")
    guard = enter(access, "guard")

    for role in ("operator", "audit_administrator"):
        with access.database.transaction() as session, pytest.raises(Forbidden):
            create_account(access, session, guard, "king", PASSWORD, role)


def test_a_security_administrator_does_not_reach_the_accounts_of_who_watches_it(
    access: Access, make_account: MakeAccount
) -> None:
    make_account("guard", "security_administrator")
    watcher = make_account("watcher", "audit_administrator")
    guard = enter(access, "guard")

    acts: tuple[Callable[[], None], ...] = (
        lambda: reset_password(access, guard, "watcher", "Another-Horse-8"),
        lambda: change_account(access, guard, "watcher", disabled=True),
        lambda: remove_second_factors(access, guard, watcher),
        lambda: set_phone(access, guard, watcher, "+8613800138000"),
        lambda: set_certificate(access, guard, "watcher", b""),
    )
    for act in acts:
        with pytest.raises(Forbidden):
            act()


@pytest.fixture
def apart(rooms: Rooms) -> Iterator[Access]:
    """A site of the same host whose administrators are apart."""
    settings = replace(rooms.settings, access=replace(rooms.settings.access, administrators="three"))
    built = build_rooms(settings, rooms.clock)
    yield built.access
    built.close()


def test_three_administrators_are_made_each_with_its_own_code_and_nobody_may_do_everything(
    apart: Access, make_account: MakeAccount
) -> None:
    make_account("king", "operator")
    assert not enter(apart, "king").permissions.verbs
    codes = first_run_codes(apart)
    assert set(codes) == set(ADMINISTRATORS)

    for role, code in codes.items():
        session = set_up(apart, code, role, PASSWORD, "")
        caller = caller_of(apart, session, (SESSION,), Door.WEB, "")
        assert caller.principal.role == role
        assert caller.permissions == ROLES[role].permissions
        with pytest.raises(Unauthenticated):
            set_up(apart, code, f"{role}2", PASSWORD, "")
    assert first_run_codes(apart) == {}


def test_a_code_whose_role_is_held_by_now_makes_no_second_administrator(
    apart: Access, make_account: MakeAccount
) -> None:
    code = first_run_codes(apart)["audit_administrator"]
    make_account("auditor", "audit_administrator")

    with pytest.raises(Unauthenticated):
        set_up(apart, code, "second", PASSWORD, "")


def test_a_role_that_takes_a_second_factor_may_do_nothing_without_one(
    rooms: Rooms, make_account: MakeAccount
) -> None:
    make_account("guard", "security_administrator")
    settings = replace(
        rooms.settings, access=replace(rooms.settings.access, second_factor_roles=("security_administrator",))
    )
    strict = build_rooms(settings, rooms.clock)
    try:
        guard = enter(strict.access, "guard")
        assert not guard.permissions.verbs
        offer = offer_totp(strict.access, guard, "guard")
        totp = pyotp.parse_uri(offer.uri)
        assert isinstance(totp, pyotp.TOTP)
        at = int(strict.clock.now().timestamp())
        confirm_totp(strict.access, guard, offer.id, totp.at(at - 30))
        half = sign_in(strict.access, "guard", PASSWORD, "").secret
        whole = finish_sign_in(strict.access, half, totp.at(at), "")
        caller = caller_of(strict.access, whole, (SESSION,), Door.WEB, "")
        assert caller.permissions == ROLES["security_administrator"].permissions
    finally:
        strict.close()


def test_an_old_password_opens_nothing_until_it_is_changed(
    rooms: Rooms, make_account: MakeAccount, clock: FixedClock
) -> None:
    make_account("reader", "radiologist")
    settings = replace(rooms.settings, access=replace(rooms.settings.access, password_days=90))
    strict = build_rooms(settings, clock)
    try:
        clock.advance(timedelta(days=89))
        assert enter(strict.access).permissions.verbs
        clock.advance(timedelta(days=2))
        due = enter(strict.access)
        assert not due.permissions.verbs
        assert password_due(strict.access, due)
        with strict.database.transaction() as session:
            by_card = open_session(strict.access, session, due.principal.id, "reader", "", "swk")
        other = caller_of(strict.access, by_card, (SESSION,), Door.WEB, "")
        assert other.permissions.verbs  # nobody was asked for a password
        assert not password_due(strict.access, other)
        change_password(strict.access, due, PASSWORD, "Another-Horse-8")
        assert enter(strict.access, password="Another-Horse-8").permissions.verbs
    finally:
        strict.close()


@pytest.fixture
def totp(access: Access, make_account: MakeAccount) -> pyotp.TOTP:
    """A radiologist's authenticator, confirmed with a first code."""
    make_account("reader", "radiologist")
    caller = enter(access)
    offer = offer_totp(access, caller, "reader")
    authenticator = pyotp.parse_uri(offer.uri)
    assert isinstance(authenticator, pyotp.TOTP)
    confirm_totp(access, caller, offer.id, authenticator.at(access.clock.now()))
    return authenticator


def test_a_password_alone_opens_nothing_once_there_is_a_second_factor(
    access: Access, totp: pyotp.TOTP, clock: FixedClock
) -> None:
    half = sign_in(access, "reader", PASSWORD, "")
    assert half.awaits == ("totp",)
    with pytest.raises(Unauthenticated):
        caller_of(access, half.secret, (SESSION,), Door.WEB, "")

    clock.advance(timedelta(seconds=30))
    secret = finish_sign_in(access, half.secret, totp.at(clock.now()), "")

    assert caller_of(access, secret, (SESSION,), Door.WEB, "").principal.role == "radiologist"
    with pytest.raises(Unauthenticated):
        finish_sign_in(access, half.secret, totp.at(clock.now()), "")


def test_a_code_counts_once(access: Access, totp: pyotp.TOTP, clock: FixedClock) -> None:
    clock.advance(timedelta(seconds=30))
    code = totp.at(clock.now())
    finish_sign_in(access, sign_in(access, "reader", PASSWORD, "").secret, code, "")

    with pytest.raises(WrongCode):
        finish_sign_in(access, sign_in(access, "reader", PASSWORD, "").secret, code, "")


def test_wrong_codes_lock_the_account(access: Access, totp: pyotp.TOTP, clock: FixedClock) -> None:
    clock.advance(timedelta(seconds=30))
    right = totp.at(clock.now())
    wrong = f"{(int(right) + 1) % 10**6:06d}"
    half = sign_in(access, "reader", PASSWORD, "").secret
    for _ in range(5):
        with pytest.raises(WrongCode):
            finish_sign_in(access, half, wrong, "")

    with pytest.raises(AccountLocked):
        finish_sign_in(access, half, right, "")


def test_the_secret_of_an_authenticator_is_kept_sealed(access: Access, totp: pyotp.TOTP) -> None:
    with access.database.snapshot() as session:
        kept = session.scalars(select(SecondFactor.secret)).one()

    assert totp.secret.encode() not in kept


class Phone:
    """Stands for the text message gateway."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []

    def send(self, phone: str, template: str, values: dict[str, str]) -> None:
        assert template == "sign-in-code"
        self.received.append((phone, values["code"]))


def test_a_code_by_text_message_completes_the_sign_in_that_asked_for_it(
    access: Access, operator: Caller, make_account: MakeAccount, clock: FixedClock
) -> None:
    account_id = make_account("reader", "radiologist")
    set_phone(access, operator, account_id, "+8613800138000")
    phone = Phone()
    half, other = (sign_in(access, "reader", PASSWORD, "").secret for _ in range(2))
    send_code(access, phone, half, "")
    with pytest.raises(TooManyCodes):
        send_code(access, phone, half, "")
    ((number, code),) = phone.received

    assert number == "+8613800138000"
    with pytest.raises(WrongCode):
        finish_sign_in(access, other, code, "")
    assert finish_sign_in(access, half, code, "")


def test_a_code_by_text_message_is_over_after_five_minutes(
    access: Access, operator: Caller, make_account: MakeAccount, clock: FixedClock
) -> None:
    set_phone(access, operator, make_account("reader", "radiologist"), "+8613800138000")
    phone = Phone()
    half = sign_in(access, "reader", PASSWORD, "").secret
    send_code(access, phone, half, "")
    clock.advance(timedelta(seconds=299))
    with access.database.transaction() as session:
        session.execute(update(Account).values(failures=0))
    clock.advance(timedelta(seconds=1))

    with pytest.raises(Unauthenticated):
        finish_sign_in(access, half, phone.received[0][1], "")
