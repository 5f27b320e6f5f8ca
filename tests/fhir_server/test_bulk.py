"""Bulk export and import as a client sees them: kick-off, status, files, cancellation."""

import json
from typing import Any

import pytest

from cloudfilm.rooms import Rooms
from tests.fhir_server.test_record_operations import Client, client, ref
from tests.fhir_server.test_subscriptions import work

__all__ = ["client"]

ASYNC = {"Prefer": "respond-async"}


def start(client: Client, path: str, status: int = 202, method: str = "GET", **options: Any) -> str:
    headers = client.headers | ASYNC | options.pop("headers", {})
    answer = client.flask.open(f"/fhir/{path}", method=method, headers=headers, **options)
    assert answer.status_code == status, answer.data
    return answer.headers.get("Content-Location", "").partition("/fhir/")[2]


def done(client: Client, rooms: Rooms, status_path: str) -> dict[str, list[dict[str, Any]]]:
    """The documents of every file, by type, once it is done."""
    waiting = client.flask.get(f"/fhir/{status_path}", headers=client.headers)
    assert waiting.status_code == 202
    work(rooms)
    manifest = client.get(status_path)
    found: dict[str, list[dict[str, Any]]] = {}
    for file in [*manifest["output"], *manifest["error"]]:
        answer = client.flask.get(f"/fhir/{file['url'].partition('/fhir/')[2]}", headers=client.headers)
        assert answer.mimetype == "application/fhir+ndjson"
        lines = [json.loads(line) for line in answer.data.splitlines()]
        assert len(lines) == file["count"]
        found[file["type"]] = lines
    return found


def ids(found: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {f"{type_}/{each['id']}" for type_, lines in found.items() for each in lines}


def test_everything_is_exported(client: Client, rooms: Rooms) -> None:
    found = ids(done(client, rooms, start(client, "$export")))
    assert found == {
        "Practitioner/d1", "Patient/p1", "Patient/p2", "Encounter/e1", "Observation/o0", "Observation/o1",
        "Observation/o2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$export?_type=Patient", {"Patient/p1", "Patient/p2"}),
        ("$export?_type=Observation&_typeFilter=Observation%3Fdate%3Dge2026-02-01", {"Observation/o1"}),
        ("$export?_since=2100-01-01T00:00:00Z", set()),
        ("Patient/$export?_type=Patient,Practitioner", {"Patient/p1", "Patient/p2"}),
    ],
)
def test_exports_are_narrowed(client: Client, rooms: Rooms, path: str, expected: set[str]) -> None:
    assert ids(done(client, rooms, start(client, path))) == expected


def test_a_groups_members_are_exported(client: Client, rooms: Rooms) -> None:
    client.put("Group", "g1", type="person", actual=True, member=[{"entity": ref("Patient/p2")}])
    assert ids(done(client, rooms, start(client, "Group/g1/$export?_type=Patient,Observation"))) == {
        "Patient/p2", "Observation/o2",
    }  # fmt: skip


def test_an_export_never_reaches_further_than_who_asked(client: Client, rooms: Rooms) -> None:
    reader = Client(rooms, "user/Patient.rs")
    found = done(reader, rooms, start(reader, "$export"))
    assert set(found) == {"Patient"}
    nowhere = Client(rooms, "patient/*.rs")
    assert done(nowhere, rooms, start(nowhere, "Patient/$export")) == {}


def test_exports_are_asked_for_asynchronously_and_correctly(client: Client) -> None:
    client.get("$export", 400)
    for path in (
        "$export?_outputFormat=csv",
        "$export?_since=x",
        "$export?_typeFilter=x",
        "$export?nosuch=1",
    ):
        start(client, path, 400)
    start(client, "$export?_type=Nosuch", 404)
    start(client, "Group/none/$export", 404)


def test_an_export_is_of_who_asked_and_can_be_cancelled(client: Client, rooms: Rooms) -> None:
    path = start(client, "$export?_type=Patient")
    work(rooms)
    url = client.get(path)["output"][0]["url"].partition("/fhir/")[2]
    assert client.flask.get(f"/fhir/{url}").status_code == 401
    assert client.flask.delete(f"/fhir/{path}", headers=client.headers).status_code == 202
    client.get(path, 404)
    client.get(url, 404)


def test_any_question_is_answered_later_where_the_client_prefers_that(client: Client, rooms: Rooms) -> None:
    found = done(client, rooms, start(client, "Patient?_sort=_id&_count=1&_revinclude=Observation:patient"))
    assert ids(found) == {"Patient/p1", "Patient/p2", "Observation/o0", "Observation/o1", "Observation/o2"}
    assert ids(done(client, rooms, start(client, "Patient/p1"))) == {"Patient/p1"}
    assert set(done(client, rooms, start(client, "Patient/p1/$meta"))) == {"Parameters"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = start(client, "Patient/_search", method="POST", data="_id=p2", headers=form)
    assert ids(done(client, rooms, posted)) == {"Patient/p2"}
    entries = [{"request": {"method": "GET", "url": url}} for url in ("Patient/p1", "Patient/x")]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    told = done(client, rooms, start(client, "", method="POST", data=json.dumps(batch)))["Bundle"]
    assert [each["response"]["status"] for each in told[0]["entry"]] == ["200", "404"]


def test_what_is_refused_later_is_told_with_its_reason(client: Client, rooms: Rooms) -> None:
    place = start(client, "Patient?nosuch=1")
    work(rooms)
    outcome = client.get(place, 422)
    assert "nosuch" in outcome["issue"][0]["diagnostics"]


def test_ndjson_is_imported_and_what_is_refused_is_told(client: Client, rooms: Rooms) -> None:
    lines = [
        {"resourceType": "Patient", "id": "new1"},
        {"resourceType": "Patient", "id": "new2", "gender": "x"},
        {"resourceType": "Observation", "id": "new3", "status": "final", "code": {"text": "x"}},
    ]
    body = "\n".join(json.dumps(each) for each in lines) + "\nnot json\n"
    kind = {"Content-Type": "application/fhir+ndjson"}
    path = start(client, "$import", method="POST", data=body.encode(), headers=kind)
    found = done(client, rooms, path)
    assert len(found["OperationOutcome"]) == 2
    assert client.get("Patient/new1")["id"] == "new1"
    client.get("Patient/new2", 404)
    assert client.get("Observation/new3")["status"] == "final"


def test_an_import_does_not_fetch_from_our_own_network(client: Client) -> None:
    manifest = {
        "inputFormat": "application/fhir+ndjson",
        "input": [{"type": "Patient", "url": "http://127.0.0.1/x"}],
    }
    start(client, "$import", 400, method="POST", json=manifest)
    start(client, "$import", 400, method="POST", json={"input": []})
