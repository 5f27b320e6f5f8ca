"""MLLP: HL7 v2 messages over TCP, in frames of 0x0B ... 0x1C 0x0D (HL7 transport specification, appendix C).

Processes of its own, which may share the port: asyncio takes the bytes, a few threads process messages, and
concurrent messages share a commit. A connection is answered in the order of its messages. The reader is
lenient where senders are careless: frames in pieces or several at once, no 0x0D at the end, noise between
frames. It is strict where that would cost us: size, silence, the number of connections, and who may send at
all.
"""

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from access.audit import note_refusal
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.nodes import identify_node
from access.revocation_lists import CertificateRefused
from hl7_listener.acknowledgement import CODES, REJECTED, Header, Refusal, acknowledge
from hl7_listener.receiving import receive_all
from hl7_listener.room import Hl7, hl7_of
from kernel.database import DatabaseUnavailable
from kernel.errors import CloudfilmError, Kind
from kernel.settings import MllpSettings
from kernel.tls import server_context
from kernel.traces import SERVER, span

log = logging.getLogger(__name__)

START, END, CARRIAGE_RETURN = 0x0B, 0x1C, 0x0D
READ_BYTES = 65536
FINISH_WITHIN_S = 10.0
SENDER_FOR_S = 10.0  # a node that was changed or removed is noticed after this long
MOST_SENDERS = 1000
MOST_TOGETHER = 64  # messages that share a transaction
LARGE_BYTES = 262144  # a message larger than this has one of its own


class FrameTooLarge(CloudfilmError):
    """A frame that is larger than the setting `mllp.max_message_bytes`."""

    kind = Kind.TOO_LARGE

    def __init__(self, most: int) -> None:
        super().__init__(f"A message may have {most} bytes.")


