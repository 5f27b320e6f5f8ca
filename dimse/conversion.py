"""Instances in another form than the stored one, while they are being sent: in another transfer syntax,
without their bulk data, or with some of their frames only.

Between the uncompressed syntaxes the pixels go through untouched (turned round from big endian); from a
compressed one they are decoded frame by frame, so memory does not grow with the number of frames. What was
compressed with loss keeps its UID, and its attributes say so already (PS3.3 C.7.6.1.1.5): decoding adds none.

Standards: PS3.5 8 and annex A, PS3.4 B.4.1, Y.3.3 and Z.1.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from archive.documents import parse_marked
from archive.header import BIG_ENDIAN, DEFLATED
from archive.image_pixel import image_pixel_of
from archive.retrieve import (
    NotFound,
    StoredInstance,
    find_bulk,
    frame_bytes,
    instance_document,
    value_bytes,
)
from archive.room import Archive
from archive.transcode import CODECS, decode_frame, encode_frame
from kernel.errors import CloudfilmError, Kind

PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
UNCOMPRESSED = frozenset({*PLAIN, *DEFLATED, BIG_ENDIAN})
PIXEL_DATA = 0x7FE00010
PIXELS = {PIXEL_DATA: "OW", 0x7FE00008: "OF", 0x7FE00009: "OD"}
LONGEST = 0xFFFFFFFE
READ_FAULTS = (AttributeError, KeyError, NotImplementedError, OSError, TypeError, ValueError, struct.error)


class CannotConvert(CloudfilmError):
    """The instance cannot be given in another form than its own."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__("The instance cannot be given in the form that was asked for.")


def targets(transfer_syntax: str) -> tuple[str, ...]:
    """The syntaxes that an instance stored in this one can be given in, the best first."""
    if transfer_syntax in UNCOMPRESSED or transfer_syntax in CODECS:
        return tuple(syntax for syntax in PLAIN if syntax != transfer_syntax)
    return ()


def converted(archive: Archive, stored: StoredInstance, transfer_syntax: str) -> Iterator[bytes | memoryview]:
    """The data set of an instance in one of its `targets`. Raises CannotConvert or CannotDecode."""
    header = read_header_set(archive, stored)
    implicit = transfer_syntax == ImplicitVRLittleEndian
    if stored.transfer_syntax_uid in UNCOMPRESSED:
        yield encode_data_set(header, implicit)
        yield from _as_they_are(archive, stored, header, implicit)
    else:
        numbers = range(1, stored.number_of_frames + 1)
        yield from with_frames(archive, stored, header, numbers, transfer_syntax)


def read_header_set(archive: Archive, stored: StoredInstance) -> Dataset:
    """The data set without its pixels and what follows them, which is padding and signatures over the form
    that it was stored in. Raises CannotConvert."""
    try:
        with archive.blobs.open(stored.blob_key, stored.seal) as reader:
            header = dcmread(reader, stop_before_pixels=True)
            header.pop("DataSetTrailingPadding", None)
            return header
    except READ_FAULTS as failure:
        raise CannotConvert from failure


