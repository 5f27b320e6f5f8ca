"""The administration API: what it does, for whom, and a fuzz over its own OpenAPI document."""

from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import response_schema_conformance

from access.model import Account
from access.tokens import ACCESS, issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app

PASSWORD = "Correct-Horse-7"
SITE = (
    "user/*.cruds user/Account.cruds user/Node.cruds user/Client.cruds user/Policy.cruds user/AuditTrail.rs"
)


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def token(rooms: Rooms, role: str, scope: str = SITE) -> dict[str, str]:
    with rooms.database.transaction() as session:
        if session.get(Account, role) is None:
            session.add(
                Account(
                    id=role, login=role, role=role, failures=0, disabled=False, created_at=rooms.clock.now()
                )
            )
            session.flush()
        secret = issue(rooms.access, session, ACCESS, life_s=3600, account_id=role, scope=scope)
    return {"Authorization": f"Bearer {secret}"}


def test_accounts_are_added_changed_and_listed(rooms: Rooms, browser: FlaskClient) -> None:
    headers = token(rooms, "security_administrator")
    new = {"login": "reader", "role": "radiologist", "password": PASSWORD, "name": "Reader"}

    assert browser.post("/api/accounts", json=new, headers=headers).status_code == 201
    assert browser.post("/api/accounts", json=new, headers=headers).status_code == 409
    changed = browser.patch("/api/accounts/reader", json={"disabled": True}, headers=headers)
    listed = browser.get("/api/accounts", headers=headers).get_json()

    assert changed.get_json()["disabled"] is True
    assert next(each for each in listed if each["login"] == "reader")["role"] == "radiologist"
    assert not any("password" in each for each in listed)
    weak = browser.post("/api/accounts", json={**new, "login": "other", "password": "x"}, headers=headers)
    assert weak.status_code == 422


def test_nodes_are_put_and_forgotten(rooms: Rooms, browser: FlaskClient) -> None:
    headers = token(rooms, "system_administrator")
    row = {"host": "10.1.2.3", "permissions": "store,find"}

    assert browser.put("/api/nodes/CT1", json=row, headers=headers).status_code == 200
    assert browser.put("/api/nodes/CT1", json={**row, "port": 11112}, headers=headers).status_code == 200
    assert browser.get("/api/nodes", headers=headers).get_json()[0]["port"] == 11112
    for wrong in (
        {"permissions": "everything"},
        {"addresses": "here"},
        {"certificate": "x"},
        {"host": "a b"},
    ):
        assert browser.put("/api/nodes/CT1", json={**row, **wrong}, headers=headers).status_code == 422
    assert browser.put("/api/nodes/ALL TOO LONG A TITLE", json=row, headers=headers).status_code == 422
    assert browser.delete("/api/nodes/CT1", headers=headers).status_code == 204
    assert browser.delete("/api/nodes/CT1", headers=headers).status_code == 404


def test_documents_are_read_written_and_brought_back(rooms: Rooms, browser: FlaskClient) -> None:
    headers = token(rooms, "security_administrator")
    assert "rules" in [each["name"] for each in browser.get("/api/documents", headers=headers).get_json()]
    path = "/api/documents/rules/versions"

    for document in ('{"rules": []}', '{"rules": [{"id": "a", "reason": "b", "deny": ["*.d"]}]}'):
        assert browser.post(path, json={"document": document}, headers=headers).status_code == 201
    assert browser.post(path, json={"version": 1}, headers=headers).get_json() == {"number": 3}
    assert browser.get(path, headers=headers).get_json()[0]["document"] == '{"rules": []}'
    assert browser.post(path, json={"document": "{}"}, headers=headers).status_code == 422
    assert browser.post(path, json={"version": 9}, headers=headers).status_code == 404


def test_apps_are_registered_and_ended_and_the_trail_tells(rooms: Rooms, browser: FlaskClient) -> None:
    headers = token(rooms, "security_administrator")
    app = {"client_name": "Viewer", "redirect_uris": ["https://app.example.org/back"]}
    made = browser.post("/api/clients", json=app, headers=headers).get_json()

    assert made["client_secret"]
    listed = browser.get("/api/clients", headers=headers).get_json()
    assert [each["client_id"] for each in listed] == [made["client_id"]]
    assert "client_secret" not in listed[0]
    assert browser.delete(f"/api/clients/{made['client_id']}", headers=headers).status_code == 204
    assert browser.delete(f"/api/clients/{made['client_id']}", headers=headers).status_code == 404
    trail = browser.get("/api/audit?action=create", headers=token(rooms, "audit_administrator")).get_json()
    assert trail[0]["action"] == "create Client"


@pytest.mark.parametrize(
    ("role", "forbidden"),
    [
        (
            "system_administrator",
            ("/api/accounts", "/api/clients", "/api/audit", "/api/documents/rules/versions"),
        ),
        ("security_administrator", ("/api/nodes", "/api/audit")),
        ("audit_administrator", ("/api/accounts", "/api/nodes", "/api/clients")),
        ("radiologist", ("/api/accounts", "/api/nodes", "/api/clients", "/api/audit")),
    ],
)
def test_each_administrator_has_its_own_part(
    rooms: Rooms, browser: FlaskClient, role: str, forbidden: tuple[str, ...]
) -> None:
    headers = token(rooms, role)
    for path in forbidden:
        assert browser.get(path, headers=headers).status_code == 403, path


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
def test_no_request_that_the_document_allows_or_forbids_makes_a_fault(
    rooms: Rooms, mode: schemathesis.GenerationMode
) -> None:
    schema: Any = schemathesis.openapi.from_wsgi("/api/openapi.json", create_app(rooms))
    headers = token(rooms, "operator")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) >= 14
    for operation in operations:
        if mode is schemathesis.GenerationMode.NEGATIVE and not _has_something_to_break(operation):
            continue

        @settings(
            max_examples=12, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call(headers=headers)
            assert answer.status_code < 500, f"{case.operation.label}: {answer.text}"
            if answer.status_code < 300:
                case.validate_response(answer, checks=[response_schema_conformance])

        ask()


def _has_something_to_break(operation: Any) -> bool:
    return bool(list(operation.body) or list(operation.query) or list(operation.path_parameters))
