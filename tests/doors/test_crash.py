"""A power cut at any moment of an ingest loses nothing that was acknowledged, and leaves nothing by
halves."""

import hashlib
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from sqlalchemy import func, select

from access.caller import operator
from archive.model import Hold, Instance, Series, Study
from archive.retrieve import find_instances, instance_bytes
from archive.sweep import sweep
from cloudfilm.load_settings import load_settings
from cloudfilm.rooms import build_rooms
from tests.builders import ROOT, ct_slice
from tests.live import LiveServer, live_server_in

INSTANCES = 300
SENDERS = 4


def send(server: LiveServer, token: str, objects: dict[str, bytes], kill_after: int | None) -> set[str]:
    """Store objects over several connections; returns the UIDs that were acknowledged before the power
    cut."""
    acknowledged: set[str] = set()
    waiting = list(objects.items())
    lock = threading.Lock()

    def work() -> None:
        with requests.Session() as client:
            client.trust_env = False
            client.headers.update({"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"})
            while True:
                with lock:
                    if not waiting:
                        return
                    uid, data = waiting.pop()
                try:
                    answer = client.post(f"{server.url}/dicomweb/studies", data=data, timeout=60)
                except requests.RequestException:
                    return
                if answer.status_code == 200:
                    with lock:
                        acknowledged.add(uid)
                        cut = kill_after is not None and len(acknowledged) == kill_after
                    if cut:
                        server.kill()

    threads = [threading.Thread(target=work) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return acknowledged


@pytest.mark.parametrize("kill_after", [1, 37, 150, 290])
def test_after_a_power_cut_and_a_second_sending_everything_is_there_once(
    tmp_path: Path, kill_after: int
) -> None:
    objects = {
        f"{ROOT}.1.{1 + number % 3}.{number}": ct_slice(series=1 + number % 3, instance=number)
        for number in range(INSTANCES)
    }
    with live_server_in(tmp_path) as server:
        token = server.token()
        before_cut = send(server, token, objects, kill_after)
        assert kill_after <= len(before_cut) < INSTANCES
        after_cut = stored(server)
        assert before_cut <= after_cut.keys()

        server.start()
        assert send(server, token, objects, None) == objects.keys()
        assert server.stop() == 0

    rooms = build_rooms(load_settings(server.environment))
    try:
        sweep(rooms.archive, grace=timedelta(0))
        with rooms.database.snapshot() as session:
            counts = [
                session.scalar(select(func.count()).select_from(table))
                for table in (Study, Series, Instance, Hold)
            ]
            study = session.execute(select(Study.number_of_instances, Study.number_of_series)).one()
        assert counts == [1, 3, INSTANCES, 0]
        assert tuple(study) == (INSTANCES, 3)
        assert stored(server) == {uid: hashlib.sha256(data).digest() for uid, data in objects.items()}
        assert len(list(rooms.archive.blobs.store.list())) == INSTANCES
    finally:
        rooms.close()


def stored(server: LiveServer) -> dict[str, bytes]:
    """What the archive gives back now: the digest of each object's bytes, read whole."""
    rooms = build_rooms(load_settings(server.environment))
    try:
        return {
            stored.sop_instance_uid: hashlib.sha256(b"".join(instance_bytes(rooms.archive, stored))).digest()
            for stored in find_instances(rooms.archive, operator(), f"{ROOT}.1")
        }
    finally:
        rooms.close()
