"""Search transaction (PS3.18 10.6, QIDO-RS): the query string becomes a `Query`, the rows become an
answer."""

import re
from collections.abc import Iterable

from flask import Blueprint, Response, request
from pydicom.datadict import tag_for_keyword

from access.bearer import current_caller
from access.caller import Door
from archive.documents import at_base
from archive.keys import KEY_BY_TAG, Level, Matching, SearchKey
from archive.query import InvalidMatch, Match, Query, UnknownAttribute
from archive.room import Archive
from archive.search import search
from dicomweb.media_types import DICOM_JSON, negotiate_json
from dicomweb.service import service_base
from kernel.http import room

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


def search_at(level: Level, study: str = "", series: str = "") -> Response:
    """Search for Studies, Series or Instances (PS3.18 10.6.1)."""
    media_type = negotiate_json(request.headers.get("Accept"), request.args.get("accept"))
    archive = room(Archive)
    arguments = list(request.args.items(multi=True))
    query = parse_query(level, arguments, study, series, strict=archive.settings.strict_search)
    found = search(archive, current_caller(Door.DICOMWEB), query)
    if not found.rows:
        return Response(status=204, headers={"Content-Type": media_type})
    body = at_base(b"[" + b",".join(found.rows) + b"]", service_base())
    answer = Response(body, mimetype=media_type or DICOM_JSON)
    if found.has_more:
        answer.headers["Warning"] = (
            f'299 cloudfilm "There are more results; ask again with offset={query.offset + len(found.rows)}."'
        )
    return answer


def _route(level: Level):  # type: ignore[no-untyped-def]
    def view(study: str = "", series: str = "") -> Response:
        return search_at(level, study, series)

    return view


for path, level in PATHS:
    blp.add_url_rule(
        path, endpoint=path.strip("/").replace("/", "-"), view_func=_route(level), methods=["GET"]
    )


def parse_query(
    level: Level, arguments: Iterable[tuple[str, str]], study: str = "", series: str = "", strict: bool = True
) -> Query:
    """Read query parameters (PS3.18 8.3.4).

    Raises UnknownAttribute for an attribute that is not supported (when strict), InvalidMatch for a bad
    value.
    """
    matches: list[Match] = []
    include: set[str] = set()
    include_all, fuzzy, limit, offset = False, False, None, 0
    for name, value in arguments:
        if name == "includefield":
            for field in value.split(","):
                if field == "all":
                    include_all = True
                elif field:
                    include.add(tag_of(field))
        elif name == "fuzzymatching":
            fuzzy = _flag(name, value)
        elif name == "limit":
            limit = _count(name, value)
        elif name == "offset":
            offset = _count(name, value)
        elif name not in CONTROL:
            try:
                matches.append(Match(_key(name, level), (value,)))
            except UnknownAttribute:
                if strict:
                    raise
    return Query(level, tuple(matches), study, series, frozenset(include), include_all, fuzzy, limit, offset)


CONTROL = ("accept", "charset", "emptyvaluematching", "multiplevaluematching")


def tag_of(name: str) -> str:
    """The tag, as 8 hexadecimal digits, of a keyword or of a tag. Raises UnknownAttribute."""
    if TAG.fullmatch(name):
        return name.upper()
    tag = tag_for_keyword(name)
    if tag is None:
        raise UnknownAttribute(name)
    return f"{tag:08X}"


def _key(name: str, level: Level) -> SearchKey:
    key = KEY_BY_TAG.get(tag_of(name))
    if key is None or key.matching is Matching.NONE or key.level > level:
        raise UnknownAttribute(name)
    return key


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidMatch(name, "write true or false")
    return value.lower() == "true"


def _count(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise InvalidMatch(name, "write a whole number, 0 or more")
    return int(value)