class Framer:
    """Turns a stream into messages. Bytes outside of frames are dropped, a message without 0x0B is taken."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now. Raises FrameTooLarge."""
        self._buffer += data
        while True:
            end = self._buffer.find(END, self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                if len(self._buffer) > self._max_bytes:
                    raise FrameTooLarge(self._max_bytes)
                return
            body = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            message = body[body.rfind(START) + 1 :]
            if len(message) > self._max_bytes:
                raise FrameTooLarge(self._max_bytes)
            if message.strip() or START in body:  # a frame with nothing in it waits for its answer too
                yield message


def frame(message: bytes) -> bytes:
    """A message in its frame."""
    return b"\x0b" + message + b"\x1c\x0d"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A message that waits for its answers."""

    message: bytes
    address: str
    certificate: bytes
    answers: "asyncio.Future[tuple[bytes, ...]]"


class MllpServer:
    """The listener of one process."""

    def __init__(self, hl7: Hl7) -> None:
        self._hl7 = hl7
        self._settings = hl7.settings
        self._pool = ThreadPoolExecutor(hl7.settings.threads, "mllp")
        self._waiting: list[_Arrival] = []
        self._arrived = asyncio.Event()
        self._groups: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._senders: dict[tuple[str, str, str, bytes], tuple[Caller, float]] = {}

    async def start(self) -> int:
        """Listen. Returns the port, which matters when the setting is 0."""
        self._server = await asyncio.start_server(
            self._on_connection,
            self._settings.host,
            self._settings.port,
            ssl=tls_context(self._settings),
            reuse_port=self._settings.processes > 1,
            backlog=512,
        )
        self._groups = [asyncio.create_task(self._work()) for _ in range(self._settings.threads)]
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accept no more, let each connection finish the message it is at, and close."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=FINISH_WITHIN_S)
        for task in self._groups:
            task.cancel()
        self._pool.shutdown(wait=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= self._settings.max_connections:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError, ssl.SSLError):
            pass
        except Exception:
            log.exception("a connection ended by an unexpected fault")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str((writer.get_extra_info("peername") or [""])[0])
        certificate = _certificate_of(writer)
        framer = Framer(self._settings.max_message_bytes)
        while True:
            async with asyncio.timeout(self._settings.idle_timeout_s):
                data = await reader.read(READ_BYTES)
            if not data:
                return
            try:
                messages = list(framer.feed(data))
            except FrameTooLarge as refused:
                refusal = Refusal(REJECTED, "102", "MSH", str(refused))
                writer.write(frame(acknowledge(Header(), self._hl7.clock.now(), refusal)))
                await writer.drain()
                return
            for message in messages:
                answers = await asyncio.shield(self._process(message, address, certificate))
                for answer in answers:
                    writer.write(frame(answer))
                async with asyncio.timeout(self._settings.idle_timeout_s):
                    await writer.drain()

    async def _process(self, message: bytes, address: str, certificate: bytes) -> tuple[bytes, ...]:
        answers: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Arrival(message, address, certificate, answers))
        self._arrived.set()
        return await answers

    async def _work(self) -> None:
        """Take what has come on all connections, have it done by a thread, and hand out the answers."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            group = self._next_group()
            if not group:
                continue
            try:
                done = await loop.run_in_executor(self._pool, self._answer_all, group)
            except Exception:
                log.exception("messages could not be handled; their connections are closed")
                for arrival in group:
                    arrival.answers.cancel()
                continue
            for arrival, answers in zip(group, done, strict=True):
                if not arrival.answers.done():
                    arrival.answers.set_result(answers)

    def _next_group(self) -> list["_Arrival"]:
        """What waits, up to a number; a large message goes by itself, so that it holds up no small one."""
        group: list[_Arrival] = []
        while self._waiting and len(group) < MOST_TOGETHER:
            is_large = len(self._waiting[0].message) > LARGE_BYTES
            if is_large and group:
                break
            group.append(self._waiting.pop(0))
            if is_large:
                break
        if not self._waiting:
            self._arrived.clear()
        return group

    def _answer_all(self, group: list["_Arrival"]) -> list[tuple[bytes, ...]]:
        known: dict[int, Caller] = {}
        done: dict[int, tuple[bytes, ...]] = {}
        for at, arrival in enumerate(group):
            try:
                known[at] = self._sender_of(arrival.message, arrival.address, arrival.certificate)
            except DatabaseUnavailable as away:  # nobody can tell who sends; asked to send it again
                refusal = Refusal(*CODES[away.kind], "MSH", str(away))
                done[at] = (acknowledge(Header(), self._hl7.clock.now(), refusal),)
            except CloudfilmError as refused:
                if isinstance(refused, CertificateRefused):
                    self._note_refusal(arrival, refused)
                log.warning("a message from %s was refused: %s", arrival.address, refused)
                refusal = Refusal(REJECTED, "207", "MSH-3", "This sender is not known here.")
                done[at] = (acknowledge(Header(), self._hl7.clock.now(), refusal),)
        with span("MLLP receive", SERVER, messages=len(known)):
            answers = receive_all(self._hl7, [(caller, group[at].message) for at, caller in known.items()])
        done |= {at: answer.messages for at, answer in zip(known, answers, strict=True)}
        return [done[at] for at in range(len(group))]

    def _note_refusal(self, arrival: "_Arrival", refused: CertificateRefused) -> None:
        name = sender_names(arrival.message)[1]
        nobody = Caller(
            Principal(PrincipalKind.NODE, name, name), Door.HL7, Permissions(), address=arrival.address
        )
        note_refusal(
            self._hl7.database, self._hl7.archive.recently, self._hl7.clock, nobody, "HL7 message",
            f"certificate: {refused.reason}",
        )  # fmt: skip

    def _sender_of(self, message: bytes, address: str, certificate: bytes) -> Caller:
        """The node that sends, remembered for a short while. Raises UnknownNode."""
        key = (*sender_names(message), address, certificate)
        known = self._senders.get(key)
        if known is None or known[1] < time.monotonic():
            if len(self._senders) > MOST_SENDERS:
                self._senders.clear()
            caller = identify_sender(self._hl7, key[:2], address, certificate)
            known = self._senders[key] = (caller, time.monotonic() + SENDER_FOR_S)
        return known[0]


def sender_names(message: bytes) -> tuple[str, str]:
    """What a node may be called: MSH-3 and MSH-4 joined by @, or MSH-3 alone."""
    line = message.lstrip()[:2000].split(b"\r")[0]
    fields = [*line.split(line[3:4] or b"|"), b"", b"", b"", b""]
    application, facility = (part.split(b"^")[0].decode("latin-1").strip() for part in fields[2:4])
    return f"{application}@{facility}"[:16], application[:16]


def identify_sender(hl7: Hl7, names: tuple[str, ...], address: str, certificate: bytes) -> Caller:
    """The first of these names that is a known node. Raises UnknownNode, DatabaseUnavailable."""
    *others, last = names
    for name in others:
        try:
            return identify_node(hl7.access, name, address, certificate, Door.HL7)[0]
        except DatabaseUnavailable:
            raise
        except CloudfilmError:
            continue
    return identify_node(hl7.access, last, address, certificate, Door.HL7)[0]


def _certificate_of(writer: asyncio.StreamWriter) -> bytes:
    """The client's TLS certificate in DER; empty without one."""
    connection = writer.get_extra_info("ssl_object")
    der: bytes | None = connection.getpeercert(binary_form=True) if connection is not None else None
    return der or b""


def tls_context(settings: MllpSettings) -> ssl.SSLContext | None:
    """TLS as the settings say (IHE ATNA, BCP 195); None without it. Raises InvalidSetting."""
    if not settings.tls_certificate:
        return None
    return server_context(
        "mllp.tls_certificate", settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    )


def run(rooms: Any, stop: threading.Event) -> None:
    """Be the role `mllp` until `stop` is set."""
    asyncio.run(_run(hl7_of(rooms.by_kind()), stop))


async def _run(hl7: Hl7, stop: threading.Event) -> None:
    server = MllpServer(hl7)
    port = await server.start()
    log.info("HL7 v2 listens on %s:%d", hl7.settings.host, port)
    while not stop.is_set():
        await asyncio.sleep(0.2)
    await server.stop()
