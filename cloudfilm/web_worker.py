"""The process that serves HTTP: gunicorn's threaded worker, made to do less between two requests.

Four things of its own. A new connection goes to the process that has the fewest: a client stays with the one
that took it, and four that store at once would else often be three and one, which leaves a core idle. A
thread stays with a connection for a moment after an answer, since a client that loads images asks for the
next one at once: that request then costs no way through the event loop and back. An answer leaves in as few
system calls as it has moments: its head with its first piece, the pieces of a list all together, uncopied;
each call lets go of the interpreter and has to win it back from other threads. And a body of known length is
received where it is wanted, in place of being copied from buffer to buffer.
"""

import io
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from multiprocessing.sharedctypes import RawArray
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn, ThreadWorker
from typing_extensions import Buffer

from kernel.runs import Runs

STAYS_MS = 2  # how long a thread waits for the next request of a connection while nobody else waits for it
MOST_PIECES = 512  # of one call; Linux takes 1024 (IOV_MAX)
GIVES_WAY_S = 0.0002  # a moment that a process leaves a new connection to those that have fewer
GIVES_WAY = 25  # how many: who is too busy to take it is not waited for longer
SEATS = 128  # web.processes is 64 at most, and twice as many while gunicorn reloads
NOBODY = -1  # in place of a count
COPIED_BYTES = 65536  # TLS takes one piece a call: what is smaller than this is joined before


class Connections:
    """How many connections each process has, where all of them see it."""

    def __init__(self) -> None:
        self._counts = RawArray("i", [NOBODY] * SEATS)

    def seat(self, arbiter: Arbiter, worker: "WebWorker") -> None:
        """Give a process that is about to be forked its own count (gunicorn's pre_fork)."""
        taken = {each.seat for each in arbiter.WORKERS.values()}
        worker.connections, worker.seat = self, min(set(range(SEATS)) - taken)

    def tell(self, seat: int, count: int) -> None:
        """Say how many a process has; NOBODY: it takes none."""
        self._counts[seat] = count

    def others_have_fewer(self, seat: int) -> bool:
        """Whether another process has fewer than this one."""
        counts: list[int] = self._counts[:]
        return any(NOBODY < count < counts[seat] for count in counts)


class WebWorker(ThreadWorker):  # type: ignore[misc]
    """A process with threads that answer requests."""

    connections: Connections
    seat: int  # of our count there

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of gunicorn's event loop."""
        self.connections.tell(self.seat, self.nr_conns if self.alive else NOBODY)
        super().wait_for_and_dispatch_events(timeout)

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection, unless a process that has fewer does."""
        if is_left(listener, lambda: self.connections.others_have_fewer(self.seat)):
            super().accept(listener)
            self.connections.tell(self.seat, self.nr_conns)

    def handle(self, conn: TConn) -> Any:
        """Answer a request, and those that follow it closely; whether the connection is kept, as gunicorn
        has it."""
        kept = super().handle(conn)
        while kept is True and self._follows(conn):
            kept = super().handle(conn)
        return kept

    def _follows(self, conn: TConn) -> bool:
        """Whether the next request is coming, and no other connection waits for a thread."""
        if not self.alive or not self.tpool._work_queue.empty() or conn.parser.unreader.buf.getvalue():
            return False
        if isinstance(conn.sock, ssl.SSLSocket) and conn.sock.pending():
            return True
        waiting = select.poll()
        waiting.register(conn.sock, select.POLLIN)
        return bool(waiting.poll(STAYS_MS))

    def handle_request(self, req: Request, conn: TConn) -> bool:
        """Answer one request; whether the connection can be kept."""
        answer, environ = wsgi.create(
            req, conn.sock, conn.client, conn.server, self.cfg, response_class=Answer
        )
        environ["wsgi.multithread"] = True
        if isinstance(req.body.reader, LengthReader):
            environ["wsgi.input"] = RequestBody(req.body, conn.sock)
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            answer.force_close()
        began = datetime.now()  # noqa: DTZ005 - gunicorn's own log takes the difference
        try:
            body = self.wsgi(environ, answer.start_response)
            try:
                answer.write_body(body)
                answer.close()
            finally:
                self.log.access(answer, req, environ, datetime.now() - began)  # noqa: DTZ005
                if hasattr(body, "close"):
                    body.close()
        except OSError:
            raise
        except (Exception, SystemExit):
            if not answer.headers_sent:
                raise
            self.log.exception("Error handling request")  # an answer that broke off: nothing can follow it
            return False
        if answer.should_close():
            return False
        if not is_followed_by_body(req):
            conn.parser.mesg = None  # nothing is left of it that would have to be read
        return True


def is_left(listener: socket.socket, others_have_fewer: Callable[[], bool]) -> bool:
    """Whether a new connection still waits after those who have fewer could have taken it."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    for _ in range(GIVES_WAY):
        if not others_have_fewer():
            return True
        time.sleep(GIVES_WAY_S)
        if not waiting.poll(0):
            return False
    return True


