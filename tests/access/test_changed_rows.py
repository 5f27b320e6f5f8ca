"""Rows that decide about access and were changed behind our back: noticed, refused, told, accepted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Boolean, Integer, LargeBinary, select, text

from access.accounts import (
    account_of,
    change_account,
    change_password,
    create_account,
    reset_password,
    set_certificate,
    sign_in,
)
from access.caller import Caller, Door, Principal, PrincipalKind
from access.certificate import ensure_certificate
from access.changed_rows import ALARM, MADE, alarmed
from access.federation import link_account
from access.model import Account, AuditEntry, Client, Node
from access.node_register import NodeRow, put_node
from access.nodes import find_node, identify_node
from access.oauth.clients import disable_client, find_client, register_client
from access.patient_accounts import set_patients, sign_in_by_phone
from access.row_care import MODELS, NoSuchRow, accept_row, changed_rows, make_codes, watch_rows
from access.tokens import SESSION, Access, caller_of
from kernel.clock import FixedClock
from kernel.database import UtcDateTime
from kernel.row_codes import Coded, RowChanged, is_intact

PASSWORD, OTHER = "Right-Horse-9-Battery", "Left-Horse-8-Staple"
COLUMNS = [(model, name) for model in MODELS.values() for name in model.COVERED]


def account(access: Access, operator: Caller, login: str = "zhang", role: str = "physician") -> str:
    with access.database.transaction() as session:
        return create_account(access, session, operator, login, PASSWORD, role)


def populate(access: Access) -> None:
    """Two rows of each kind."""
    now = access.clock.now()
    with access.database.transaction() as session:
        for number in (1, 2):
            session.add(Account(id=f"a{number}", login=f"zhang{number}", role="physician", created_at=now))
            session.add(Client(id=f"app{number}", redirect_uris="https://x/y", created_at=now))
            session.add(Node(ae_title=f"CT{number}", host=f"10.0.0.{number}", port=104, created_at=now))


def names(access: Access) -> list[str]:
    return [row.row_name for row in changed_rows(access)]


def entries(access: Access, action: str) -> list[tuple[str, str, str]]:
    said = select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.seq)
    with access.database.snapshot() as session:
        return [(each.outcome, each.subject, each.detail) for each in session.scalars(said)]


def by_plain_sql(access: Access, statement: str, **values: Any) -> None:
    with access.database.transaction() as session:
        session.execute(text(statement), values)


def another(model: type[Coded], name: str) -> Any:
    type_ = model.__table__.c[name].type  # type: ignore[attr-defined]
    if isinstance(type_, LargeBinary):
        return b"another"
    if isinstance(type_, UtcDateTime):
        return "2001-01-01 00:00:00+00:00"
    return 7 if isinstance(type_, Integer) and not isinstance(type_, Boolean) else "another"


@pytest.mark.parametrize(("model", "name"), COLUMNS, ids=lambda each: getattr(each, "__tablename__", each))
def test_each_column_that_decides_is_noticed_when_plain_sql_changes_it(
    access: Access, operator: Caller, model: type[Coded], name: str
) -> None:
    populate(access)
    table, key = model.__tablename__, model.COVERED[0]  # type: ignore[attr-defined]
    assert names(access) == []
    with access.database.snapshot() as session:
        first = session.scalars(select(getattr(model, key)).order_by(getattr(model, key))).all()[0]
    is_boolean = isinstance(model.__table__.c[name].type, Boolean)  # type: ignore[attr-defined]
    changed = f"NOT {name}" if is_boolean else ":value"
    values = {} if is_boolean else {"value": another(model, name)}

    by_plain_sql(access, f"UPDATE {table} SET {name} = {changed} WHERE {key} = :first", first=first, **values)

    assert names(access) == [f"{table}/{'another' if name == key else first}"]


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.__tablename__)
def test_a_code_from_another_row_is_noticed(access: Access, operator: Caller, model: type[Coded]) -> None:
    populate(access)
    table, key = model.__tablename__, model.COVERED[0]  # type: ignore[attr-defined]
    with access.database.snapshot() as session:
        first, second = session.scalars(select(model).order_by(getattr(model, key))).all()

    by_plain_sql(
        access, f"UPDATE {table} SET integrity = :code WHERE {key} = :name", code=second.integrity,
        name=getattr(first, key),
    )  # fmt: skip

    assert names(access) == [first.row_name]


def test_whoever_made_itself_an_operator_is_refused_at_the_next_request_and_alarm_is_raised(
    access: Access, operator: Caller
) -> None:
    account(access, operator)
    secret = sign_in(access, "zhang", PASSWORD, "10.1.2.3").secret
    caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3")

    by_plain_sql(access, "UPDATE account SET role = 'operator'")

    for _ in range(2):
        with pytest.raises(RowChanged):
            caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3")
    assert entries(access, ALARM) == [("refused", "account/zhang", "changed outside of cloudfilm")]
    with access.database.snapshot() as session:
        assert alarmed(session, access.clock.now()) == 1
    with pytest.raises(RowChanged):
        sign_in(access, "zhang", PASSWORD, "10.1.2.3")
    refused = ("refused", "", "the account was changed outside of cloudfilm")
    assert entries(access, "sign in")[-1] == refused

    by_plain_sql(access, "UPDATE account SET role = 'physician'")

    assert caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3").principal.role == "physician"


def test_a_password_from_elsewhere_signs_nobody_in_and_ends_sessions_within_a_minute(
    access: Access, operator: Caller, clock: FixedClock
) -> None:
    account(access, operator)
    account(access, operator, "mallory")
    reset_password(access, operator, "mallory", OTHER)
    secret = sign_in(access, "zhang", PASSWORD, "10.1.2.3").secret
    caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3")

    by_plain_sql(
        access,
        "UPDATE account SET password = (SELECT password FROM account WHERE login = 'mallory') "
        "WHERE login = 'zhang'",
    )

    with pytest.raises(RowChanged):
        sign_in(access, "zhang", OTHER, "10.1.2.3")
    clock.advance(timedelta(minutes=1))
    with pytest.raises(RowChanged):
        caller_of(access, secret, (SESSION,), Door.WEB, "10.1.2.3")


def test_an_account_that_was_enabled_again_by_sql_stays_out(access: Access, operator: Caller) -> None:
    account(access, operator)
    change_account(access, operator, "zhang", disabled=True)

    by_plain_sql(access, "UPDATE account SET disabled = :no", no=False)

    with pytest.raises(RowChanged):
        sign_in(access, "zhang", PASSWORD, "10.1.2.3")


def test_what_changes_a_row_gives_no_code_to_what_somebody_else_wrote(
    access: Access, operator: Caller
) -> None:
    account(access, operator)
    by_plain_sql(access, "UPDATE account SET role = 'operator'")

    with pytest.raises(RowChanged):
        change_account(access, operator, "zhang", department="X")

    assert names(access) == ["account/zhang"]


def test_every_way_of_changing_a_row_leaves_it_intact(
    access: Access, operator: Caller, tmp_path: Any
) -> None:
    account_id = account(access, operator)
    own = Caller(
        Principal(PrincipalKind.ACCOUNT, account_id, "zhang"), Door.WEB, operator.permissions, operator.reach
    )
    pem = ensure_certificate(tmp_path / "zhang", now=access.clock.now()).certificate.read_bytes()
    client_id = register_client(access, operator, {"client_name": "app", "redirect_uris": ["https://x/y"]})[
        "client_id"
    ]

    def claim() -> None:
        with access.database.transaction() as session:
            set_patients(access, session, own, frozenset({"p1", "p2"}))

    ways: tuple[Callable[[], object], ...] = (
        lambda: change_account(
            access, operator, "zhang", role="radiologist", institution="H", department="D",
            fhir_user="Practitioner/1", patients="p1", name="Z",
        ),
        lambda: set_certificate(access, operator, "zhang", pem),
        lambda: link_account(access, operator, "zhang", "https://sso", "e1"),
        lambda: change_password(access, own, PASSWORD, OTHER),
        lambda: reset_password(access, operator, "zhang", "Third-Horse-7-Pile"),
        claim,
        lambda: change_account(access, operator, "zhang", disabled=True),
        lambda: sign_in_by_phone(access, "+8613800138000", "10.1.2.3"),
        lambda: put_node(access, operator, NodeRow("CT1", host="10.0.0.1")),
        lambda: put_node(access, operator, NodeRow("CT1", host="10.0.0.2", permissions="all", tls=True)),
        lambda: disable_client(access, operator, client_id),
    )  # fmt: skip
    for way in ways:
        way()
        assert names(access) == []
    with access.database.snapshot() as session:
        for model in MODELS.values():
            assert all(is_intact(row, access.keys) for row in session.scalars(select(model)))


def test_a_changed_node_is_nobody_and_is_sent_nothing(access: Access, operator: Caller) -> None:
    put_node(access, operator, NodeRow("CT1", host="10.0.0.1", permissions="store"))
    identify_node(access, "CT1", "10.0.0.1")

    by_plain_sql(access, "UPDATE node SET permissions = 'all'")

    with pytest.raises(RowChanged):
        identify_node(access, "CT1", "10.0.0.1")
    with pytest.raises(RowChanged):
        find_node(access, "CT1")
    accept_row(access, operator, "node", "CT1")
    identify_node(access, "CT1", "10.0.0.1")


def test_a_changed_app_gets_nothing(access: Access, operator: Caller) -> None:
    registered = register_client(access, operator, {"client_name": "app", "redirect_uris": ["https://x/y"]})
    assert find_client(access, registered["client_id"]) is not None

    by_plain_sql(access, "UPDATE client SET redirect_uris = 'https://evil/y'")

    with pytest.raises(RowChanged):
        find_client(access, registered["client_id"])


def test_a_changed_row_counts_again_when_an_administrator_accepts_it(
    access: Access, operator: Caller
) -> None:
    account(access, operator)
    by_plain_sql(access, "UPDATE account SET department = 'CT'")
    with pytest.raises(RowChanged):
        sign_in(access, "zhang", PASSWORD, "10.1.2.3")

    accept_row(access, operator, "account", "zhang")

    assert sign_in(access, "zhang", PASSWORD, "10.1.2.3").secret
    assert entries(access, "accept ChangedRow") == [
        ("done", "account/zhang", "role physician, department CT")
    ]
    with pytest.raises(NoSuchRow):
        accept_row(access, operator, "account", "nobody")


def require_intact(access: Access, login: str) -> None:
    access.require_intact(account_of(access, login))


def without_codes(access: Access) -> None:
    for table in MODELS:
        by_plain_sql(access, f"UPDATE {table} SET integrity = ''")


def test_rows_from_before_there_were_codes_count_until_they_have_got_theirs(
    access: Access, operator: Caller
) -> None:
    populate(access)
    without_codes(access)
    assert names(access) == []
    require_intact(access, "zhang1")
    change_account(access, operator, "zhang2", department="X")

    make_codes(access)
    make_codes(access)

    assert entries(access, MADE) == [("done", "row codes", "account 2, client 2, node 2")]
    with access.database.snapshot() as session:
        assert all(is_intact(row, access.keys) for row in session.scalars(select(Account)))
    without_codes(access)
    make_codes(access)
    assert len(names(access)) == 6  # who takes a code away gets no other
    with pytest.raises(RowChanged):
        require_intact(access, "zhang1")


def test_an_alarm_is_raised_about_a_changed_row_by_which_nobody_comes(
    access: Access, operator: Caller, clock: FixedClock
) -> None:
    populate(access)
    by_plain_sql(access, "UPDATE node SET host = '192.0.2.1' WHERE ae_title = 'CT2'")

    watch_rows(access)
    watch_rows(access)
    assert [subject for _, subject, _ in entries(access, ALARM)] == ["node/CT2"]
    clock.advance(timedelta(minutes=61))
    watch_rows(access)

    assert [subject for _, subject, _ in entries(access, ALARM)] == ["node/CT2", "node/CT2"]


def test_while_older_code_changes_rows_too_nothing_is_refused(
    access: Access, operator: Caller, database_url: str
) -> None:
    account(access, operator)
    by_plain_sql(access, "UPDATE account SET role = 'radiologist'")
    mixed = replace(access, database=type(access.database)(database_url, keys=access.keys, seals=False))

    secret = sign_in(mixed, "zhang", PASSWORD, "10.1.2.3").secret
    assert caller_of(mixed, secret, (SESSION,), Door.WEB, "").principal.role == "radiologist"
    assert changed_rows(mixed) == ()
    change_account(mixed, operator, "zhang", department="X")
    make_codes(mixed)

    with access.database.snapshot() as session:
        assert session.scalars(select(Account.integrity)).one() == ""
    make_codes(access)
    assert names(access) == []
    mixed.database.close()
