"""A DICOMDIR for files that leave on media or in an archive file (PS3.3 F, PS3.10 8, PS3.11 D).

Records are written one after the other with offsets that are computed beforehand, so nothing is seen twice.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from archive.image_pixel import Attributes
from kernel.clock import new_uid

NEXT, IN_USE, LOWER = 0x00041400, 0x00041410, 0x00041420
FIRST_RECORD, LAST_RECORD = 0x00041200, 0x00041202
ITEM = struct.Struct("<HHI")

RECORD_TYPES = {  # PS3.3 table F.4-1, by SOP class; what is not here is an IMAGE when it has pixels
    "1.2.840.10008.5.1.4.1.1.11": "PRESENTATION",
    "1.2.840.10008.5.1.4.1.1.88": "SR DOCUMENT",
    "1.2.840.10008.5.1.4.1.1.88.59": "KEY OBJECT DOC",
    "1.2.840.10008.5.1.4.1.1.104": "ENCAP DOC",
    "1.2.840.10008.5.1.4.1.1.9": "WAVEFORM",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT DOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT STRUCTURE SET",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT PLAN",
    "1.2.840.10008.5.1.4.1.1.66": "RAW DATA",
    "1.2.840.10008.5.1.4.1.1.66.1": "REGISTRATION",
}

KEYS = {  # attributes that a record carries (PS3.3 F.5)
    "PATIENT": ("00100010", "00100020", "00100030", "00100040"),
    "STUDY": ("00080020", "00080030", "00080050", "00081030", "0020000D", "00200010"),
    "SERIES": ("00080060", "0020000E", "00200011", "0008103E"),
    "": ("00080008", "00200013", "00280010", "00280011", "00280008", "00080023", "00080033", "00700080",
         "00700081", "00700082", "00700083", "00700084", "0040A491", "0040A493", "0040A043", "00420010",
         "00420012"),
}  # fmt: skip


@dataclass(slots=True)
class _Record:
    dataset: Dataset
    children: list["_Record"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file of the set: its name as components (`DICOM`, `00000001`) and what it is."""

    components: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attributes: Attributes  # the DICOM JSON model


def record_type(sop_class_uid: str, has_pixels: bool) -> str:
    """The Directory Record Type (0004,1430) of an object."""
    if has_pixels:
        return RECORD_TYPES.get(sop_class_uid, "IMAGE")
    for prefix in (sop_class_uid, sop_class_uid.rpartition(".")[0]):
        if prefix in RECORD_TYPES:
            return RECORD_TYPES[prefix]
    return "RAW DATA"


def make_dicomdir(files: Iterable[MediaFile], file_set_id: str = "CLOUDFILM") -> bytes:
    """The DICOMDIR of files that come grouped by study and series, as a Part 10 file."""
    roots: list[_Record] = []
    at: dict[tuple[str, ...], _Record] = {}
    for file in files:
        patient = _text(file.attributes, "00100020") + "\n" + _text(file.attributes, "00100010")
        study, series = _text(file.attributes, "0020000D"), _text(file.attributes, "0020000E")
        siblings, path = roots, tuple[str, ...]()
        for kind, name in (("PATIENT", patient), ("STUDY", study), ("SERIES", series)):
            path += (name,)
            if path not in at:
                at[path] = _Record(_keys(file.attributes, kind, KEYS[kind]))
                siblings.append(at[path])
            siblings = at[path].children
        siblings.append(_Record(_file_record(file)))
    return _written(roots, file_set_id)


def _text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _keys(attributes: Attributes, kind: str, tags: tuple[str, ...]) -> Dataset:
    found: dict[str, Any] = {tag: attributes[tag] for tag in tags if tag in attributes}
    record = Dataset.from_json(found)
    record.SpecificCharacterSet = "ISO_IR 192"
    record.DirectoryRecordType = kind
    record.add_new(NEXT, "UL", 0)
    record.add_new(IN_USE, "US", 0xFFFF)
    record.add_new(LOWER, "UL", 0)
    if kind == "PATIENT":
        record.setdefault("PatientName", "")
        record.setdefault("PatientID", "")
    for name in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber") if kind == "STUDY" else ():
        if name not in record:
            setattr(record, name, "")
    return record


def _file_record(file: MediaFile) -> Dataset:
    has_pixels = "7FE00010" in file.attributes
    record = _keys(file.attributes, record_type(file.sop_class_uid, has_pixels), KEYS[""])
    record.ReferencedFileID = list(file.components)
    record.ReferencedSOPClassUIDInFile = file.sop_class_uid
    record.ReferencedSOPInstanceUIDInFile = file.sop_instance_uid
    record.ReferencedTransferSyntaxUIDInFile = file.transfer_syntax_uid
    return record


def _written(roots: list[_Record], file_set_id: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = new_uid()  # type: ignore[assignment]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = DicomBytesIO()
    head.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(head, meta)
    top = Dataset()
    top.FileSetID = file_set_id
    top.add_new(FIRST_RECORD, "UL", 0)
    top.add_new(LAST_RECORD, "UL", 0)
    top.FileSetConsistencyFlag = 0
    before = len(head.getvalue()) + len(_encoded(top)) + 12  # and the sequence's own head
    offsets: dict[int, int] = {}
    order = list(_in_order(roots))
    position = before
    for record in order:
        offsets[id(record)] = position
        position += ITEM.size + len(_encoded(record.dataset))
    _link(roots, lambda record: offsets[id(record)])
    top[FIRST_RECORD].value = offsets[id(roots[0])] if roots else 0
    top[LAST_RECORD].value = offsets[id(roots[-1])] if roots else 0
    items = b"".join(
        ITEM.pack(0xFFFE, 0xE000, len(encoded)) + encoded
        for encoded in (_encoded(record.dataset) for record in order)
    )
    sequence = struct.pack("<HH2sHI", 0x0004, 0x1220, b"SQ", 0, len(items)) + items
    return head.getvalue() + _encoded(top) + sequence


def _in_order(records: list[_Record]) -> Iterable[_Record]:
    for record in records:
        yield record
        yield from _in_order(record.children)


def _link(records: list[_Record], offset: Callable[[_Record], int]) -> None:
    for at, record in enumerate(records):
        record.dataset[NEXT].value = offset(records[at + 1]) if at + 1 < len(records) else 0
        record.dataset[LOWER].value = offset(record.children[0]) if record.children else 0
        _link(record.children, offset)


def _encoded(dataset: Dataset) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_dataset(file, dataset)
    return file.getvalue()
