"""Studies of the kinds that a reading room sees, made for looking at."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tests.browser.phantom import SIDE, ct_series

FRAMES = 12
DX_ROWS, DX_COLUMNS = 2500, 2000
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def chest() -> NDArray[np.uint16]:
    """What a DX plate measured: dense where little passed, which MONOCHROME1 shows bright."""
    y, x = np.mgrid[0:DX_ROWS, 0:DX_COLUMNS].astype(np.float32)
    image = np.full((DX_ROWS, DX_COLUMNS), 3500, dtype=np.float32)
    image[((x - 1000) / 800) ** 2 + ((y - 1300) / 1100) ** 2 < 1] = 1500
    image[((x - 620) / 260) ** 2 + ((y - 1200) / 600) ** 2 < 1] = 3000
    image[(np.abs(x - 1350) < 150) & (np.abs(y - 900) < 150)] = 300
    return image.astype("<u2")


def chest_on_screen() -> NDArray[np.float64]:
    """The same as a screen shows it, in a square with black at both sides (PS3.3 C.7.6.3.1.2)."""
    shown = 255 - np.clip(chest() / 4096, 0, 1) * 255
    side = (DX_ROWS - DX_COLUMNS) // 2
    return np.pad(shown, ((0, 0), (side, side)))


def echo(frame: int) -> NDArray[np.uint8]:
    """A frame of a beating heart: a bright square that moves."""
    image = np.full((SIDE, SIDE), 30, dtype=np.uint8)
    image[40:216, 100:156] = 90
    left = 10 + frame * 18
    image[90:130, left : left + 36] = 230
    return image


def common(patient_id: str, sop_class: UID, modality: str, description: str, syntax: UID) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID = "Li^Na=李^娜", patient_id
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260302", "093000", "1"
    ds.AccessionNumber, ds.ReferringPhysicianName = "A2", ""
    ds.StudyDescription, ds.SeriesDescription = description, description
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, 1, 1
    return ds


def picture(ds: Dataset, rows: int, columns: int, bits: int, photometric: str) -> Dataset:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = 8 if bits == 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
    return ds


def ultrasound() -> Dataset:
    """A cine loop of JPEG baseline frames."""
    ds = common("US-1", UltrasoundMultiFrameImageStorage, "US", "超声心动图", JPEGBaseline8Bit)
    picture(ds, SIDE, SIDE, 8, "MONOCHROME2")
    ds.NumberOfFrames, ds.FrameTime, ds.CineRate = FRAMES, "200", 5
    ds.FrameIncrementPointer = 0x00181063
    ds.LossyImageCompression = "01"
    coded = []
    for number in range(FRAMES):
        file = io.BytesIO()
        Image.fromarray(echo(number)).save(file, "JPEG", quality=90)
        coded.append(file.getvalue())
    ds.PixelData = encapsulate(coded)
    ds["PixelData"].VR = "OB"
    return ds


def radiograph() -> Dataset:
    """A DX of 2500 x 2000, MONOCHROME1."""
    ds = common("DX-1", DigitalXRayImageStorageForPresentation, "DX", "胸部正位", ExplicitVRLittleEndian)
    picture(ds, DX_ROWS, DX_COLUMNS, 12, "MONOCHROME1")
    ds.ImagerPixelSpacing = [0.15, 0.15]
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = chest().tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def report() -> Dataset:
    """An encapsulated PDF."""
    ds = common("PDF-1", EncapsulatedPDFStorage, "DOC", "检查报告", ExplicitVRLittleEndian)
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "检查报告"
    ds.EncapsulatedDocument = PDF + b"\0" * (len(PDF) % 2)
    ds.BurnedInAnnotation, ds.ConceptNameCodeSequence = "YES", []
    return ds


def prior() -> Iterator[Dataset]:
    """An earlier CT of the phantom's patient."""
    for ds in ct_series("Zhang^San=张^三", 5):
        ds.StudyDate, ds.StudyDescription, ds.AccessionNumber = "20250301", "体模 CT 前次", "A0"
        yield ds
