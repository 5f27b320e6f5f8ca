"""Two examinations made for the light viewer: shapes of known size, and objects that speak of images."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tests.browser.phantom import ct_series

ROW_MM, COLUMN_MM = 0.75, 0.5
SLICES = 5
LENGTH_MM = 12.5  # that the structured report measured

# The sphere of the volume: 48 x 48 pixels of 3 mm, 32 slices of 4 mm.
VOLUME_SIDE, VOLUME_SLICES, VOLUME_MM, VOLUME_STEP_MM = 48, 32, 3.0, 4.0
SPHERE_MM = 36.0  # its radius
SPHERE_AT = (72.0, 60.0, 64.0)  # its middle, from the first voxel's


@dataclass
class Examinations:
    """The objects, and the addresses that tests need."""

    objects: list[Dataset] = field(default_factory=list)
    study: str = ""
    prior: str = ""
    axial: list[str] = field(default_factory=list)  # SOP Instance UIDs of its slices
    radiograph: Dataset = field(default_factory=Dataset)
    shuttered: Dataset = field(default_factory=Dataset)  # the presentation state of the radiograph


def examinations() -> Examinations:
    """One of today with everything, and an earlier one to compare with."""
    made = Examinations()
    axial = list(_axial())
    made.study = str(axial[0].StudyInstanceUID)
    made.axial = [str(each.SOPInstanceUID) for each in axial]
    series = [*_volume(axial[0]), *_placed(axial[0], 4, "不等距", (0, 2, 4, 8, 10, 13, 15, 18), 0.0),
              *_placed(axial[0], 5, "机架倾斜", (0, 3, 6, 9, 12, 15), 0.4)]  # fmt: skip
    made.radiograph = _radiograph(axial[0])
    made.shuttered = _shuttered(made.radiograph)
    others = [
        _without_spacing(axial[0]), _padded_mr(axial[0]), made.radiograph, _ultrasound(axial[0]),
        _key_object(axial), _presentation_state(axial), made.shuttered, _structured_report(axial),
    ]  # fmt: skip
    prior = list(_prior(axial[0]))
    made.prior = str(prior[0].StudyInstanceUID)
    for image in axial:
        image.compress(RLELossless, generate_instance_uid=False)
    made.objects = [*axial, *series, *others, *prior]
    return made


def _axial() -> Iterator[Dataset]:
    for image in ct_series("Zhang^Wei=张^伟", SLICES):
        image.PixelSpacing = [ROW_MM, COLUMN_MM]
        yield image


def _in_study(of: Dataset, sop_class: str, modality: str, number: int, description: str) -> Dataset:
    """Another object of the same study."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in (
        "SpecificCharacterSet", "StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate",
        "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
        "ReferringPhysicianName", "StudyDescription",
    ):  # fmt: skip
        setattr(made, keyword, getattr(of, keyword))
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    made.Modality, made.SeriesNumber, made.SeriesDescription = modality, number, description
    made.Manufacturer, made.InstanceNumber = "cloudfilm", 1
    return made


def _pixels(made: Dataset, values: NDArray[Any], stored: int = 16, signed: bool = False) -> Dataset:
    allocated = 8 if values.dtype.itemsize == 1 else 16
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = values.shape[-2:]
    made.BitsAllocated, made.BitsStored, made.HighBit = allocated, stored, stored - 1
    made.PixelRepresentation = int(signed)
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return made


def _without_spacing(of: Dataset) -> Dataset:
    made = deepcopy(of)
    made.SOPInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.SeriesNumber, made.SeriesDescription = 2, "无刻度"
    del made.PixelSpacing
    return made


def sphere_slice(number: int) -> NDArray[np.int16]:
    """Hounsfield units of the volume: bone in air."""
    y, x = np.mgrid[0:VOLUME_SIDE, 0:VOLUME_SIDE] * VOLUME_MM
    away = (x - SPHERE_AT[0]) ** 2 + (y - SPHERE_AT[1]) ** 2 + (number * VOLUME_STEP_MM - SPHERE_AT[2]) ** 2
    return np.where(away < SPHERE_MM**2, 700, -1000).astype("<i2")


