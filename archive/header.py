"""The header of a Part 10 object: what is indexed of it, its metadata, and where its frames lie.

Read in one pass from the sealed object, without its pixels, whatever its size. What can be mended in reading
(character sets, spellings) is mended and said; what cannot be trusted is refused with a reason.

Standards: PS3.10 7 (file format), PS3.5 (data set), PS3.3 C.12 (SOP Common).
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from archive.elements import (
    KNOWN_VRS,
    LONGEST_HEAD,
    BulkValue,
    ElementReader,
    Fragments,
    MalformedObject,
    Source,
)
from archive.frame_index import FrameIndex, group_fragments
from archive.non_patient_keys import CATEGORY_OF_CLASS
from archive.query import parse_date
from kernel.errors import CloudfilmError, Kind

WINDOW = 65536
META_HEAD = struct.Struct("<HH2sH")  # of an element of the file meta information (PS3.10 7.1)
MEDIA_CLASS_UID, MEDIA_INSTANCE_UID, TRANSFER_SYNTAX_UID = 0x0002, 0x0003, 0x0010  # its elements
META_UIDS = frozenset({MEDIA_CLASS_UID, MEDIA_INSTANCE_UID, TRANSFER_SYNTAX_UID})
INFLATED_MOST = 256 * 1024 * 1024
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95")  # of the whole data set (PS3.5 A.5, A.7)
VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
UID = re.compile(r"[0-9]{1,64}(\.[0-9]+)*")
CODESTREAM_BEGINS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0c", b"\xff\x0a")  # JPEG, J2K, JP2, JXL


class Seekable(Protocol):
    """A binary file that can be read at any offset: an open file, or a sealed object."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""
        ...

    def seek(self, offset: int, /) -> int:
        """Move to an offset."""
        ...


class NotPart10(CloudfilmError):
    """The bytes are no PS3.10 file: no preamble and prefix, or no file meta information."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is not a DICOM file: {reason}.")


class MissingAttribute(CloudfilmError):
    """An attribute without which an object cannot be kept."""

    kind = Kind.INVALID

    def __init__(self, keyword: str) -> None:
        super().__init__(f"The object has no {keyword}.")


class InvalidUid(CloudfilmError):
    """A UID that is none (PS3.5 9.1): letters, a path, more than 64 characters."""

    kind = Kind.INVALID

    def __init__(self, keyword: str) -> None:
        super().__init__(f"The object's {keyword} is not a UID.")


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an object without its pixels."""

    study_instance_uid: str  # empty: of no patient (PS3.4 GG), as archive.non_patient_keys has it
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    attributes: dict[str, Any]  # the DICOM JSON model; U+0001 in a BulkDataURI stands for the base URL
    bulk: dict[str, BulkValue]  # values that the model refers to, by path
    frames: FrameIndex
    repairs: tuple[str, ...] = ()  # what was mended in reading
    warnings: tuple[str, ...] = ()  # what is odd and was left as it is

    def text(self, tag: str) -> str:
        """The first value of an attribute as text; empty when there is none."""
        value = self._first(tag)
        if isinstance(value, dict):
            return person_name_text(value)
        return "" if value is None else str(value)

    def number(self, tag: str) -> int | None:
        """The first value as a whole number that a column holds, or None."""
        value = self._first(tag)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value if isinstance(value, int) and -(2**31) <= value < 2**31 else None

    def date(self, tag: str) -> date | None:
        """The first value as a date, or None when it is none."""
        try:
            return parse_date(self.text(tag))
        except ValueError:
            return None

    def _first(self, tag: str) -> Any:
        element = self.attributes.get(tag)
        values = element.get("Value") if element else None
        return values[0] if values else None


def person_name_text(value: dict[str, Any]) -> str:
    """A person name of the JSON model in its PS3.5 form, with `=` between component groups."""
    groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")


