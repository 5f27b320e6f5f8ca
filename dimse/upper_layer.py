"""The DICOM upper layer: PDUs on a socket (PS3.8 9.3), each within a size and a time.

Reads go into one buffer that is kept for the whole association, and what is read is handed out as views of
it, valid until the next read. A PDU must be complete within the time limit, however slowly its bytes come
in, so a peer can neither hold a thread for ever nor make it take more memory than the buffer.
"""

import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

PDU_HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(
    ">IBB"
)  # length (of what follows it), presentation context id, message control header
DATA_HEADER = struct.Struct(">BxIIBB")  # both, of a P-DATA-TF with one PDV

MAX_NEGOTIATION_BYTES = 1 << 20  # of any PDU but P-DATA-TF: 128 contexts of 64 syntaxes are 600 KB
LARGEST_SENT_BYTES = 1 << 17  # even where the peer takes more: larger ones gain nothing

GATHERED_BYTES = 32768  # of small messages that go out together
MOST_GATHERED = 512  # buffers in one call; the system takes 1024

COMMAND, LAST = 1, 2  # bits of the message control header (PS3.8 E.2)


class PduType(IntEnum):
    """The first byte of a PDU."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Reasons of the service provider in an A-ABORT (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class AssociationEnded(Exception):
    """The peer can no longer be talked to. `how` is a word for the log."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Released(AssociationEnded):
    """The peer asked for an orderly release, and it was granted."""

    def __init__(self) -> None:
        super().__init__("released")


class BrokenOff(AssociationEnded):
    """We ended it in the middle of a message, since a stored object could not be read to its end."""

    def __init__(self) -> None:
        super().__init__("broken off by us: a stored object cannot be read")


class ProtocolViolation(AssociationEnded):
    """The peer broke a rule of PS3.8 or PS3.7; it is answered with an A-ABORT that says so."""

    def __init__(self, how: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(how)
        self.reason = reason


@dataclass(slots=True)
class Pdv:
    """A presentation data value: a fragment of a command set or of a data set."""

    context_id: int
    control: int
    data: memoryview

    @property
    def is_command(self) -> bool:
        """Whether it belongs to the command set."""
        return bool(self.control & COMMAND)

    @property
    def is_last(self) -> bool:
        """Whether it ends its set."""
        return bool(self.control & LAST)


class UpperLayer:
    """One transport connection."""

    def __init__(self, connection: socket.socket, max_pdu_bytes: int, timeout_s: float) -> None:
        """`timeout_s` bounds how long a PDU may take to arrive, and how long the peer may take none of
        ours."""
        self._socket = connection
        self._is_tls = isinstance(connection, ssl.SSLSocket)
        self._buffer = bytearray(max_pdu_bytes)
        self._view = memoryview(self._buffer)
        self._header = memoryview(bytearray(PDU_HEADER.size))
        self._pdvs: list[Pdv] = []  # of the PDU read last, the next one at the end
        self._gathered: list[bytes | memoryview] | None = None  # what is written together later
        self._gathered_bytes = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)  # the kernel keeps the time: a blocking read of a whole PDU is one call
        self.set_timeout(timeout_s)

    def set_timeout(self, timeout_s: float) -> None:
        """Change how long a PDU may take."""
        self._timeout_s = timeout_s
        packed = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, packed)

    @property
    def certificate(self) -> bytes:
        """The peer's TLS certificate in DER; empty without TLS or certificate."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return b""
        return self._socket.getpeercert(binary_form=True) or b""

    def read_pdu(self) -> tuple[int, memoryview]:
        """The next PDU: its type and what follows its header, valid until the next read.

        Raises ProtocolViolation for an unknown type or a length beyond the limit, and AssociationEnded
        when the connection is lost or the time is up.
        """
        self._read_into(self._header)
        kind, length = PDU_HEADER.unpack(self._header)
        if kind == PduType.DATA:
            if length > len(self._view):
                raise ProtocolViolation("sent a PDU larger than was negotiated")
            body = self._view[:length]
        elif not PduType.ASSOCIATE_RQ <= kind <= PduType.ABORT:
            raise ProtocolViolation("sent something that is not a PDU", AbortReason.UNRECOGNIZED_PDU)
        elif length > MAX_NEGOTIATION_BYTES:
            raise ProtocolViolation("sent a PDU larger than any of its type")
        else:
            body = memoryview(bytearray(length))
        self._read_into(body)
        return kind, body

    def read_pdv(self) -> Pdv:
        """The next fragment, its data valid until the next call.

        Raises Released after granting a release, and AssociationEnded as `read_pdu` does.
        """
        while not self._pdvs:
            kind, body = self.read_pdu()
            if kind == PduType.DATA:
                self._pdvs = _split(body)
            elif kind == PduType.RELEASE_RQ:
                self.write(PDU_HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4))
                raise Released
            elif kind == PduType.ABORT:
                raise AssociationEnded("aborted by the peer")
            else:
                raise ProtocolViolation(f"sent a PDU of type {kind} out of turn", AbortReason.UNEXPECTED_PDU)
        return self._pdvs.pop()

    def is_readable(self, within_s: float = 0) -> bool:
        """Whether something of the peer's has come in and was not read, or comes within a time."""
        if self._pdvs or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return True
        waiting = select.poll()  # select() knows no descriptor above 1023
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(within_s * 1000))

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Small messages that are written within the block go out together, at the latest at its end."""
        self._gathered, self._gathered_bytes = [], 0
        try:
            yield
        finally:
            pieces, self._gathered = self._gathered, None
            self.write(*pieces)

    def write(self, *pieces: bytes | memoryview) -> None:
        """Send bytes. Raises AssociationEnded when they are not taken."""
        if self._gathered is not None:
            self._gathered += pieces
            self._gathered_bytes += sum(map(len, pieces))
            if self._gathered_bytes < GATHERED_BYTES:
                return
            pieces = tuple(self._gathered)
            self._gathered, self._gathered_bytes = [], 0
        try:
            if self._is_tls or sum(map(len, pieces)) <= 4096 * len(pieces):  # many small ones are joined
                self._socket.sendall(b"".join(pieces))
            else:
                self._send_gathered(list(pieces))
        except (OSError, ValueError) as failure:
            raise AssociationEnded(f"lost while sending ({type(failure).__name__})") from None
        self.bytes_sent += sum(map(len, pieces))

    def _send_gathered(self, pieces: list[bytes | memoryview]) -> None:
        for start in range(0, len(pieces), MOST_GATHERED):
            some = pieces[start : start + MOST_GATHERED]
            sent = self._socket.sendmsg(some)
            for piece in some:  # what a full socket buffer left over
                if sent < len(piece):
                    self._socket.sendall(memoryview(piece)[sent:])
                sent = max(0, sent - len(piece))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def interrupt(self) -> None:
        """Let a thread that waits for the peer find the connection at its end."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            return  # it is closed already

    def _read_into(self, view: memoryview) -> None:
        wanted, got = len(view), 0
        deadline = time.monotonic() + self._timeout_s
        flags = 0 if self._is_tls else socket.MSG_WAITALL
        try:
            while got < wanted:
                size = self._socket.recv_into(view[got:], wanted - got, flags)
                if size == 0:
                    raise AssociationEnded("connection closed by the peer")
                got += size
                if got < wanted and time.monotonic() > deadline:
                    raise AssociationEnded("timed out")
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            raise AssociationEnded("timed out") from None
        except (OSError, ValueError) as failure:
            raise AssociationEnded(f"connection lost ({type(failure).__name__})") from None
        self.bytes_received += wanted


