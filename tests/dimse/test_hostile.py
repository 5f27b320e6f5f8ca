"""PDUs that no honest peer sends: none of them crashes the door, takes its memory, or holds a thread."""

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from cloudfilm.rooms import Rooms
from dimse.associate import (
    AssociateRequest,
    ProposedContext,
    UserInformation,
    decode_accept,
    decode_request,
    encode_request,
)
from dimse.command import InvalidCommand, decode_command, encode_command
from dimse.identifier import InvalidIdentifier, read_identifier
from dimse.server import Server
from dimse.upper_layer import COMMAND, LAST, ProtocolViolation, data_pdus

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STORE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
REQUEST = encode_request(
    AssociateRequest(
        "CLOUDFILM",
        "FUZZ",
        (
            ProposedContext(1, "1.2.840.10008.1.1", (IMPLICIT,)),
            ProposedContext(3, FIND, (IMPLICIT,)),
            ProposedContext(5, STORE, (IMPLICIT,)),
        ),
        UserInformation(max_pdu_bytes=16384),
    )
)
ECHO = encode_command(
    {"AffectedSOPClassUID": "1.2.840.10008.1.1", "CommandField": 0x30, "MessageID": 1,
     "CommandDataSetType": 0x0101}
)  # fmt: skip


def pdv(context: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF of one fragment."""
    return struct.pack(">BxIIBB", 4, len(data) + 6, len(data) + 2, context, control) + data


@pytest.fixture
def door(rooms: Rooms) -> Iterator[Server]:
    """A listener within the test's own process, whose connections are soon silent for too long."""
    quick = replace(rooms.settings.dimse, port=0, idle_timeout_s=0.5, max_associations=8)
    server = Server(replace(rooms.dimse, settings=quick))
    server.listen()
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    yield server
    stop.set()
    server.stop()
    thread.join()


def exchange(door: Server, *pieces: bytes) -> bytes:
    """Send bytes, and return all that comes until the door ends the connection or has nothing to say."""
    with socket.create_connection(("127.0.0.1", door.ports[0]), timeout=30) as peer:
        received = b""
        with suppress(OSError):
            for piece in pieces:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := peer.recv(65536):
                received += piece
        return received


def is_at_rest(door: Server) -> bool:
    """Whether every connection has ended, within a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(thread.name == "association" for thread in threading.enumerate()):
            return True
        time.sleep(0.05)
    return False


def still_serves(door: Server) -> bool:
    """Whether an honest peer gets its answer."""
    answer = exchange(door, REQUEST, pdv(1, COMMAND | LAST, ECHO))
    return answer[:1] == b"\x02" and b"\x30\x80" in answer


HOSTILE = {
    "nothing": (),
    "half a header": (b"\x01\x00\x00",),
    "a length without a body": (b"\x01\x00\x00\x00\x10\x00",),
    "a request that says it is enormous": (b"\x01\x00\xff\xff\xff\xff",),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
    "data before an association": (pdv(1, COMMAND | LAST, ECHO),),
    "a PDU of no type": (b"\x63\x00\x00\x00\x00\x04abcd",),
    "a request twice": (REQUEST, REQUEST),
    "a context that was not accepted": (REQUEST, pdv(77, COMMAND | LAST, ECHO)),
    "a data set without a command": (REQUEST, pdv(3, LAST, b"abcd")),
    "a command that is none": (REQUEST, pdv(1, COMMAND | LAST, b"\xff" * 40)),
    "a command without end": (REQUEST, *(pdv(1, COMMAND, bytes(16000)) for _ in range(8))),
    "a fragment that is longer than its PDU": (REQUEST, struct.pack(">BxIIBB", 4, 6, 60000, 1, 3)),
    "a fragment of no length": (REQUEST, struct.pack(">BxII", 4, 4, 0)),
    "a PDU beyond what was negotiated": (REQUEST, struct.pack(">BxI", 4, 1 << 30)),
    "a response to nothing": (
        REQUEST,
        pdv(1, COMMAND | LAST, encode_command({"CommandField": 0x8030, "MessageIDBeingRespondedTo": 1,
                                               "Status": 0, "CommandDataSetType": 0x0101})),
    ),
    "an identifier that is none": (
        REQUEST,
        pdv(3, COMMAND | LAST, encode_command({"AffectedSOPClassUID": FIND, "CommandField": 0x20,
                                               "MessageID": 1, "CommandDataSetType": 1})),
        pdv(3, LAST, b"\x08\x00\x52\x00\xff\xff\xff\x7fabc"),
    ),
    "half of an object": (
        REQUEST,
        pdv(5, COMMAND | LAST, encode_command({"AffectedSOPClassUID": STORE, "CommandField": 0x01,
                                               "MessageID": 1, "AffectedSOPInstanceUID": "1.2.3",
                                               "CommandDataSetType": 1})),
        pdv(5, 0, bytes(5000)),
    ),
}  # fmt: skip


def test_whatever_is_sent_the_door_serves_the_next_and_keeps_nothing(door: Server) -> None:
    for pieces in HOSTILE.values():
        exchange(door, *pieces)
    noise = random.Random(20260301)
    for _ in range(60):
        exchange(door, noise.randbytes(noise.randrange(1, 400)))
    for _ in range(120):  # an honest conversation with one byte changed, or cut off
        whole = bytearray(REQUEST + pdv(1, COMMAND | LAST, ECHO))
        whole[noise.randrange(len(whole))] = noise.randrange(256)
        exchange(door, bytes(whole[: noise.randrange(1, len(whole))] if noise.random() < 0.3 else whole))

    assert is_at_rest(door)
    assert still_serves(door)


def find_of(sop_class: str, identifier: bytes) -> tuple[bytes, ...]:
    """A C-FIND request on the second context of `REQUEST`."""
    command = encode_command(
        {"AffectedSOPClassUID": sop_class, "CommandField": 0x20, "MessageID": 1, "CommandDataSetType": 1}
    )
    return pdv(3, COMMAND | LAST, command), pdv(3, LAST, identifier)


def element(group: int, number: int, value: bytes) -> bytes:
    """A data element in Implicit VR Little Endian."""
    return struct.pack("<HHI", group, number, len(value)) + value


def test_a_nul_within_a_text_is_answered(door: Server) -> None:
    """No text has one, and PostgreSQL refuses to look for it."""
    level = element(0x0008, 0x0052, b"STUDY ")
    named = exchange(door, REQUEST.replace(b"FUZZ", b"FU\0Z"))
    patient = exchange(door, REQUEST, *find_of(FIND, level + element(0x0010, 0x0010, b"A\0B*")))
    number = exchange(door, REQUEST, *find_of(FIND, level + element(0x0010, 0x0020, b"A\0BC")))
    study = exchange(door, REQUEST, *find_of(FIND, level + element(0x0020, 0x000D, b"1.\0.2")))

    assert named[:1] in (b"\x02", b"\x03")
    for answer in (patient, number, study):
        assert b"\x20\x80" in answer  # C-FIND-RSP
    assert is_at_rest(door)
    assert still_serves(door)


def test_what_breaks_the_protocol_is_aborted_with_its_reason(door: Server) -> None:
    for name in ("data before an association", "a PDU of no type", "a command that is none"):
        answer = exchange(door, *HOSTILE[name])
        assert answer[-10:-4] == b"\x07\x00\x00\x00\x00\x04", name


def test_nobody_holds_a_thread_by_being_slow(door: Server) -> None:
    """Byte by byte, after an association and in the middle of a PDU: the whole has a time, not each byte."""
    with socket.create_connection(("127.0.0.1", door.ports[0]), timeout=30) as slow:
        slow.sendall(REQUEST)
        slow.recv(65536)
        ended = False
        for byte in pdv(1, COMMAND | LAST, bytes(2000)):
            try:
                slow.sendall(bytes((byte,)))
            except ConnectionError:
                ended = True
                break
            time.sleep(0.02)
        assert ended
    assert is_at_rest(door)


def test_silence_ends_an_association(door: Server) -> None:
    with socket.create_connection(("127.0.0.1", door.ports[0]), timeout=30) as silent:
        silent.sendall(REQUEST)
        received = b""
        while piece := silent.recv(65536):
            received += piece
    assert received[-10:-4] == b"\x07\x00\x00\x00\x00\x04"
    assert is_at_rest(door)


def test_connections_that_say_nothing_do_not_keep_others_out(door: Server) -> None:
    idle = [socket.create_connection(("127.0.0.1", door.ports[0]), timeout=30) for _ in range(16)]
    try:
        assert still_serves(door)
    finally:
        for each in idle:
            each.close()
    assert is_at_rest(door)


QUICK = profile(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(st.binary(max_size=600))
def test_readers_of_pdus_refuse_what_they_cannot_read(data: bytes) -> None:
    for read, refusal in (
        (lambda: decode_request(memoryview(data)), ProtocolViolation),
        (lambda: decode_accept(memoryview(data)), ProtocolViolation),
        (lambda: decode_command(data), InvalidCommand),
        (lambda: read_identifier(data, IMPLICIT), InvalidIdentifier),
    ):
        with suppress(refusal):
            read()


@QUICK
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(min_value=8, max_value=200))
def test_a_set_is_cut_into_full_pdus_of_which_the_last_is_marked(pieces: list[bytes], most: int) -> None:
    wire = b"".join(bytes(buffer) for buffers in data_pdus(3, 0, pieces, most) for buffer in buffers)
    data, controls, sizes, at = b"", [], [], 0
    while at < len(wire):
        kind, length, fragment, context, control = struct.unpack_from(">BxIIBB", wire, at)
        assert (kind, context, fragment) == (4, 3, length - 4)
        data += wire[at + 12 : at + 6 + length]
        controls.append(control)
        sizes.append(length)
        at += 6 + length

    assert data == b"".join(pieces)
    assert controls == [0] * (len(controls) - 1) + [LAST]
    assert all(size == most for size in sizes[:-1])
    assert sizes[-1] <= most