class _Window:
    """A stream read in pieces of some size: most elements are small and near each other."""

    def __init__(self, stream: Seekable, size: int) -> None:
        self._stream = stream
        self.size = size
        self._start = 0
        self._held = b""

    def at_hand(self, offset: int, length: int) -> tuple[bytes, int]:
        at = offset - self._start
        if at < 0 or at + length > len(self._held):
            self._stream.seek(offset)
            self._held = _exactly(self._stream, min(max(length, WINDOW), self.size - offset))
            self._start = offset
        return self._held, self._start

    def read(self, offset: int, length: int) -> bytes:
        held, start = self.at_hand(offset, length)
        return held[offset - start : offset - start + length]


def _exactly(stream: Seekable, length: int) -> bytes:
    data = stream.read(length)
    while len(data) < length:
        more = stream.read(length - len(data))
        if not more:
            raise MalformedObject("it ends too early")
        data += more
    return data


class _Inflated:
    """A deflated data set, inflated; offsets go on from those of the file before it."""

    def __init__(self, window: _Window, start: int) -> None:
        self._start = start
        self._data = inflate(window.read(start, window.size - start))
        self.size = start + len(self._data)

    def at_hand(self, offset: int, length: int) -> tuple[bytes, int]:
        return self._data, self._start

    def read(self, offset: int, length: int) -> bytes:
        at = offset - self._start
        return self._data[at : at + length]


def inflate(deflated: bytes) -> bytes:
    """A deflated data set (PS3.5 A.5), bounded. Raises MalformedObject."""
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = inflater.decompress(deflated, INFLATED_MOST)
    except zlib.error:
        raise MalformedObject("the deflated data set is damaged") from None
    if inflater.unconsumed_tail:
        raise MalformedObject("the deflated data set is too large")
    return data


def read_header(stream: Seekable, size: int) -> Header:
    """Read the header of a PS3.10 file.

    stream: seekable; size: of the whole, in bytes.
    Raises NotPart10, MalformedObject, MissingAttribute or InvalidUid.
    """
    window = _Window(stream, size)
    meta, start = _read_meta(window)
    syntax = meta.get(TRANSFER_SYNTAX_UID, "")
    if not syntax:
        raise NotPart10("the file meta information has no Transfer Syntax UID")
    source = _Inflated(window, start) if syntax in DEFLATED else window
    reader = ElementReader(source, _is_explicit(source, start, syntax), syntax != BIG_ENDIAN)
    if reader.explicit is not (syntax != IMPLICIT_LITTLE):
        reader.repairs["the value representation is coded otherwise than the transfer syntax says"] = None
    attributes = reader.dataset(start, source.size)
    instance, sop_class = (_uid(attributes, tag, keyword) for tag, keyword in SOP_COMMON_UIDS)
    category = CATEGORY_OF_CLASS.get(sop_class)
    study, series = (
        ("", "") if category else tuple(_uid(attributes, tag, keyword) for tag, keyword in PLACE_UIDS)
    )
    warnings: list[str] = []
    if (
        meta.get(MEDIA_INSTANCE_UID, instance) != instance
        or meta.get(MEDIA_CLASS_UID, sop_class) != sop_class
    ):
        warnings.append("the file meta information names another object; the data set counts")
    place = (
        f"{category.name}/{instance}" if category else f"studies/{study}/series/{series}/instances/{instance}"
    )
    base = f"\x01/{place}/bulkdata/"
    for element in reader.referring:
        element["BulkDataURI"] = base + element["BulkDataURI"]
    frames = _index(source, reader.pixels, attributes, syntax, warnings)
    return Header(
        study, series, instance, sop_class, syntax, attributes, reader.bulk, frames, tuple(reader.repairs),
        tuple(warnings),
    )  # fmt: skip


def _is_explicit(source: Source, start: int, syntax: str) -> bool:
    """Whether value representations are written out: what stands there counts, for some writers mislabel
    it."""
    if source.size - start < 8:
        return syntax != IMPLICIT_LITTLE
    return source.read(start, 8)[4:6].decode("latin_1") in KNOWN_VRS


SOP_COMMON_UIDS = (("00080018", "SOP Instance UID"), ("00080016", "SOP Class UID"))
PLACE_UIDS = (("0020000D", "Study Instance UID"), ("0020000E", "Series Instance UID"))


