"""Search transaction (PS3.18 10.6, QIDO-RS): the query string becomes a `Query`, the rows become an
answer."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import orjson
from flask import Blueprint, Response, request
from pydicom.datadict import tag_for_keyword

from access.bearer import current_caller
from access.caller import Door
from access.signed_urls import PARAMETER
from archive.documents import at_base, dump_marked, parse_marked
from archive.keys import KEY_BY_TAG, STUDY_MOMENT, TIMEZONE, Level, Matching, SearchKey
from archive.levels import level_of
from archive.query import (
    InvalidMatch,
    Match,
    Query,
    UnknownAttribute,
    date_text,
    normal_time,
    parse_date_range,
    parse_time_range,
)
from archive.room import Archive
from archive.search import Found, search
from archive.zones import combined_moments, offset_minutes, shifted
from dicomweb.answers import multipart, text_answer, wanted
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, Representation, best
from dicomweb.native_xml import to_xml
from dicomweb.service import service_base
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from kernel.settings import Settings

blp = Blueprint("qido", __name__)

TAG = re.compile(r"[0-9A-Fa-f]{8}")

PATHS = (
    ("/studies", Level.STUDY),
    ("/studies/<study>/series", Level.SERIES),
    ("/series", Level.SERIES),
    ("/studies/<study>/series/<series>/instances", Level.INSTANCE),
    ("/studies/<study>/instances", Level.INSTANCE),
    ("/instances", Level.INSTANCE),
)


class TooBroad(CloudfilmError):
    """A search without a limit that finds more than one answer may carry (PS3.18 8.5, 413)."""

    kind = Kind.TOO_LARGE

    def __init__(self, most: int) -> None:
        super().__init__(f"More than {most} results; narrow the search, or page with limit and offset.")


def search_at(level: Level, study: str = "", series: str = "") -> Response:
    """Search for Studies, Series or Instances (PS3.18 10.6.1)."""
    media_type = search_media_type()
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    arguments = list(request.args.items(multi=True))
    own = room(Settings).dimse.utc_offset
    asked = parse_query(level, arguments, study, series, archive.settings.strict_search, own_offset=own)
    query, refuses = asked.query, archive.settings.refuse_broad_search and asked.query.limit is None
    if refuses:
        query = replace(query, limit=archive.settings.max_results)
    found = search(archive, caller, query)
    if refuses and found.has_more:
        raise TooBroad(archive.settings.max_results)
    if asked.offset:
        found = replace(found, rows=tuple(_at_offset(row, asked.offset, own) for row in found.rows))
    return search_answer(found, asked, media_type)


def _at_offset(row: bytes, offset: str, own: str) -> bytes:
    """A result with its dates and times at an offset from UTC; they are of the object's own, else the
    site's."""
    answer = parse_marked(row)
    of_object = offset_minutes(str((answer.get(TIMEZONE, {}).get("Value") or [""])[0]))
    here, there = of_object if of_object is not None else offset_minutes(own), offset_minutes(offset)
    if here is None or there is None:
        return row
    answer = shifted(answer, here - there) | {TIMEZONE: {"vr": "SH", "Value": [offset]}}
    return dump_marked(dict(sorted(answer.items())))


def search_answer(found: Found, asked: "Asked", media_type: str) -> Response:
    """A page of results, with what there is to warn of (PS3.18 8.3.4.4)."""
    warnings = list(asked.warnings)
    if found.has_more:
        offset = asked.query.offset + len(found.rows)
        warnings.append(f"There are more results; ask again with offset={offset}.")
    answer = _answer(found.rows, media_type)
    for warning in warnings:
        answer.headers.add("Warning", f'299 cloudfilm "{warning}"')
    return answer


OFFERED = (
    Representation(False, DICOM_JSON), Representation(False, JSON), Representation(True, DICOM_XML),
    Representation(False, DICOM_XML),  # as some clients ask for the parts
)  # fmt: skip


def search_media_type() -> str:
    """What the answer comes as. Raises NotAcceptable."""
    return best(wanted(), OFFERED).media_type


def _answer(rows: tuple[bytes, ...], media_type: str) -> Response:
    if not rows:
        return Response(status=204, headers={"Content-Type": media_type})
    base = service_base()
    if media_type == DICOM_XML:
        parts = (({"Content-Type": DICOM_XML}, (to_xml(orjson.loads(at_base(row, base))),)) for row in rows)
        return multipart(DICOM_XML, parts)
    return text_answer(at_base(b"[" + b",".join(rows) + b"]", base), media_type)


def _route(level: Level):  # type: ignore[no-untyped-def]
    def view(study: str = "", series: str = "") -> Response:
        return search_at(level, study, series)

    return view


