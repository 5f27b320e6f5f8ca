"""The process that serves HTTP: one connection after another request, and bytes that arrive as they are."""

import socket
import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

from cloudfilm.web_worker import MOST_PIECES, is_left, send_pieces
from tests.builders import ROOT, ct_slice
from tests.live import LiveServer

JSON = {"Accept": "application/dicom+json"}


def test_pieces_arrive_in_order_however_little_the_network_takes_at_once() -> None:
    pieces = [bytes([number % 251]) * (number % 700) for number in range(2 * MOST_PIECES + 100)]
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def send() -> None:
        with ours:
            send_pieces(ours, pieces)

    sender = threading.Thread(target=send)
    sender.start()
    received = bytearray()
    with theirs:
        while data := theirs.recv(1000):
            received += data
    sender.join()

    assert received == b"".join(pieces)


def test_one_connection_serves_requests_of_every_kind_one_after_the_other(live_server: LiveServer) -> None:
    client = HTTPConnection(urlsplit(live_server.url).netloc, timeout=60)
    token = {"Authorization": f"Bearer {live_server.token()}"}
    data, path = ct_slice(71), f"/dicomweb/studies/{ROOT}.71"

    def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        client.request(method, url, body, token | {key.replace("_", "-"): headers[key] for key in headers})
        answer = client.getresponse()
        return answer.status, answer.read()

    client.connect()
    connection = client.sock
    stored = ask("POST", "/dicomweb/studies", data, Content_Type="application/dicom")
    assert stored[0] == 200
    frame = f"{path}/series/{ROOT}.71.1/instances/{ROOT}.71.1.1/frames/1"
    status, whole = ask("GET", frame, Accept="application/octet-stream", Accept_Encoding="identity")
    assert (status, len(whole)) == (200, 128)
    assert ask("HEAD", frame, Accept="application/octet-stream") == (200, b"")
    status, parts = ask("GET", path, Accept='multipart/related; type="application/dicom"; transfer-syntax=*')
    assert status == 200
    assert data in parts  # in chunks, for its length was not said
    assert ask("GET", f"{path}9")[0] == 404
    assert ask("POST", "/dicomweb/nowhere", b"x" * 30000)[0] == 404  # a body that nobody reads
    assert ask("GET", frame, Accept="application/octet-stream", Accept_Encoding="identity") == (200, whole)
    assert client.sock is connection
    client.close()


def test_requests_that_come_together_are_all_answered(live_server: LiveServer) -> None:
    place = urlsplit(live_server.url)
    request = f"GET /healthz HTTP/1.1\r\nHost: {place.netloc}\r\n".encode()
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as connection:
        connection.sendall((request + b"\r\n") * 3 + request + b"Connection: close\r\n\r\n")
        answers = b""
        while data := connection.recv(65536):
            answers += data

    assert answers.count(b"HTTP/1.1 200 OK") == 4


def test_a_new_connection_is_left_to_a_process_that_has_fewer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):

        def another_takes_it() -> bool:
            listener.accept()[0].close()
            return True

        assert is_left(listener, lambda: False)
        assert is_left(listener, lambda: True)  # nobody took it, and it is not waited for ever
        assert not is_left(listener, another_takes_it)


def test_connections_are_spread_over_the_processes(live_server: LiveServer) -> None:
    place = urlsplit(live_server.url)
    clients = [HTTPConnection(place.netloc, timeout=60) for _ in range(16)]
    for client in clients:
        client.request("GET", "/healthz")
        client.getresponse().read()

    _arbiter, *processes = sorted(live_server.connections())

    assert sum(processes) >= 16
    assert max(processes) - min(processes) <= 4
    for client in clients:
        client.close()
