"""The by-URL checker: every row holds against ourselves, and it tells an other server's gaps apart."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
import requests

from conformance.dicomweb.report import check_dicomweb
from tests.live import LiveServer

ORTHANC = which("Orthanc") or "/usr/sbin/Orthanc"
SCOPE = "system/*.cruds system/Workitem.cruds"  # the worklist is asked for by its name
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def test_every_row_holds_against_ourselves(live_server: LiveServer) -> None:
    token = live_server.token(SCOPE)
    report = check_dicomweb(f"{live_server.url}/dicomweb", token)

    assert [(row.section, row.title, row.seen) for row in report.results if not row.passed] == []
    assert len(report.results) > 120


def test_the_command_says_it_for_people_and_for_programs(live_server: LiveServer) -> None:
    url, token = f"{live_server.url}/dicomweb", live_server.token(SCOPE)
    for_programs = live_server.command("selftest", "dicomweb", "--url", url, "--token", token, "--json")
    refused = live_server.command("selftest", "dicomweb", "--url", url, "--token", "wrong", check=False)

    assert json.loads(for_programs.stdout)["passed"] is True
    assert refused.returncode == 1
    assert "FAIL  10.5.1" in refused.stdout


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Orthanc as Debian ships it, on a free port."""
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, dicom = probe.getsockname()[1], other.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(PLUGIN)],
        "HttpPort": port, "DicomPort": dicom, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if requests.get(f"http://127.0.0.1:{port}/system", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_it_can_be_pointed_at_another_server(orthanc: str) -> None:
    report = check_dicomweb(orthanc)
    held = {row.title for row in report.results if row.passed}

    assert "Store: multipart application/dicom is stored, and each instance is told of" in held
    assert "Search: /studies" in held
    assert "Metadata: series as JSON" in held
    assert not report.passed
