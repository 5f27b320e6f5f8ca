"""Data elements: a PS3.5 dataset read front to back into the DICOM JSON model, without reading bulk data.

Written for one pass over hostile input: lengths are checked against the end before anything is done with
them, depth and number are bounded, and values that metadata only refers to are passed over where they lie.

Standards: PS3.5 7 (data set), PS3.18 F.2 (DICOM JSON Model).
"""

import base64
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from archive.attributes import GROUPS
from archive.character_sets import TextDecoder
from kernel.errors import CloudfilmError, Kind

MOST_DEPTH = 32
MOST_ELEMENTS = 200_000
MOST_FRAGMENTS = 2_000_000
INLINE_BYTES = 1024  # binary values up to this size stand in the metadata itself
INLINE_NUMBERS_BYTES = 65536  # and tables of numbers and long texts up to this one
UNDEFINED = 0xFFFFFFFF

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})  # as integers, floats and doubles
ALWAYS_BULK = PIXEL_DATA | {0x00420011}  # and an encapsulated document, which is asked for by itself
LONGEST_HEAD = 12  # of an element: tag, VR, two bytes that mean nothing, and length (PS3.5 7.1.2)
CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103


class MalformedObject(CloudfilmError):
    """The bytes do not follow PS3.5: a length that runs past the end, an unknown VR, endless nesting."""

    kind = Kind.INVALID

    def __init__(self, reason: str, tag: int = 0) -> None:
        where = f" at ({tag >> 16:04X},{tag & 0xFFFF:04X})" if tag else ""
        super().__init__(f"The object cannot be read: {reason}{where}.")
        self.tag = tag


