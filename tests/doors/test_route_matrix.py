"""Every route of the web application, for two patients in two institutions, with every role and every kind
of token: nobody learns anything about a patient that is not theirs to know.
"""

import io
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, select
from werkzeug.test import TestResponse

from access.accounts import open_session, sign_out
from access.bearer import COOKIE
from access.caller import Action, Door, operator
from access.model import Account, Token
from access.roles import ROLES, Span
from access.rules import parse_actions
from access.scopes import parse_scopes
from access.tokens import ACCESS, caller_of, digest_of, issue, revoke
from archive.ingest import ingest
from archive.model import Instance, Series, Study
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from kernel.prepared import Prepared
from tests.builders import ct_slice
from tests.conftest import Host
from tests.doors.route_actions import DECLARED, needs_of
from tests.settling import settle

ALL = "user/*.cruds system/*.cruds"
MARKS = (b"Geheim", b"BETA-77", b"ACC-BETA")  # what only the other institution's objects say
PLACE = re.compile(r"<(?:[a-z]+(?:\([^)]*\))?:)?([a-z_]+)>")


class World:
    """A server with one patient in institution A and one in B, and tokens for anybody."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.app = create_app(rooms)
        self.client: FlaskClient = self.app.test_client()
        self.a = self._store("A", 1, PatientID="ALPHA-11", PatientName="Offen^Anna")
        self.b = self._store(
            "B", 2, PatientID="BETA-77", PatientName="Geheim^Berta", AccessionNumber="ACC-BETA"
        )
        settle(rooms)

    def _store(self, institution: str, number: int, **attributes: Any) -> dict[str, str]:
        ingest(self.rooms.archive, operator(institution), io.BytesIO(ct_slice(study=number, **attributes)))
        with self.rooms.database.snapshot() as session:
            row = session.execute(
                select(
                    Study.study_instance_uid, Series.series_instance_uid, Instance.sop_instance_uid,
                    Study.patient_logical_id,
                )
                .join(Series, Series.study_id == Study.id)
                .join(Instance, Instance.series_id == Series.id)
                .order_by(Study.id.desc())
            ).first()  # fmt: skip
        assert row is not None
        return dict(zip(("study", "series", "instance", "patient"), map(str, row), strict=True))

    def token(
        self, role: str = "operator", scope: str = ALL, institution: str = "A", life_s: float = 600
    ) -> str:
        """A token of an account of that role in institution A, unless told otherwise."""
        with self.rooms.database.transaction() as session:
            account_id = f"{role}-{institution}"
            if session.get(Account, account_id) is None:
                session.add(
                    Account(
                        id=account_id, login=account_id, role=role, institution=institution,
                        failures=0, disabled=False, created_at=self.rooms.clock.now(),
                    )
                )  # fmt: skip
                session.flush()
            return issue(
                self.rooms.access, session, ACCESS, life_s=life_s, account_id=account_id, scope=scope
            )

    def session(self, role: str) -> str:
        """A browser's session of an account of that role in institution A."""
        self.token(role)
        with self.rooms.database.transaction() as session:
            return open_session(self.rooms.access, session, f"{role}-A", role, "", "pwd")

    def browse(self, method: str, rule: str, ids: dict[str, str], secret: str = "") -> TestResponse:
        """One page as a browser asks for it, its form sent from a page of ours."""
        values = {
            "grant": "00000000-0000-4000-8000-000000000000", "frame": "1", "number": "1", "sheet": "1",
            "login": "operator-A", "name": "rules", **ids,
        }  # fmt: skip
        path = PLACE.sub(lambda place: values.get(place[1], "x"), rule)
        self.client.delete_cookie(COOKIE)
        if secret:
            self.client.set_cookie(COOKIE, secret)
        try:
            return self.client.open(path, method=method, headers={"Sec-Fetch-Site": "same-origin"})
        finally:
            self.client.delete_cookie(COOKIE)

    def routes(self) -> Iterator[tuple[str, str]]:
        """Method and rule of every route."""
        for rule in self.app.url_map.iter_rules():
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule.rule

    def ask(
        self, method: str, rule: str, ids: dict[str, str], token: str = "", resource_type: str = "Patient"
    ) -> TestResponse:
        """One request, its path filled in with the identifiers of one patient."""
        values = {
            **ids,
            "resource_type": resource_type,
            "logical_id": ids["patient"],
            "version": "1",
            "numbers": "1",
            "path": "7FE00010",
            "name": "x",
        }
        path = PLACE.sub(lambda place: values.get(place[1], "x"), rule)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.open(path, method=method, headers=headers, json={} if method != "GET" else None)

    def statements(self, method: str, rule: str, ids: dict[str, str], token: str) -> list[str]:
        """What one request asks of the database."""
        asked: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            asked.append(statement)

        def note_prepared(prepared: Prepared, parameters: Any) -> Any:
            asked.append(prepared.text)
            return as_it_is(prepared, parameters)

        as_it_is = Prepared.asked
        event.listen(Engine, "before_cursor_execute", note)
        try:
            with patch.object(Prepared, "asked", note_prepared):
                self.ask(method, rule, ids, token)
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        return asked