def _split(body: memoryview) -> list[Pdv]:
    """The fragments of a P-DATA-TF, the first one at the end (PS3.8 9.3.5)."""
    pdvs, at = [], 0
    while at < len(body):
        if at + PDV_HEADER.size > len(body):
            raise ProtocolViolation("sent a fragment that is cut off")
        length, context_id, control = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ProtocolViolation("sent a fragment of a wrong length")
        pdvs.append(Pdv(context_id, control, body[at + 6 : end]))
        at = end
    pdvs.reverse()
    return pdvs


def data_pdus(
    context_id: int, control: int, pieces: Iterable[bytes | memoryview], max_pdu_bytes: int
) -> Iterator[list[bytes | memoryview]]:
    """Cut a set into P-DATA-TF PDUs of one fragment each, as buffers to be written together; the last
    fragment is marked. A fragment may lie in several buffers, so that none is copied and every PDU is full.

    control: COMMAND or 0. max_pdu_bytes: what the peer takes; 0 is no limit (PS3.8 D.1.1).
    """
    room = max(1, min(max_pdu_bytes or LARGEST_SENT_BYTES, LARGEST_SENT_BYTES) - 6)
    whole = _data_header(context_id, control, room)
    waiting: list[bytes | memoryview] = []  # the last PDU is marked, so what may be in it waits
    size = 0
    for piece in pieces:
        view, start, buffers = memoryview(piece), 0, list[bytes | memoryview]()
        while size + len(view) - start > room:
            end = start + room - size
            buffers += (whole, *waiting, view[start:end])
            start, size, waiting = end, 0, []
        if start < len(view):
            waiting.append(view[start:])
            size += len(view) - start
        if buffers:
            yield buffers
    yield [_data_header(context_id, control | LAST, size), *waiting]


def _data_header(context_id: int, control: int, length: int) -> bytes:
    return DATA_HEADER.pack(PduType.DATA, length + 6, length + 2, context_id, control)
