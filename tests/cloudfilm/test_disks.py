"""A disk that is full, or that may only be read: every door refuses in its own words, nothing that was
acknowledged is lost, and all goes on by itself when there is room again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import requests

from tests.builders import ROOT, ct_slice
from tests.builders_hl7 import adt_a04
from tests.dimse.peers import at, dcmtk, said
from tests.live import LiveServer, live_server_in
from tests.region.test_region import send_to
from tests.servers.disk import SmallDisk, small_disk

NUMBERS = count(1)


@dataclass
class Host:
    """A host with its objects on one small disk and everything else, the database too, on another."""

    server: LiveServer
    objects: SmallDisk
    data: SmallDisk
    client: requests.Session
    images: dict[str, bytes] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)

    def store(self) -> int:
        """STOW-RS of a new image; its status."""
        number = next(NUMBERS)
        data = ct_slice(instance=number)
        headers = {"Content-Type": "application/dicom"}
        answer = self.client.post(
            f"{self.server.url}/dicomweb/studies", data=data, headers=headers, timeout=60
        )
        if answer.status_code == 200:
            self.images[f"{ROOT}.1.1.{number}"] = data
        return answer.status_code

    def c_store(self, folder: Path) -> bool:
        """C-STORE of a new image; whether it was accepted."""
        number = next(NUMBERS)
        path = folder / f"{number}.dcm"
        path.write_bytes(ct_slice(instance=number))
        sent = dcmtk("storescu", "-v", *at(self.server), path)
        accepted = "(Success)" in said(sent)
        if accepted:
            self.images[f"{ROOT}.1.1.{number}"] = path.read_bytes()[-512:]  # the sender makes a new file head
        return accepted

    def message(self) -> str:
        """An HL7 message; the code of its acknowledgement."""
        control_id = f"DISK-{next(NUMBERS)}"
        code = send_to(self.server.mllp_port, adt_a04(control_id=control_id)).split("MSA|")[1][:2]
        if code == "AA":
            self.messages.add(control_id)
        return code

    def ready(self) -> bool:
        """Whether the server says that it can do its work."""
        return self.client.get(f"{self.server.url}/readyz", timeout=60).ok

    def prove(self) -> None:
        """Everything that was acknowledged is there, once and whole."""
        path = f"{self.server.url}/dicomweb/studies/{ROOT}.1"
        found = self.client.get(f"{path}/instances?limit=1000", timeout=60).json()
        uids = [each["00080018"]["Value"][0] for each in found]
        assert len(uids) == len(set(uids))
        assert set(self.images) <= set(uids)
        for uid, data in self.images.items():
            whole = self.client.get(f"{path}/series/{ROOT}.1.1/instances/{uid}", timeout=60)
            assert data in whole.content
        listed = self.server.command("hl7", "list", "--limit", "500").stdout
        assert all(listed.count(control_id + " ") <= 1 for control_id in self.messages)
        assert all(control_id in listed for control_id in self.messages)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("disks")
    with (
        small_disk(folder / "objects", 64) as objects,
        small_disk(folder / "data", 96) as data,
        live_server_in(
            folder / "server",
            CLOUDFILM_DATA_DIR=str(data.path),
            CLOUDFILM_BLOBS__URL=f"file://{objects.path}/blobs",
            CLOUDFILM_BLOBS__FREE_BYTES="0",  # so that it really comes to the last byte
        ) as server,
    ):
        yield Host(server, objects, data, server.session())


def test_a_disk_of_objects_that_takes_nothing_more_refuses_and_goes_on(host: Host, tmp_path: Path) -> None:
    assert (host.store(), host.c_store(tmp_path), host.message()) == (200, True, "AA")
    host.objects.fill()
    refused = host.store(), host.c_store(tmp_path)
    kept_on = host.message()  # messages stand in the database
    host.prove()
    host.objects.free()

    assert refused == (507, False)
    assert kept_on == "AA"
    assert (host.store(), host.c_store(tmp_path), host.message()) == (200, True, "AA")
    host.prove()


def test_a_disk_of_objects_that_may_only_be_read_is_read(host: Host, tmp_path: Path) -> None:
    assert (host.store(), host.c_store(tmp_path)) == (200, True)
    with host.objects.read_only():
        refused = host.store(), host.c_store(tmp_path)
        ready = host.ready()
        kept_on = host.message()
        host.prove()

    assert refused == (503, False)
    assert not ready
    assert kept_on == "AA"
    assert (host.store(), host.c_store(tmp_path)) == (200, True)
    assert host.ready()
    host.prove()


def test_a_full_disk_of_the_database_refuses_what_would_be_written(host: Host, tmp_path: Path) -> None:
    assert (host.store(), host.c_store(tmp_path), host.message()) == (200, True, "AA")
    host.data.fill()
    refused = host.store(), host.c_store(tmp_path), host.message()
    alive = host.client.get(f"{host.server.url}/healthz", timeout=60).status_code
    host.data.free()

    assert refused == (
        503,
        False,
        "AR",
    )  # HL7 2.9.2: not for its content; the same message may be taken later
    assert alive == 200
    assert (host.store(), host.c_store(tmp_path), host.message()) == (200, True, "AA")
    host.prove()
