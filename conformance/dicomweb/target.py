"""The service under test, and what it is asked about."""

from dataclasses import dataclass, field
from email.parser import BytesParser
from io import BytesIO
from uuid import uuid4

import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

TIMEOUT_S = 60


class Unmet(Exception):
    """A requirement that the service does not meet; the message says what was seen."""


def expect(holds: bool, seen: object) -> None:
    """Raise Unmet with what was seen unless it holds."""
    if not holds:
        raise Unmet(str(seen)[:300])


def new_uid() -> str:
    """A UID nobody else has (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


@dataclass
class Target:
    """A service by its base URL, and the objects of this run."""

    url: str
    token: str = ""
    study: str = field(default_factory=new_uid)
    series: str = field(default_factory=new_uid)
    instances: tuple[str, str] = field(default_factory=lambda: (new_uid(), new_uid()))
    frames_series: str = field(default_factory=new_uid)
    frames_instance: str = field(default_factory=new_uid)
    document_series: str = field(default_factory=new_uid)
    document_instance: str = field(default_factory=new_uid)
    presentation_series: str = field(default_factory=new_uid)
    presentation_instance: str = field(default_factory=new_uid)
    report_series: str = field(default_factory=new_uid)
    report_instance: str = field(default_factory=new_uid)
    waveform_series: str = field(default_factory=new_uid)
    waveform_instance: str = field(default_factory=new_uid)
    protocol_instance: str = field(default_factory=new_uid)
    palette_instance: str = field(default_factory=new_uid)
    workitem: str = field(default_factory=new_uid)
    transaction: str = field(default_factory=new_uid)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.patient_id = f"CHECK-{self.study[-8:]}"
        self.accession_number = self.study[-12:]
        self.protocol_name = f"CHECK{self.study[-10:]}"
        self.session = requests.Session()
        self.session.trust_env = False
        if self.token:
            self.session.headers["Authorization"] = f"Bearer {self.token}"

    def ask(self, method: str, path: str, accept: str = "*/*", **more: object) -> requests.Response:
        """One request below the base URL."""
        headers = {"Accept": accept, **more.pop("headers", {})}  # type: ignore[dict-item]
        url = path if path.startswith("http") else self.url + path
        return self.session.request(method, url, headers=headers, timeout=TIMEOUT_S, **more)  # type: ignore[arg-type]

    def get(self, path: str, accept: str = "*/*", **headers: str) -> requests.Response:
        """GET; underscores in header names stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", path, accept, headers=named)

    def of(self, instance: str) -> str:
        """The path of an instance of this run."""
        series = {self.frames_instance: self.frames_series, self.document_instance: self.document_series}
        return f"/studies/{self.study}/series/{series.get(instance, self.series)}/instances/{instance}"

    @property
    def slice_path(self) -> str:
        """The path of the first slice."""
        return self.of(self.instances[0])

    @property
    def frames_path(self) -> str:
        """The path of the multi-frame image."""
        return self.of(self.frames_instance)