class Source(Protocol):
    """Bytes at any offset."""

    size: int

    def at_hand(self, offset: int, length: int) -> tuple[bytes, int]:
        """Bytes among which the `length` at `offset` are, and the offset of the first; as for `read`."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`; the caller has checked that they are there."""
        ...


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value that metadata only refers to: where it lies in the object."""

    offset: int
    length: int
    vr: str


@dataclass(slots=True)
class Fragments:
    """Encapsulated pixel data (PS3.5 A.4): the offset table's range, and each fragment's (offset, length)."""

    table: tuple[int, int]
    fragments: list[tuple[int, int]] = field(default_factory=list)


def _texts(text: str) -> list[str | None]:
    if "\\" not in text:
        return [text.strip(" \0").replace("\x01", "") or None]
    return [part.strip(" \0").replace("\x01", "") or None for part in text.split("\\")]


def _whole_text(text: str) -> list[str | None]:
    return [text.rstrip("\0 ").replace("\x01", "") or None]


def _person_names(text: str) -> list[dict[str, str] | None]:
    return [_person_name(part) for part in text.split("\\")]


def _person_name(part: str) -> dict[str, str] | None:
    name = {}
    for group, text in zip(GROUPS, part.replace("\x01", "").split("="), strict=False):
        if text.strip(" \0^"):
            name[group] = text.strip(" \0")
    return name or None


def _integers(text: str) -> list[int | str | None]:
    return [_integer(part.strip(" \0").replace("\x01", "")) for part in text.split("\\")]


def _integer(text: str) -> int | str | None:
    """A number string as a number, or as it stands when it is none (PS3.18 F.2.3.1)."""
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        return text
    return number if -(2**53) <= number <= 2**53 else text


def _decimals(text: str) -> list[float | str | None]:
    return [_decimal(part.strip(" \0").replace("\x01", "")) for part in text.split("\\")]


def _decimal(text: str) -> float | str | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text


@dataclass(frozen=True, slots=True)
class Representation:
    """A value representation (PS3.5 6.2), and how its values become those of the DICOM JSON model."""

    name: str
    has_long_length: bool = False  # of four bytes, in explicit VR (PS3.5 7.1.2)
    inline_bytes: int = INLINE_NUMBERS_BYTES  # a value up to this size stands in the metadata itself
    values: Callable[[str], list[Any]] | None = None  # of a text
    delimiters: str | None = None  # of a text in the data set's character set: they reset code extensions
    form: str = ""  # of a number, as `struct` writes it
    word_bytes: int = 0  # of binary values: how many bytes change places in big endian

    @classmethod
    def binary(cls, name: str, word_bytes: int) -> "Representation":
        """One whose values are base64 (PS3.18 F.2.7)."""
        return cls(name, True, INLINE_BYTES, word_bytes=word_bytes)


REPRESENTATION = {
    row.name: row
    for row in (
        Representation("AE", values=_texts),
        Representation("AS", values=_texts),
        Representation("AT"),
        Representation("CS", values=_texts),
        Representation("DA", values=_texts),
        Representation("DS", values=_decimals),
        Representation("DT", values=_texts),
        Representation("FD", form="d"),
        Representation("FL", form="f"),
        Representation("IS", values=_integers),
        Representation("LO", values=_texts, delimiters="\\"),
        Representation("LT", values=_whole_text, delimiters="\r\n\t\f"),
        Representation.binary("OB", 1),
        Representation.binary("OD", 8),
        Representation.binary("OF", 4),
        Representation.binary("OL", 4),
        Representation.binary("OV", 8),
        Representation.binary("OW", 2),
        Representation("PN", values=_person_names, delimiters="\\^="),
        Representation("SH", values=_texts, delimiters="\\"),
        Representation("SL", form="i"),
        Representation("SQ", True),
        Representation("SS", form="h"),
        Representation("ST", values=_whole_text, delimiters="\r\n\t\f"),
        Representation("SV", True, form="q"),
        Representation("TM", values=_texts),
        Representation("UC", True, values=_texts, delimiters="\\"),
        Representation("UI", values=_texts),
        Representation("UL", form="I"),
        Representation.binary("UN", 1),
        Representation("UR", True, values=_whole_text),
        Representation("US", form="H"),
        Representation("UT", True, values=_whole_text, delimiters="\r\n\t\f"),
        Representation("UV", True, form="Q"),
    )
}
REPRESENTATION_CODED = {name.encode(): row for name, row in REPRESENTATION.items()}  # as explicit VR has it
KNOWN_VRS = REPRESENTATION.keys()
LONG_FORM = frozenset(name for name, row in REPRESENTATION.items() if row.has_long_length)
NUMBERS = {name: row.form for name, row in REPRESENTATION.items() if row.form}
NUMBER_BYTES = {form: struct.calcsize("<" + form) for form in NUMBERS.values()}

AMBIGUOUS = {  # in implicit VR the dictionary leaves these open (PS3.5 A.1)
    "US or SS": ("US", "SS"),
    "US or OW": ("OW", "OW"),
    "OB or OW": ("OW", "OW"),
    "US or SS or OW": ("OW", "OW"),
}


class ElementReader:
    """Reads one dataset from a source. `bulk` and `pixels` are filled as it goes; a BulkDataURI is the
    path alone, for the base of it is known only when the whole is read."""

    def __init__(self, source: Source, explicit: bool, little: bool) -> None:
        self._source = source
        self._little = little
        self._order = "<" if little else ">"
        self.explicit = explicit
        self._short_form = struct.Struct(self._order + "HH2sH")
        self._implicit_form = struct.Struct(self._order + "HHI")
        self._u32 = struct.Struct(self._order + "I")
        self._elements = 0
        self._signed = False
        self.repairs: dict[str, None] = {}
        self.bulk: dict[str, BulkValue] = {}
        self.referring: list[dict[str, Any]] = []  # the elements of the model whose values those are
        self.pixels: Fragments | BulkValue | None = None

    def dataset(self, offset: int, end: int) -> dict[str, Any]:
        """The DICOM JSON of the elements from `offset` to `end`. Raises MalformedObject."""
        found, _ = self._elements_from(
            offset, end, TextDecoder.of([], self.repairs), self.explicit, "", 0, False
        )
        return found

    def _elements_from(
        self, at: int, end: int, decoder: TextDecoder, explicit: bool, path: str, depth: int, delimited: bool
    ) -> tuple[dict[str, Any], int]:
        if depth > MOST_DEPTH:
            raise MalformedObject("sequences are nested too deeply")
        found: dict[str, Any] = {}
        previous, sorted_so_far = -1, True
        data, start, stop = b"", at, at  # what is at hand, and where it begins and ends
        while at < end:
            if stop - at < LONGEST_HEAD:
                data, start = self._source.at_hand(at, min(LONGEST_HEAD, end - at))
                stop = min(start + len(data), end)
                if end - at < 8:
                    if not delimited and not any(data[at - start : end - start]):
                        break  # zeros that pad the object to an even or a round size
                    raise MalformedObject("it ends in the middle of an element", max(previous, 0))
            place = at - start
            self._elements += 1
            if self._elements > MOST_ELEMENTS:
                raise MalformedObject("there are too many elements")
            if explicit:
                group, element, coded, length = self._short_form.unpack_from(data, place)
            else:
                group, element, length = self._implicit_form.unpack_from(data, place)
            tag = group << 16 | element
            if group == 0xFFFE:
                if tag == ITEM_END and delimited:
                    return (found if sorted_so_far else dict(sorted(found.items()))), at + 8
                if tag == SEQUENCE_END and not delimited and depth == 0:
                    at += 8  # a stray delimiter that some writers leave after encapsulated pixel data
                    continue
                raise MalformedObject("an item stands where an element should", tag)
            if tag == 0 and not any(data[place : place + 8]) and not delimited:
                break  # zeros to the end
            at += 8
            if explicit:
                representation = REPRESENTATION_CODED.get(coded)
                if representation is None:
                    raise MalformedObject("the value representation is not one", tag)
                if representation.has_long_length:
                    if end - at < 4:
                        raise MalformedObject("it ends in the middle of an element", tag)
                    (length,) = self._u32.unpack_from(data, place + 8)
                    at += 4
                if coded == b"UN" and length != UNDEFINED and not group & 1:
                    representation = self._implicit(tag, found)  # some write UN for what the dictionary knows
            else:
                representation = self._implicit(tag, found)
            vr = representation.name
            if tag <= previous:
                sorted_so_far = False
            previous = tag
            key = _key(tag)
            if length == UNDEFINED:
                at = self._undefined(found, key, tag, vr, at, end, decoder, explicit, path, depth)
                continue
            if length > end - at:
                raise MalformedObject("a length runs past the end", tag)
            if element == 0 or group <= 0x0002:
                at += length  # group lengths and file meta are no part of the model
                continue
            if vr == "SQ":
                inner_explicit = explicit and coded != b"UN"  # UN is implicit within (PS3.5 6.2.2)
                found[key], at = self._sequence(
                    at, at + length, decoder, inner_explicit, f"{path}{key}", depth
                )
                continue
            if depth == 0 and tag in PIXEL_DATA:
                self.pixels = BulkValue(at, length, vr)
            if length > representation.inline_bytes or (representation.word_bytes and tag in ALWAYS_BULK):
                found[key] = self._refer(f"{path}{key}", BulkValue(at, length, vr))
            else:
                if length > stop - at:
                    data, start = self._source.at_hand(at, length)
                    stop = min(start + len(data), end)
                value = data[at - start : at - start + length]
                if tag == CHARACTER_SET:
                    decoder = self._decoder(value)
                elif tag == PIXEL_REPRESENTATION:
                    self._signed = value[:1] == b"\x01" or value == b"\x00\x01"
                found[key] = self._element(representation, value, decoder, tag) if length else {"vr": vr}
            at += length
        if delimited:
            raise MalformedObject("it ends in the middle of a sequence", max(previous, 0))
        return (found if sorted_so_far else dict(sorted(found.items()))), at

    def _implicit(self, tag: int, found: dict[str, Any]) -> Representation:
        """Of an element that does not say its own: what the dictionaries have."""
        entry = DicomDictionary.get(tag)
        if entry is not None:
            vr = entry[0]
        elif tag >> 16 & 1:
            return REPRESENTATION.get(_private_vr(tag, found), REPRESENTATION["UN"])
        else:
            try:
                vr = dictionary_VR(tag)  # repeating groups
            except KeyError:
                vr = "UL" if tag & 0xFFFF == 0 else "UN"
        if vr in AMBIGUOUS:
            vr = AMBIGUOUS[vr][self._signed]
        return REPRESENTATION.get(vr, REPRESENTATION["UN"])

    def _refer(self, path: str, value: BulkValue) -> dict[str, Any]:
        self.bulk[path] = value
        element = {"vr": value.vr, "BulkDataURI": path}
        self.referring.append(element)
        return element

    def _decoder(self, value: bytes) -> TextDecoder:
        return TextDecoder.of(value.decode("latin_1").rstrip(" \0").split("\\"), self.repairs)

    def _undefined(
        self,
        found: dict[str, Any],
        key: str,
        tag: int,
        vr: str,
        at: int,
        end: int,
        decoder: TextDecoder,
        explicit: bool,
        path: str,
        depth: int,
    ) -> int:
        """An element of undefined length: a sequence, or encapsulated pixel data. Returns where it ends."""
        if vr in ("OB", "OW") and (explicit or tag in PIXEL_DATA):
            fragments, stop = self._fragments(at, end, tag)
            if tag in PIXEL_DATA and depth == 0:
                self.pixels = fragments
            found[key] = self._refer(f"{path}{key}", BulkValue(at, stop - at, vr))
            return stop
        if vr in ("SQ", "UN"):  # UN of undefined length is a sequence in implicit VR (PS3.5 6.2.2)
            found[key], stop = self._sequence(
                at, None, decoder, explicit and vr == "SQ", f"{path}{key}", depth, end
            )
            return stop
        raise MalformedObject("this value representation has no undefined length", tag)

    def _sequence(
        self,
        at: int,
        stop: int | None,
        decoder: TextDecoder,
        explicit: bool,
        path: str,
        depth: int,
        end: int = 0,
    ) -> tuple[dict[str, Any], int]:
        """The items from `at` to `stop`, or to the sequence's delimiter."""
        items: list[dict[str, Any]] = []
        limit = end if stop is None else stop
        while stop is None or at < stop:
            if limit - at < 8:
                raise MalformedObject("it ends in the middle of a sequence")
            group, element, length = self._implicit_form.unpack(self._source.read(at, 8))
            tag = group << 16 | element
            at += 8
            if tag == SEQUENCE_END and stop is None:
                break
            if tag != ITEM:
                raise MalformedObject("a sequence has something else than items", tag)
            inner = f"{path}.{len(items) + 1}."
            if length == UNDEFINED:
                item, at = self._elements_from(at, limit, decoder, explicit, inner, depth + 1, True)
            else:
                if length > limit - at:
                    raise MalformedObject("an item's length runs past the end", tag)
                item, at = self._elements_from(at, at + length, decoder, explicit, inner, depth + 1, False)
            items.append(item)
        return ({"vr": "SQ", "Value": items} if items else {"vr": "SQ"}), at

    def _fragments(self, at: int, end: int, tag: int) -> tuple[Fragments, int]:
        found: Fragments | None = None
        while True:
            if end - at < 8:
                raise MalformedObject("it ends in the middle of encapsulated pixel data", tag)
            group, element, length = self._implicit_form.unpack(self._source.read(at, 8))
            item = group << 16 | element
            at += 8
            if item == SEQUENCE_END:
                return found or Fragments((at, 0)), at
            if item != ITEM or length > end - at:
                raise MalformedObject("encapsulated pixel data is damaged", tag)
            if found is None:
                found = Fragments((at, length))
            else:
                found.fragments.append((at, length))
                if len(found.fragments) > MOST_FRAGMENTS:
                    raise MalformedObject("there are too many fragments", tag)
            at += length

    def _element(
        self, representation: Representation, value: bytes, decoder: TextDecoder, tag: int
    ) -> dict[str, Any]:
        vr = representation.name
        if representation.word_bytes:
            return {"vr": vr, "InlineBinary": self._base64(representation.word_bytes, value)}
        if representation.form:
            values = self._numbers(representation.form, value, tag)
        elif representation.values is None:  # AT
            tags = struct.iter_unpack(self._order + "HH", value[: len(value) // 4 * 4])
            values = [f"{group:04X}{element:04X}" for group, element in tags]
        elif representation.delimiters is None:
            values = representation.values(value.decode("latin_1"))
        else:
            values = representation.values(decoder.decode(value, representation.delimiters))
        while values and values[-1] is None:
            values.pop()
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _base64(self, word_bytes: int, value: bytes) -> str:
        if word_bytes > 1 and not self._little:
            words = range(0, len(value), word_bytes)
            value = b"".join(value[each : each + word_bytes][::-1] for each in words)
        return base64.b64encode(value).decode("ascii")

    def _numbers(self, form: str, value: bytes, tag: int) -> list[Any]:
        size = NUMBER_BYTES[form]
        count = len(value) // size
        if len(value) % size:
            self.repairs[f"odd length of ({tag >> 16:04X},{tag & 0xFFFF:04X})"] = None
        numbers = list(struct.unpack_from(f"{self._order}{count}{form}", value))
        return [_finite(number) for number in numbers] if form in "fd" else numbers


@lru_cache(maxsize=8192)
def _key(tag: int) -> str:
    """A tag as DICOM JSON writes it. Remembered, for objects are alike."""
    return f"{tag:08X}"


def _private_vr(tag: int, found: dict[str, Any]) -> str:
    """The VR of a private element (PS3.5 7.8.1): of its creator's dictionary where that is known, else UN."""
    element = tag & 0xFFFF
    if 0x10 <= element <= 0xFF:
        return "LO"
    creator = found.get(f"{tag >> 16:04X}00{element >> 8:02X}", {}).get("Value", [None])[0]
    try:
        return private_dictionary_VR(tag, creator) if isinstance(creator, str) else "UN"
    except KeyError:
        return "UN"


def _finite(number: float) -> float | str:
    """JSON has no infinity and no not-a-number: they are written as text (PS3.18 F.2.3.1)."""
    return number if math.isfinite(number) else str(number)
