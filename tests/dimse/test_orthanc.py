"""Orthanc as a peer, in both directions: each stores in, asks and retrieves from the other."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom.uid import CTImageStorage

from access.caller import operator
from archive.ingest import ingest
from archive.retrieve import find_instances
from tests.builders import ROOT, ct_slice
from tests.dimse.door import Door
from tests.dimse.orthanc import Orthanc, orthanc_beside


@pytest.fixture(scope="module")
def orthanc(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc with the study 1, beside a door that begins without it."""
    with orthanc_beside(door, tmp_path_factory.mktemp("orthanc")) as peer:
        peer.upload(
            *(ct_slice(1, 1, instance) for instance in (1, 2, 3)), ct_slice(2, 1, 1), ct_slice(3, 1, 1)
        )
        yield peer


def keep(door: Door, data: bytes) -> None:
    ingest(door.rooms.archive, operator(), BytesIO(data))


def test_it_answers_and_is_asked(door: Door, orthanc: Orthanc) -> None:
    assert "ORTHANC answers" in door.command("node", "echo", "ORTHANC").output

    found = door.command("node", "find", "ORTHANC", "PatientName=Zhang*", "StudyDate=20260101-").output
    assert f"{ROOT}.1" in found
    assert "Zhang^Wei=张^伟" in found
    series = door.command("node", "find", "ORTHANC", f"StudyInstanceUID={ROOT}.1", "--level", "SERIES").output
    assert f"{ROOT}.1.1  CT  1  3" in series


def test_studies_are_moved_and_gotten_from_it(door: Door, orthanc: Orthanc) -> None:
    assert "3 came" in door.command("node", "move", "ORTHANC", f"{ROOT}.1").output
    assert "1 came" in door.command("node", "get", "ORTHANC", f"{ROOT}.2").output

    for study, count in ((1, 3), (2, 1)):
        assert len(list(find_instances(door.rooms.archive, operator(), f"{ROOT}.{study}"))) == count


def test_it_stores_here_and_finds_here(door: Door, orthanc: Orthanc) -> None:
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


def test_it_retrieves_from_here(door: Door, orthanc: Orthanc) -> None:
    """By C-MOVE, to itself."""
    keep(door, ct_slice(7, 1, 1))
    query = orthanc.rest(
        "POST", "/modalities/cloudfilm/query",
        json={"Level": "Study", "Query": {"StudyInstanceUID": f"{ROOT}.7"}},
    )  # fmt: skip
    orthanc.rest(
        "POST", f"/queries/{query['ID']}/retrieve", json={"TargetAet": "ORTHANC", "Synchronous": True}
    )

    assert f"{ROOT}.7.1.1" in orthanc.instances()


def test_studies_are_sent_to_it(door: Door, orthanc: Orthanc) -> None:
    keep(door, ct_slice(8, 1, 1))

    assert "1 sent, 0 failed" in door.command("node", "send", "ORTHANC", f"{ROOT}.8").output
    assert f"{ROOT}.8.1.1" in orthanc.instances()


def test_it_is_told_what_is_committed(door: Door, orthanc: Orthanc) -> None:
    """It asks by N-ACTION and hears the result by N-EVENT-REPORT over an association of ours."""
    keep(door, ct_slice(9, 1, 1))

    def asked(*uids: str) -> dict[str, Any]:
        references = [{"SOPClassUID": CTImageStorage, "SOPInstanceUID": uid} for uid in uids]
        begun = orthanc.rest(
            "POST", "/modalities/cloudfilm/storage-commitment", json={"DicomInstances": references}
        )
        door.work()
        report: dict[str, Any] = orthanc.rest("GET", begun["Path"])
        return report

    assert asked(f"{ROOT}.9.1.1")["Status"] == "Success"
    partly = asked(f"{ROOT}.9.1.1", f"{ROOT}.9.1.77")
    assert partly["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in partly["Failures"]] == [f"{ROOT}.9.1.77"]


def test_a_node_that_is_not_known_is_said(door: Door) -> None:
    done = door.command("node", "echo", "NOWHERE")

    assert done.exit_code == 1
    assert "not a known node" in str(done.exception)