def is_followed_by_body(req: Request) -> bool:
    """Whether a request announced a body (RFC 9112 6)."""
    return any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in req.headers)


class RequestBody(io.RawIOBase):
    """A body whose length was said, received into the reader's own buffer.

    gunicorn's own stream and what wraps it copy every byte half a dozen times; it is told what was taken
    here, for it passes over what nobody reads.
    """

    def __init__(self, body: Body, connection: socket.socket) -> None:
        super().__init__()
        self._body = body
        self._connection = connection
        self._wait = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL  # TLS has no flags

    def readable(self) -> bool:
        """Whether it gives bytes: always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer, but for the end of the body. Raises OSError."""
        left: LengthReader = self._body.reader
        view = memoryview(buffer).cast("B")[: left.length]
        filled = self._read_ahead(view)
        while filled < len(view):
            try:
                received = self._connection.recv_into(view[filled:], 0, self._wait)
            except OSError:
                self._body.failed = True  # where the next request begins is not known
                raise
            if not received:
                break
            filled += received
        left.length -= filled
        return filled

    def _read_ahead(self, view: memoryview) -> int:
        """What came with the head of the request."""
        unreader = self._body.reader.unreader
        held: bytes = unreader.take_buffered()
        taken = held[: len(view)]
        view[: len(taken)] = taken
        unreader.buf.write(held[len(taken) :])
        return len(taken)


class Answer(wsgi.Response):  # type: ignore[misc]
    """An answer whose head waits for the first piece of the body, and whose pieces are not copied."""

    headers_sent: bool  # as far as gunicorn is concerned: made, and on its way with what comes first
    _waiting_head = b""
    _head_waits = True

    def write_body(self, body: Iterable[bytes]) -> None:
        """Send the whole body: a list at once, a file by the kernel, runs as such, anything else as it
        comes."""
        if isinstance(body, wsgi.FileWrapper):
            self._head_waits = False
            self.write_file(body)
        elif isinstance(body, list) and self.response_length == sum(map(len, body)) and not self._omits_body:
            self.send_headers()
            self.sent = self.response_length
            self._send(body)
        elif isinstance(body, Runs):
            for run in body.runs():
                self._write_run(run)
        else:
            for piece in body:
                self.write(piece)

    def _write_run(self, run: list[bytes]) -> None:
        """Send pieces together, uncopied; a body that is longer than was said is cut off where that ends."""
        size = sum(map(len, run))
        if self._omits_body or ((self.response_length or 0) < self.sent + size and not self.chunked):
            self.write(b"".join(run))
            return
        self.send_headers()
        self.sent += size
        self._send([f"{size:X}\r\n".encode(), *run, b"\r\n"] if self.chunked else run)

    def send_headers(self) -> None:
        """Make the head, once."""
        if self.headers_sent:
            return
        self.headers_sent = True
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers)]
        self._waiting_head = f"{''.join(lines)}\r\n".encode("latin-1")
        if not self._head_waits:
            self._send([])

    def _emit_body(self, data: bytes) -> None:
        self._send([f"{len(data):X}\r\n".encode(), data, b"\r\n"] if self.chunked else [data])

    def close(self) -> None:
        """End the answer (RFC 9112 7.1)."""
        self.send_headers()
        self._send([b"0\r\n\r\n"] if self.chunked else [])

    def _send(self, pieces: Sequence[bytes]) -> None:
        head, self._waiting_head = self._waiting_head, b""
        if head or pieces:
            send_pieces(self.sock, [head, *pieces] if head else pieces)


def send_pieces(connection: socket.socket, pieces: Sequence[bytes]) -> None:
    """Send pieces in as few calls as there can be. Raises OSError."""
    if isinstance(connection, ssl.SSLSocket):
        small = sum(map(len, pieces)) <= COPIED_BYTES
        for piece in (b"".join(pieces),) if small else pieces:
            connection.sendall(piece)
        return
    for at in range(0, len(pieces), MOST_PIECES):
        left = [memoryview(piece) for piece in pieces[at : at + MOST_PIECES] if piece]
        while left:
            sent = connection.sendmsg(left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]