def parts_of(answer: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a multipart answer: headers in lower case, and content. Raises Unmet."""
    content_type = answer.headers.get("Content-Type", "")
    expect(content_type.startswith("multipart/related"), f"Content-Type {content_type}")
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + answer.content)
    expect(message.is_multipart(), "a body that is not multipart")
    found = []
    for part in message.walk():
        if part is not message:
            payload = part.get_payload(decode=True)
            headers = {name.lower(): str(value) for name, value in part.items()}
            found.append((headers, payload if isinstance(payload, bytes) else b""))
    return found


PIXELS = bytes(at * 7 % 256 if at % 2 == 0 else at % 16 for at in range(512))  # 16 x 16, 12 bits


def _common(target: Target, series: str, instance: str, sop_class: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, instance
    ds.StudyInstanceUID, ds.SeriesInstanceUID = target.study, series
    ds.PatientName, ds.PatientID = "Check^Web=查^网", target.patient_id
    ds.PatientBirthDate, ds.PatientSex = "19800102", "O"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20240229", "101112", "1"
    ds.AccessionNumber, ds.ReferringPhysicianName = target.accession_number, "Doe^Ref"
    ds.PatientComments, ds.OperatorsName = "of the study", "Check^Series"
    ds.StudyDescription, ds.Modality, ds.SeriesNumber = "胸部 check", modality, 1
    return ds


def _image(ds: Dataset, rows: int, number: int, pixels: bytes) -> Dataset:
    ds.InstanceNumber = number
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = rows, 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = pixels
    return ds


def objects(target: Target) -> list[bytes]:
    """The study of this run as Part 10 files: two slices, an image of three frames, a PDF."""
    made = []
    for number, instance in enumerate(target.instances, 1):
        ds = _common(target, target.series, instance, "1.2.840.10008.5.1.4.1.1.2", "CT")
        made.append(_image(ds, 16, number, PIXELS[number:] + PIXELS[:number]))
    ds = _common(target, target.frames_series, target.frames_instance, "1.2.840.10008.5.1.4.1.1.7.3", "OT")
    ds.NumberOfFrames, ds.SeriesNumber = 3, 2
    made.append(_image(ds, 16, 1, PIXELS + PIXELS[::-1] + PIXELS))
    ds = _common(
        target, target.document_series, target.document_instance, "1.2.840.10008.5.1.4.1.1.104.1", "DOC"
    )
    ds.SeriesNumber, ds.InstanceNumber, ds.MIMETypeOfEncapsulatedDocument = 3, 1, "application/pdf"
    ds.EncapsulatedDocument = b"%PDF-1.4\n%%EOF\n" * 100
    made.append(ds)
    return [_file(each) for each in made]


def presentation_state(target: Target) -> bytes:
    """A Grayscale Softcopy Presentation State of the first slice, with a window of its own."""
    state = "1.2.840.10008.5.1.4.1.1.11.1"
    ds = _common(target, target.presentation_series, target.presentation_instance, state, "PR")
    image, series, window, area = Dataset(), Dataset(), Dataset(), Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.ReferencedSOPInstanceUID = target.instances[0]
    series.SeriesInstanceUID, series.ReferencedImageSequence = target.series, [image]
    window.WindowCenter, window.WindowWidth = 300, 10
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [1, 1], [16, 16]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    ds.SeriesNumber, ds.InstanceNumber = 4, 1
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = "CHECK", "", "Check"
    ds.PresentationCreationDate, ds.PresentationCreationTime = "20240229", "101112"
    ds.ReferencedSeriesSequence, ds.SoftcopyVOILUTSequence = [series], [window]
    ds.DisplayedAreaSelectionSequence, ds.PresentationLUTShape = [area], "IDENTITY"
    return _file(ds)


def report(target: Target) -> bytes:
    """A Basic Text SR with one finding."""
    basic_text = "1.2.840.10008.5.1.4.1.1.88.11"
    ds = _common(target, target.report_series, target.report_instance, basic_text, "SR")
    title, name, finding = Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "18748-4", "LN", "Imaging report"
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121071", "DCM", "Finding"
    finding.RelationshipType, finding.ValueType, finding.TextValue = "CONTAINS", "TEXT", "No check finding"
    finding.ConceptNameCodeSequence = [name]
    ds.SeriesNumber, ds.InstanceNumber = 6, 1
    ds.ContentDate, ds.ContentTime = "20240229", "101112"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ReferencedPerformedProcedureStepSequence, ds.PerformedProcedureCodeSequence = [], []
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence, ds.ContentSequence = [title], [finding]
    return _file(ds)


def waveform(target: Target) -> bytes:
    """A General ECG of one lead and one second."""
    general_ecg = "1.2.840.10008.5.1.4.1.1.9.1.2"
    ds = _common(target, target.waveform_series, target.waveform_instance, general_ecg, "ECG")
    lead, units, channel, group = Dataset(), Dataset(), Dataset(), Dataset()
    lead.CodeValue, lead.CodingSchemeDesignator, lead.CodeMeaning = "2:1", "MDC", "Lead I"
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = "uV", "UCUM", "microvolt"
    channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [lead], [units]
    channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = "2.5", "1"
    channel.ChannelBaseline, channel.WaveformBitsStored = "0", 16
    channel.ChannelSampleSkew = "0"
    group.WaveformOriginality, group.NumberOfWaveformChannels = "ORIGINAL", 1
    group.NumberOfWaveformSamples, group.SamplingFrequency = 256, "256"
    group.ChannelDefinitionSequence, group.WaveformBitsAllocated = [channel], 16
    group.WaveformSampleInterpretation = "SS"
    group.add_new("WaveformData", "OW", PIXELS)
    ds.SeriesNumber, ds.InstanceNumber = 5, 1
    ds.ContentDate, ds.ContentTime, ds.AcquisitionDateTime = "20240229", "101112", "20240229101112"
    ds.WaveformSequence, ds.AcquisitionContextSequence = [group], []
    return _file(ds)


def non_patient_objects(target: Target) -> dict[str, bytes]:
    """By category: objects of this run that no patient has."""
    protocol, definition, palette = Dataset(), Dataset(), Dataset()
    definition.Modality = "CT"
    protocol.SOPClassUID = "1.2.840.10008.5.1.4.38.1"
    protocol.SOPInstanceUID = target.protocol_instance
    protocol.HangingProtocolName, protocol.HangingProtocolDescription = target.protocol_name, "check"
    protocol.HangingProtocolLevel, protocol.HangingProtocolCreator = "SITE", "check"
    protocol.HangingProtocolCreationDateTime = "20240229101112"
    protocol.HangingProtocolDefinitionSequence = [definition]
    protocol.NumberOfPriorsReferenced, protocol.NumberOfScreens = 0, 1
    palette.SOPClassUID, palette.SOPInstanceUID = "1.2.840.10008.5.1.4.39.1", target.palette_instance
    palette.ContentLabel, palette.ContentDescription, palette.ContentCreatorName = "CHECK", "", "Check"
    for color in ("Red", "Green", "Blue"):
        setattr(palette, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{color}PaletteColorLookupTableData", bytes(512))
    return {"hanging-protocols": _file(protocol), "color-palettes": _file(palette)}


def _file(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def body_of(contents: list[bytes], media_type: str = "application/dicom") -> tuple[bytes, str]:
    """A multipart body, and its Content-Type."""
    boundary = uuid4().hex
    parts = b"".join(
        f"--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode() + content + b"\r\n"
        for content in contents
    )
    return (
        parts + f"--{boundary}--\r\n".encode(),
        f'multipart/related; type="{media_type}"; boundary={boundary}',
    )