def encode_data_set(data_set: Dataset, implicit: bool) -> bytes:
    """The bytes of a data set. Raises CannotConvert for values that cannot be written."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, implicit
    try:
        write_dataset(file, data_set)
    except READ_FAULTS as failure:
        raise CannotConvert from failure
    return bytes(file.getvalue())


def with_frames(
    archive: Archive, stored: StoredInstance, header: Dataset, numbers: Sequence[int], transfer_syntax: str
) -> Iterator[bytes | memoryview]:
    """A data set of this header and some of the instance's frames, encapsulated as they are stored when that
    is what is asked for, and decoded if not. Raises CannotConvert or CannotDecode."""
    implicit = transfer_syntax == ImplicitVRLittleEndian
    if not numbers:
        yield encode_data_set(header, implicit)
        return
    if transfer_syntax == stored.transfer_syntax_uid and transfer_syntax not in UNCOMPRESSED:
        yield encode_data_set(header, False)
        yield from _encapsulated(frame_bytes(archive, stored, number) for number in numbers)
        return
    frames: Iterator[bytes]
    if stored.transfer_syntax_uid in UNCOMPRESSED:
        value = _pixels_of(archive, stored)
        if value is None:
            raise CannotConvert
        big = stored.transfer_syntax_uid == BIG_ENDIAN
        tag, width = value.tag, _word_bytes(value, header) if big else 1
        frames = (_turned(frame_bytes(archive, stored, number), width) for number in numbers)
    else:
        tag, frames = PIXEL_DATA, _decoded(archive, stored, header, numbers)
    first = next(frames)  # only then does the header say what decoded pixels are like
    length = len(first) * len(numbers)
    yield encode_data_set(header, implicit)
    yield _value_header(tag, _pixel_vr(tag, header), length + length % 2, implicit)
    yield first
    for frame in frames:
        if len(frame) != len(first):
            raise CannotConvert
        yield frame
    yield bytes(length % 2)


def _decoded(
    archive: Archive, stored: StoredInstance, header: Dataset, numbers: Sequence[int]
) -> Iterator[bytes]:
    pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
    for number in numbers:
        frame = decode_frame(frame_bytes(archive, stored, number), pixel, stored.transfer_syntax_uid)
        native = encode_frame(frame, str(ExplicitVRLittleEndian))
        if number == numbers[0]:
            header.PhotometricInterpretation = native.pixel.photometric
            header.HighBit = native.pixel.high_bit
            if native.pixel.is_color:
                header.PlanarConfiguration = int(native.pixel.planar)
        yield native.data


@dataclass(frozen=True, slots=True)
class _PixelValue:
    """The value of the pixel data in the object."""

    tag: int
    vr: str
    offset: int
    length: int


def _pixels_of(archive: Archive, stored: StoredInstance) -> _PixelValue | None:
    for tag in PIXELS:
        try:
            value = find_bulk(archive, stored, f"{tag:08X}")
        except NotFound:
            continue
        return _PixelValue(tag, value.vr, value.offset, value.length)
    return None


def _as_they_are(
    archive: Archive, stored: StoredInstance, header: Dataset, implicit: bool
) -> Iterator[bytes | memoryview]:
    value = _pixels_of(archive, stored)
    if value is None:
        return
    yield _value_header(value.tag, _pixel_vr(value.tag, header), value.length + value.length % 2, implicit)
    width = _word_bytes(value, header) if stored.transfer_syntax_uid == BIG_ENDIAN else 1
    left = b""
    for piece in value_bytes(archive, stored, value.offset, value.length):
        if width == 1:
            yield piece
        else:
            joined = left + bytes(piece)
            whole = len(joined) // width * width
            left = joined[whole:]
            yield _turned(joined[:whole], width)
    yield left + bytes(value.length % 2)


def _word_bytes(value: _PixelValue, header: Dataset) -> int:
    """How wide the words are that big endian turns round (PS3.5 8.1.1: OW has words of 16 bits even for
    pixels of 8)."""
    allocated = int(header.get("BitsAllocated", 16)) // 8
    return {"OB": 1, "OF": 4, "OD": 8}.get(value.vr, max(2, allocated))


def _turned(data: bytes, width: int) -> bytes:
    if width == 1:
        return data
    return np.frombuffer(data[: len(data) // width * width], f">u{width}").byteswap().tobytes()


def _pixel_vr(tag: int, header: Dataset) -> str:
    """OB for pixels of up to 8 bits, OW beyond (PS3.5 A.2); floats have their own."""
    return "OB" if tag == PIXEL_DATA and int(header.get("BitsAllocated", 16)) <= 8 else PIXELS[tag]


def _value_header(tag: int, vr: str, length: int, implicit: bool) -> bytes:
    if length > LONGEST:
        raise CannotConvert
    group, element = tag >> 16, tag & 0xFFFF
    if implicit:
        return struct.pack("<HHI", group, element, length)
    return struct.pack("<HH2sHI", group, element, vr.encode(), 0, length)


ITEM = struct.Struct("<HHI")


def _encapsulated(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Encapsulated pixel data with an empty offset table, a fragment for each frame (PS3.5 A.4)."""
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + ITEM.pack(0xFFFE, 0xE000, 0)
    for frame in frames:
        yield ITEM.pack(0xFFFE, 0xE000, len(frame) + len(frame) % 2)
        yield frame + bytes(len(frame) % 2)
    yield ITEM.pack(0xFFFE, 0xE0DD, 0)