def _volume(of: Dataset) -> Iterator[Dataset]:
    series, reference = generate_uid(), generate_uid()
    for number in range(VOLUME_SLICES):
        made = _in_study(of, str(of.SOPClassUID), "CT", 3, "球体")
        made.SeriesInstanceUID, made.FrameOfReferenceUID = series, reference
        made.InstanceNumber, made.PixelSpacing = number + 1, [VOLUME_MM, VOLUME_MM]
        made.ImagePositionPatient = [-72.0, -72.0, number * VOLUME_STEP_MM]
        made.ImageOrientationPatient, made.SliceThickness = [1, 0, 0, 0, 1, 0], VOLUME_STEP_MM
        made.RescaleIntercept, made.RescaleSlope, made.WindowCenter, made.WindowWidth = 0, 1, 40, 400
        yield _pixels(made, sphere_slice(number), 16, signed=True)


def _placed(of: Dataset, number: int, name: str, places: tuple[float, ...], tilt: float) -> Iterator[Dataset]:
    """Slices at these places, each shifted by so much of its place."""
    series, reference = generate_uid(), generate_uid()
    for at, place in enumerate(places):
        made = _in_study(of, str(of.SOPClassUID), "CT", number, name)
        made.SeriesInstanceUID, made.FrameOfReferenceUID = series, reference
        made.InstanceNumber, made.PixelSpacing = at + 1, [2, 2]
        made.ImagePositionPatient = [0.0, tilt * place, float(place)]
        made.ImageOrientationPatient, made.SliceThickness = [1, 0, 0, 0, 1, 0], 2
        made.RescaleIntercept, made.RescaleSlope, made.WindowCenter, made.WindowWidth = 0, 1, 40, 400
        values = np.full((24, 24), -1000, "<i2")
        values[6:18, 6:18] = round(place * 10)
        yield _pixels(made, values, 16, signed=True)


def _padded_mr(of: Dataset) -> Dataset:
    """Without a window, its values from 100 to 227; around them what the scanner never saw."""
    made = _in_study(of, MRImageStorage, "MR", 6, "填充")
    made.PixelPaddingValue, made.PixelSpacing = -2000, [1, 1]
    made["PixelPaddingValue"].VR = "SS"
    values = np.full((128, 128), -2000, "<i2")
    values[32:96, :] = np.arange(128, dtype="<i2")[None, :] + 100
    return _pixels(made, values, 16, signed=True)


def _radiograph(of: Dataset) -> Dataset:
    made = _in_study(of, DigitalXRayImageStorageForPresentation, "DX", 7, "胸片")
    made.ImagerPixelSpacing, made.WindowCenter, made.WindowWidth = [0.2, 0.2], 2048, 4096
    values = np.tile(np.linspace(0, 4095, 160).astype("<u2"), (200, 1))
    values[60:80, 100:120] = 0  # so that up is not down
    return _pixels(made, values, 12)


def _shuttered(image: Dataset) -> Dataset:
    """The radiograph turned, then flipped, cut out, covered around two shapes, inverted, and drawn upon."""
    made = _in_study(image, GrayscaleSoftcopyPresentationStateStorage, "PR", 23, "遮挡")
    made.ContentLabel = "SHUTTER"
    series = Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([_reference(image)])
    made.ReferencedSeriesSequence = Sequence([series])
    made.ImageRotation, made.ImageHorizontalFlip = 90, "Y"
    made.ShutterShape, made.ShutterPresentationValue = ["RECTANGULAR", "CIRCULAR"], 0x4000
    made.ShutterLeftVerticalEdge, made.ShutterRightVerticalEdge = 31, 150
    made.ShutterUpperHorizontalEdge, made.ShutterLowerHorizontalEdge = 21, 140
    made.CenterOfCircularShutter, made.RadiusOfCircularShutter = [90, 90], 70
    area, window, graphic, annotation = Dataset(), Dataset(), Dataset(), Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [11, 6], [155, 165]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    made.DisplayedAreaSelectionSequence = Sequence([area])
    window.WindowCenter, window.WindowWidth = 2000, 3000
    made.SoftcopyVOILUTSequence = Sequence([window])
    made.PresentationLUTShape = "INVERSE"
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions, graphic.GraphicType = "PIXEL", 2, "POLYLINE"
    graphic.NumberOfGraphicPoints, graphic.GraphicFilled = 5, "Y"
    graphic.GraphicData = [60.0, 100.0, 80.0, 100.0, 80.0, 110.0, 60.0, 110.0, 60.0, 100.0]
    annotation.GraphicLayer, annotation.GraphicObjectSequence = "LAYER1", Sequence([graphic])
    made.GraphicAnnotationSequence = Sequence([annotation])
    return made


