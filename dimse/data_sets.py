"""Data sets of messages as DICOM JSON documents and back, with their character sets (PS3.5, PS3.18 F.2).

The rooms keep and match documents in DICOM JSON, whatever door they came through; here they become bytes of a
transfer syntax. An answer is in the asker's own character set when that holds all of it, else in UTF-8.
"""

import warnings
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from archive.attributes import Document, values
from archive.character_sets import TextDecoder
from dimse.association import Message
from dimse.identifier import CHARACTER_SET, TEXTS, encode_attributes
from kernel.errors import CloudfilmError, Kind

UNREADABLE = (
    AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError, OSError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip


class UnreadableDataSet(CloudfilmError):
    """A data set that does not follow PS3.5."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("The data set cannot be read.")


def read_document(data: bytes, transfer_syntax: str) -> Document:
    """Decode a data set. Raises UnreadableDataSet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wrong values are the matter of whoever reads them
            found = read_dataset(BytesIO(data), transfer_syntax == ImplicitVRLittleEndian, True)
            declares = "SpecificCharacterSet" in found
            found.decode()
            read: Document = found.to_json_dict(suppress_invalid_tags=False)
    except UNREADABLE:
        raise UnreadableDataSet from None
    return read if declares else _redecoded(read)


def data_of(request: Message) -> Document:
    """The data set of a request; an empty one when it has none. Raises UnreadableDataSet."""
    if not request.has_data_set:
        return {}
    return read_document(request.data_set(), request.context.transfer_syntax)


def _redecoded(value: Any, vr: str = "") -> Any:
    """Texts whose character set was left out, read as a header's would be: as UTF-8 or GBK."""
    if isinstance(value, dict):
        return {
            key: _redecoded(each, str(value.get("vr") or vr)) for key, each in value.items() if key != "vr"
        } | ({"vr": value["vr"]} if "vr" in value else {})
    if isinstance(value, list):
        return [_redecoded(each, vr) for each in value]
    if isinstance(value, str) and vr in (*TEXTS, "PN") and not value.isascii():
        try:
            return TextDecoder.of([]).decode(value.encode("latin_1"))
        except UnicodeEncodeError:
            return value
    return value


def encode_document(document: Mapping[str, Any], transfer_syntax: str, terms: tuple[str, ...] = ()) -> bytes:
    """The bytes of a document. terms: the character set that the asker named, if any."""
    kept = {tag: value for tag, value in document.items() if tag != CHARACTER_SET}
    return encode_attributes(kept, terms, transfer_syntax)


def character_set_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The terms of the character set that a data set names."""
    return tuple(str(term or "") for term in values(document, "SpecificCharacterSet"))


def answer(document: Mapping[str, Any], asked: Mapping[str, Any], always: Iterable[str] = ()) -> Document:
    """What of a document was asked for, down into the items of sequences (PS3.4 C.4.1.1.3.2).

    A key that the document lacks is answered empty; a sequence that was asked for without keys in it, or as
    a whole, comes as a whole. always: tags that are answered in any case.
    """
    kept: Document = {}
    for tag, key in asked.items():
        if tag == CHARACTER_SET:
            continue
        held = document.get(tag)
        vr = str(key.get("vr") or "UN")
        inner = next((each for each in key.get("Value") or [] if isinstance(each, dict)), None)
        if held is None:
            kept[tag] = {"vr": vr}
        elif vr == "SQ" and inner:
            kept[tag] = {"vr": "SQ", "Value": [answer(each, inner) for each in held.get("Value") or []]}
        else:
            kept[tag] = held
    kept |= {tag: document[tag] for tag in always if tag in document}
    return dict(sorted(kept.items()))
