"""Orthanc as a peer, in both directions: each stores in, asks and retrieves from the other."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.uid import CTImageStorage

from tests.builders import ROOT, ct_slice
from tests.dimse.orthanc import Orthanc, orthanc_beside
from tests.live import LiveServer


@pytest.fixture(scope="module")
def orthanc(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc with the study 1, beside a server that begins without it."""
    with orthanc_beside(live_server, tmp_path_factory.mktemp("orthanc")) as peer:
        peer.upload(
            *(ct_slice(1, 1, instance) for instance in (1, 2, 3)), ct_slice(2, 1, 1), ct_slice(3, 1, 1)
        )
        yield peer


def test_it_answers_and_is_asked(live_server: LiveServer, orthanc: Orthanc) -> None:
    assert "ORTHANC answers" in live_server.command("node", "echo", "ORTHANC").stdout

    found = live_server.command("node", "find", "ORTHANC", "PatientName=Zhang*", "StudyDate=20260101-").stdout
    assert f"{ROOT}.1" in found
    assert "Zhang^Wei=张^伟" in found
    series = live_server.command(
        "node", "find", "ORTHANC", f"StudyInstanceUID={ROOT}.1", "--level", "SERIES"
    ).stdout
    assert f"{ROOT}.1.1  CT  1  3" in series


def test_studies_are_moved_and_gotten_from_it(live_server: LiveServer, orthanc: Orthanc) -> None:
    assert "3 came" in live_server.command("node", "move", "ORTHANC", f"{ROOT}.1").stdout
    assert "1 came" in live_server.command("node", "get", "ORTHANC", f"{ROOT}.2").stdout

    for study, count in ((1, 3), (2, 1)):
        listed = live_server.session().get(f"{live_server.url}/dicomweb/studies/{ROOT}.{study}/instances")
        assert len(listed.json()) == count


def test_it_stores_here_and_finds_here(live_server: LiveServer, orthanc: Orthanc) -> None:
    orthanc.rest("POST", "/modalities/cloudfilm/echo", json={})
    (study,) = orthanc.rest(
        "POST", "/tools/find", json={"Level": "Study", "Query": {"StudyInstanceUID": f"{ROOT}.3"}}
    )
    stored = orthanc.rest("POST", "/modalities/cloudfilm/store", json={"Resources": [study]})
    assert stored["FailedInstancesCount"] == 0

    query = orthanc.rest(
        "POST", "/modalities/cloudfilm/query",
        json={"Level": "Study", "Query": {"StudyInstanceUID": f"{ROOT}.3", "PatientName": ""}},
    )  # fmt: skip
    (answer,) = orthanc.rest("GET", f"/queries/{query['ID']}/answers?expand&simplify")
    assert answer["PatientName"] == "Zhang^Wei=张^伟"


def test_it_retrieves_from_here(live_server: LiveServer, orthanc: Orthanc) -> None:
    """By C-MOVE, to itself."""
    live_server.session().post(
        f"{live_server.url}/dicomweb/studies",
        data=b"--b\r\nContent-Type: application/dicom\r\n\r\n" + ct_slice(7, 1, 1) + b"\r\n--b--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    ).raise_for_status()
    query = orthanc.rest(
        "POST", "/modalities/cloudfilm/query",
        json={"Level": "Study", "Query": {"StudyInstanceUID": f"{ROOT}.7"}},
    )  # fmt: skip
    orthanc.rest(
        "POST", f"/queries/{query['ID']}/retrieve", json={"TargetAet": "ORTHANC", "Synchronous": True}
    )

    assert f"{ROOT}.7.1.1" in orthanc.instances()


def test_studies_are_sent_to_it(live_server: LiveServer, orthanc: Orthanc) -> None:
    live_server.session().post(
        f"{live_server.url}/dicomweb/studies",
        data=b"--b\r\nContent-Type: application/dicom\r\n\r\n" + ct_slice(8, 1, 1) + b"\r\n--b--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    ).raise_for_status()

    assert "1 sent, 0 failed" in live_server.command("node", "send", "ORTHANC", f"{ROOT}.8").stdout
    assert f"{ROOT}.8.1.1" in orthanc.instances()


def test_it_is_told_what_is_committed(live_server: LiveServer, orthanc: Orthanc) -> None:
    """It asks by N-ACTION and hears the result by N-EVENT-REPORT over an association of ours."""
    live_server.session().post(
        f"{live_server.url}/dicomweb/studies",
        data=ct_slice(9, 1, 1),
        headers={"Content-Type": "application/dicom"},
    ).raise_for_status()

    def asked(*uids: str) -> dict[str, Any]:
        references = [{"SOPClassUID": CTImageStorage, "SOPInstanceUID": uid} for uid in uids]
        begun = orthanc.rest(
            "POST", "/modalities/cloudfilm/storage-commitment", json={"DicomInstances": references}
        )
        deadline = time.monotonic() + 120
        while (report := orthanc.rest("GET", begun["Path"]))["Status"] == "Pending":
            assert time.monotonic() < deadline, report
            time.sleep(0.1)
        found: dict[str, Any] = report
        return found

    assert asked(f"{ROOT}.9.1.1")["Status"] == "Success"
    partly = asked(f"{ROOT}.9.1.1", f"{ROOT}.9.1.77")
    assert partly["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in partly["Failures"]] == [f"{ROOT}.9.1.77"]


def test_a_node_that_is_not_known_is_said(live_server: LiveServer) -> None:
    done = live_server.command("node", "echo", "NOWHERE", check=False)

    assert done.returncode == 1
    assert "not a known node" in done.stderr
