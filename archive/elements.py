"""Data elements: a PS3.5 dataset read front to back into the DICOM JSON model, without reading bulk data.

Written for one pass over hostile input: lengths are checked against the end before anything is done with
them, depth and number are bounded, and values that metadata only refers to are passed over where they lie.

Standards: PS3.5 7 (data set), PS3.18 F.2 (DICOM JSON Model).
"""

import base64
import math
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, private_dictionary_VR

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


LONG_FORM = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
MULTI_TEXT = frozenset({"LO", "SH", "UC"})
SINGLE_TEXT = frozenset({"LT", "ST", "UT"})
CODED = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI"})
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
KNOWN_VRS = LONG_FORM | MULTI_TEXT | SINGLE_TEXT | CODED | NUMBERS.keys() | {"AT", "DS", "IS", "PN"}
SWAPPED = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}  # word sizes of binary values in big endian

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
        self._tag_form = struct.Struct(self._order + "HH")
        self._short_form = struct.Struct(self._order + "HH2sH")
        self._implicit_form = struct.Struct(self._order + "HHI")
        self._u32 = struct.Struct(self._order + "I")
        self._elements = 0
        self._signed = False
        self.repairs: dict[str, None] = {}
        self.bulk: dict[str, BulkValue] = {}
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
        read = self._source.read
        while at < end:
            if end - at < 8:
                if not delimited and not any(read(at, end - at)):
                    break  # zeros that pad the object to an even or a round size
                raise MalformedObject("it ends in the middle of an element", max(previous, 0))
            self._elements += 1
            if self._elements > MOST_ELEMENTS:
                raise MalformedObject("there are too many elements")
            head = read(at, 8)
            if explicit:
                group, element, vr_bytes, length = self._short_form.unpack(head)
            else:
                group, element, length = self._implicit_form.unpack(head)
                vr_bytes = b""
            tag = group << 16 | element
            if group == 0xFFFE:
                if tag == ITEM_END and delimited:
                    return (found if sorted_so_far else dict(sorted(found.items()))), at + 8
                if tag == SEQUENCE_END and not delimited and depth == 0:
                    at += 8  # a stray delimiter that some writers leave after encapsulated pixel data
                    continue
                raise MalformedObject("an item stands where an element should", tag)
            if tag == 0 and not any(head) and not delimited:
                break  # zeros to the end
            at += 8
            if explicit:
                vr = vr_bytes.decode("latin_1")
                if vr in LONG_FORM:
                    if end - at < 4:
                        raise MalformedObject("it ends in the middle of an element", tag)
                    length = self._u32.unpack(read(at, 4))[0]
                    at += 4
                elif vr not in KNOWN_VRS:
                    raise MalformedObject("the value representation is not one", tag)
                inner_explicit = vr != "UN"
                if vr == "UN" and length != UNDEFINED and not group & 1:
                    vr = self._implicit_vr(tag, found)  # some writers put UN for what the dictionary knows
            else:
                vr, inner_explicit = self._implicit_vr(tag, found), False
            if tag <= previous:
                sorted_so_far = False
            previous = tag
            key = f"{tag:08X}"
            if length == UNDEFINED:
                at = self._undefined(found, key, tag, vr, at, end, decoder, explicit, path, depth)
                continue
            if length > end - at:
                raise MalformedObject("a length runs past the end", tag)
            if element == 0 or group <= 0x0002:
                at += length  # group lengths and file meta are no part of the model
                continue
            if vr == "SQ":
                found[key], at = self._sequence(
                    at, at + length, decoder, inner_explicit, f"{path}{key}", depth
                )
                continue
            if tag in PIXEL_DATA and depth == 0:
                self.pixels = BulkValue(at, length, vr)
            if self._is_bulk(vr, length, tag):
                found[key] = self._refer(f"{path}{key}", BulkValue(at, length, vr))
            else:
                value = read(at, length) if length else b""
                if tag == CHARACTER_SET:
                    decoder = self._decoder(value)
                elif tag == PIXEL_REPRESENTATION:
                    self._signed = value[:1] == b"\x01" or value == b"\x00\x01"
                found[key] = self._element(vr, value, decoder, tag)
            at += length
        if delimited:
            raise MalformedObject("it ends in the middle of a sequence", max(previous, 0))
        return (found if sorted_so_far else dict(sorted(found.items()))), at

    def _implicit_vr(self, tag: int, found: dict[str, Any]) -> str:
        entry = DicomDictionary.get(tag)
        if entry is not None:
            vr = entry[0]
        elif tag >> 16 & 1:
            return _private_vr(tag, found)
        else:
            try:
                vr = dictionary_VR(tag)  # repeating groups
            except KeyError:
                return "UL" if tag & 0xFFFF == 0 else "UN"
        if vr in AMBIGUOUS:
            return AMBIGUOUS[vr][self._signed]
        return vr if vr in KNOWN_VRS else "UN"

    def _is_bulk(self, vr: str, length: int, tag: int) -> bool:
        if vr in BINARY:
            return length > INLINE_BYTES or tag in ALWAYS_BULK
        return length > INLINE_NUMBERS_BYTES

    def _refer(self, path: str, value: BulkValue) -> dict[str, Any]:
        self.bulk[path] = value
        return {"vr": value.vr, "BulkDataURI": path}

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

    def _element(self, vr: str, value: bytes, decoder: TextDecoder, tag: int) -> dict[str, Any]:
        if not value:
            return {"vr": vr}
        if vr in BINARY:
            word = 1 if self._little else SWAPPED.get(vr, 1)
            if word > 1:
                value = b"".join(value[each : each + word][::-1] for each in range(0, len(value), word))
            return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}
        values = self._values(vr, value, decoder, tag)
        while values and values[-1] is None:
            values.pop()
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _values(self, vr: str, value: bytes, decoder: TextDecoder, tag: int) -> list[Any]:
        if vr in CODED:
            text = value.decode("latin_1").rstrip("\0 ")
            return [part.strip(" \0").replace("\x01", "") or None for part in text.split("\\")]
        if vr in NUMBERS:
            form = NUMBERS[vr]
            size = struct.calcsize("<" + form)
            count = len(value) // size
            if len(value) % size:
                self.repairs[f"odd length of ({tag >> 16:04X},{tag & 0xFFFF:04X})"] = None
            numbers = list(struct.unpack(f"{self._order}{count}{form}", value[: count * size]))
            return [_finite(number) for number in numbers] if form in "fd" else numbers
        if vr == "PN":
            text = decoder.decode(value, "\\^=")
            return [_person_name(part) for part in text.rstrip("\0 ").split("\\")]
        if vr in MULTI_TEXT:
            text = decoder.decode(value, "\\")
            return [part.strip(" \0").replace("\x01", "") or None for part in text.split("\\")]
        if vr in SINGLE_TEXT:
            return [decoder.decode(value, "\r\n\t\f").rstrip("\0 ").replace("\x01", "") or None]
        if vr in ("DS", "IS"):
            parts = value.decode("latin_1").rstrip("\0 ").split("\\")
            return [_number(part.strip(" \0").replace("\x01", ""), vr) for part in parts]
        if vr == "AT":
            tags = struct.iter_unpack(self._order + "HH", value[: len(value) // 4 * 4])
            return [f"{group:04X}{element:04X}" for group, element in tags]
        return [value.decode("latin_1").rstrip("\0 ").replace("\x01", "") or None]  # UR


def _private_vr(tag: int, found: dict[str, Any]) -> str:
    """The VR of a private element (PS3.5 7.8.1): of its creator's dictionary where that is known, else UN."""
    element = tag & 0xFFFF
    if 0x10 <= element <= 0xFF:
        return "LO"
    creator = found.get(f"{tag >> 16:04X}00{element >> 8:02X}", {}).get("Value", [None])[0]
    try:
        vr = private_dictionary_VR(tag, creator) if isinstance(creator, str) else "UN"
    except KeyError:
        return "UN"
    return vr if vr in KNOWN_VRS else "UN"


def _person_name(text: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.replace("\x01", "").split("="), strict=False)
    name = {group: part.strip(" \0") for group, part in groups if part.strip(" \0^")}
    return name or None


def _number(text: str, vr: str) -> int | float | str | None:
    """A number string as a number, or as it stands when it is none (PS3.18 F.2.3.1)."""
    if not text:
        return None
    try:
        if vr == "IS":
            whole = int(text)
            return whole if -(2**53) <= whole <= 2**53 else text
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text


def _finite(number: float) -> float | str:
    """JSON has no infinity and no not-a-number: they are written as text (PS3.18 F.2.3.1)."""
    return number if math.isfinite(number) else str(number)
