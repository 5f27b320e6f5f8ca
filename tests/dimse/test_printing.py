"""Print management as print clients do it: pynetdicom by hand, and dcmtk's own print tools."""

import io
import queue
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    BasicAnnotationBox,
    BasicColorImageBox,
    BasicColorPrintManagementMeta,
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    PresentationLUT,
    Printer,
    PrinterConfigurationRetrieval,
    PrinterConfigurationRetrievalInstance,
    PrinterInstance,
    PrintJob,
)

from access.caller import operator
from archive.ingest import ingest
from archive.retrieve import find_instances, instance_bytes
from tests.builders import ct_slice, dataset
from tests.dimse.door import Door
from tests.dimse.peers import steady

GRAY, COLOR = BasicGrayscalePrintManagementMeta, BasicColorPrintManagementMeta


class Client:
    """A print client with one film session."""

    def __init__(self, server: Door, meta: Any = GRAY, job: bool = False, **session: Any) -> None:
        ae = AE("PRINTSCU")
        others = (
            PresentationLUT,
            BasicAnnotationBox,
            PrinterConfigurationRetrieval,
            *((PrintJob,) if job else ()),
        )
        for sop_class in (meta, *others):
            ae.add_requested_context(sop_class)
        self.events: queue.Queue[tuple[int, str]] = queue.Queue()
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._take)]
        called = ("127.0.0.1", server.dicom_port)
        self.association: Any = steady(ae.associate(*called, ae_title="CLOUDFILM", evt_handlers=handlers))
        assert self.association.is_established
        self.meta = meta
        self.session = generate_uid()
        assert self.create(BasicFilmSession, self.session, **session)[0] == 0

    def _take(self, event: Any) -> tuple[int, None]:
        self.events.put((event.request.EventTypeID, event.request.AffectedSOPClassUID))
        return 0, None

    def told(self, events: int) -> list[tuple[int, str]]:
        """What the printer told, in order, waited for: it may come after the answer that it comes with."""
        return [self.events.get(timeout=60) for _ in range(events)]

    def create(self, sop_class: Any, uid: str, meta: Any = None, **said: Any) -> tuple[int, Dataset]:
        status, answer = self.association.send_n_create(
            _data(said) or None, sop_class, uid, meta_uid=meta or self.meta
        )
        return status.Status, answer

    def set(self, sop_class: Any, uid: str, meta: Any = None, **said: Any) -> int:
        status, _ = self.association.send_n_set(
            _data(said) or None, sop_class, uid, meta_uid=meta or self.meta
        )
        return int(status.Status)

    def film(self, display_format: str = "STANDARD\\1,1", **said: Any) -> tuple[str, list[str], Dataset]:
        """A film box, and its image boxes."""
        uid = generate_uid()
        reference = _data(
            {"ReferencedSOPClassUID": BasicFilmSession, "ReferencedSOPInstanceUID": self.session}
        )
        status, answer = self.create(
            BasicFilmBox, uid, ImageDisplayFormat=display_format, FilmSizeID="8INX10IN",
            ReferencedFilmSessionSequence=[reference], **said,
        )  # fmt: skip
        assert status == 0
        return uid, [box.ReferencedSOPInstanceUID for box in answer.ReferencedImageBoxSequence], answer

    def print(self, sop_class: Any, uid: str) -> tuple[int, Dataset | None]:
        status, answer = self.association.send_n_action(None, 1, sop_class, uid, meta_uid=self.meta)
        return status.Status, answer

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.association.release()


def _data(said: dict[str, Any]) -> Dataset:
    made = Dataset()
    for keyword, value in said.items():
        setattr(made, keyword, value)
    return made


def gray(level: int = 3000, rows: int = 40, **more: Any) -> Dataset:
    """An image of 12 bits."""
    return _data(
        {
            "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": rows, "Columns": rows,
            "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
            "PixelData": np.full(rows * rows, level, "<u2").tobytes(),
        }
        | more
    )  # fmt: skip


def films(door: Door, study_uid: str) -> list[Dataset]:
    """The films of a study, then its documents."""
    archive = door.rooms.archive
    found = [
        dcmread(io.BytesIO(b"".join(instance_bytes(archive, stored))))
        for stored in find_instances(archive, operator(), study_uid)
    ]
    return sorted(
        (each for each in found if each.get("Modality") in ("HC", "DOC")),
        key=lambda each: (each.SeriesNumber, each.InstanceNumber),
    )


def stored(door: Door, study: int) -> str:
    ingest(door.rooms.archive, operator(), io.BytesIO(ct_slice(study=study)))
    return str(dataset(study=study).StudyInstanceUID)


