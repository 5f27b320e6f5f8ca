"""Orthanc of Debian as a peer: started on free ports with its data in a folder of the test."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import requests

from tests.dimse.door import Door
from tests.dimse.peers import add_node
from tests.live import LiveServer, free_ports

PROGRAM = which("Orthanc") or "/usr/sbin/Orthanc"


@dataclass
class Orthanc:
    """One that runs; it knows the server as CLOUDFILM."""

    http_port: int
    dicom_port: int
    ae_title: str = "ORTHANC"

    def rest(self, method: str, path: str, **options: Any) -> Any:
        """Call its own REST interface; returns the JSON that it answers."""
        answer = requests.request(method, f"http://127.0.0.1:{self.http_port}{path}", timeout=120, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def upload(self, *objects: bytes) -> None:
        """Give it objects, past DICOM."""
        for data in objects:
            self.rest("POST", "/instances", data=data)

    def instances(self) -> list[str]:
        """The SOP Instance UIDs that it has."""
        found = self.rest("GET", "/instances?expand")
        return sorted(each["MainDicomTags"]["SOPInstanceUID"] for each in found)


@contextmanager
def orthanc_beside(server: LiveServer | Door, folder: Path) -> Iterator[Orthanc]:
    """Orthanc until the block ends, known to the server as the node ORTHANC."""
    http_port, dicom_port = free_ports(2)
    peer = Orthanc(http_port, dicom_port)
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "old", "StorageDirectory": str(folder / "data"),
                "IndexDirectory": str(folder / "data"),
                "Plugins": [], "HttpPort": http_port, "DicomPort": dicom_port, "DicomAet": peer.ae_title,
                "AuthenticationEnabled": False, "RemoteAccessAllowed": False, "SaveJobs": False,
                "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
                "DicomCheckCalledAet": False, "DefaultEncoding": "Utf8", "ExecuteLuaEnabled": False,
                "DicomModalities": {"cloudfilm": ["CLOUDFILM", "127.0.0.1", server.dicom_port]},
            }
        )
    )  # fmt: skip
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(configuration)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                peer.rest("GET", "/system")
                break
            except requests.RequestException:
                assert process.poll() is None, (folder / "orthanc.log").read_text()
                assert time.monotonic() < deadline, "Orthanc does not answer"
                time.sleep(0.1)
        if isinstance(server, Door):
            server.add_node(peer.ae_title, dicom_port)
        else:
            add_node(server, peer.ae_title, dicom_port)
        yield peer
    finally:
        process.terminate()
        process.wait(timeout=60)