@pytest.fixture(scope="module")
def world(host: Host) -> Iterator[World]:
    with host("matrix") as rooms:
        yield World(rooms)


def guarded(world: World) -> list[tuple[str, str, str]]:
    return [
        (method, rule, needs.action)
        for method, rule in world.routes()
        if (needs := needs_of(method, rule)) is not None and needs.action and not needs.is_page
    ]


def pages(world: World) -> list[tuple[str, str, str]]:
    """Method, rule, and the actions of which any opens it; none: everybody's own."""
    return [
        (method, rule, needs.action)
        for method, rule in world.routes()
        if (needs := needs_of(method, rule)) is not None and needs.is_page
    ]


def is_unknown(answer: TestResponse) -> bool:
    """Whether it was refused for want of a credential; SOAP says so in a fault."""
    return answer.status_code == 401 or b"soap:Fault" in answer.data


def is_refused(answer: TestResponse) -> bool:
    """Whether nothing was done; HL7 v2 says so in an acknowledgement."""
    acknowledged = answer.mimetype == "application/hl7-v2"
    return answer.status_code >= 400 or (acknowledged and b"MSA|AA" not in answer.data)


def test_every_route_declares_what_it_needs(world: World) -> None:
    undeclared = [f"{method} {rule}" for method, rule in world.routes() if needs_of(method, rule) is None]

    assert undeclared == [], "declare them in tests/doors/route_actions.py"


def test_a_declaration_has_an_action_or_a_reason_to_be_open() -> None:
    assert all(bool(needs.action) != bool(needs.open_because) for needs in DECLARED.values())


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "revoked"])
def test_without_a_living_token_no_route_answers(world: World, kind: str) -> None:
    token = {"none": "", "wrong": "x" * 43}.get(kind) or world.token(life_s=-1 if kind == "expired" else 600)
    if kind == "none":
        token = ""
    if kind == "revoked":
        with world.rooms.database.transaction() as session:
            row = session.scalar(select(Token).where(Token.digest == digest_of(world.rooms.access, token)))
            assert row is not None
            revoke(world.rooms.access, session, row.id)

    answers = {
        f"{method} {rule}": world.ask(method, rule, world.b, token) for method, rule, _ in guarded(world)
    }

    assert {name: answer.status for name, answer in answers.items() if not is_unknown(answer)} == {}


@pytest.mark.parametrize("token", ["", "x" * 43])
def test_who_asks_is_settled_before_anything_of_the_request_is_read(world: World, token: str) -> None:
    headers = {"Accept": "image/nothing", "Content-Type": "application/nothing", "If-Match": "*/*"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    answers = {}
    for method, rule, _ in guarded(world):
        path = PLACE.sub("no-such-place", rule)
        query = "nothing:known=x&_count=x&limit=x&_format=x"
        body = b"{" if method != "GET" else None
        answers[f"{method} {rule}"] = world.client.open(
            f"{path}?{query}", method=method, headers=headers, data=body
        )

    assert {name: answer.status for name, answer in answers.items() if not is_unknown(answer)} == {}


def test_a_narrowed_token_opens_nothing_that_its_scope_does_not_name(world: World) -> None:
    token = world.token(scope="user/Flag.rs")

    answers = {
        f"{method} {rule}": world.ask(method, rule, world.b, token) for method, rule, _ in guarded(world)
    }

    assert {name: answer.status for name, answer in answers.items() if not is_refused(answer)} == {}


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"operator"}))
@pytest.mark.parametrize("resource_type", ["Patient", "ImagingStudy"])
def test_no_role_learns_of_the_other_institutions_patient(
    world: World, role: str, resource_type: str
) -> None:
    token = world.token(role)
    leaks = []
    for method, rule, _ in guarded(world):
        answer = world.ask(method, rule, world.b, token, resource_type)
        said = answer.data + str(answer.headers).encode()
        names_it = "<study>" in rule or "<logical_id>" in rule
        gives_it = method == "GET" and names_it and answer.status_code == 200 and answer.data != b"[]"
        if gives_it or any(mark in said for mark in MARKS):
            leaks.append(f"{method} {rule} {answer.status_code}")

    assert leaks == []


@pytest.mark.parametrize("role", [role for role in ROLES if ROLES[role].span is Span.INSTITUTION])
def test_a_role_of_the_institution_reads_its_own_patient(world: World, role: str) -> None:
    token = world.token(role)

    for rule in ("/dicomweb/studies/<study>/metadata", "/dicomweb/studies/<study>/series"):
        assert world.ask("GET", rule, world.a, token).status_code == 200


def test_what_is_not_there_and_what_is_not_ones_own_look_alike(world: World) -> None:
    token = world.token("radiologist")
    nowhere = {
        "study": world.b["study"] + ".9", "series": world.b["series"] + ".9",
        "instance": world.b["instance"] + ".9", "patient": "00000000-0000-4000-8000-000000000000",
    }  # fmt: skip
    for method, rule, _ in guarded(world):
        if method != "GET" or "<" not in rule:
            continue
        theirs = world.ask(method, rule, world.b, token)
        absent = world.ask(method, rule, nowhere, token)
        assert theirs.status_code == absent.status_code, rule
        assert _plain(theirs, world.b) == _plain(absent, nowhere), rule


