"""Subscriptions as a receiver sees them: what it is told, in which order, and what happens when it is
away."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select

from access.caller import Caller, Clause, Door
from access.kept_caller import caller_from, caller_text
from access.outbound_http import Unreachable, require_allowed
from access.outbound_http import request as outbound
from cloudfilm.jobs import JOBS, bundle_for
from cloudfilm.rooms import Rooms, build_rooms
from fhir_server.subscription_socket import SubscriptionSocket
from kernel.changes import ChangeRow, change_of
from kernel.clock import FixedClock
from kernel.jobs import Worker
from kernel.settings import FhirSettings, Settings
from kernel.websocket import Listener
from records.subscriptions import FILTER, PAYLOAD, ROOT
from tests.fhir_server.test_record_operations import Client
from tests.settling import settle


class Receiver:
    """A small HTTP server that remembers what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.got.append((self.command, self.path, body, dict(self.headers.items())))
                self.send_response(receiver.status)
                self.end_headers()

            do_POST = do_PUT = handle_one

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def url(self, path: str = "/hook") -> str:
        return f"http://{self.host}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def server(settings: Settings, clock: FixedClock, receiver: Receiver) -> Iterator[Rooms]:
    """Rooms of a site that trusts the receiver."""
    rooms = build_rooms(replace(settings, fhir=FhirSettings(trusted_hosts=(receiver.host,))), clock)
    yield rooms
    rooms.close()


@pytest.fixture
def client(server: Rooms) -> Client:
    return Client(server)


def work(rooms: Rooms) -> None:
    """Let everything follow, and every job that is due run, until nothing is left to do."""
    worker = Worker(rooms.database, rooms.clock, JOBS, lambda job: bundle_for(rooms, job))
    settle(rooms)
    while worker.run_one():
        settle(rooms)


def subscription(criteria: str, endpoint: str, **channel: Any) -> dict[str, Any]:
    return {
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": endpoint, **channel},
    }


def observe(client: Client, id_: str, code: str = "8867-4") -> None:
    client.put(
        "Observation", id_, status="final", code={"coding": [{"system": "http://loinc.org", "code": code}]}
    )


def test_a_rest_hook_is_called_for_what_matches_and_nothing_else(
    client: Client, server: Rooms, receiver: Receiver
) -> None:
    hook = subscription("Observation?code=8867-4", receiver.url(), header=["Authorization: Bearer x"])
    client.put("Subscription", "s1", **hook)
    work(server)
    assert client.get("Subscription/s1")["status"] == "active"
    observe(client, "o1")
    observe(client, "o2", "9279-1")
    work(server)
    assert [(method, path, body) for method, path, body, _ in receiver.got] == [("POST", "/hook", b"")]
    assert receiver.got[0][3]["Authorization"] == "Bearer x"


def test_a_payload_is_sent_as_an_update(client: Client, server: Rooms, receiver: Receiver) -> None:
    hook = subscription("Observation?status=final", receiver.url("/fhir"), payload="application/fhir+json")
    client.put("Subscription", "s1", **hook)
    observe(client, "o1")
    work(server)
    method, path, body, _ = receiver.got[0]
    assert (method, path, json.loads(body)["id"]) == ("PUT", "/fhir/Observation/o1", "o1")


def test_what_is_not_taken_is_told_later_in_order_and_the_state_shows(
    client: Client, server: Rooms, receiver: Receiver, clock: FixedClock
) -> None:
    client.put("Subscription", "s1", **subscription("Observation?status=final", receiver.url("/fhir"),
                                                   payload="application/fhir+json"))  # fmt: skip
    work(server)
    receiver.status = 503
    observe(client, "o1")
    work(server)
    shown = client.get("Subscription/s1")
    assert shown["status"] == "error"
    assert "503" in shown["error"]
    observe(client, "o2")
    work(server)
    status = client.get("Subscription/s1/$status")["entry"][0]["resource"]["parameter"]
    assert {"name": "status", "valueCode": "error"} in status
    receiver.status, receiver.got = 200, []
    for _ in range(20):
        clock.advance(timedelta(hours=2))
        work(server)
    assert [path for _, path, _, _ in receiver.got] == ["/fhir/Observation/o1", "/fhir/Observation/o2"]
    assert Client(server).get("Subscription/s1")["status"] == "active"