for path, level in PATHS:
    blp.add_url_rule(
        path, endpoint=path.strip("/").replace("/", "-"), view_func=_route(level), methods=["GET"]
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, and what was passed over in reading it."""

    query: Query
    warnings: tuple[str, ...] = ()
    offset: str = ""  # from UTC, that dates and times are asked and answered in


def parse_query(
    level: Level,
    arguments: Iterable[tuple[str, str]],
    study: str = "",
    series: str = "",
    strict: bool = True,
    keys: Mapping[str, SearchKey] = KEY_BY_TAG,
    own_offset: str = "",
) -> Asked:
    """Read query parameters (PS3.18 8.3.4). keys: the attributes that there are to match, by tag.
    own_offset: from UTC, of the dates and times of studies.

    Raises UnknownAttribute for an attribute that is not supported (when strict), InvalidMatch for a bad
    value.
    """
    given = list(arguments)
    if len(given) > MOST_PARAMETERS:
        raise InvalidMatch("the query", f"give at most {MOST_PARAMETERS} parameters")
    flags = {name: _flag(name, value) for name, value in given if name in FLAGS}
    numbers = {name: _count(name, value) for name, value in given if name in ("limit", "offset")}
    include: set[str] = set()
    matches: list[Match] = []
    passed_over: list[str] = []
    include_all = False
    for name, value in given:
        if name == "includefield":
            for field in value.split(","):
                if field == "all":
                    include_all = True
                elif field:
                    include.add(tag_of(field).partition(".")[0])
        elif name not in CONTROL:
            try:
                matches.append(_match(_key(name, level, keys), value, flags))
            except UnknownAttribute:
                if strict:
                    raise
                passed_over.append(name if name.isalnum() else "?")
    include = {tag for tag in include if _is_answered_at(tag, level)}
    offset = next((_offset(value) for name, value in given if name in OFFSETS and value.strip()), "")
    here, there = offset_minutes(own_offset), offset_minutes(offset)
    zone = None if here is None or there is None else here - there
    matches = _combined(matches) if zone is None else combined_moments(matches, zone)
    query = Query(
        level, tuple(matches), study, series, frozenset(include), include_all,
        flags.get("fuzzymatching", False), numbers.get("limit"), numbers.get("offset", 0),
    )  # fmt: skip
    return Asked(query, tuple(f"The attribute {name[:64]} is not matched." for name in passed_over), offset)


OFFSETS = ("TimezoneOffsetFromUTC", "00080201")
FLAGS = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")
CONTROL = (*FLAGS, PARAMETER, "accept", "charset", "limit", "offset", *OFFSETS)
MOST_PARAMETERS = 200
EMPTY = '""'  # what has no value (PS3.4 C.2.2.2.7)
SEVERAL = frozenset({Matching.TEXT, Matching.FOLDED, Matching.PERSON_NAME, Matching.INDEXED, Matching.NUMBER})


def _match(key: SearchKey, value: str, flags: Mapping[str, bool]) -> Match:
    if value == EMPTY and flags.get("emptyvaluematching"):
        return Match(key, (), is_empty=True)
    if key.matching is Matching.NUMBER or (flags.get("multiplevaluematching") and key.matching in SEVERAL):
        return Match(key, tuple(part for part in re.split(r"[,\\]", value) if part) or ("",))
    return Match(key, (value,))


def _combined(matches: list[Match]) -> list[Match]:
    """Study Date and Study Time ranges as one range of moments (PS3.4 C.2.2.2.5.3): a night shift goes from
    the evening of one day to the morning of the next."""
    by_keyword = {match.key.keyword: match for match in matches if not match.is_empty}
    dates, times = by_keyword.get("StudyDate"), by_keyword.get("StudyTime")
    if dates is None or times is None or "-" not in dates.values[0] or "-" not in times.values[0]:
        return matches
    days = parse_date_range("StudyDate", dates.values[0])
    first_text, _, last_text = times.values[0].partition("-")
    parse_time_range("StudyTime", times.values[0])
    first = f"{date_text(days.first)}{normal_time(first_text or '00')}" if days.first else ""
    last = f"{date_text(days.last)}{normal_time(last_text or '235959.999999', end=True)}" if days.last else ""
    rest = [match for match in matches if match not in (dates, times)]
    return [*rest, Match(STUDY_MOMENT, (f"{first}-{last}",))]


def tag_of(name: str) -> str:
    """The tag, as 8 hexadecimal digits, of a keyword or of a tag; of a path, each with a dot between.

    Raises UnknownAttribute.
    """
    return ".".join(_one_tag(part, name) for part in name.split("."))


def _one_tag(part: str, name: str) -> str:
    if TAG.fullmatch(part):
        return part.upper()
    tag = tag_for_keyword(part)
    if tag is None:
        raise UnknownAttribute(name)
    return f"{tag:08X}"


def _key(name: str, level: Level, keys: Mapping[str, SearchKey]) -> SearchKey:
    key = keys.get(tag_of(name))
    if key is None or key.matching is Matching.NONE or key.level > level:
        raise UnknownAttribute(name)
    return key


def _is_answered_at(tag: str, level: Level) -> bool:
    """Whether a result of a level has an attribute that is asked for: of what lies below it has not (PS3.18
    10.6.3.3); whose a private one is, who asks knows."""
    return level_of(tag) <= level or int(tag[3], 16) % 2 == 1


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidMatch(name, "write true or false")
    return value.lower() == "true"


def _offset(text: str) -> str:
    """An offset from UTC as `+0800`; a plus that was not percent-encoded has become a space."""
    written = "+" + text.strip() if text.startswith(" ") else text.strip()
    if offset_minutes(written) is None:
        raise InvalidMatch("TimezoneOffsetFromUTC", "write an offset as +0800, with the plus as %2B")
    return written.replace(":", "")


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise InvalidMatch(name, "write a whole number, 0 or more")
    return int(value)
