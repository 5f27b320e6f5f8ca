"""The modality worklist as modalities see it, and beside dcmtk's own worklist server on the same items."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from tests.dimse.door import Door

DCMTK = "/usr/bin/"
STEP = "ScheduledProcedureStepSequence[0]"
KEYS = (
    "AccessionNumber", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "RequestedProcedureID", "RequestedProcedureDescription", f"{STEP}.Modality",
    f"{STEP}.ScheduledStationAETitle", f"{STEP}.ScheduledProcedureStepStartDate",
    f"{STEP}.ScheduledProcedureStepStartTime", f"{STEP}.ScheduledProcedureStepID",
)  # fmt: skip
ENTRIES = (
    ("W1", "Zhang^Wei=张^伟", "CT", "2026-03-01T09:30", ("CT01",), "M", "1970-01-31"),
    ("W2", "Wang^Fang=王^芳", "MR", "2026-03-01T11:00", ("MR01",), "F", "1985-07-01"),
    ("W3", "Smith^John", "CT", "2026-03-02T08:00", ("CT02",), "M", "1960-12-24"),
    ("W4", "Zhao^Yun=赵^云", "US", "2026-03-05T16:45", ("US01",), "M", "1999-09-09"),
)


@pytest.fixture(scope="module")
def placed(door: Door) -> Door:
    """A door with these entries on its worklist."""
    for number, name, modality, at, stations, sex, born in ENTRIES:
        done = door.command(
            "worklist", "add", number, name, "--modality", modality, "--at", at, "--sex", sex, "--birth-date",
            born, "--accession-number", f"A{number}", "--procedure", f"{modality} of {number}",
            *(part for title in stations for part in ("--station", title)),
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return door


def answers(port: int, called: str, folder: Path, *keys: str) -> list[Dataset]:
    """What findscu -W is answered."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rsp*.dcm"):
        old.unlink()
    given = {key.partition("=")[0] for key in keys}
    asked = [*keys, *(key for key in KEYS if key not in given)]
    done = subprocess.run(
        [DCMTK + "findscu", "-W", "-X", "-aec", called, "127.0.0.1", str(port)]
        + [part for key in asked for part in ("-k", key)],
        cwd=folder, capture_output=True, text=True, errors="replace", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def summary(found: list[Dataset]) -> set[tuple[str, ...]]:
    """The answers, to be compared: every key that was asked for."""
    rows = set()
    for each in found:
        step = each.ScheduledProcedureStepSequence[0]
        # wlmscpfs does not say which character set its answers are in, so Latin groups are compared
        root = [str(each.get(keyword, "")).partition("=")[0] for keyword in KEYS if "[" not in keyword]
        inner = [str(step.get(keyword.rpartition(".")[2], "")) for keyword in KEYS if "[" in keyword]
        rows.add((*root, *inner))
    return rows


@pytest.fixture(scope="module")
def wlmscpfs(placed: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """dcmtk's worklist server, with what ours answers as its files."""
    folder = tmp_path_factory.mktemp("worklist")
    (folder / "WLM").mkdir()
    (folder / "WLM" / "lockfile").touch()
    for at, item in enumerate(answers(placed.dicom_port, "CLOUDFILM", folder / "ours")):
        path = folder / "WLM" / f"{at}.wl"
        dcmwrite(path, item, implicit_vr=False, little_endian=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [DCMTK + "wlmscpfs", "-dfp", str(folder), "-dfr", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ((), 4),
        (("PatientName=Zhang*",), 1),
        (("PatientName=Z*",), 2),
        (("PatientName=SMITH^JOHN",), None),  # case: PS3.4 leaves it open
        (("PatientID=W2",), 1),
        (("AccessionNumber=AW3",), 1),
        ((f"{STEP}.Modality=CT",), 2),
        ((f"{STEP}.ScheduledStationAETitle=CT02",), 1),
        ((f"{STEP}.ScheduledProcedureStepStartDate=20260301",), 2),
        ((f"{STEP}.ScheduledProcedureStepStartDate=20260302-",), 2),
        ((f"{STEP}.ScheduledProcedureStepStartDate=-20260301",), 2),
        ((f"{STEP}.ScheduledProcedureStepStartDate=20260301-20260302",), 3),
        ((f"{STEP}.ScheduledProcedureStepStartDate=20260301-20260302",
          f"{STEP}.ScheduledProcedureStepStartTime=1000-0900"), 2),
        ((f"{STEP}.Modality=CT", f"{STEP}.ScheduledProcedureStepStartDate=20260302"), 1),
        ((f"{STEP}.Modality=XA",), 0),
    ],
)  # fmt: skip
def test_answers_are_those_of_dcmtk(
    placed: Door, wlmscpfs: int, tmp_path: Path, keys: tuple[str, ...], count: int | None
) -> None:
    ours = summary(answers(placed.dicom_port, "CLOUDFILM", tmp_path / "ours", *keys))

    if count is not None:
        assert len(ours) == count
        assert ours == summary(answers(wlmscpfs, "WLM", tmp_path / "theirs", *keys))


@pytest.mark.parametrize(
    ("term", "wanted", "answered"),
    [
        ("ISO_IR 192", "张*", "ISO_IR 192"),
        ("GB18030", "张*", "GB18030"),
        ("GBK", "*张^伟", "GBK"),
        ("ISO_IR 100", "Zhang*", "ISO_IR 192"),  # Latin 1 cannot hold the answer
        ("", "Zhang*", "ISO_IR 192"),
    ],
)
def test_the_askers_character_set_is_honoured(placed: Door, term: str, wanted: str, answered: str) -> None:
    keys = Dataset()
    if term:
        keys.SpecificCharacterSet = term
    keys.PatientName = wanted
    keys.PatientID = ""
    found = find(placed, keys)

    assert [(each.PatientID, str(each.PatientName), each.SpecificCharacterSet) for each in found] == [
        ("W1", "Zhang^Wei=张^伟", answered)
    ]


def find(server: Door, keys: Dataset, implicit: bool = True) -> list[Dataset]:
    """What pynetdicom is answered."""
    ae = AE()
    ae.add_requested_context(ModalityWorklistInformationFind, None if implicit else [ExplicitVRLittleEndian])
    association = ae.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    assert association.is_established
    found, statuses = [], []
    for status, identifier in association.send_c_find(keys, ModalityWorklistInformationFind):
        statuses.append(status.Status)
        if identifier is not None:
            found.append(identifier)
    association.release()
    assert statuses[-1] == 0
    return found


def test_only_what_was_asked_for_is_answered_down_into_the_step(placed: Door) -> None:
    keys = Dataset()
    keys.PatientID = "W3"
    keys.CurrentPatientLocation = ""
    step = Dataset()
    step.Modality = ""
    step.PreMedication = ""
    keys.ScheduledProcedureStepSequence = [step]
    (found,) = find(placed, keys, implicit=False)

    assert {element.keyword for element in found} == {
        "PatientID", "CurrentPatientLocation", "ScheduledProcedureStepSequence",
    }  # fmt: skip
    (inner,) = found.ScheduledProcedureStepSequence
    assert (inner.Modality, inner.PreMedication, len(inner)) == ("CT", "", 2)


def test_an_empty_step_sequence_is_answered_whole(placed: Door) -> None:
    keys = Dataset()
    keys.PatientID = "W3"
    keys.ScheduledProcedureStepSequence = []
    (found,) = find(placed, keys)

    assert found.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID


@pytest.mark.parametrize("key", [f"{STEP}.ScheduledProcedureStepStartDate=soon", "StudyInstanceUID=abc"])
def test_a_key_that_cannot_be_matched_is_refused(placed: Door, key: str) -> None:
    done = subprocess.run(
        [DCMTK + "findscu", "-v", "-W", "-aec", "CLOUDFILM", "127.0.0.1", str(placed.dicom_port), "-k", key],
        capture_output=True, text=True, errors="replace", timeout=60, check=False,
    )  # fmt: skip
    assert "DataSetDoesNotMatchSOPClass" in done.stdout + done.stderr


def test_the_command_lists_and_removes_entries(placed: Door) -> None:
    lines = placed.command("worklist", "list", "--day", "2026-03-05").output.splitlines()
    assert len(lines) == 1
    assert "2026-03-05 16:45  US  US01  AW4  W4  Zhao^Yun=赵^云" in lines[0]
    placed.command("worklist", "remove", lines[0].split()[0])

    assert placed.command("worklist", "list", "--day", "2026-03-05").output == ""
    assert placed.command("worklist", "remove", "1.2.3").exit_code == 1
