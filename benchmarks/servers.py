"""The servers that are measured: cloudfilm as `make run` starts it, and Orthanc as Debian ships it, on
loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import requests

ROOT = Path(__file__).parents[1]
CLINICAL = "system/*.cruds user/*.cruds"
ORTHANC = which("Orthanc") or "/usr/sbin/Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and how it is reached."""

    name: str
    dicomweb: str
    dicom_port: int
    ae_title: str
    headers: dict[str, str]


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, seconds: float = 240) -> None:
    """Until a URL answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


@contextmanager
def cloudfilm(folder: Path) -> Iterator[Server]:
    """cloudfilm with the embedded defaults: SQLite, local disk, everything sealed, audited and authorized."""
    web, dicom, mllp = free_port(), free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFILM_")} | {
        "PYTHONPATH": str(ROOT),
        "CLOUDFILM_DATA_DIR": str(folder),
        "CLOUDFILM_WEB__PORT": str(web),
        "CLOUDFILM_DIMSE__PORT": str(dicom),
        "CLOUDFILM_MLLP__PORT": str(mllp),
        "CLOUDFILM_PUSH__ENABLED": "false",
        **{name: os.environ[name] for name in ("CLOUDFILM_DATABASE__URL",) if name in os.environ},
    }
    command = [sys.executable, "-m", "cloudfilm"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "serve", "--no-sample"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{web}/readyz")
        token = subprocess.run(
            [*command, "token", "--scope", f"{CLINICAL} system/Share.cruds", "--expires", "1d"],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.split()[-1]  # fmt: skip
        headers = {"Authorization": f"Bearer {token}"}
        yield Server("cloudfilm", f"http://127.0.0.1:{web}/dicomweb", dicom, "CLOUDFILM", headers)
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def orthanc(folder: Path) -> Iterator[Server]:
    """Orthanc with its own SQLite and the DICOMweb plugin, set up as its book recommends, no
    authentication."""
    web, dicom = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": "bench", "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
        "HttpPort": web, "DicomPort": dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "HttpThreadsCount": 600, "KeepAlive": True, "TcpNoDelay": True,
        "HttpCompressionEnabled": True, "StableAge": 5, "SaveJobs": False, "DefaultEncoding": "Utf8",
        "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomCheckCalledAet": False,
        "SyncStorageArea": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", 
                     "SeriesMetadata": "Full", "EnableMetadataCache": True},
    }  # fmt: skip
    configuration = folder.with_suffix(".json")
    configuration.write_text(json.dumps(settings))
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(configuration)], stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{web}/system")
        yield Server("Orthanc", f"http://127.0.0.1:{web}/dicom-web", dicom, "ORTHANC", {})
    finally:
        process.terminate()
        process.wait(timeout=60)


SERVERS = {"cloudfilm": cloudfilm, "orthanc": orthanc}