def test_a_session_becomes_images_and_a_pdf_of_the_study_that_it_speaks_of(door: Door) -> None:
    study_uid = stored(door, 81)
    with Client(door, job=True, FilmSessionLabel="CT chest", NumberOfCopies=1) as client:
        _, boxes, _ = client.film("STANDARD\\2,1", BorderDensity="WHITE", EmptyImageDensity="BLACK")
        image = gray(StudyInstanceUID=study_uid)
        assert client.set(BasicGrayscaleImageBox, boxes[0], ImageBoxPosition=1,
                          BasicGrayscaleImageSequence=[image]) == 0  # fmt: skip
        _, second, _ = client.film("ROW\\1,2")
        assert client.set(BasicGrayscaleImageBox, second[2], ImageBoxPosition=3, Polarity="REVERSE",
                          BasicGrayscaleImageSequence=[gray()]) == 0  # fmt: skip
        status, answer = client.print(BasicFilmSession, client.session)
        assert status == 0
        assert answer is not None
        assert answer.ReferencedPrintJobSequence[0].ReferencedSOPClassUID == PrintJob
        job = answer.ReferencedPrintJobSequence[0].ReferencedSOPInstanceUID
        status, told = client.association.send_n_get([], PrintJob, job)
        assert (status.Status, told.ExecutionStatus) == (0, "DONE")
        assert client.told(1) == [(3, PrintJob)]

    first, other, document = films(door, study_uid)
    assert (first.PatientID, first.SeriesDescription, first.Rows, first.Columns) == (
        "P1",
        "CT chest",
        1500,
        1200,
    )
    pixels = first.pixel_array
    assert (pixels[750, 300], pixels[750, 900], pixels[2, 2]) == (187, 0, 255)
    assert other.pixel_array[1125, 900] == 68
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert document.EncapsulatedDocument.startswith(b"%PDF-")
    assert re.findall(rb"/Count (\d+)", document.EncapsulatedDocument) == [b"2"]


def test_annotation_and_presentation_lut_are_drawn_and_bind_by_accession_number(
    door: Door,
) -> None:
    study_uid = stored(door, 82)
    with Client(door) as client:
        lut = generate_uid()
        assert client.create(PresentationLUT, lut, PresentationLUT, PresentationLUTShape="LIN OD")[0] == 0
        film, boxes, answer = client.film(AnnotationDisplayFormatID="1")
        (annotation,) = answer.ReferencedBasicAnnotationBoxSequence
        assert client.set(BasicAnnotationBox, annotation.ReferencedSOPInstanceUID, BasicAnnotationBox,
                          AnnotationPosition=1, TextString="Acc: A0082 2026-02-28") == 0  # fmt: skip
        reference = _data({"ReferencedSOPClassUID": PresentationLUT, "ReferencedSOPInstanceUID": lut})
        assert client.set(
            BasicGrayscaleImageBox, boxes[0], ImageBoxPosition=1, BasicGrayscaleImageSequence=[gray(4095)],
            ReferencedPresentationLUTSequence=[reference],
        ) == 0  # fmt: skip
        assert client.print(BasicFilmBox, film)[0] == 0

    image, _ = films(door, study_uid)
    assert image.pixel_array[700, 600] == 0  # the highest value is the highest density
    assert image.pixel_array[-30:].max() > 200  # the text


def test_color_films_are_kept_in_color(door: Door) -> None:
    study_uid = stored(door, 83)
    red = np.zeros((20, 20, 3), np.uint8)
    red[:, :, 0] = 240
    with Client(door, COLOR) as client:
        film, boxes, _ = client.film()
        image = gray(
            SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, Rows=20, Columns=20,
            BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=red.tobytes(), AccessionNumber="A0083",
        )  # fmt: skip
        assert (
            client.set(BasicColorImageBox, boxes[0], ImageBoxPosition=1, BasicColorImageSequence=[image]) == 0
        )
        assert client.print(BasicFilmBox, film)[0] == 0

    picture, _ = films(door, study_uid)
    assert (picture.PhotometricInterpretation, picture.pixel_array[750, 600].tolist()) == ("RGB", [240, 0, 0])


def test_what_makes_no_film_is_refused_with_its_status(door: Door) -> None:
    with Client(door) as client:
        assert client.create(BasicFilmSession, generate_uid())[0] == 0x0110
        assert client.print(BasicFilmSession, client.session)[0] == 0xC600
        assert client.create(BasicFilmBox, generate_uid(), FilmSizeID="A4")[0] == 0x0120
        assert client.create(BasicFilmBox, generate_uid(), ImageDisplayFormat="CUSTOM\\1")[0] == 0x0106
        film, boxes, _ = client.film()
        assert client.print(BasicFilmBox, film)[0] == 0xB603
        assert client.print(BasicFilmBox, generate_uid())[0] == 0x0112
        short = gray(PixelData=b"\0\0")
        assert client.set(BasicGrayscaleImageBox, boxes[0], BasicGrayscaleImageSequence=[short]) == 0x0106
        assert client.set(BasicGrayscaleImageBox, generate_uid(), ImageBoxPosition=1) == 0x0112
        large = gray(rows=2000)
        whole = {"MagnificationType": "NONE", "RequestedDecimateCropBehavior": "FAIL"}
        status = client.set(BasicGrayscaleImageBox, boxes[0], BasicGrayscaleImageSequence=[large], **whole)
        assert status == 0xC603
        assert client.print(BasicFilmBox, film)[0] == 0xB603
        status = client.association.send_n_delete(BasicFilmBox, film, meta_uid=GRAY)
        assert status.Status == 0
        assert client.create(PresentationLUT, generate_uid(), PresentationLUT)[0] == 0x0106


