"""A PostgreSQL of the test's own, which may be killed and started again; from the host's installation."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

USER = "postgres"  # it refuses to run as root


@dataclass
class PostgreSQL:
    """A server that runs, and where."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """An empty database, as the setting `database.url` writes it."""
        return f"postgresql://cloudfilm@127.0.0.1:{self.port}/postgres"

    def kill(self) -> None:
        """End every process of it at once; what it comes back with is what its log had on disk."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
        for each in (pid, *map(int, children.stdout.split())):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def start(self) -> None:
        """Start it, or start it again: it recovers from its log first."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        deadline = time.monotonic() + 60
        while True:  # the shared memory of the one that was killed is in use until its last process is gone
            begun = _as_user(
                str(_programs() / "pg_ctl"), "--pgdata", data, "--log", log, "--wait", "--silent",
                "--options", options, "start",
            )  # fmt: skip
            if begun.returncode == 0:
                break
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def is_alive(self) -> bool:
        """Whether it answers."""
        engine = create_engine(self.url.replace("postgresql:", "postgresql+psycopg2:"))
        try:
            with engine.connect() as connection:
                return bool(connection.scalar(text("SELECT 1")))
        except OperationalError:
            return False
        finally:
            engine.dispose()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """A server with an empty database, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="cloudfilm-postgresql-"))
    if os.getuid() == 0:
        shutil.chown(folder, USER)
    made = _as_user(
        str(_programs() / "initdb"), "--pgdata", str(folder / "data"), "--auth", "trust", "--encoding",
        "UTF8", "--locale", "C.UTF-8", "--username", "cloudfilm", "--no-sync",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = PostgreSQL(folder, probe.getsockname()[1])
    server.start()
    try:
        yield server
    finally:
        with suppress(FileNotFoundError):
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The folder of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1]


def _as_user(*command: str) -> subprocess.CompletedProcess[str]:
    dropped = ("setpriv", f"--reuid={USER}", "--clear-groups") if os.getuid() == 0 else ()
    with tempfile.TemporaryFile("w+") as said:  # not a pipe: the server keeps it open
        done = subprocess.run(
            [*dropped, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False,
            timeout=120,
        )  # fmt: skip
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, "", said.read())
