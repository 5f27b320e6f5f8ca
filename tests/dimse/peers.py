"""What the tests of the DIMSE door share: dcmtk's programs as peers, and files for them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pynetdicom.association import Association

from cloudfilm.load_settings import load_settings
from cloudfilm.rooms import Rooms, build_rooms
from tests.dimse.door import Door
from tests.live import LiveServer, free_ports, listens

DCMTK = "/usr/bin/"  # pynetdicom installs scripts of the same names elsewhere


def dcmtk(tool: str, *arguments: object, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's programs."""
    return subprocess.run(
        [DCMTK + tool, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=check,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """All that it printed."""
    return done.stdout + done.stderr


class _Steady(Association):
    """An association of which is known whether its reactor waits while a request of ours is under way.

    pynetdicom 3 keeps a flag for that, which two threads set: a reactor that is about to look for messages is
    taken for one that waits, and takes the answer away from the request ("Received unexpected ... service
    message"); and whoever serves a report of an event has it down while the reactor does wait, so that the
    next request waits for ever.
    """

    @property
    def _is_paused(self) -> bool:
        return self._kill or bool(self._reactor_checkpoint._cond._waiters)  # type: ignore[attr-defined]

    @_is_paused.setter
    def _is_paused(self, said: bool) -> None:
        """What is seen counts, not what is said."""


def steady(association: Association) -> Any:
    """An association of pynetdicom that may be told of something between its own requests."""
    association.__class__ = _Steady
    return association


class Called(Protocol):
    """A server that is called: live, or a door within the test."""

    @property
    def dicom_port(self) -> int:
        """Where it listens."""
        ...


def at(server: Called, *, called: str = "CLOUDFILM", calling: str = "TESTER") -> tuple[str, ...]:
    """The arguments that name a server."""
    return ("-aet", calling, "-aec", called, "127.0.0.1", str(server.dicom_port))


def store(server: Called, *files: Path, options: tuple[str, ...] = ()) -> None:
    """Send files, which must all be taken."""
    done = dcmtk("storescu", "-v", *options, *at(server), *files)
    assert done.returncode == 0, said(done)


@contextmanager
def rooms_beside(server: LiveServer) -> Iterator[Rooms]:
    """The rooms of a server that runs, in the test's own process: cheaper than a command for each step."""
    rooms = build_rooms(load_settings(server.environment))
    try:
        yield rooms
    finally:
        rooms.close()


def add_node(server: LiveServer, ae_title: str, port: int = 0, **values: Any) -> None:
    """Make a node on this machine known to a live server."""
    with rooms_beside(server) as rooms:
        Door(rooms, server.dicom_port).add_node(ae_title, port, **values)


@dataclass
class Storescp:
    """dcmtk's storescp, which writes what it is sent into a folder."""

    ae_title: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def received(self) -> list[FileDataset]:
        """What has come in, by SOP Instance UID."""
        found = [dcmread(path) for path in self.folder.iterdir() if path.suffix != ".log"]
        return sorted(found, key=lambda each: str(each.SOPInstanceUID))


@contextmanager
def storescp(folder: Path, ae_title: str, *options: str, port: int = 0) -> Iterator[Storescp]:
    """A destination on a free port until the block ends. Without options it takes no compressed syntax."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_ports(1)[0]
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [DCMTK + "storescp", "-v", *options, "-aet", ae_title, "-od", str(folder), str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None, folder.with_suffix(".log").read_text()
            assert time.monotonic() < deadline, "storescp does not listen"
            time.sleep(0.05)
        yield Storescp(ae_title, port, folder, process)
    finally:
        process.terminate()
        process.wait(timeout=30)
