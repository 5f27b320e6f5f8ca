"""WebSockets: who may open one, and that what happens meanwhile is told, in order, to those it is for."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import cloudfilm.push
from access.bearer import COOKIE
from access.caller import Caller, Door
from access.tickets import issue_ticket
from access.tokens import ACCESS, SESSION, caller_of, issue, revoke
from archive.workitem_events import GLOBAL_WORKLIST, subscribe
from archive.workitems import change_state, create_workitem, request_cancellation
from cloudfilm.rooms import Rooms, build_rooms
from kernel.settings import PushSettings, Settings
from tests.archive.test_workitems import scheduled
from tests.live import free_ports

PATH = "/ws/dicomweb/subscribers/WATCHER"


@pytest.fixture
def pushing(settings: Settings) -> Iterator[Rooms]:
    """The rooms of a host whose push role runs, by its own clock."""
    (port,) = free_ports(1)
    rooms = build_rooms(replace(settings, push=PushSettings(port=port, recheck_s=0.2)))
    stop = threading.Event()
    thread = threading.Thread(target=cloudfilm.push.run, args=(rooms, stop))
    thread.start()
    yield rooms
    stop.set()
    thread.join(30)
    rooms.close()


def token(rooms: Rooms, scope: str = "system/Workitem.crus", **values: Any) -> str:
    with rooms.database.transaction() as session:
        return issue(rooms.access, session, ACCESS, life_s=600, scope=scope, role="integration", **values)


def open_socket(rooms: Rooms, path: str = PATH, **headers: str) -> ClientConnection:
    url = f"ws://127.0.0.1:{rooms.settings.push.port}{path}"
    for _ in range(200):
        try:
            return connect(url, additional_headers=headers, proxy=None)
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    raise AssertionError("the push role does not listen")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def told(socket: ClientConnection) -> tuple[str, int, str]:
    """The next report: workitem, event type and state."""
    report = json.loads(socket.recv(timeout=20))
    state = report.get("00741000", {}).get("Value", [""])[0]
    assert report["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.4"]
    return report["00001000"]["Value"][0], report["00001002"]["Value"][0], state


def test_a_subscriber_is_told_what_happens_while_it_listens(pushing: Rooms, operator: Caller) -> None:
    archive = pushing.archive
    subscribe(archive, operator, "WATCHER", GLOBAL_WORKLIST)
    create_workitem(archive, operator, scheduled())  # before: not told
    with open_socket(pushing, **bearer(token(pushing))) as socket:
        uid = create_workitem(archive, operator, scheduled()).sop_instance_uid
        change_state(archive, operator, uid, "IN PROGRESS", "1.2.3")
        request_cancellation(archive, operator, uid, "RIS", {})
        reports = [told(socket) for _ in range(3)]

    assert reports == [(uid, 1, "SCHEDULED"), (uid, 1, "IN PROGRESS"), (uid, 2, "")]


def test_two_listeners_of_one_title_are_told_alike_and_another_title_is_not(
    pushing: Rooms, operator: Caller
) -> None:
    archive = pushing.archive
    subscribe(archive, operator, "WATCHER", GLOBAL_WORKLIST)
    shown = bearer(token(pushing))
    other_path = "/ws/dicomweb/subscribers/OTHER"
    with (
        open_socket(pushing, **shown) as one,
        open_socket(pushing, **shown) as two,
        open_socket(pushing, other_path, **shown) as other,
    ):
        uid = create_workitem(archive, operator, scheduled()).sop_instance_uid
        assert told(one) == told(two) == (uid, 1, "SCHEDULED")
        subscribe(archive, operator, "OTHER", uid)
        assert told(other) == (uid, 1, "SCHEDULED")  # its own first report, and nothing before


def test_only_workitems_within_reach_are_told(pushing: Rooms, operator: Caller) -> None:
    archive = pushing.archive
    subscribe(archive, operator, "WATCHER", GLOBAL_WORKLIST)
    elsewhere = replace(operator, principal=replace(operator.principal, institution="ELSEWHERE"))
    with open_socket(pushing, **bearer(token(pushing))) as socket:
        create_workitem(archive, elsewhere, scheduled())
        own = create_workitem(archive, operator, scheduled()).sop_instance_uid
        assert told(socket)[0] == own


@pytest.mark.parametrize(
    ("path", "scope", "status"),
    [
        (PATH, None, 401),
        (PATH, "system/Patient.rs", 403),
        ("/ws/dicomweb/subscribers/A_TITLE_OF_MORE_THAN_16", "system/Workitem.r", 400),
        ("/ws/nothing", "system/Workitem.r", 404),
        (f"{PATH}?ticket=made-up", None, 401),
    ],
)
def test_others_may_not_open_one(pushing: Rooms, path: str, scope: str | None, status: int) -> None:
    headers = bearer(token(pushing, scope)) if scope else {}
    with pytest.raises(InvalidStatus) as refused:
        open_socket(pushing, path, **headers)

    assert refused.value.response.status_code == status


def test_a_ticket_is_good_once(pushing: Rooms) -> None:
    caller = caller_of(pushing.access, token(pushing), (ACCESS,), Door.WEB, "127.0.0.1")
    path = f"{PATH}?ticket={issue_ticket(pushing.access, caller)}"
    with open_socket(pushing, path):
        pass

    with pytest.raises(InvalidStatus):
        open_socket(pushing, path)


def test_a_cookie_opens_one_for_our_own_pages_only(pushing: Rooms) -> None:
    with pushing.database.transaction() as session:
        secret = issue(pushing.access, session, SESSION, life_s=600, role="integration")
    cookie = {"Cookie": f"{COOKIE}={secret}"}
    with open_socket(pushing, **cookie, Origin=f"http://127.0.0.1:{pushing.settings.web.port}"):
        pass
    for origin in ({}, {"Origin": "https://evil.example"}):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(pushing, **cookie, **origin)
        assert refused.value.response.status_code == 403


def test_a_socket_ends_with_the_token_that_opened_it(pushing: Rooms) -> None:
    secret = token(pushing)
    with open_socket(pushing, **bearer(secret)) as socket:
        caller = caller_of(pushing.access, secret, (ACCESS,), Door.WEB, "127.0.0.1")
        with pushing.database.transaction() as session:
            revoke(pushing.access, session, caller.grant)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
