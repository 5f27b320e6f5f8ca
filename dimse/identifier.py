"""Identifiers: the data sets of queries and of their answers, to bytes and back (PS3.4 C.4.1.1.3, PS3.5 7).

An answer is made from the DICOM JSON that the archive keeps for each row, without a data set object in
between: a query may have tens of thousands of answers. What comes in is read by pydicom, for it may be odd.
"""

import base64
import binascii
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import pydicom.charset
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian
from pydicom.valuerep import PersonName, format_number_as_ds

from archive.character_sets import SINGLE, TextDecoder
from archive.elements import LONG_FORM, NUMBERS
from kernel.errors import CloudfilmError, Kind

CHARACTER_SET = "00080005"
UTF_8 = "ISO_IR 192"
TEXTS = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})  # that the character set is for, beside PN

Attributes = Mapping[str, Any]  # the DICOM JSON model: 8 digits of a tag -> vr and Value


class InvalidIdentifier(CloudfilmError):
    """An identifier that cannot be read, or names no level."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The identifier {reason}.")


def read_identifier(data: bytes, transfer_syntax: str) -> Dataset:
    """Decode an identifier. Raises InvalidIdentifier."""
    try:
        identifier = read_dataset(BytesIO(data), transfer_syntax == ImplicitVRLittleEndian, True)
        identifier.decode()
        for _ in identifier.iterall():
            continue
    except (BytesLengthException, EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError,
            AttributeError, RecursionError, struct.error):  # fmt: skip
        raise InvalidIdentifier("cannot be read") from None
    return identifier


def encode_identifier(identifier: Dataset, transfer_syntax: str) -> bytes:
    """The bytes of an identifier in the transfer syntax of its presentation context."""
    file = DicomBytesIO()
    file.is_little_endian = True
    file.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    write_dataset(file, identifier)
    return bytes(file.getvalue())


Encode = Callable[[str], bytes]


def encode_attributes(attributes: Attributes, terms: tuple[str, ...], transfer_syntax: str) -> bytes:
    """The same from the JSON model, which has none, with Specific Character Set where a text needs one.

    terms: the character set of the asker; what it cannot hold is answered in UTF-8 (PS3.4 C.2.2.2).
    """
    implicit = transfer_syntax == ImplicitVRLittleEndian
    codec = SINGLE.get(terms[0]) if len(terms) == 1 else None
    candidates: list[tuple[tuple[str, ...], Encode]] = []
    if codec is not None and codec != "ascii":
        candidates.append((terms, lambda text: text.encode(codec)))
    elif any(term.startswith("ISO 2022") for term in terms):
        candidates.append((terms, _extended(terms)))
    candidates.append(((UTF_8,), str.encode))
    for declared, encode in candidates:
        try:
            body = _data_set(attributes, implicit, encode)
        except (UnicodeEncodeError, LookupError):
            continue
        if (body.isascii() and b"\x1b" not in body) or _is_ascii(
            attributes
        ):  # lengths and numbers may not be
            return body
        value = {"vr": "CS", "Value": list(declared)}  # no element of an identifier stands before it
        return _element(CHARACTER_SET, value, implicit, encode) + body
    raise InvalidIdentifier("cannot be answered in any character set")


def _is_ascii(value: Any) -> bool:
    """Whether every text within a value of the JSON model is."""
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, Mapping):
        return all(map(_is_ascii, value.values()))
    return not isinstance(value, list) or all(map(_is_ascii, value))


ESCAPED = {  # multi-byte sets in G1, by the escape sequence that begins each part of a text (PS3.5 6.1.2.5.3)
    "ISO 2022 IR 58": (b"\x1b$)A", "gb2312"),
    "ISO 2022 IR 149": (b"\x1b$)C", "euc_kr"),
}
PART = re.compile(r"([\\^=\r\n\f\t])")  # what resets code extensions, kept by the split


def _extended(terms: tuple[str, ...]) -> Encode:
    """Code extensions (PS3.5 6.1.2.5): each part of a text begins with the first character set."""
    known = next((ESCAPED[term] for term in terms if term in ESCAPED), None)
    encodings = pydicom.charset.convert_encodings([term or "ISO_IR 6" for term in terms])
    decoder = TextDecoder.of(list(terms))

    def encode(text: str) -> bytes:
        if text.isascii():
            return text.encode()
        if known is not None:
            escape, codec = known
            parts = (part if part.isascii() else escape + part.encode(codec) for part in PART.split(text))
            return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it could not hold, which is seen by reading it again
            encoded = b"\\".join(PersonName(part).encode(encodings) for part in text.split("\\"))
        if decoder.decode(encoded, "\\^=") != text:
            raise UnicodeEncodeError("iso2022", text, 0, len(text), "not held")
        return encoded

    return encode


def _data_set(attributes: Attributes, implicit: bool, encode: Encode) -> bytes:
    return b"".join(
        _element(tag, attributes[tag], implicit, encode)
        for tag in sorted(attributes)
        if not tag.endswith("0000")  # group lengths, which are retired and would be those of other bytes
    )


def _element(tag: str, attribute: Mapping[str, Any], implicit: bool, encode: Encode) -> bytes:
    vr = str(attribute["vr"])
    value = _value(vr, attribute, implicit, encode)
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    number = int(tag, 16)
    if implicit:
        return struct.pack("<HHI", number >> 16, number & 0xFFFF, len(value)) + value
    if vr in LONG_FORM:
        head = struct.pack("<HH2sHI", number >> 16, number & 0xFFFF, vr.encode(), 0, len(value))
    else:
        value = value[:0xFFFE]
        head = struct.pack("<HH2sH", number >> 16, number & 0xFFFF, vr.encode(), len(value))
    return head + value


def _value(vr: str, attribute: Mapping[str, Any], implicit: bool, encode: Encode) -> bytes:
    values = attribute.get("Value")
    if not values:
        inline = attribute.get("InlineBinary")
        try:
            return base64.b64decode(inline) if inline else b""
        except (binascii.Error, TypeError, ValueError):
            return b""
    if vr == "SQ":
        return b"".join(_item(item, implicit, encode) for item in values if isinstance(item, dict))
    if vr == "PN":
        return encode("\\".join(_person_name(name) for name in values))
    if vr in NUMBERS:
        numbers = [each for each in values if isinstance(each, int | float)]
        return struct.pack(f"<{len(numbers)}{NUMBERS[vr]}", *numbers)
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(each[:4], 16), int(each[4:], 16)) for each in values)
    text = "\\".join(
        "" if each is None else each if isinstance(each, str) else _digits(each) for each in values
    )
    return encode(text) if vr in TEXTS else text.encode("ascii", "replace")


def _item(item: Attributes, implicit: bool, encode: Encode) -> bytes:
    body = _data_set(item, implicit, encode)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def _person_name(name: Any) -> str:
    if not isinstance(name, dict):
        return str(name or "")
    groups = [str(name.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")


def _digits(number: Any) -> str:
    text = str(number)
    return text if len(text) <= 16 else format_number_as_ds(float(number))