def test_a_topic_is_told_with_handshake_numbers_and_content(
    client: Client, server: Rooms, receiver: Receiver
) -> None:
    client.put("Patient", "p1")
    topic = subscription(f"{ROOT}patient", receiver.url(), payload="application/fhir+json")
    topic["_criteria"] = {"extension": [{"url": FILTER, "valueString": "Patient?gender=female"}]}
    topic["channel"]["_payload"] = {"extension": [{"url": PAYLOAD, "valueCode": "full-resource"}]}
    client.put("Subscription", "s1", **topic)
    work(server)
    client.put("Patient", "p2", gender="female")
    client.put("Patient", "p3", gender="male")
    work(server)
    bundles = [json.loads(body) for _, _, body, _ in receiver.got]
    types = [
        next(
            part["valueCode"] for part in each["entry"][0]["resource"]["parameter"] if part["name"] == "type"
        )
        for each in bundles
    ]
    assert types == ["handshake", "event-notification"]
    assert [each["resource"]["id"] for each in bundles[1]["entry"][1:]] == ["p2"]
    events = client.get("Subscription/s1/$events?eventsSinceNumber=1")["entry"][0]["resource"]["parameter"]
    assert [part["part"][0] for part in events if part["name"] == "notification-event"] == [
        {"name": "event-number", "valueString": "1"}
    ]


@pytest.mark.parametrize(
    ("changed", "expression"),
    [
        ({"criteria": "Nosuch?x=1"}, "Subscription.criteria"),
        ({"criteria": "Observation?nosuch=1"}, "Subscription.criteria"),
        ({"channel": {"type": "rest-hook"}}, "Subscription.channel.endpoint"),
        ({"channel": {"type": "sms", "endpoint": "tel:1"}}, "Subscription.channel.type"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused(
    client: Client, changed: dict[str, Any], expression: str
) -> None:
    body = {
        "resourceType": "Subscription",
        **subscription("Observation?status=final", "https://x.test"),
        **changed,
    }
    assert client.post("Subscription", body, 422)["issue"][0]["expression"] == [expression]


def test_nobody_is_told_of_more_than_they_may_read(server: Rooms, client: Client) -> None:
    reader = Client(server, "user/Subscription.cruds user/Observation.rs")
    body = {"resourceType": "Subscription", **subscription("Patient?gender=male", "https://x.test")}
    reader.post("Subscription", body, 403)


def test_our_own_network_is_not_called(client: Client, server: Rooms) -> None:
    client.put("Subscription", "s1", **subscription("Observation?status=final", "https://127.0.0.1/hook"))
    observe(client, "o1")
    work(server)
    shown = client.get("Subscription/s1")
    assert shown["status"] == "error"
    assert "private network" in shown["error"]


@pytest.mark.parametrize(
    "url", ["http://example.org/", "https://u:p@example.org/", "ftp://x", "https://", "x", "https://a/ b"]
)
def test_addresses_that_are_never_called(url: str) -> None:
    with pytest.raises(Unreachable):
        require_allowed(url, frozenset())


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_a_name_that_leads_inside_is_not_called(address: str) -> None:
    with (
        pytest.raises(Unreachable),
        outbound(
            "GET", "https://hook.example.org/", frozenset(), resolve_host=lambda _host, _port: [address]
        ),
    ):
        pass


def test_a_socket_hears_of_the_subscriptions_that_it_binds(
    client: Client, server: Rooms, operator: Caller
) -> None:
    body = {"status": "requested", "reason": "x", "criteria": "Observation?status=final",
            "channel": {"type": "websocket"}}  # fmt: skip
    client.put("Subscription", "w1", **body)
    socket = SubscriptionSocket(server.records)
    listener = Listener(operator, set())
    assert list(socket.receive(listener, "bind w1")) == ["bound w1"]
    assert next(iter(socket.receive(listener, "bind none"))).startswith("error")
    assert next(iter(socket.receive(listener, "hello"))).startswith("error")
    observe(client, "o1")
    settle(server)
    with server.database.snapshot() as session:
        rows = session.scalars(select(ChangeRow).where(ChangeRow.kind.in_(socket.kinds))).all()
        told = [text for row in rows for _, text in socket.route(session, change_of(row), [listener])]
    assert told == ["ping w1"]


def test_a_kept_caller_reaches_as_far_as_before(operator: Caller) -> None:
    caller = operator.narrowed(
        Clause(patients=frozenset({"p1"}), resource_types=frozenset({"Patient"})), Clause(search="category=x")
    )
    assert caller_from(caller_text(caller), caller.door) == caller
    assert caller_from(caller_text(caller)).door is Door.FHIR
