"""A Redis of the test's own, from the host's redis-server."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError


@dataclass
class RedisServer:
    """A server that runs, and where."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """As the setting `queue.url` writes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """A client beside what is tested."""
        return Redis.from_url(self.url)

    def kill(self) -> None:
        """End it at once; it keeps nothing on disk, so all that it held is lost."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, empty."""
        self.process = _start(self.folder, self.port)
        _wait(self)


@contextmanager
def redis_in(folder: Path) -> Iterator[RedisServer]:
    """A Redis with its data in this folder, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = RedisServer(folder, port, _start(folder, port))
    try:
        _wait(server)
        yield server
    finally:
        server.kill()


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "redis.log").open("ab") as log:
        return subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait(server: RedisServer) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(RedisError):
            if server.client().ping():
                return
        time.sleep(0.05)
    raise AssertionError("Redis was not ready in time")
