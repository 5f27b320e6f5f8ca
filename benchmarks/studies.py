"""Synthetic studies to measure with: CT series of 512 x 512 x 16 bit, and many tiny studies for the index."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "2.25.99120534"
FAMILIES = ("Zhang=张", "Wang=王", "Li=李", "Zhao=赵", "Chen=陈", "Liu=刘", "Yang=杨", "Huang=黄")


def ct_series(study: int, slices: int = 300, side: int = 512) -> Iterator[Dataset]:
    """One CT series: a soft ellipse that changes from slice to slice, with noise, 12 bits."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    noise = np.random.default_rng(study).normal(0, 12, (side, side)).astype(np.float32)
    for number in range(1, slices + 1):
        wide = 0.6 + 0.2 * np.sin(number / 40)
        image = 1000 / (1 + np.exp(np.clip(((x / 0.85) ** 2 + (y / wide) ** 2 - 1) * 30, -40, 40)))
        pixels = np.clip(image + np.roll(noise, number * 911), 0, 4095).astype("<u2")
        yield _slice(study, number, side, pixels.tobytes())


def tiny_studies(count: int) -> Iterator[Dataset]:
    """Studies of one small instance each, of patients with two studies each, over ten years."""
    for study in range(count):
        yield _slice(1_000_000 + study, 1, 8, bytes(128))


def _slice(study: int, number: int, side: int, pixels: bytes) -> Dataset:
    ds = Dataset()
    patient = study // 2
    latin, _, chinese = FAMILIES[patient % 8].partition("=")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{ROOT}.{study}.1.{number}"
    day = study % 3650
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = (
        f"{2016 + day // 365}{1 + day // 31 % 12:02d}{1 + day % 28:02d}"
    )
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = f"{study % 24:02d}{study % 60:02d}00"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = f"A{study:08d}", "CT", "cloudfilm benchmarks"
    ds.InstitutionName, ds.ReferringPhysicianName = "区域医院", "Wu^Gang=吴^刚"
    ds.StudyDescription, ds.SeriesDescription = f"Chest {study % 50}", "1.0 mm"
    ds.PatientName, ds.PatientID = f"{latin}^Wei{patient}={chinese}^伟", f"P{patient:08d}"
    ds.PatientBirthDate, ds.PatientSex = f"19{40 + patient % 60}0115", "MF"[patient % 2]
    ds.BodyPartExamined, ds.SliceThickness, ds.KVP = "CHEST", "1.0", "120"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.{study}", f"{ROOT}.{study}.1"
    ds.FrameOfReferenceUID, ds.StudyID = f"{ROOT}.{study}.9", str(study)
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.7, 0.7]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth, ds.RescaleIntercept, ds.RescaleSlope = "40", "400", "-1024", "1"
    ds.PixelData = pixels
    return ds


def part10(ds: Dataset) -> bytes:
    """The dataset as a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def write_series(folder: Path, study: int, slices: int = 300, series: int = 1) -> Path:
    """A CT series of a study as files in a folder of its own; made once."""
    target = folder / f"ct{study}-{series}-{slices}"
    if not target.exists():
        making = target.with_name(target.name + ".new")
        making.mkdir(parents=True, exist_ok=True)
        for number, ds in enumerate(ct_series(study, slices)):
            ds.SeriesInstanceUID, ds.SeriesNumber = f"{ROOT}.{study}.{series}", series
            ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number + 1}"
            (making / f"{number:04d}.dcm").write_bytes(part10(ds))
        making.rename(target)
    return target
