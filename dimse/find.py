"""Query: C-FIND of the Patient Root and Study Root models (PS3.4 C.4.1, PS3.7 9.1.2).

The identifier becomes an `archive.query.Query`; each row's DICOM JSON becomes an identifier again, with the
keys that were asked for and no others. Answers are in UTF-8 unless the asker's identifier names a character
set that holds them. What was agreed on in extended negotiation (PS3.4 C.5.1.1) decides how names, dates and
times are matched; keys of levels above the asked one may always be left out.
"""

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from archive.character_sets import TextDecoder, without_escapes
from archive.documents import parse_marked
from archive.keys import KEY_BY_TAG, RETRIEVE_URL, Level, Matching
from archive.query import Match, Query
from archive.search import search
from archive.zones import combined_moments, shifted
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.identifier import (
    CHARACTER_SET,
    InvalidIdentifier,
    encode_attributes,
    encode_identifier,
    read_identifier,
)
from dimse.matching import Agreement, in_zone_of, item_matches
from dimse.service import Dimse, Service
from dimse.statuses import CANCELLED, PENDING, PENDING_WITHOUT_OPTIONAL_KEYS, SUCCESS

__all__ = [
    "QUERY",
    "InvalidIdentifier",
    "encode_identifier",
    "on_find",
    "parse_identifier",
    "read_identifier",
]

LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
LEVELS_OF = {  # PS3.4 C.6.1.1, C.6.2.1, C.6.3.1
    str(PatientRootQueryRetrieveInformationModelFind): frozenset(LEVELS),
    str(StudyRootQueryRetrieveInformationModelFind): frozenset({"STUDY", "SERIES", "IMAGE"}),
    str(PatientStudyOnlyQueryRetrieveInformationModelFind): frozenset({"PATIENT", "STUDY"}),
}
QUERY_LEVEL, RETRIEVE_AE_TITLE, TIMEZONE = "00080052", "00080054", "00080201"
ALWAYS = frozenset({CHARACTER_SET, QUERY_LEVEL, RETRIEVE_AE_TITLE, TIMEZONE})
EMPTY = '""'  # empty value matching (PS3.4 C.2.2.2.7)
PAGE = 2000


def on_find(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-FIND-RQ: a pending response for each match, then the final one."""
    context = request.context
    identifier = read_identifier(request.data_set(), context.transfer_syntax)
    if str(identifier.get("QueryRetrieveLevel", "")).strip() not in LEVELS_OF[context.sop_class]:
        raise InvalidIdentifier("has no Query/Retrieve Level that this model has")
    agreed = Agreement.of(association.extended.get(context.sop_class, b""))
    zone = in_zone_of(identifier, agreed, dimse.settings.utc_offset)
    query = parse_identifier(identifier, agreed, zone)
    asked = {f"{element.tag:08X}": str(element.VR) for element in identifier}
    fixed = {
        QUERY_LEVEL: {"vr": "CS", "Value": [str(identifier.QueryRetrieveLevel).strip()]},
        RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [dimse.settings.ae_title]},
    }
    if zone:
        fixed[TIMEZONE] = {"vr": "SH", "Value": [str(identifier.TimezoneOffsetFromUTC)]}
    terms = tuple(_values(identifier.get("SpecificCharacterSet")))
    sequences = [
        (f"{element.tag:08X}", item)
        for element in identifier
        if element.VR == "SQ"
        for item in element.value[:1]
    ]
    pending = PENDING_WITHOUT_OPTIONAL_KEYS if asked.keys() - KEY_BY_TAG.keys() - ALWAYS else PENDING
    with association.layer.gathering():
        for row in _rows(dimse, association, query):
            if not all(item_matches(row.get(tag), item) for tag, item in sequences):
                continue
            if association.is_cancelled(request):
                association.respond(request, CANCELLED)
                return
            answer = shifted(row, zone) if zone else row
            kept = {
                tag: answer.get(tag) or {"vr": vr}
                for tag, vr in asked.items()
                if tag not in (CHARACTER_SET, RETRIEVE_URL)
            }
            association.respond(
                request, pending, encode_attributes(kept | fixed, terms, context.transfer_syntax)
            )
        association.respond(request, SUCCESS)


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


NOTHING_AGREED = Agreement()


def parse_identifier(identifier: Dataset, agreed: Agreement = NOTHING_AGREED, zone: int = 0) -> Query:
    """The query of an identifier (PS3.4 C.2.2.2). Raises InvalidIdentifier.

    Keys that are not supported match all, and are answered empty (C.2.2.1.3). zone: minutes from the
    asker's clock to that of the archive.
    """
    level = LEVELS.get(str(identifier.get("QueryRetrieveLevel", "")).strip())
    if level is None:
        raise InvalidIdentifier("has no Query/Retrieve Level that is known")
    matches, include = [], set()
    terms = _values(identifier.get("SpecificCharacterSet"))
    for element in identifier:
        tag = f"{element.tag:08X}"
        key = KEY_BY_TAG.get(tag)
        if tag in ALWAYS:
            continue
        if key is None or not key.answered:
            include.add(tag)
        if key is None or key.matching is Matching.NONE or element.VR == "SQ":
            continue
        text = as_meant(_text(element.value), terms)
        if text and key.level <= max(level, Level.STUDY):
            values = tuple(text.split("\\")) if key.matching is not Matching.UID else (text,)
            matches.append(Match(key, values, is_empty=text == EMPTY))
    if agreed.date_times or zone:
        matches = combined_moments(matches, zone)
    return Query(level, tuple(matches), include=frozenset(include), fuzzy=agreed.fuzzy)


def as_meant(text: str, terms: list[str]) -> str:
    """A text whose character set the asker left out, or whose code extensions it did not write, read as a
    header's would be: as UTF-8 or GBK, as the extension."""
    if terms and not any(term.startswith("ISO 2022") for term in terms):
        return text
    try:
        return TextDecoder.of(terms).decode(text.encode("latin_1"))
    except UnicodeEncodeError:
        return text


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each).strip() for each in (value if isinstance(value, MultiValue | list) else [value])]


def _text(value: Any) -> str:
    if isinstance(value, MultiValue):
        return without_escapes("\\".join(str(each) for each in value))
    return "" if value is None else without_escapes(str(value)).strip()


QUERY = Service(
    "Query",
    "PS3.4 C",
    tuple(LEVELS_OF),
    {Operation.C_FIND: on_find},
    # relational, date-time, fuzzy, timezone; no enhanced conversion; empty and multiple values (C.5.1.1)
    extended=b"\x01\x01\x01\x01\x00\x01\x01",
)