def test_an_image_is_told_how_it_comes_to_its_place(door: Door) -> None:
    with Client(door) as client:
        _, (box,), _ = client.film()  # of 1200 x 1500 pixels

        def place(rows: int, **terms: Any) -> int:
            return client.set(
                BasicGrayscaleImageBox, box, BasicGrayscaleImageSequence=[gray(rows=rows)], **terms
            )

        assert place(1000) == 0
        assert place(2000) == 0xB604
        assert place(1000, MagnificationType="NONE") == 0
        assert place(2000, RequestedDecimateCropBehavior="CROP") == 0xB609
        assert place(2000, RequestedDecimateCropBehavior="DECIMATE") == 0xB60A
        assert place(1000, MagnificationType="CUBIC", RequestedImageSize="500") == 0xB60A
        assert place(1000, RequestedImageSize="100", MaxDensity=400) == 0xB605


def test_the_printer_tells_when_it_cannot_print_and_when_it_can_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(door) as client:
        store = type(door.rooms.archive.blobs.store)
        with monkeypatch.context() as full:
            full.setattr(store, "free_bytes", lambda _store: 0)
            client.film()
            client.film()
        client.film()

        assert client.told(2) == [(3, Printer), (1, Printer)]
        assert client.events.empty()


def test_the_printer_tells_its_status_and_configuration(door: Door) -> None:
    with Client(door) as client:
        status, printer = client.association.send_n_get([], Printer, PrinterInstance, meta_uid=GRAY)
        assert (status.Status, printer.PrinterStatus, printer.PrinterName) == (0, "NORMAL", "CLOUDFILM")
        status, found = client.association.send_n_get(
            [], PrinterConfigurationRetrieval, PrinterConfigurationRetrievalInstance
        )
        assert (status.Status, found.PrinterConfigurationSequence[0].PrinterName) == (0, "CLOUDFILM")
        status, _ = client.association.send_n_get([], Printer, "1.2.3", meta_uid=GRAY)
        assert status.Status == 0x0112


def test_dcmtk_prints_an_image_with_its_own_tools(door: Door, tmp_path: Path) -> None:
    """dcmpsprt renders the job and its images, dcmprscu sends them as a print client."""
    for folder in ("database", "spool", "log"):
        (tmp_path / folder).mkdir()
    printer = f"""
[[COMMUNICATION]]
[CLOUDFILM]
Aetitle = CLOUDFILM
Description = archive
Hostname = 127.0.0.1
Port = {door.dicom_port}
Type = PRINTER
DisplayFormat = 1,1\\2,2
FilmSizeID = 8INX10IN
MagnificationType = CUBIC
MaxPDU = 32768
Supports12Bit = true
SupportsPresentationLUT = true
PresentationLUTMatchRequired = false
PresentationLUTinFilmSession = false
"""
    general = f"""
[[GENERAL]]
[APPLICATION]
LogDirectory = {tmp_path}/log
[DATABASE]
Directory = {tmp_path}/database
[NETWORK]
Aetitle = DCMPSTAT
[PRINT]
Directory = {tmp_path}/spool
Sleep = 1
KeepSpoolFiles = true
DumpDIMSE = true
"""
    (tmp_path / "print.cfg").write_text(general + printer)
    ramp = (np.add.outer(np.arange(64), np.arange(64)) * 32).astype("<u2")
    path = tmp_path / "image.dcm"
    path.write_bytes(ct_slice(study=84, Rows=64, Columns=64, PixelData=ramp.tobytes(), WindowCenter="2000",
                              WindowWidth="4000"))  # fmt: skip
    stored(door, 84)

    def run(tool: str, *arguments: str) -> str:
        done = subprocess.run(
            [f"/usr/bin/{tool}", "-v", "-c", str(tmp_path / "print.cfg"), "-p", "CLOUDFILM", *arguments],
            cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("dcmpsprt", "--layout", "1", "1", "--filmsize", "8INX10IN", str(path))
    jobs = list((tmp_path / "database").glob("SP_*.dcm"))
    said = run("dcmprscu", "--label", "A0084", *map(str, jobs))
    found = films(door, str(dataset(study=84).StudyInstanceUID))

    assert len(found) == 2, said
    pixels = found[0].pixel_array
    assert pixels.std() > 20
