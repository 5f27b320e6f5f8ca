"""The sample study that the first start loads: a chest phantom, drawn by this code, of nobody.

Forty CT slices of soft-edged ellipses (body, lungs, spine, a lesion) with a little noise, so that a
viewer has something to scroll, window and reformat.
"""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "2.25.302043790172249692526321623266752743"
PATIENT_ID, PATIENT_NAME = "SAMPLE-0001", "Zhang^San=张^三"
SLICES, SIZE, SPACING_MM, THICKNESS_MM = 40, 256, 1.5, 5.0


def sample_study() -> Iterator[bytes]:
    """The Part 10 objects of the study, in the order of slices; the same at every call."""
    noise = np.random.default_rng(20260301).normal(0, 8, (SIZE, SIZE)).astype(np.float32)
    for number in range(1, SLICES + 1):
        yield _part10(number, _slice((number - 1) / (SLICES - 1), np.roll(noise, number * 37)))


def _slice(z: float, noise: NDArray[np.float32]) -> NDArray[np.uint16]:
    """One slice in Hounsfield units + 1024; z from 0 (top) to 1."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j].astype(np.float32)

    def ellipse(cx: float, cy: float, a: float, b: float) -> NDArray[np.float32]:
        distance = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2
        edge: NDArray[np.float32] = 1 / (1 + np.exp(np.clip((distance - 1) * 40, -40, 40)))
        return edge

    lung = 0.34 * np.sin(np.pi * min(0.97, 0.15 + 0.85 * z))
    image = 24 + 1040 * ellipse(0, 0, 0.86, 0.62)
    for side in (-1, 1):
        image -= 840 * ellipse(0.38 * side, -0.03, 0.27 * (0.4 + z * 0.6), 0.1 + lung)
    image += 560 * ellipse(0, 0.4, 0.1, 0.09) - 300 * ellipse(0, 0.4, 0.035, 0.03)
    image += 90 * ellipse(-0.08, -0.12, 0.2, 0.24 * (0.6 + 0.4 * z))
    image += 800 * max(0.0, 1 - ((z - 0.55) / 0.08) ** 2) * ellipse(0.36, -0.1, 0.06, 0.06)
    pixels: NDArray[np.uint16] = np.clip(image + noise, 0, 4095).astype(np.uint16)
    return pixels


def _part10(number: int, pixels: NDArray[np.uint16]) -> bytes:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{ROOT}.1.1.{number}"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260301"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "083000"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "SAMPLE001", "CT", "cloudfilm"
    ds.InstitutionName, ds.ReferringPhysicianName = "示例医院", "Sample^Physician=示例^医生"
    ds.StudyDescription, ds.SeriesDescription = "胸部CT平扫（示例）", "Chest 5.0 mm"
    ds.PatientName, ds.PatientID = PATIENT_NAME, PATIENT_ID
    ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
    ds.BodyPartExamined, ds.SliceThickness, ds.KVP, ds.PatientPosition = (
        "CHEST",
        str(THICKNESS_MM),
        "120",
        "HFS",
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (
        f"{ROOT}.1",
        f"{ROOT}.1.1",
        f"{ROOT}.2",
    )
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, number
    edge = -SIZE * SPACING_MM / 2
    ds.ImagePositionPatient = [edge, edge, -(number - 1) * THICKNESS_MM]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation = -(number - 1) * THICKNESS_MM
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = SIZE
    ds.PixelSpacing = [SPACING_MM, SPACING_MM]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1500"]
    ds.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()
