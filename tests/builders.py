"""Small DICOM objects for tests: each is a whole PS3.10 file as bytes, and the same at every call."""

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.1451"


def dataset(study: int = 1, series: int = 1, instance: int = 1, **attributes: Any) -> Dataset:
    """A CT slice of 8 x 8 pixels; keywords replace attributes, None removes one."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{instance}"
    ds.StudyInstanceUID = f"{ROOT}.{study}"
    ds.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    ds.FrameOfReferenceUID = f"{ROOT}.{study}.0"
    ds.PatientName = "Zhang^Wei=张^伟"
    ds.PatientID = "P1"
    ds.PatientBirthDate = "19700115"
    ds.PatientSex = "M"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20260228"
    ds.StudyTime = "101530"
    ds.AccessionNumber = f"A{study:04d}"
    ds.StudyID = str(study)
    ds.Modality = "CT"
    ds.StudyDescription = "胸部 CT"
    ds.ReferringPhysicianName = "Wu^Gang=吴^刚"
    ds.SeriesNumber = series
    ds.InstanceNumber = instance
    ds.ImagePositionPatient = [0, 0, instance]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [1, 1]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes((instance * 31 + at * 7) % 251 if at % 2 == 0 else at % 16 for at in range(128))
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """The dataset as a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid  # type: ignore[assignment]
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", f"{ROOT}.9")
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def ct_slice(study: int = 1, series: int = 1, instance: int = 1, **attributes: Any) -> bytes:
    """A CT slice as a file."""
    return part10(dataset(study, series, instance, **attributes))
