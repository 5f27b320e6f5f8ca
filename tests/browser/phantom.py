"""A CT series made for looking at: each slice has shapes that no flip and no other slice resembles."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIDE = 256
WINDOW_CENTER, WINDOW_WIDTH = 40.0, 400.0
INTERCEPT = -1024


def hounsfield(number: int) -> NDArray[np.float64]:
    """The slice's true values: a body with a ramp, a lung, a bone, a marker that moves with the number."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    image = np.full((SIDE, SIDE), -1000.0)
    body = ((x - 128) / 100) ** 2 + ((y - 140) / 80) ** 2 < 1
    image[body] = 40 + (x[body] - 128) * 0.8
    image[((x - 80) / 25) ** 2 + ((y - 130) / 40) ** 2 < 1] = -800
    image[(x - 128) ** 2 + (y - 195) ** 2 < 18**2] = 700
    image[(np.abs(x - 160 - 6 * number) < 12) & (np.abs(y - 110) < 12)] = 220
    return image


def windowed(number: int) -> NDArray[np.float64]:
    """The slice as a screen shows it: grey levels 0 to 255 by its window (PS3.3 C.11.2.1.2)."""
    scaled = (hounsfield(number) - (WINDOW_CENTER - 0.5)) / (WINDOW_WIDTH - 1) + 0.5
    return np.clip(scaled, 0, 1) * 255


def ct_series(patient_name: str, slices: int = 5) -> Iterator[Dataset]:
    """The series as objects ready to be written, first slice first."""
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    for number in range(1, slices + 1):
        yield _ct_slice(patient_name, study, series, frame_of_reference, number)


def _ct_slice(patient_name: str, study: str, series: str, frame_of_reference: str, number: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "GB18030"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.FrameOfReferenceUID = frame_of_reference
    image.PatientName, image.PatientID = patient_name, "PHANTOM-1"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyDate, image.StudyTime, image.StudyID = "20260301", "083000", "1"
    image.AccessionNumber, image.ReferringPhysicianName = "A1", ""
    image.StudyDescription, image.SeriesDescription = "体模 CT", "轴位"
    image.Modality, image.Manufacturer, image.SeriesNumber = "CT", "cloudfilm", 1
    image.InstanceNumber, image.ImageType = number, ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PositionReferenceIndicator, image.KVP, image.AcquisitionNumber = "", 120, 1
    image.ImagePositionPatient = [-128, -128, -5.0 * number]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [1, 1], 5
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = SIDE
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = INTERCEPT, 1, "HU"
    image.WindowCenter, image.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    image.PixelData = (hounsfield(number) - INTERCEPT).round().astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    return image
