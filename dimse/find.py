"""Query: C-FIND of the Patient Root and Study Root models (PS3.4 C.4.1, PS3.7 9.1.2).

The identifier becomes an `archive.query.Query`; each row's DICOM JSON becomes an identifier again, with
the keys
that were asked for and no others. Answers are in UTF-8 unless the asker's identifier names a character
set that holds them.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pydicom.charset
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from archive.character_sets import TextDecoder
from archive.documents import parse_marked
from archive.keys import KEY_BY_TAG, RETRIEVE_URL, Level, Matching
from archive.query import Match, Query
from archive.search import search
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.service import Dimse, Service
from dimse.statuses import CANCELLED, PENDING, PENDING_WITHOUT_OPTIONAL_KEYS, SUCCESS
from kernel.errors import CloudfilmError, Kind

LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
CHARACTER_SET, QUERY_LEVEL = "00080005", "00080052"
PAGE = 500
UTF_8 = "ISO_IR 192"


class InvalidIdentifier(CloudfilmError):
    """An identifier that cannot be read, or names no level."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The identifier {reason}.")


def on_find(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-FIND-RQ: a pending response for each match, then the final one."""
    context = request.context
    identifier = read_identifier(request.data_set(), context.transfer_syntax)
    query = parse_identifier(identifier)
    asked = {f"{element.tag:08X}" for element in identifier}
    pending = PENDING_WITHOUT_OPTIONAL_KEYS if asked - KEY_BY_TAG.keys() - ALWAYS else PENDING
    for row in _rows(dimse, association, query):
        if association.is_cancelled(request):
            association.respond(request, CANCELLED)
            return
        answer = answer_identifier(row, identifier)
        association.respond(request, pending, encode_identifier(answer, context.transfer_syntax))
    association.respond(request, SUCCESS)


ALWAYS = frozenset({CHARACTER_SET, QUERY_LEVEL, "00080054", "00080201"})


def _rows(dimse: Dimse, association: Association, query: Query) -> Iterator[dict[str, Any]]:
    """All matches, page by page, so that memory does not grow with their number."""
    offset = 0
    while True:
        page = Query(
            query.level, query.matches, include=query.include, fuzzy=query.fuzzy, limit=PAGE, offset=offset
        )
        found = search(dimse.archive, association.caller, page)
        yield from (parse_marked(row) for row in found.rows)
        offset += len(found.rows)
        if not found.has_more:
            return


def read_identifier(data: bytes, transfer_syntax: str) -> Dataset:
    """Decode an identifier. Raises InvalidIdentifier."""
    try:
        identifier = read_dataset(BytesIO(data), transfer_syntax == ImplicitVRLittleEndian, True)
        identifier.decode()
        for _ in identifier.iterall():
            continue
    except (BytesLengthException, EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError):
        raise InvalidIdentifier("cannot be read") from None
    return identifier


def parse_identifier(identifier: Dataset) -> Query:
    """The query of an identifier (PS3.4 C.2.2.2). Raises InvalidIdentifier.

    Keys that are not supported match all, and are answered empty (C.2.2.1.3).
    """
    level = LEVELS.get(str(identifier.get("QueryRetrieveLevel", "")).strip())
    if level is None:
        raise InvalidIdentifier("has no Query/Retrieve Level that is known")
    matches, include = [], set()
    declares = "SpecificCharacterSet" in identifier
    for element in identifier:
        tag = f"{element.tag:08X}"
        key = KEY_BY_TAG.get(tag)
        if tag in (CHARACTER_SET, QUERY_LEVEL):
            continue
        if key is None or not key.answered:
            include.add(tag)
        if key is None or key.matching is Matching.NONE or element.VR == "SQ":
            continue
        text = _text(element.value) if declares else undeclared(_text(element.value))
        if text and key.level <= max(level, Level.STUDY):
            values = tuple(text.split("\\")) if key.matching is not Matching.UID else (text,)
            matches.append(Match(key, values))
    return Query(level, tuple(matches), include=frozenset(include))


def undeclared(text: str) -> str:
    """A text whose character set the asker left out, read as a header's would be: as UTF-8 or GBK."""
    try:
        return TextDecoder.of([]).decode(text.encode("latin_1"))
    except UnicodeEncodeError:
        return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(str(each) for each in value)
    return str(value).strip()


def answer_identifier(row: dict[str, Any], asked: Dataset) -> Dataset:
    """The identifier of one match: the keys that were asked for, filled where there is a value (PS3.4
    C.4.1.1.3.2)."""
    kept: dict[str, Any] = {}
    for element in asked:
        tag = f"{element.tag:08X}"
        if tag in (CHARACTER_SET, RETRIEVE_URL):
            continue
        kept[tag] = row.get(tag) or {"vr": element.VR}
    kept[QUERY_LEVEL] = {"vr": "CS", "Value": [str(asked.QueryRetrieveLevel).strip()]}
    answer = Dataset.from_json(kept)
    if not _is_ascii(kept):
        answer.SpecificCharacterSet = _character_set(kept, asked)
    return answer


def _is_ascii(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, dict):
        return all(_is_ascii(each) for each in value.values())
    return all(_is_ascii(each) for each in value) if isinstance(value, list) else True


def _character_set(kept: dict[str, Any], asked: Dataset) -> str:
    """The asker's own character set when it holds every text of the answer, else UTF-8."""
    term = _text(asked.get("SpecificCharacterSet", ""))
    codec = pydicom.charset.python_encoding.get(term)
    if not term or "\\" in term or codec is None:
        return UTF_8
    try:
        str(kept).encode(codec)
    except (UnicodeEncodeError, LookupError):
        return UTF_8
    return term


def encode_identifier(identifier: Dataset, transfer_syntax: str) -> bytes:
    """The bytes of an identifier in the transfer syntax of its presentation context."""
    file = DicomBytesIO()
    file.is_little_endian = True
    file.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    write_dataset(file, identifier)
    return bytes(file.getvalue())


QUERY = Service(
    "Query",
    "PS3.4 C",
    (
        str(PatientRootQueryRetrieveInformationModelFind),
        str(StudyRootQueryRetrieveInformationModelFind),
        str(PatientStudyOnlyQueryRetrieveInformationModelFind),
    ),
    {Operation.C_FIND: on_find},
)
