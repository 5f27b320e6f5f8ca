"""Storing metadata and bulk data apart (PS3.18 10.5.1, 8.6.1.2.2): JSON or XML parts, and the values that
they refer to, become Part 10 objects.

The metadata comes first, then the bulk data by their Content-Location. Pixel data may be compressed: its
part says by media type and transfer syntax how; several parts of one location are the frames in order.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from archive.image_pixel import PIXELS
from archive.transcode import EXPLICIT_LITTLE, UNCOMPRESSED
from dicomweb.media_types import DICOM_JSON, DICOM_XML, OCTETS, parse_accept
from dicomweb.multipart import PIECE, Part
from dicomweb.native_xml import from_xml
from dicomweb.transfer_syntaxes import DEFAULT_SYNTAX, frame_media_type
from kernel.errors import CloudfilmError, Kind

MOST_BYTES = 1 << 30  # of one request: it is put together in memory
JSON_TYPES = (DICOM_JSON, "application/json")


class InvalidMetadata(CloudfilmError):
    """Metadata parts that make no object."""

    kind = Kind.INVALID


class MetadataTooLarge(CloudfilmError):
    """Metadata with more bulk data than is put together in memory."""

    kind = Kind.TOO_LARGE

    def __init__(self) -> None:
        super().__init__('Send objects this large as multipart/related; type="application/dicom".')


@dataclass(slots=True)
class _Bulk:
    """The parts of one location."""

    transfer_syntax: str = ""
    values: list[bytes] = field(default_factory=list)


def objects_of(parts: Iterator[Part]) -> Iterator[bytes]:
    """The Part 10 objects that metadata and bulk data parts make. Raises InvalidMetadata."""
    documents: list[dict[str, Any]] = []
    bulk: dict[str, _Bulk] = {}
    left = MOST_BYTES
    for part in parts:
        content = bytearray()
        while piece := part.read(PIECE):
            content += piece
            left -= len(piece)
            if left < 0:
                raise MetadataTooLarge
        ranges = parse_accept(part.headers.get("content-type", OCTETS))
        media_type = ranges[0].type if ranges else OCTETS
        if media_type in JSON_TYPES:
            documents.extend(_from_json(bytes(content)))
        elif media_type == DICOM_XML:
            documents.append(from_xml(bytes(content)))
        else:
            location = part.headers.get("content-location", "")
            if not location:
                raise InvalidMetadata("A bulk data part has no Content-Location.")
            held = bulk.setdefault(location, _Bulk())
            named = ranges[0].parameters.get("transfer-syntax", "") if ranges else ""
            held.transfer_syntax = named or DEFAULT_SYNTAX.get(media_type, "")
            if held.transfer_syntax and frame_media_type(held.transfer_syntax) not in (media_type, OCTETS):
                raise InvalidMetadata("A bulk data part's media type and transfer syntax disagree.")
            held.values.append(bytes(content))
    if not documents:
        raise InvalidMetadata("The body has no metadata part.")
    for document in documents:
        yield part10_of(document, bulk)


def _from_json(content: bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidMetadata("A metadata part is no JSON.") from None
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(each, dict) for each in listed):
        raise InvalidMetadata("A metadata part is not an array of objects.")
    return listed


def part10_of(document: dict[str, Any], bulk: dict[str, _Bulk]) -> bytes:
    """One object as a file. Raises InvalidMetadata."""
    syntax = EXPLICIT_LITTLE
    uri = document.get(PIXELS, {}).get("BulkDataURI") if isinstance(document.get(PIXELS), dict) else None
    frames: list[bytes] | None = None
    if uri is not None:
        held = _held(bulk, str(uri))
        if held.transfer_syntax and held.transfer_syntax not in UNCOMPRESSED:
            syntax, frames = held.transfer_syntax, held.values
    plain = {
        tag: value
        for tag, value in document.items()
        if not tag.startswith("0002") and (tag != PIXELS or frames is None)
    }
    try:
        dataset = Dataset.from_json(plain, lambda _tag, _vr, location: b"".join(_held(bulk, location).values))
        if frames is not None:
            dataset.add_new(0x7FE00010, "OB", encapsulate(frames))
            dataset["PixelData"].is_undefined_length = True
        return _file(dataset, syntax)
    except InvalidMetadata:
        raise
    except Exception as failure:  # pydicom raises whatever a wrong value leads it to
        raise InvalidMetadata("A metadata part holds values that are not of their VR.") from failure


def _held(bulk: dict[str, _Bulk], location: str) -> _Bulk:
    found = bulk.get(location)
    if found is None:
        raise InvalidMetadata("A BulkDataURI names no part of the body.")
    return found


def _file(dataset: Dataset, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", UID("1.2"))
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", UID("1.2"))
    dataset.file_meta = meta
    dataset.SpecificCharacterSet = "ISO_IR 192"  # what was JSON or XML is Unicode
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
