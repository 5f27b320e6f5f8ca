"""WebSockets: what happened, pushed to those who wait for it (RFC 6455), from the change feed.

One asyncio process holds all idle sockets; a thread of the web server for each would be eaten by waiting. It
is generic: a `Channel` says which paths it serves, who may open one, and what each change says to whom. While
a socket is open every change that concerns it is sent at least once, in the order of the feed; what happened
before it was opened is not told.

A client that takes its messages too slowly is closed (1013) and comes again; one whose token or session has
ended meanwhile is closed too (4401).
"""

import asyncio
import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from sqlalchemy.orm import Session
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from kernel.changes import Change, change_of, feed_end, read_changes
from kernel.database import Database, DatabaseUnavailable
from kernel.errors import CloudfilmError, Kind
from kernel.http import STATUS
from kernel.settings import PushSettings

log = logging.getLogger(__name__)

POLL_S = 0.2  # how long a change may wait
BATCH = 500
TRY_AGAIN, NOT_AUTHENTICATED = 1013, 4401


class NoSuchChannel(CloudfilmError):
    """A path that no channel serves."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("There is no channel at this path.")


class Crowded(CloudfilmError):
    """More sockets than one process holds."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("Too many connections; try again later.")


@dataclass(frozen=True, slots=True)
class Opening:
    """A request to open a socket."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    address: str


@dataclass(slots=True, eq=False)
class Listener:
    """One open socket, as its channel sees it: `who` came, and what the channel keeps about it."""

    who: Any
    kept: Any = None
    since: tuple[int, int] = (0, 0)  # the end of the feed when it came
    messages: asyncio.Queue[str] = field(default_factory=asyncio.Queue)


class Channel(Protocol):
    """What is pushed on some paths. Its methods run in threads, and may use the database."""

    @property
    def path(self) -> re.Pattern[str]:
        """The paths it serves, below the mount point."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """The changes it looks at."""
        ...

    def open(self, who: Any, found: re.Match[str], opening: Opening) -> Any:
        """Whether `who` may open this path: what to keep with the listener. Raises CloudfilmError."""
        ...

    def route(
        self, session: Session, change: Change, listeners: Sequence[Listener]
    ) -> Iterable[tuple[Listener, str]]:
        """What a change says, and to whom of those that listen."""
        ...

    def receive(self, listener: Listener, text: str) -> Iterable[str]:
        """Answer what a client says."""
        ...


Authenticate = Callable[[Opening], Any]
Again = Callable[[Any], Any]  # who it is now. Raises CloudfilmError when it may no longer listen


class PushServer:
    """The sockets of one process."""

    def __init__(
        self,
        database: Database,
        settings: PushSettings,
        channels: Sequence[Channel],
        authenticate: Authenticate,
        again: Again,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._listening: dict[Channel, dict[Listener, ServerConnection]] = {
            channel: {} for channel in channels
        }
        self._authenticate = authenticate
        self._again = again
        self._tls = tls
        self._cursor = (0, 0)
        self._opened: dict[ServerConnection, tuple[Channel, Listener]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set. Raises OSError when the port cannot be listened on."""
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        settings = self._settings
        self._cursor = await asyncio.to_thread(self._end)
        async with serve(
            self._talk,
            settings.host,
            settings.port,
            ssl=self._tls,
            process_request=self._admit,
            compression=None,  # its window would cost each idle socket more than all the rest
            max_size=settings.max_message_bytes,
            max_queue=4,
            ping_interval=settings.ping_s,
            ping_timeout=settings.ping_s,
            open_timeout=20,
            server_header=None,
        ):
            log.info("WebSockets at %s:%d", settings.host, settings.port)
            following = asyncio.create_task(self._follow())
            checking = asyncio.create_task(self._check())
            while not stop.is_set():
                await asyncio.sleep(0.2)
            following.cancel()
            checking.cancel()

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the request to open: None lets it be opened, anything else refuses it in HTTP."""
        url = urlsplit(request.path)
        try:
            channel, found = self._channel(url.path)
            if len(self._opened) >= self._settings.max_connections:
                raise Crowded
            opening = Opening(
                url.path,
                {name: values[-1] for name, values in parse_qs(url.query).items()},
                {name.lower(): value for name, value in request.headers.raw_items()},
                str(connection.remote_address[0]) if connection.remote_address else "",
            )
            who = await asyncio.to_thread(self._authenticate, opening)
            since = await asyncio.to_thread(self._end)
            kept = await asyncio.to_thread(channel.open, who, found, opening)
        except CloudfilmError as refusal:
            answer = connection.respond(HTTPStatus(STATUS[refusal.kind]), f"{refusal}\n")
            if refusal.kind is Kind.UNAUTHENTICATED:
                answer.headers["WWW-Authenticate"] = 'Bearer realm="cloudfilm"'
            return answer
        except Exception:
            log.exception("a socket could not be opened")
            return connection.respond(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error.\n")
        listener = Listener(who, kept, since, asyncio.Queue(self._settings.queue_messages))
        self._listening[channel][listener] = connection  # before the client knows, so that it misses nothing
        self._opened[connection] = channel, listener
        forgetting = asyncio.create_task(self._forget_when_closed(connection))
        self._tasks.add(forgetting)
        forgetting.add_done_callback(self._tasks.discard)
        return None

    def _channel(self, path: str) -> tuple[Channel, re.Match[str]]:
        for channel in self._listening:
            found = channel.path.fullmatch(path)
            if found is not None:
                return channel, found
        raise NoSuchChannel

    def _end(self) -> tuple[int, int]:
        with self._database.snapshot() as session:
            return feed_end(session)

    async def _forget_when_closed(self, connection: ServerConnection) -> None:
        await connection.wait_closed()
        channel, listener = self._opened.pop(connection)
        self._listening[channel].pop(listener, None)

    async def _talk(self, connection: ServerConnection) -> None:
        """The life of one open socket."""
        channel, listener = self._opened[connection]
        sending = asyncio.create_task(self._send(connection, listener))
        try:
            async for said in connection:
                if isinstance(said, str):
                    for answer in await asyncio.to_thread(_answers, channel, listener, said):
                        _put(listener, answer)
        except ConnectionClosed:
            pass
        except CloudfilmError as refusal:
            await connection.close(1008, str(refusal)[:120])
        finally:
            sending.cancel()

    async def _send(self, connection: ServerConnection, listener: Listener) -> None:
        try:
            while True:
                await connection.send(await listener.messages.get())
        except ConnectionClosed:
            return

    async def _follow(self) -> None:
        """Read the feed and hand out what it says."""
        while True:
            rows: Sequence[Any] = ()
            try:
                rows = await asyncio.to_thread(self._read, self._cursor)
                if rows:
                    await self._deliver(rows)
                    self._cursor = rows[-1].txid, rows[-1].seq
            except DatabaseUnavailable:
                log.warning("the feed cannot be read at present")
            except Exception:
                log.exception("changes could not be delivered")
                await asyncio.sleep(1)
            if len(rows) < BATCH:
                await asyncio.sleep(POLL_S)

    def _read(self, after: tuple[int, int]) -> Sequence[Any]:
        with self._database.snapshot() as session:
            return read_changes(session, after, BATCH)

    async def _deliver(self, rows: Sequence[Any]) -> None:
        for channel, listening in self._listening.items():
            told = [row for row in rows if row.kind in channel.kinds]
            if not told or not listening:
                continue
            for listener, text in await asyncio.to_thread(self._route, channel, told, list(listening)):
                if not _put(listener, text):
                    await self._close(listening.get(listener), TRY_AGAIN, "too slow")

    def _route(
        self, channel: Channel, rows: Sequence[Any], listeners: Sequence[Listener]
    ) -> list[tuple[Listener, str]]:
        with self._database.snapshot() as session:
            said: list[tuple[Listener, str]] = []
            for row in rows:
                those = [listener for listener in listeners if listener.since < (row.txid, row.seq)]
                said.extend(channel.route(session, change_of(row), those))
            return said

    async def _check(self) -> None:
        """Close what may no longer listen."""
        while True:
            await asyncio.sleep(self._settings.recheck_s)
            for connection, (_, listener) in list(self._opened.items()):
                try:
                    listener.who = await asyncio.to_thread(self._again, listener.who)
                except DatabaseUnavailable:
                    break
                except CloudfilmError:
                    await self._close(connection, NOT_AUTHENTICATED, "no longer signed in")

    async def _close(self, connection: ServerConnection | None, code: int, reason: str) -> None:
        if connection is not None:
            task = asyncio.create_task(connection.close(code, reason))
            await asyncio.wait([task], timeout=0.5)


def _answers(channel: Channel, listener: Listener, said: str) -> list[str]:
    return list(channel.receive(listener, said))


def _put(listener: Listener, text: str) -> bool:
    """Queue a message; False when the client is too far behind."""
    try:
        listener.messages.put_nowait(text)
    except asyncio.QueueFull:
        return False
    return True
