"""C-GET and C-MOVE as dcmtk and pynetdicom ask for them: sub-operations, transfer syntaxes, failures."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CompositeInstanceRetrieveWithoutBulkDataGet,
    CompositeInstanceRootRetrieveGet,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from sqlalchemy import select

from access.model import AuditEntry
from tests.builders import ROOT, dataset, part10
from tests.dimse.door import Door
from tests.dimse.peers import at, dcmtk, said, store, storescp
from tests.live import free_ports

PIXELS = np.arange(64, dtype="<u2").reshape(8, 8) * 60
FRAMES = np.arange(5 * 64, dtype="<u2").reshape(5, 8, 8) * 12


def multi_frame(study: int) -> Dataset:
    """Five frames of which each is told apart by its pixels, a tenth of a second between them."""
    ds = dataset(study, 1, 1, SOPClassUID=MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
    ds.NumberOfFrames = 5
    ds.FrameTime = "100"
    ds.PixelData = FRAMES.tobytes()
    return ds


@pytest.fixture(scope="module")
def kept(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Door:
    """A server with a study of two series, a compressed one, one in implicit VR, and a multi-frame one."""
    folder = tmp_path_factory.mktemp("files")
    for name, data in {
        "1": part10(dataset(1, 1, 1)),
        "2": part10(dataset(1, 1, 2)),
        "3": part10(dataset(1, 2, 1)),
        "implicit": part10(dataset(3, 1, 1), ImplicitVRLittleEndian),
        "frames": part10(multi_frame(4)),
    }.items():
        (folder / f"{name}.dcm").write_bytes(data)
    (folder / "plain").write_bytes(part10(dataset(2, 1, 1, PixelData=PIXELS.tobytes())))
    dcmtk("dcmcjpeg", "+e1", "+un", folder / "plain", folder / "jpeg.dcm", check=True)
    store(door, *(folder / f"{name}.dcm" for name in ("1", "2", "3", "frames")))
    store(door, folder / "implicit.dcm", options=("-xi",))
    store(door, folder / "jpeg.dcm", options=("-xs",))
    return door


def getscu(server: Door, folder: Path, *keys: str, options: tuple[str, ...] = ()) -> str:
    """Run getscu; returns what it said."""
    arguments = [part for key in keys for part in ("-k", key)]
    done = dcmtk("getscu", "-v", "-S", *options, *at(server), "-od", folder, *arguments)
    assert done.returncode == 0, said(done)
    return said(done)


def test_getscu_brings_a_study_as_it_was_stored(kept: Door, tmp_path: Path) -> None:
    output = getscu(kept, tmp_path, "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={ROOT}.1")

    received = {str(ds.SOPInstanceUID): ds for ds in map(dcmread, tmp_path.iterdir())}
    assert sorted(received) == [f"{ROOT}.1.1.1", f"{ROOT}.1.1.2", f"{ROOT}.1.2.1"]
    assert received[f"{ROOT}.1.1.2"].PixelData == dataset(1, 1, 2).PixelData
    assert "Completed Suboperations" in output


def test_a_series_and_an_instance_are_brought_alone(kept: Door, tmp_path: Path) -> None:
    series = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={ROOT}.1", f"SeriesInstanceUID={ROOT}.1.1")
    (tmp_path / "series").mkdir()
    getscu(kept, tmp_path / "series", *series)
    assert len(list((tmp_path / "series").iterdir())) == 2

    (tmp_path / "image").mkdir()
    getscu(kept, tmp_path / "image", "QueryRetrieveLevel=IMAGE", f"SOPInstanceUID={ROOT}.1.1.2")
    (path,) = (tmp_path / "image").iterdir()
    assert dcmread(path).InstanceNumber == 2


@pytest.mark.parametrize("option", ["+x=", "+xi"])
def test_a_compressed_instance_is_decompressed_for_who_takes_no_other(
    kept: Door, tmp_path: Path, option: str
) -> None:
    """The same pixels as before the compression, in the syntax that was accepted."""
    getscu(kept, tmp_path, "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={ROOT}.2", options=(option,))
    (path,) = tmp_path.iterdir()
    received = dcmread(path)

    assert received.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    assert (received.pixel_array == PIXELS).all()


def test_a_compressed_instance_stays_so_for_who_takes_it(kept: Door, tmp_path: Path) -> None:
    key = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={ROOT}.2")
    getscu(kept, tmp_path, *key, options=("+xs",))
    (path,) = tmp_path.iterdir()

    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1


def test_movescu_has_a_known_node_sent_to(kept: Door, tmp_path: Path) -> None:
    with storescp(tmp_path / "in", "DEST") as target:
        kept.add_node("DEST", target.port)
        done = dcmtk(
            "movescu", "-v", "-S", *at(kept), "-aem", "DEST",
            "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={ROOT}.1\\{ROOT}.2",
        )  # fmt: skip
        assert done.returncode == 0, said(done)
        received = target.received()

    assert len(received) == 4
    assert (received[-1].pixel_array == PIXELS).all()  # decompressed: storescp takes no compressed syntax
    with kept.rooms.database.snapshot() as session:
        noted = session.scalars(select(AuditEntry.detail).where(AuditEntry.action == "send ImagingStudy"))
        assert "to DEST: 4 sent, 0 failed" in set(noted)


def test_an_unknown_destination_is_refused(kept: Door) -> None:
    done = dcmtk(
        "movescu", "-v", "-S", *at(kept), "-aem", "NOBODY",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={ROOT}.1",
    )  # fmt: skip

    assert "MoveDestinationUnknown" in said(done).replace(" ", "")


class Asker:
    """A pynetdicom SCU that asks with C-GET and takes what comes in."""

    def __init__(self, server: Door, model: str, syntaxes: list[str], sop_classes: list[str]) -> None:
        self.received: list[Dataset] = []
        self.answers: list[tuple[Dataset, Dataset | None]] = []
        self.refuse: Callable[[Dataset], int] = lambda _ds: 0x0000
        entity = AE("ASKER")
        entity.add_requested_context(model)
        roles: list[Any] = []
        for sop_class in sop_classes:
            entity.add_requested_context(sop_class, syntaxes)
            roles.append(build_role(sop_class, scp_role=True))
        self.model = model
        self.association = entity.associate(
            "127.0.0.1", server.dicom_port, ae_title="CLOUDFILM", ext_neg=roles,
            evt_handlers=[(evt.EVT_C_STORE, self._on_store)],
        )  # fmt: skip
        assert self.association.is_established

    def _on_store(self, event: Any) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        self.received.append(ds)
        return self.refuse(ds)

    def ask(self, **keys: Any) -> Dataset:
        """Ask, and return the command set of the last answer."""
        identifier = Dataset()
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        self.answers = list(self.association.send_c_get(identifier, self.model))
        self.association.release()
        return self.answers[-1][0]


GET = StudyRootQueryRetrieveInformationModelGet
PLAIN: list[str] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def test_implicit_and_explicit_are_turned_into_each_other(kept: Door) -> None:
    for study, syntax in ((3, ExplicitVRLittleEndian), (1, ImplicitVRLittleEndian)):
        asker = Asker(kept, GET, [syntax], [CTImageStorage])
        asker.ask(QueryRetrieveLevel="IMAGE", SOPInstanceUID=f"{ROOT}.{study}.1.1")

        (received,) = asker.received
        assert received.file_meta.TransferSyntaxUID == syntax
        assert received.PixelData == dataset(study, 1, 1).PixelData
        assert received.PatientName == "Zhang^Wei=张^伟"


def test_counts_and_the_list_of_failures_are_told(kept: Door) -> None:
    asker = Asker(kept, GET, PLAIN, [CTImageStorage])
    asker.refuse = lambda ds: 0xA700 if ds.SOPInstanceUID == f"{ROOT}.1.1.2" else 0x0000

    last = asker.ask(QueryRetrieveLevel="STUDY", StudyInstanceUID=f"{ROOT}.1")

    assert last.Status == 0xB000
    assert last.NumberOfCompletedSuboperations == 2
    assert last.NumberOfFailedSuboperations == 1
    assert "NumberOfRemainingSuboperations" not in last
    identifier = asker.answers[-1][1]
    assert identifier is not None
    assert identifier.FailedSOPInstanceUIDList == f"{ROOT}.1.1.2"
    assert asker.answers[0][0].NumberOfRemainingSuboperations == 2


def test_a_warning_counts_as_one(kept: Door) -> None:
    asker = Asker(kept, GET, PLAIN, [CTImageStorage])
    asker.refuse = lambda _ds: 0xB007

    last = asker.ask(QueryRetrieveLevel="STUDY", StudyInstanceUID=f"{ROOT}.1")

    assert (last.Status, last.NumberOfWarningSuboperations, last.NumberOfFailedSuboperations) == (
        0xB000, 3, 0,
    )  # fmt: skip


def test_what_no_context_fits_fails_alone(kept: Door) -> None:
    asker = Asker(kept, GET, PLAIN, [CTImageStorage])

    last = asker.ask(QueryRetrieveLevel="STUDY", StudyInstanceUID=[f"{ROOT}.1", f"{ROOT}.4"])

    assert (last.Status, last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (
        0xB000, 3, 1,
    )  # fmt: skip


def test_a_cancelled_retrieval_stops(kept: Door) -> None:
    asker = Asker(kept, GET, PLAIN, [CTImageStorage])

    def cancel(_ds: Dataset) -> int:
        if len(asker.received) == 1:
            asker.association.send_c_cancel(1, query_model=GET)
        return 0x0000

    asker.refuse = cancel
    last = asker.ask(QueryRetrieveLevel="STUDY", StudyInstanceUID=f"{ROOT}.1")

    assert last.Status == 0xFE00
    assert len(asker.received) < 3
    assert last.NumberOfRemainingSuboperations == 3 - len(asker.received)


def test_nothing_found_is_a_success_of_nothing(kept: Door) -> None:
    last = Asker(kept, GET, PLAIN, [CTImageStorage]).ask(
        QueryRetrieveLevel="STUDY", StudyInstanceUID=f"{ROOT}.77"
    )

    assert (last.Status, last.NumberOfCompletedSuboperations) == (0x0000, 0)


def test_an_identifier_without_the_key_of_its_level_is_refused(kept: Door) -> None:
    asker = Asker(kept, GET, PLAIN, [CTImageStorage])

    assert asker.ask(QueryRetrieveLevel="SERIES", StudyInstanceUID=f"{ROOT}.1").Status == 0xA900


FRAME_MODEL = CompositeInstanceRootRetrieveGet
MULTI = MultiFrameGrayscaleWordSecondaryCaptureImageStorage


@pytest.mark.parametrize(
    ("keys", "frames"),
    [
        ({"SimpleFrameList": [2, 4]}, [1, 3]),
        ({"CalculatedFrameList": [1, 5, 2]}, [0, 2, 4]),
        ({"TimeRange": [0.1, 0.25]}, [1, 2]),
    ],
)
def test_frames_are_brought_as_a_new_instance(kept: Door, keys: dict[str, Any], frames: list[int]) -> None:
    asker = Asker(kept, FRAME_MODEL, PLAIN, [MULTI])

    last = asker.ask(QueryRetrieveLevel="FRAME", SOPInstanceUID=f"{ROOT}.4.1.1", **keys)

    assert last.Status == 0x0000
    (received,) = asker.received
    assert received.NumberOfFrames == len(frames)
    assert (received.pixel_array.reshape(-1, 8, 8) == FRAMES[frames]).all()
    assert received.SOPInstanceUID != f"{ROOT}.4.1.1"
    (how,) = received.FrameExtractionSequence
    assert how.MultiFrameSourceSOPInstanceUID == f"{ROOT}.4.1.1"
    assert all(keyword in how for keyword in keys)


@pytest.mark.parametrize(
    ("uid", "keys", "status"),
    [
        (f"{ROOT}.4.1.1", {"SimpleFrameList": [9]}, 0xAA00),
        (f"{ROOT}.1.1.1", {"TimeRange": [0.0, 1.0]}, 0xAA03),
        (f"{ROOT}.4.1.1", {}, 0xAA04),
        (f"{ROOT}.4.1.1", {"SimpleFrameList": [4, 2]}, 0xAA04),
    ],
)
def test_frames_that_cannot_be_had_have_their_own_status(
    kept: Door, uid: str, keys: dict[str, Any], status: int
) -> None:
    asker = Asker(kept, FRAME_MODEL, PLAIN, [MULTI, CTImageStorage])

    assert asker.ask(QueryRetrieveLevel="FRAME", SOPInstanceUID=uid, **keys).Status == status


def test_instances_are_brought_without_their_bulk_data(kept: Door) -> None:
    asker = Asker(kept, CompositeInstanceRetrieveWithoutBulkDataGet, PLAIN, [CTImageStorage])

    asker.ask(QueryRetrieveLevel="IMAGE", SOPInstanceUID=[f"{ROOT}.1.1.1", f"{ROOT}.2.1.1"])

    assert sorted(ds.SOPInstanceUID for ds in asker.received) == [f"{ROOT}.1.1.1", f"{ROOT}.2.1.1"]
    assert all("PixelData" not in ds and ds.Rows == 8 for ds in asker.received)


def test_a_move_goes_on_over_a_new_association_when_one_is_lost(kept: Door) -> None:
    """The destination breaks off once, in the middle; every instance arrives all the same."""
    received: list[str] = []
    broken: list[bool] = []

    def on_store(event: Any) -> int:
        if len(received) == 1 and not broken:
            broken.append(True)
            event.assoc.abort()
            return 0x0110
        received.append(str(dcmread(BytesIO(event.encoded_dataset())).SOPInstanceUID))
        return 0x0000

    (port,) = free_ports(1)
    entity = AE("FRAGILE")
    entity.add_supported_context(CTImageStorage, PLAIN)
    handlers: list[Any] = [(evt.EVT_C_STORE, on_store)]
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        kept.add_node("FRAGILE", port)
        mover = AE("TESTER")
        mover.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
        association = mover.associate("127.0.0.1", kept.dicom_port, ae_title="CLOUDFILM")
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", f"{ROOT}.1"
        answers = list(
            association.send_c_move(identifier, "FRAGILE", StudyRootQueryRetrieveInformationModelMove)
        )
        association.release()
    finally:
        entity.shutdown()

    assert broken
    assert answers[-1][0].Status == 0x0000
    assert sorted(received) == [f"{ROOT}.1.1.1", f"{ROOT}.1.1.2", f"{ROOT}.1.2.1"]


def test_a_destination_that_is_away_fails_every_instance(kept: Door) -> None:
    (port,) = free_ports(1)
    kept.add_node("AWAY", port)
    mover = AE("TESTER")
    mover.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = mover.associate("127.0.0.1", kept.dicom_port, ae_title="CLOUDFILM")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", f"{ROOT}.1"
    status, failed = list(
        association.send_c_move(identifier, "AWAY", StudyRootQueryRetrieveInformationModelMove)
    )[-1]
    association.release()

    assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 3)
    assert failed is not None
    assert len(failed.FailedSOPInstanceUIDList) == 3