def test_what_is_not_there_and_what_is_not_ones_own_ask_the_database_the_same(world: World) -> None:
    """No difference of time, asserted by what is done: equal statements, of equal number, in equal order."""
    token = world.token("radiologist")
    nowhere = {
        "study": world.b["study"] + ".9", "series": world.b["series"] + ".9",
        "instance": world.b["instance"] + ".9", "patient": "00000000-0000-4000-8000-000000000000",
    }  # fmt: skip
    different, most = [], 0
    for method, rule, _ in guarded(world):
        if "<" not in rule:
            continue
        world.ask(method, rule, nowhere, token)  # what is read once and kept is read
        for _ in range(2):  # a minute in which what was read is believed may end between the two
            theirs = world.statements(method, rule, world.b, token)
            absent = world.statements(method, rule, nowhere, token)
            if theirs == absent:
                break
        else:
            different.append(f"{method} {rule}: {len(theirs)} statements and {len(absent)}")
        most = max(most, len(theirs))

    assert different == []
    assert most > 3  # tokens, rules, what was asked for


def _plain(answer: TestResponse, ids: dict[str, str]) -> bytes:
    body = re.sub(rb'"id": ?"[0-9a-f-]{36}"', b'"id":""', answer.data)
    for name, value in ids.items():
        body = body.replace(value.encode(), name.encode())
    return body


def test_the_series_of_another_patient_is_not_reached_through_ones_own_study(world: World) -> None:
    token = world.token("radiologist")
    mixed = {**world.b, "study": world.a["study"]}
    for method, rule, _ in guarded(world):
        if method == "GET" and "<series>" in rule:
            answer = world.ask(method, rule, mixed, token)
            assert answer.status_code in (204, 404) or answer.data == b"[]", rule
            assert not any(mark in answer.data for mark in MARKS)


def test_what_a_token_may_is_its_role_within_its_scopes(world: World) -> None:
    for role in ROLES.values():
        for action in (Action("ImagingStudy", "r"), Action("Patient", "d"), Action("Account", "r")):
            scopes = parse_scopes("user/*.rs")[0]
            in_scope = action.resource != "Account" and action.verb in "rs"
            secret = world.token(role.code, " ".join(map(str, scopes)))
            caller = caller_of(world.rooms.access, secret, (ACCESS,), Door.WEB, "")
            assert caller.may(action) == (in_scope and role.permissions.allow(action))


def test_the_right_to_a_page_opens_it(world: World) -> None:
    secret = world.session("operator")
    closed = {
        rule: status
        for method, rule, action in pages(world)
        if method == "GET" and action and "<" not in rule
        if (status := world.browse(method, rule, world.a, secret).status_code) != 200
    }

    assert closed == {}


@pytest.mark.parametrize("kind", ["none", "wrong", "ended"])
def test_no_page_opens_without_a_living_session(world: World, kind: str) -> None:
    secret = {"none": "", "wrong": "x" * 43}.get(kind) or world.session("operator")
    if kind == "none":
        secret = ""
    if kind == "ended":
        sign_out(world.rooms.access, secret)
    opened = {}
    for method, rule, _ in pages(world):
        answer = world.browse(method, rule, world.b, secret)
        led = answer.status_code == 303 and "sign-in" in answer.headers["Location"]
        if not (led or answer.status_code >= 400 or rule == "/review"):
            opened[f"{method} {rule}"] = f"{answer.status} {answer.headers.get('Location', '')}"

    assert opened == {}


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"operator"}))
def test_no_role_opens_a_page_that_it_has_no_right_to_nor_learns_there_of_others(
    world: World, role: str
) -> None:
    secret, may = world.session(role), ROLES[role].permissions
    opened, leaks = [], []
    for method, rule, action in pages(world):
        answer = world.browse(method, rule, world.b, secret)
        any_of = [parse_actions(each)[0] for each in action.split()]
        is_led_away = answer.status_code == 303 and "sign-in" in answer.headers["Location"]
        if any_of and not any(map(may.allow, any_of)) and answer.status_code < 400 and not is_led_away:
            opened.append(f"{method} {rule} {answer.status_code}")
        if any(mark in answer.data + str(answer.headers).encode() for mark in MARKS):
            leaks.append(f"{method} {rule} {answer.status_code}")

    assert (opened, leaks) == ([], [])


def test_an_expired_token_does_not_come_back_when_the_clock_is_moved(world: World) -> None:
    clock = world.rooms.clock
    assert isinstance(clock, FixedClock)
    token = world.token(life_s=60)
    clock.advance(timedelta(seconds=61))
    try:
        assert world.ask("GET", "/dicomweb/studies", world.a, token).status_code == 401
    finally:
        clock.advance(timedelta(seconds=-61))
