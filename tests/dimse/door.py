"""A DIMSE door in the test's own process, by two listeners on one port as two processes would have it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from access.model import Node
from cloudfilm.cli import Context, cli
from cloudfilm.jobs import JOBS, bundle_for
from cloudfilm.rooms import Rooms, build_rooms
from dimse.server import Server
from kernel.jobs import Worker
from kernel.settings import BlobsSettings, DatabaseSettings, DimseSettings, Settings
from tests.live import free_ports
from tests.settling import settle

LISTENERS = 2


@dataclass
class Door:
    """One that is open: the rooms behind it, and where it listens."""

    rooms: Rooms
    dicom_port: int

    def add_node(self, ae_title: str, port: int = 0, **values: Any) -> None:
        """Make a node on this machine known, or change one that is."""
        with self.rooms.database.transaction() as session:
            node = session.scalar(select(Node).where(Node.ae_title == ae_title))
            if node is None:
                node = Node(ae_title=ae_title, created_at=self.rooms.clock.now(), permissions="all")
                session.add(node)
            for name, value in ({"host": "127.0.0.1", "port": port} | values).items():
                setattr(node, name, value)

    def command(self, *arguments: str) -> Result:
        """Run a `cloudfilm` command with these rooms, and let what follows from it happen."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Context, "rooms", self.rooms)
            done = CliRunner().invoke(cli, arguments)
        settle(self.rooms)
        return done

    def work(self) -> None:
        """Do every job that is due, as the worker does."""
        settle(self.rooms)
        worker = Worker(self.rooms.database, self.rooms.clock, JOBS, lambda job: bundle_for(self.rooms, job))
        while worker.run_one():
            continue


@contextmanager
def door_in(folder: Path, database_url: str, dimse: DimseSettings) -> Iterator[Door]:
    """A door with its data in a folder, until the block ends."""
    (port,) = free_ports(1)
    settings = Settings(
        data_dir=folder,
        database=DatabaseSettings(url=database_url),
        blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
        dimse=replace(dimse, port=port),
    )
    rooms = build_rooms(settings)
    try:
        with listening(rooms):
            yield Door(rooms, port)
    finally:
        rooms.close()


@contextmanager
def listening(rooms: Rooms, port: int = 0) -> Iterator[int]:
    """Listeners for these rooms until the block ends; port: another one than the settings say."""
    port = port or rooms.dimse.settings.port
    dimse = replace(rooms.dimse, settings=replace(rooms.dimse.settings, port=port))
    stop = threading.Event()
    servers = [Server(dimse) for _ in range(LISTENERS)]
    threads = []
    for server in servers:
        server.listen()
        threads.append(threading.Thread(target=server.serve, args=(stop,)))
        threads[-1].start()
    try:
        yield port
    finally:
        stop.set()
        for server, thread in zip(servers, threads, strict=True):
            server.stop()
            thread.join()
