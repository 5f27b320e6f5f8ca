"""The listener as others meet it: over a socket, on a real server."""

import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import hl7
import psutil
from hl7.client import MLLPClient

from hl7_listener.mllp import frame
from tests.builders_hl7 import PID, adt_a04, omi_o23, oru_r01
from tests.live import LiveServer, free_ports


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
        for nothing in (b"\xff\xfe nonsense", b""):
            client.sendall(frame(nothing))
            assert codes(client, 1) == ["AR"]
        client.sendall(frame(adt_a04()))
        assert codes(client, 1) == ["AA"]


def test_a_nul_anywhere_is_answered_and_the_connection_goes_on(live_server: LiveServer) -> None:
    good = adt_a04()
    sender = good.split(b"|")[2]
    name = good.split(b"\rPID|")[1].split(b"|")[4]
    assert name
    spoilt_ones = [
        good.replace(b"|" + sender + b"|", b"|A\0B|", 1),
        good.replace(name, b"A\0B", 1),
        good.replace(name, b"A\\X00\\B^\\X4100\\", 1),
    ]
    with connected(live_server) as client:
        told = []
        for each in spoilt_ones:
            client.sendall(frame(each))
            told += codes(client, 1)
        client.sendall(frame(good))
        assert [*told, *codes(client, 1)] == ["AR", "AR", "AA", "AA"]


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


def test_enhanced_mode_answers_twice_when_both_are_asked_for(live_server: LiveServer) -> None:
    raw = adt_a04(control_id="BOTH").replace(b"|P|2.5.1", b"|P|2.5.1|||AL|AL", 1)
    with connected(live_server) as client:
        client.sendall(frame(raw))
        told = answers(client, 2)
    assert [re.findall(r"MSA\|(..)\|(\w+)", each) for each in told] == [[("CA", "BOTH")], [("AA", "BOTH")]]


def test_whatever_came_before_on_a_connection_the_next_good_message_is_acknowledged(
    live_server: LiveServer,
) -> None:
    dice = random.Random(20261124)
    whole = [frame(adt_a04()), frame(oru_r01()), frame(omi_o23()), b"\x0bFHS|^~\\&\rBHS|^~\\&\rMSH|\x1c\r"]
    with connected(live_server) as client:
        for turn in range(60):
            client.sendall(spoilt(dice.choice(whole), dice))
            good = f"GOOD{turn}"
            client.sendall(frame(adt_a04(control_id=good)))
            received = b""
            while f"MSA|AA|{good}\r".encode() not in received:
                piece = client.recv(65536)
                assert piece, f"the connection was closed in turn {turn}: {live_server.output[-2000:]}"
                received += piece


def spoilt(raw: bytes, dice: random.Random) -> bytes:
    """A frame with bytes changed, lost, doubled and added, framing bytes among them."""
    made = bytearray(raw)
    for _ in range(dice.randrange(1, 12)):
        at = dice.randrange(len(made)) if made else 0
        act = dice.randrange(5)
        if act == 0 and made:
            made[at] = dice.randrange(256)
        elif act == 1:
            del made[at : at + dice.randrange(1, 40)]
        elif act == 2:
            made[at:at] = made[at : at + dice.randrange(1, 40)]
        elif act == 3:
            made[at:at] = dice.choice((b"\x0b", b"\x1c", b"\x1c\r", b"\x00", b"|^~\\&", b"\r\r"))
        else:
            made[at:at] = dice.randbytes(dice.randrange(1, 20))
    return bytes(made)


def test_several_processes_share_the_port_and_a_message_is_processed_once(live_server: LiveServer) -> None:
    (port,) = free_ports(1)
    settings = live_server.environment | {"CLOUDFILM_MLLP__PORT": str(port), "CLOUDFILM_MLLP__PROCESSES": "2"}
    listener = subprocess.Popen(
        [sys.executable, "-m", "cloudfilm", "serve", "mllp"],
        cwd=live_server.data_dir, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for_listeners(listener, port, 2)
        raw = frame(adt_a04(PID.replace("1001", "SHARED"), control_id="SHARED"))
        clients = [_connection(port) for _ in range(16)]  # the system spreads them over both
        for client in clients:
            client.sendall(raw)
        assert [codes(client, 1) for client in clients] == [["AA"]] * 16
        for client in clients:
            client.close()
    finally:
        listener.terminate()
        listener.wait(timeout=60)
    assert live_server.command("hl7", "list", "--limit", "200").stdout.count("SHARED") == 1


def _wait_for_listeners(process: subprocess.Popen[bytes], port: int, wanted: int) -> None:
    for _ in range(600):
        assert process.poll() is None, "the listener ended"
        found = 0
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                found += any(
                    each.laddr.port == port and each.status == psutil.CONN_LISTEN
                    for each in child.net_connections("tcp")
                )
        if found >= wanted:
            return
        time.sleep(0.2)
    raise AssertionError(f"{wanted} processes do not listen")


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
