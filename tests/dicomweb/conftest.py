"""A DICOMweb service in the test's own process, with a client that is signed in: for what needs no net."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from access.caller import operator as make_operator
from access.model import Account
from access.tokens import ACCESS, issue
from archive.ingest import ingest
from archive.placing import Ingested
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.settings import WebSettings
from tests.conftest import BACKENDS, Host, live_server_on
from tests.live import LiveServer


class Service:
    """The service and a client of it."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.client: FlaskClient = create_app(rooms).test_client()
        self.token = self._token()

    def _token(self, scope: str = "user/*.cruds") -> str:
        with self.rooms.database.transaction() as session:
            session.add(
                Account(
                    id="tester", login="tester", role="operator", institution="MAIN", failures=0,
                    disabled=False, created_at=self.rooms.clock.now(),
                )
            )  # fmt: skip
        return self.another_token(scope)

    def another_token(self, scope: str, context: dict[str, str] | None = None) -> str:
        """A token of the same account with other scopes."""
        with self.rooms.database.transaction() as session:
            return issue(
                self.rooms.access, session, ACCESS, life_s=3600, account_id="tester", scope=scope,
                context=context,
            )  # fmt: skip

    def store(self, data: bytes) -> Ingested:
        """Put an object into the archive."""
        return ingest(self.rooms.archive, make_operator(), io.BytesIO(data))

    def get(self, path: str, accept: str = "*/*", **headers: str) -> TestResponse:
        """Ask for a resource below the service's root."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(
            f"/dicomweb{path}",
            headers={"Authorization": f"Bearer {self.token}", "Accept": accept, **named},
        )

    def post(self, path: str, data: bytes, content_type: str, accept: str = "*/*") -> TestResponse:
        """Send something."""
        return self.client.post(
            f"/dicomweb{path}", data=data,
            headers={"Authorization": f"Bearer {self.token}", "Accept": accept, "Content-Type": content_type},
        )  # fmt: skip


def path_of(receipt: Ingested) -> str:
    """The path of an instance."""
    return (
        f"/studies/{receipt.study_instance_uid}/series/{receipt.series_instance_uid}"
        f"/instances/{receipt.sop_instance_uid}"
    )


def parts_of(answer: TestResponse) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a multipart answer, by a reader that is not ours."""
    import email.parser

    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser().parsebytes(head + answer.data)
    found = []
    for part in message.get_payload():
        payload: Any = part.get_payload(decode=True)  # type: ignore[union-attr]
        found.append(({name.lower(): str(value) for name, value in part.items()}, payload))  # type: ignore[union-attr]
    return found


@pytest.fixture(scope="package", params=BACKENDS)
def live_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A real server, shared by the modules of this package; each stores under UIDs and names of its own."""
    yield from live_server_on(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def service(host: Host) -> Iterator[Service]:
    """A service of the module's own."""
    with host("service", web=WebSettings(cors_origins=("https://viewer.example",))) as rooms:
        yield Service(rooms)
