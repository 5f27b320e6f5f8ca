"""The DIMSE door as dcmtk sees it: an independent implementation stores, finds and is refused."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.builders import ROOT, ct_slice
from tests.dimse.door import Door

DCMTK = "/usr/bin/"  # pynetdicom installs scripts of the same names elsewhere


def run(
    server: Door, tool: str, *arguments: str, called: str = "CLOUDFILM"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DCMTK + tool, "-v", "-aec", called, "127.0.0.1", str(server.dicom_port), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def find(server: Door, level: str, *keys: str, model: str = "-S") -> list[str]:
    """The answers of findscu, one text each."""
    options = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
    done = subprocess.run(
        [DCMTK + "findscu", "-v", model, "-aec", "CLOUDFILM", "127.0.0.1", str(server.dicom_port), *options],
        capture_output=True,
        timeout=120,
        check=False,
    )
    text = (done.stdout + done.stderr).decode("utf-8", errors="replace")
    assert "Success" in text, text
    return re.split(r"Find Response: \d+", text)[1:]


@pytest.fixture(scope="module")
def stored(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Door:
    """A server with two studies, sent by storescu."""
    folder = tmp_path_factory.mktemp("slices")
    objects = [
        ct_slice(1, 1, 1), ct_slice(1, 1, 2), ct_slice(1, 2, 1, Modality="SR"),
        ct_slice(2, 1, 1, PatientID="P2", PatientName="Li^Na=李^娜", StudyDate="20250101"),
    ]  # fmt: skip
    for number, data in enumerate(objects):
        (folder / f"{number}.dcm").write_bytes(data)
    done = run(door, "storescu", *map(str, sorted(folder.iterdir())))
    assert done.returncode == 0, done.stderr
    return door


def test_echo(door: Door) -> None:
    assert run(door, "echoscu").returncode == 0


def test_a_wrong_called_title_is_rejected_with_its_reason(door: Door) -> None:
    done = run(door, "echoscu", called="SOMEBODY")

    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stderr + done.stdout


def test_studies_are_found_by_every_kind_of_match(stored: Door) -> None:
    for key, count in (
        ("PatientName=zhang*", 1),
        ("PatientName=*", 2),
        ("PatientName=张*", 1),
        ("PatientID=P2", 1),
        ("StudyDate=20260101-", 1),
        ("StudyDate=20240101-20271231", 2),
        ("ModalitiesInStudy=SR", 1),
        ("AccessionNumber=A000?", 2),
        (f"StudyInstanceUID={ROOT}.1\\{ROOT}.2", 2),
        ("PatientID=NOBODY", 0),
    ):
        assert len(find(stored, "STUDY", key, "StudyInstanceUID")) == count, key


def test_an_answer_has_the_keys_that_were_asked_for(stored: Door) -> None:
    keys = (
        "PatientID=P1",
        "PatientName",
        "StudyInstanceUID",
        "NumberOfStudyRelatedInstances",
        "ModalitiesInStudy",
    )
    (answer,) = find(stored, "STUDY", *keys)

    assert "张^伟" in answer
    assert f"{ROOT}.1" in answer
    assert "[3 ]" in answer or "[3]" in answer
    assert "CT\\SR" in answer
    assert "AccessionNumber" not in answer


def test_every_level_is_searched(stored: Door) -> None:
    assert len(find(stored, "SERIES", f"StudyInstanceUID={ROOT}.1", "SeriesInstanceUID", "Modality")) == 2
    assert len(find(stored, "IMAGE", f"SeriesInstanceUID={ROOT}.1.1", "SOPInstanceUID")) == 2
    assert len(find(stored, "PATIENT", "PatientID", "PatientName=Li*", model="-P")) == 1


def test_a_refused_object_gets_a_status_and_the_association_goes_on(door: Door, tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(ct_slice(9, 1, 1, StudyInstanceUID="not.a.uid"))
    (tmp_path / "2.dcm").write_bytes(ct_slice(9, 1, 2))
    done = subprocess.run(
        [DCMTK + "storescu", "-v", "-nh", "-aec", "CLOUDFILM", "127.0.0.1", str(door.dicom_port),
         str(tmp_path / "1.dcm"), str(tmp_path / "2.dcm")],
        capture_output=True, text=True, errors="replace", timeout=120, check=False,
    )  # fmt: skip

    assert "CannotUnderstand" in done.stdout + done.stderr
    assert len(find(door, "STUDY", f"StudyInstanceUID={ROOT}.9")) == 1