def _read_meta(window: _Window) -> tuple[dict[int, str], int]:
    """What the file meta information (PS3.10 7.1) says of the object, and where the data set begins."""
    if window.size < 140:
        raise NotPart10("it is too short")
    if window.read(128, 4) != b"DICM":
        raise NotPart10("it has no DICM prefix")
    at, meta = 132, dict[int, str]()
    while window.size - at >= 8:
        data, start = window.at_hand(at, min(LONGEST_HEAD, window.size - at))
        group, element, vr, length = META_HEAD.unpack_from(data, at - start)
        if group != 2:
            break
        at += 8
        if vr in (b"OB", b"UN", b"UT"):
            if window.size - at < 4:
                raise MalformedObject("it ends in the file meta information")
            length = int.from_bytes(data[at - start : at - start + 4], "little")
            at += 4
        elif not vr.isalpha() or not vr.isupper():
            raise MalformedObject("the file meta information is damaged")
        if length > window.size - at:
            raise MalformedObject("it ends in the file meta information")
        if element in META_UIDS and vr != b"OB" and length <= 256:
            meta[element] = window.read(at, length).decode("latin_1").strip(" \0")
        at += length
    return meta, at


def data_set_offset(part10: bytes) -> int:
    """Where the data set begins in a file at hand. Raises NotPart10 or MalformedObject."""
    return _read_meta(_Window(io.BytesIO(part10), len(part10)))[1]


def _uid(attributes: dict[str, Any], tag: str, keyword: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    if not values or not isinstance(values[0], str):
        raise MissingAttribute(keyword)
    if len(values[0]) > 64 or not UID.fullmatch(values[0]):
        raise InvalidUid(keyword)
    return values[0]


def _index(
    source: Source,
    pixels: BulkValue | Fragments | None,
    attributes: dict[str, Any],
    syntax: str,
    warnings: list[str],
) -> FrameIndex:
    """The frame index of the object's pixel data."""
    if pixels is None:
        return FrameIndex()
    frames = _whole(attributes, "00280008") or 1
    if isinstance(pixels, Fragments):
        if VIDEO.fullmatch(syntax):
            frames = 1
        grouped = _grouped(source, pixels, frames)
        if not grouped:
            warnings.append("the frames of the pixel data cannot be told apart")
        return FrameIndex.encapsulated(grouped) if grouped else FrameIndex()
    rows, columns = _whole(attributes, "00280010"), _whole(attributes, "00280011")
    samples, allocated = _whole(attributes, "00280002") or 1, _whole(attributes, "00280100")
    bits = rows * columns * samples * allocated
    if _first(attributes, "00280004") == "YBR_FULL_422" and pixels.length * 8 < bits * frames:
        bits = bits * 2 // 3  # two samples of chrominance for two pixels (PS3.3 C.7.6.3.1.2)
    if syntax == BIG_ENDIAN and pixels.vr == "OW" and frames == 1:
        bits += bits % 16  # octets of a word are swapped: the last one lies behind its padding
    if not bits:
        warnings.append("the image has pixel data and no size")
        return FrameIndex()
    expected = -(-bits * frames // 8)
    if not expected <= pixels.length <= expected + 1 + allocated // 8:
        warnings.append("the length of the pixel data disagrees with the image's size")
    whole = min(frames, pixels.length * 8 // bits)
    return FrameIndex.native(pixels.offset, bits, whole) if whole else FrameIndex()


def _grouped(source: Source, pixels: Fragments, frames: int) -> list[list[tuple[int, int]]]:
    fragments = pixels.fragments
    offsets: tuple[int, ...] = ()
    begins: list[bool] | None = None
    if 1 < frames < len(fragments):
        offset, length = pixels.table
        count = length // 4
        offsets = struct.unpack(f"<{count}I", source.read(offset, count * 4)) if count else ()
        if not offsets:
            begins = [source.read(at, min(4, size)).startswith(CODESTREAM_BEGINS) for at, size in fragments]
    return group_fragments(fragments, frames, offsets, begins)


def _first(attributes: dict[str, Any], tag: str) -> Any:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values else None


def _whole(attributes: dict[str, Any], tag: str) -> int:
    value = _first(attributes, tag)
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
