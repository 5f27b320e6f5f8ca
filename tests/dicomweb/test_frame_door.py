"""The frame door: plain requests never reach the framework, and nobody can tell by the answers."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import select, update
from werkzeug.test import Client, EnvironBuilder, TestResponse

from access.bearer import COOKIE
from access.model import AuditEntry, Token
from access.share_door import GRANT
from access.tokens import SESSION, digest_of, issue
from cloudfilm.web import common_headers
from dicomweb.frame_door import FrameDoor, is_plain
from kernel.throttle import Throttle
from tests.builders import ROOT, ct_slice
from tests.dicomweb.conftest import Service, path_of

STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
LONG_WAY = {"If_None_Match": '"another"'}  # a condition that does not hold: the same answer, made there


class LongWay(Exception):
    """The request was led on."""


def alone(service: Service, throttle: Throttle | None = None) -> Client:
    """A client of the door with nothing behind it."""

    def nothing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise LongWay

    rooms = service.rooms
    return Client(FrameDoor(nothing, rooms.access, rooms.archive, throttle or Throttle(0), common_headers))


def ask(service: Service, client: Client, path: str, **headers: str) -> TestResponse:
    named = {"Accept": STORED, "Authorization": f"Bearer {service.token}"} | headers
    return client.get(f"/dicomweb{path}", headers={key.replace("_", "-"): named[key] for key in named})


def without_boundary(answer: TestResponse) -> tuple[int, dict[str, str], bytes]:
    boundary = re.search(r"boundary=(\S+)", answer.content_type)
    named = boundary[1] if boundary else "none"
    headers = {name: value.replace(named, "") for name, value in answer.headers}
    return answer.status_code, headers, answer.data.replace(named.encode(), b"")


@pytest.mark.parametrize(
    "accept",
    [
        STORED,
        "*/*",
        "application/octet-stream",
        "image/jphc",
        "image/jls",
        'multipart/related; type="image/jp2"',
    ],
)
def test_the_answers_are_those_of_the_long_way(service: Service, accept: str) -> None:
    frame = f"{path_of(service.store(ct_slice()))}/frames/1"

    plain, long = (service.get(frame, accept, **headers) for headers in ({}, LONG_WAY))

    assert without_boundary(plain) == without_boundary(long)
    assert (
        without_boundary(ask(service, alone(service), frame, Accept=accept))[2] == without_boundary(long)[2]
    )
    assert plain.status_code == 200


def test_a_browser_with_its_session_is_answered_too(service: Service) -> None:
    frame = f"{path_of(service.store(ct_slice()))}/frames/1"
    access = service.rooms.access
    with service.rooms.database.transaction() as session:
        secret = issue(access, session, SESSION, life_s=3600, account_id="tester", factors="pwd totp")
    client = alone(service)
    client.set_cookie(COOKIE, secret)

    answer = client.get(f"/dicomweb{frame}", headers={"Accept": STORED})

    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "HEAD"},
        {"method": "POST"},
        {"query_string": "accept=*/*"},
        {"headers": {"Range": "bytes=0-1"}},
        {"headers": {"If-None-Match": '"x"'}},
        {"headers": {"Origin": "https://other.example"}},
        {"environ_overrides": {GRANT: "of-a-visitor"}},
    ],
)
def test_what_asks_for_more_is_led_on(change: dict[str, Any]) -> None:
    assert is_plain(EnvironBuilder("/").get_environ())
    assert not is_plain(EnvironBuilder("/", **change).get_environ())


@pytest.mark.parametrize(
    "ending", ["frames/0", "frames/2", "frames/1,1", "frames/x", "frames/1/rendered", ""]
)
def test_other_paths_and_frames_that_are_not_there_are_led_on(service: Service, ending: str) -> None:
    path = path_of(service.store(ct_slice()))

    with pytest.raises(LongWay):
        ask(service, alone(service), f"{path}/{ending}")


def test_nobody_is_let_in_who_would_not_be(service: Service) -> None:
    frame = f"{path_of(service.store(ct_slice()))}/frames/1"
    searcher = service.another_token("user/ImagingStudy.s")
    assert ask(service, alone(service), frame).status_code == 200

    for credentials in ("", "Bearer", "Bearer of-nobody", "Basic dGVzdGVyOng=", f"Bearer {searcher}"):
        with pytest.raises(LongWay):
            ask(service, alone(service), frame, Authorization=credentials)
    assert service.client.get(f"/dicomweb{frame}").status_code == 401
    assert service.client.get(
        f"/dicomweb{frame}", headers={"Authorization": f"Bearer {searcher}"}
    ).status_code == 403  # fmt: skip
    ended = service.another_token("user/*.cruds")
    assert ask(service, alone(service), frame, Authorization=f"Bearer {ended}").status_code == 200
    with service.rooms.database.transaction() as session:
        now, digest = service.rooms.clock.now(), digest_of(service.rooms.access, ended)
        session.execute(update(Token).where(Token.digest == digest).values(revoked_at=now))
    with pytest.raises(LongWay):
        ask(service, alone(service), frame, Authorization=f"Bearer {ended}")


def test_what_was_read_is_noted_and_requests_are_counted(service: Service) -> None:
    frame = f"{path_of(service.store(ct_slice(9)))}/frames/1"
    client = alone(service, Throttle(2))

    assert [ask(service, client, frame).status_code for _ in range(2)] == [200, 200]
    with pytest.raises(LongWay):
        ask(service, client, frame)

    with service.rooms.database.snapshot() as session:
        noted = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"{ROOT}.9")).all()
    assert list(noted).count("read ImagingStudy") == 1
