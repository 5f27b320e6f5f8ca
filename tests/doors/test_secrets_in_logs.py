"""A token that goes through a running server stands nowhere in what it writes or sends out (threat 10)."""

import json
import queue
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live import LiveServer

PLACES = (
    "/dicomweb/studies",
    "/fhir/Patient",
    "/fhir/metadata",
    "/api/nodes",
    "/nowhere",
    "/ohif/",
    "/metrics",
)


def test_a_token_stands_in_no_line_of_the_log(live_server: LiveServer) -> None:
    client = live_server.session()
    token = str(client.headers["Authorization"]).partition(" ")[2]
    assert len(token) > 20

    for place in PLACES:
        client.get(live_server.url + place, timeout=30)
        client.post(live_server.url + place, data=b"{", timeout=30)
    wrong = requests.get(
        f"{live_server.url}/dicomweb/studies", headers={"Authorization": f"Bearer {token}x"}, timeout=30
    )

    assert wrong.status_code == 401
    assert token not in wrong.text + str(wrong.headers)
    assert token not in live_server.output


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
def test_a_token_in_an_address_opens_nothing_and_is_not_written_down(
    live_server: LiveServer, name: str
) -> None:
    token = str(live_server.session().headers["Authorization"]).partition(" ")[2]

    for place in ("/dicomweb/studies", "/fhir/Patient"):
        answer = requests.get(f"{live_server.url}{place}?{name}={token}", timeout=30)
        assert answer.status_code in (400, 401), place
    assert token not in live_server.output


class Outside:
    """Another machine, which keeps each request that the server makes of it as it came."""

    def __init__(self) -> None:
        asked = self.asked = queue.Queue[tuple[str, str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.put((self.path, str(self.headers), body.decode()))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def outside() -> Iterator[Outside]:
    machine = Outside()
    threading.Thread(target=machine.server.serve_forever, daemon=True).start()
    yield machine
    machine.server.shutdown()
    machine.server.server_close()


def test_what_goes_out_carries_no_secret_of_who_caused_it(
    live_server: LiveServer, outside: Outside, tmp_path: Path
) -> None:
    """A text message is sent for somebody who shows a token, a cookie and a password at once."""
    gateways = {"sms": [{"name": "house", "kind": "http", "url": f"{outside.url}/sms",
                         "body": {"mobile": "{phone}", "content": "{text}"}}]}  # fmt: skip
    (tmp_path / "gateways.json").write_text(json.dumps(gateways))
    live_server.command("message", "gateways", str(tmp_path / "gateways.json"))
    live_server.command("account", "add", "reader", "--role", "radiologist", "--password", "Korrekt-Horse-7")
    live_server.command("account", "phone", "reader", "+8613800138000")
    client = live_server.session()
    client.headers["Sec-Fetch-Site"] = "same-origin"
    token = str(client.headers["Authorization"]).partition(" ")[2]
    began = {"login": "reader", "password": "Korrekt-Horse-7"}
    client.post(f"{live_server.url}/sign-in", data=began, timeout=30)
    cookies = [str(each.value) for each in client.cookies if each.value]
    assert cookies

    assert client.post(f"{live_server.url}/sign-in/sms", timeout=30).status_code == 200
    path, headers, body = outside.asked.get(timeout=120)

    (code,) = re.findall(r"\b\d{6}\b", json.loads(body)["content"])
    said = path + headers + body
    for secret in (token, "Korrekt-Horse-7", *cookies):
        assert secret not in said
        assert secret not in live_server.output
    assert code not in path + headers
    assert code not in live_server.output
    assert "referer" not in headers.lower()
