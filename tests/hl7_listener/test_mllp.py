"""The listener as others meet it: over a socket, on a real server."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hl7
from hl7.client import MLLPClient

from hl7_listener.mllp import frame
from tests.builders_hl7 import PID, adt_a04, omi_o23, oru_r01
from tests.live import LiveServer


@contextmanager
def connected(server: LiveServer) -> Iterator[socket.socket]:
    with _connection(server.mllp_port) as client:
        yield client


def _connection(port: int) -> socket.socket:
    """A connection, waited for: the listener may start a moment after the web server."""
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.2)
    raise AssertionError("nobody listens")


def answers(client: socket.socket, wanted: int) -> list[str]:
    received = b""
    while received.count(b"\x1c\r") < wanted:
        piece = client.recv(65536)
        assert piece, "the connection was closed"
        received += piece
    return [part.strip(b"\x0b").decode() for part in received.split(b"\x1c\r") if part]


def codes(client: socket.socket, wanted: int) -> list[str]:
    return [answer.split("\rMSA|")[1][:2] for answer in answers(client, wanted)]


def test_a_message_in_single_bytes_and_two_in_one_packet_are_answered_in_order(
    live_server: LiveServer,
) -> None:
    first, second = adt_a04(control_id="ONE"), adt_a04(control_id="TWO")
    with connected(live_server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(adt_a04(control_id="SLOW"))[:60]:
            client.sendall(bytes([byte]))
        client.sendall(frame(adt_a04(control_id="SLOW"))[60:])
        assert answers(client, 1)[0].split("\rMSA|AA|")[1].startswith("SLOW")
        client.sendall(frame(first) + b"\n" + frame(second))
        assert [each.split("\rMSA|AA|")[1][:3] for each in answers(client, 2)] == ["ONE", "TWO"]


def test_a_frame_without_its_last_byte_or_its_first_is_answered(live_server: LiveServer) -> None:
    with connected(live_server) as client:
        client.sendall(frame(adt_a04())[:-1])
        assert codes(client, 1) == ["AA"]
        client.sendall(frame(adt_a04())[1:])
        assert codes(client, 1) == ["AA"]


def test_noise_is_answered_negatively_and_the_connection_goes_on(live_server: LiveServer) -> None:
    with connected(live_server) as client:
        client.sendall(frame(b"\xff\xfe nonsense"))
        assert codes(client, 1) == ["AR"]
        client.sendall(frame(adt_a04()))
        assert codes(client, 1) == ["AA"]


def test_a_report_of_50_megabytes_is_taken(live_server: LiveServer) -> None:
    pdf = "JVBERi0x" * 6_250_000
    raw = (
        oru_r01().rstrip(b"\r")
        + b"\rOBX|3|ED|PDF^Report||^Application^PDF^Base64^"
        + pdf.encode()
        + b"||||||F\r"
    )
    with connected(live_server) as client:
        client.sendall(frame(raw))
        assert codes(client, 1) == ["AA"]


def test_the_client_of_python_hl7_is_answered(live_server: LiveServer) -> None:
    with MLLPClient("127.0.0.1", live_server.mllp_port) as client:
        answer = hl7.parse(client.send_message(adt_a04().decode()).decode())
    assert str(answer["MSA.F1.R1"]) == "AA"


def test_mllp_send_sends_a_file_of_messages(live_server: LiveServer, tmp_path: Path) -> None:
    file = tmp_path / "messages.hl7"
    file.write_bytes(frame(adt_a04(control_id="F1")) + frame(adt_a04(control_id="F2")))
    program = Path(sys.executable).with_name("mllp_send")
    arguments = [str(program), "--file", str(file), "--port", str(live_server.mllp_port), "127.0.0.1"]
    sent = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    assert [line[:9] for line in re.findall("MSA.AA.F[12]", sent.stdout)] == ["MSA|AA|F1", "MSA|AA|F2"]


def test_an_order_is_read_as_a_service_request_over_fhir(live_server: LiveServer) -> None:
    with connected(live_server) as client:
        client.sendall(frame(omi_o23(pid=PID.replace("1001", "FHIR1"), accession="FHIR0001")))
        assert codes(client, 1) == ["AA"]
    found = live_server.session().get(
        f"{live_server.url}/fhir/ServiceRequest?identifier=FHIR0001", timeout=30
    )
    assert found.json()["entry"][0]["resource"]["status"] == "active"


def test_what_was_acknowledged_survives_a_power_cut(live_server: LiveServer) -> None:
    acknowledged = []
    with connected(live_server) as client:
        for number in range(30):
            control_id = f"CUT{number}"
            client.sendall(frame(adt_a04(PID.replace("1001", control_id), control_id=control_id)))
            if codes(client, 1) == ["AA"]:
                acknowledged.append(control_id)
        client.sendall(frame(adt_a04(PID.replace("1001", "CUTLAST"), control_id="CUTLAST")))
        live_server.kill()
    listed = live_server.command("hl7", "list", "--limit", "200").stdout
    assert acknowledged
    assert [each for each in acknowledged if each not in listed] == []
    live_server.start()
    with connected(live_server) as client:  # the sender that got no answer sends again
        client.sendall(frame(adt_a04(PID.replace("1001", "CUTLAST"), control_id="CUTLAST")))
        assert codes(client, 1) == ["AA"]
    assert live_server.command("hl7", "list", "--limit", "200").stdout.count("CUTLAST") == 1
