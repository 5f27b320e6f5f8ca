"""Printed films are archived: each as a DICOM image, and all of a session as one PDF.

A film belongs to the study that its data sets speak of. Print clients seldom say whose it is, so every hint
counts: identifiers in the data sets of session, film and images, images that they refer to, and words of
the annotations that are an accession number or a patient number here. Hints that disagree bind nothing.

Standards: PS3.3 A.8 (Secondary Capture), A.45 (Encapsulated PDF), PS3.4 H.
"""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from sqlalchemy import or_, select

from access.caller import Caller
from archive.documents import parse_marked
from archive.ingest import ingest
from archive.model import Instance, Study
from archive.placing import Ingested
from archive.reach import within
from archive.room import Archive
from kernel.clock import new_uid

WORD = re.compile(r"[\w.-]{3,64}")
MOST_WORDS = 100
OF_PATIENT = (
    "00100010", "00100020", "00100021", "00100030", "00100040",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hints:
    """What the data sets of a print session say of whose films they are."""

    study_instance_uids: frozenset[str] = frozenset()
    sop_instance_uids: frozenset[str] = frozenset()
    accession_numbers: frozenset[str] = frozenset()
    patient_ids: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    patient_name: str = ""


def hints_of(data_sets: Iterable[Dataset], texts: Iterable[str]) -> Hints:
    """Gather them, in nested items too."""
    found: dict[str, set[str]] = {
        keyword: set()
        for keyword in (
            "StudyInstanceUID", "ReferencedSOPInstanceUID", "AccessionNumber", "PatientID", "PatientName",
        )
    }  # fmt: skip
    for data_set in data_sets:
        for element in data_set.iterall():
            if element.keyword in found and element.value:
                found[element.keyword].add(str(element.value).strip())
    words = {word for text in texts for word in WORD.findall(text)}
    return Hints(
        frozenset(found["StudyInstanceUID"]),
        frozenset(found["ReferencedSOPInstanceUID"]),
        frozenset(found["AccessionNumber"]),
        frozenset(found["PatientID"]),
        frozenset(sorted(words)[:MOST_WORDS]),
        next(iter(sorted(found["PatientName"])), ""),
    )


def bound_study(archive: Archive, caller: Caller, hints: Hints) -> Study | None:
    """The study that the hints agree on, within the caller's reach; the newest of its patient when they name
    no study."""
    numbers = hints.accession_numbers | hints.words
    patients = hints.patient_ids | hints.words
    with archive.database.snapshot() as session:
        by_instance = select(Instance.study_id).where(Instance.sop_instance_uid.in_(hints.sop_instance_uids))
        strong = session.scalars(
            within(
                select(Study).where(
                    or_(
                        Study.study_instance_uid.in_(hints.study_instance_uids),
                        Study.id.in_(by_instance),
                        Study.accession_number.in_(numbers),
                    )
                ),
                caller.reach_for("r"),
            ).limit(3)
        ).all()
        if strong:
            return strong[0] if len(strong) == 1 else None
        of_patient = session.scalars(
            within(select(Study).where(Study.patient_id.in_(patients)), caller.reach_for("r"))
            .order_by(Study.study_date.desc().nulls_last(), Study.id.desc())
            .limit(500)
        ).all()
    records = {study.patient_record_id for study in of_patient}
    return of_patient[0] if len(records) == 1 else None


def archive_films(
    archive: Archive, caller: Caller, pictures: Sequence[Image.Image], dpi: int, hints: Hints, label: str
) -> list[Ingested]:
    """Store films, and their PDF. Returns when all is durable. Raises what `ingest` raises."""
    study = bound_study(archive, caller, hints)
    head = _head(archive, caller, study, hints)
    images, document = new_uid(), new_uid()
    stored = [
        ingest(archive, caller, _part10(_image(head, images, number, picture, dpi, label)))
        for number, picture in enumerate(pictures, 1)
    ]
    stored.append(ingest(archive, caller, _part10(_pdf(head, document, pictures, dpi, label))))
    return stored


def _head(archive: Archive, caller: Caller, study: Study | None, hints: Hints) -> Dataset:
    """What all objects of a session share: patient and study."""
    now = archive.clock.now()
    if study is not None:
        known = parse_marked(study.attributes)
        head = Dataset.from_json({tag: known[tag] for tag in OF_PATIENT if tag in known})
        head.StudyInstanceUID = study.study_instance_uid
        head.AccessionNumber, head.StudyID = study.accession_number, study.study_id
        head.StudyDate = f"{study.study_date:%Y%m%d}" if study.study_date else ""
        head.StudyTime = study.study_time.partition(".")[0]
    else:
        head = Dataset()
        head.PatientName = hints.patient_name
        head.PatientID = next(iter(sorted(hints.patient_ids)), "") if len(hints.patient_ids) == 1 else ""
        head.PatientBirthDate = head.PatientSex = ""
        head.StudyInstanceUID = new_uid()
        numbers = sorted(hints.accession_numbers)
        head.AccessionNumber = numbers[0][:16] if len(numbers) == 1 else ""
        head.StudyID = ""
        head.StudyDate, head.StudyTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    head.ReferringPhysicianName = ""
    head.SpecificCharacterSet = "ISO_IR 192"
    head.StationName = caller.principal.id[:16]
    head.SeriesDate = head.ContentDate = f"{now:%Y%m%d}"
    head.SeriesTime = head.ContentTime = f"{now:%H%M%S}"
    head.ConversionType = "WSD"
    return head


def _image(
    head: Dataset, series_uid: str, number: int, picture: Image.Image, dpi: int, label: str
) -> Dataset:
    film = _object(head, SecondaryCaptureImageStorage, series_uid, number, "HC", label)
    film.SeriesNumber = 9001
    film.ImageType = ["DERIVED", "SECONDARY", "FILM"]
    is_color = picture.mode == "RGB"
    film.SamplesPerPixel = 3 if is_color else 1
    film.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    if is_color:
        film.PlanarConfiguration = 0
    film.Rows, film.Columns = picture.height, picture.width
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation = 7, 0
    film.NominalScannedPixelSpacing = [round(25.4 / dpi, 6)] * 2
    film.BurnedInAnnotation = "YES"
    pixels = picture.tobytes()
    film.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return film


def _pdf(head: Dataset, series_uid: str, pictures: Sequence[Image.Image], dpi: int, label: str) -> Dataset:
    file = io.BytesIO()
    pictures[0].save(file, "PDF", resolution=dpi, save_all=True, append_images=list(pictures[1:]))
    document = _object(head, EncapsulatedPDFStorage, series_uid, 1, "DOC", label)
    document.SeriesNumber = 9002
    document.DocumentTitle = label[:64]
    document.ConceptNameCodeSequence = []
    document.BurnedInAnnotation = "YES"
    document.AcquisitionDateTime = ""
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data = file.getvalue()
    document.EncapsulatedDocumentLength = len(data)
    document.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    return document


def _object(
    head: Dataset, sop_class: str, series_uid: str, number: int, modality: str, label: str
) -> Dataset:
    made = Dataset()
    made.update(head)
    made.SOPClassUID, made.SOPInstanceUID = sop_class, new_uid()
    made.SeriesInstanceUID, made.InstanceNumber = series_uid, number
    made.Modality, made.SeriesDescription = modality, label[:64]
    return made


def _part10(data_set: Dataset) -> io.BytesIO:
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    file = io.BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file