def _ultrasound(of: Dataset) -> Dataset:
    """Twelve frames at 20 a second; a region of 0.2 mm a pixel, and nothing known around it."""
    made = _in_study(of, UltrasoundMultiFrameImageStorage, "US", 8, "心动")
    made.NumberOfFrames, made.FrameTime, made.FrameIncrementPointer = 12, 50, 0x00181063
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 20
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 107, 107
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    made.SequenceOfUltrasoundRegions = Sequence([region])
    frames = np.zeros((12, 128, 128), np.uint8)
    for number in range(12):
        frames[number, 20:108, 20 + number * 6 : 32 + number * 6] = 200
    return _pixels(made, frames, 8)


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _content(kind: str, relation: str, name: Sequence | None = None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    if name is not None:
        item.ConceptNameCodeSequence = name
    return item


def _key_object(axial: list[Dataset]) -> Dataset:
    made = _in_study(axial[0], KeyObjectSelectionDocumentStorage, "KO", 20, "重点")
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = _code("113000", "DCM", "Of Interest")
    described = _content("TEXT", "CONTAINS", _code("113012", "DCM", "Key Object Description"))
    described.TextValue = "右上肺结节"
    pointed = _content("IMAGE", "CONTAINS")
    pointed.ReferencedSOPSequence = Sequence([_reference(axial[1])])
    made.ContentSequence = Sequence([described, pointed])
    return made


def _presentation_state(axial: list[Dataset]) -> Dataset:
    """Of slice 4: a square from 40 to 80, a word beside it, and the bone's window."""
    made = _in_study(axial[0], GrayscaleSoftcopyPresentationStateStorage, "PR", 21, "标注")
    made.ContentLabel, made.ContentDescription = "BONE", "骨窗"
    made.RescaleIntercept, made.RescaleSlope = axial[0].RescaleIntercept, axial[0].RescaleSlope
    made.RescaleType = "HU"  # a state replaces the image's own transformation (PS3.4 N.2.1)
    series = Dataset()
    series.SeriesInstanceUID = axial[0].SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([_reference(axial[3])])
    made.ReferencedSeriesSequence = Sequence([series])
    graphic, words, annotation, window = Dataset(), Dataset(), Dataset(), Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions, graphic.GraphicType = "PIXEL", 2, "POLYLINE"
    graphic.NumberOfGraphicPoints, graphic.GraphicFilled = 5, "N"
    graphic.GraphicData = [40.0, 40.0, 80.0, 40.0, 80.0, 80.0, 40.0, 80.0, 40.0, 40.0]
    words.AnchorPointAnnotationUnits, words.AnchorPoint, words.AnchorPointVisibility = (
        "PIXEL",
        [90.0, 60.0],
        "N",
    )
    words.UnformattedTextValue = "见箭头"
    annotation.ReferencedImageSequence = Sequence([_reference(axial[3])])
    annotation.GraphicLayer = "LAYER1"
    annotation.GraphicObjectSequence, annotation.TextObjectSequence = Sequence([graphic]), Sequence([words])
    made.GraphicAnnotationSequence = Sequence([annotation])
    window.WindowCenter, window.WindowWidth = 500, 2000
    made.SoftcopyVOILUTSequence = Sequence([window])
    made.PresentationLUTShape = "IDENTITY"
    return made


def _structured_report(axial: list[Dataset]) -> Dataset:
    """A length on slice 5, with where it was measured (TID 300)."""
    made = _in_study(axial[0], ComprehensiveSRStorage, "SR", 22, "测量")
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = _code("126000", "DCM", "Imaging Measurement Report")
    measured = _content("NUM", "CONTAINS", _code("410668003", "SCT", "Length"))
    value = Dataset()
    value.NumericValue = LENGTH_MM
    value.MeasurementUnitsCodeSequence = _code("mm", "UCUM", "millimeter")
    measured.MeasuredValueSequence = Sequence([value])
    drawn = _content("SCOORD", "INFERRED FROM")
    drawn.GraphicType, drawn.GraphicData = "POLYLINE", [100.0, 100.0, 125.0, 100.0]
    selected = _content("IMAGE", "SELECTED FROM")
    selected.ReferencedSOPSequence = Sequence([_reference(axial[4])])
    drawn.ContentSequence = Sequence([selected])
    measured.ContentSequence = Sequence([drawn])
    made.ContentSequence = Sequence([measured])
    return made


def _prior(of: Dataset) -> Iterator[Dataset]:
    """A year earlier: nine slices 2.5 mm apart, and the table somewhere else."""
    for image in ct_series("Zhang^Wei=张^伟", 9):
        image.StudyDate, image.StudyDescription, image.AccessionNumber = "20250301", "去年的 CT", "A0"
        image.ImagePositionPatient = [-128, -128, 900.0 - 2.5 * int(image.InstanceNumber)]
        yield image
