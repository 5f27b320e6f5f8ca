"""A real cloudfilm in processes of its own, on free ports, with its data in a folder of the test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parents[1]
READY_WITHIN_S = 300.0  # generous: the machines that test are often busy


@dataclass
class LiveServer:
    """A server that runs, and how to reach each of its doors."""

    data_dir: Path
    http_port: int
    dicom_port: int
    mllp_port: int
    push_port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where its HTTP doors are, without a slash at the end."""
        scheme = "https" if self.environment.get("CLOUDFILM_WEB__TLS") == "on" else "http"
        return f"{scheme}://127.0.0.1:{self.http_port}"

    @property
    def output(self) -> str:
        """What it has printed until now."""
        return (self.data_dir / "server.log").read_text("utf-8", errors="replace")

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one `cloudfilm` command beside the server, with the same settings."""
        return subprocess.run(
            [sys.executable, "-m", "cloudfilm", *arguments],
            cwd=self.data_dir,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )

    def token(self, scope: str = "system/*.cruds") -> str:
        """An access token for scripts."""
        return self.command("token", "--scope", scope).stdout.split()[-1]

    def session(self, scope: str = "system/*.cruds") -> requests.Session:
        """An HTTP client that shows such a token with every request."""
        client = requests.Session()
        client.trust_env = False
        client.headers["Authorization"] = f"Bearer {self.token(scope)}"
        return client

    def connections(self) -> list[int]:
        """How many connections each process has that listens for HTTP; the arbiter does, and takes none."""
        local = ("127.0.0.1", self.http_port)
        listening = []
        for process in self._processes():
            open_ones = [each for each in process.net_connections("tcp") if each.laddr == local]
            if any(each.status == psutil.CONN_LISTEN for each in open_ones):
                listening.append(sum(each.status == psutil.CONN_ESTABLISHED for each in open_ones))
        return listening

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would."""
        for process in self._processes():
            process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; returns its exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=60)

    def _processes(self) -> list[psutil.Process]:
        """Every process of its session: children stand in process groups of their own."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
        return found

    def start(self) -> None:
        """Start it again on the same data and ports."""
        self.process = _start(self.data_dir, self.environment)
        _wait_until_ready(self)


@contextmanager
def live_server_in(data_dir: Path, **environment: str) -> Iterator[LiveServer]:
    """A server with its data in this folder, until the block ends; settings as environment variables."""
    data_dir.mkdir(parents=True, exist_ok=True)
    http_port, dicom_port, mllp_port, push_port = free_ports(4)
    settings = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFILM_")}
    settings |= {
        "PYTHONPATH": str(ROOT),
        "CLOUDFILM_DATA_DIR": str(data_dir / "var"),
        "CLOUDFILM_WEB__PORT": str(http_port),
        "CLOUDFILM_DIMSE__PORT": str(dicom_port),
        "CLOUDFILM_MLLP__PORT": str(mllp_port),
        "CLOUDFILM_PUSH__PORT": str(push_port),
    }
    settings |= environment
    server = LiveServer(
        data_dir, http_port, dicom_port, mllp_port, push_port, settings, _start(data_dir, settings)
    )
    try:
        _wait_until_ready(server)
        yield server
    finally:
        server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=30)
        server.kill()


def _start(data_dir: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (data_dir / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cloudfilm", "serve", "--no-sample"],
            cwd=data_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be stopped together with its children
        )


def _wait_until_ready(server: LiveServer) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended at its start:\n{server.output}")
        if _answers(f"{server.url}/readyz") and listens(server.dicom_port):
            return
        time.sleep(0.1)
    server.kill()
    raise AssertionError(f"the server was not ready within {READY_WITHIN_S} s:\n{server.output}")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5, verify=False).ok  # whether it runs, not who it is
    except requests.RequestException:
        return False


def listens(port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    with ExitStack() as held:  # all at once, so that they differ
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
