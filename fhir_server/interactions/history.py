"""FHIR history of a document, a type and everything (R4 3.1.0.9), the newest version first."""

from datetime import datetime, timedelta
from urllib.parse import urlencode

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.negotiate import fhir_base, require_json, shown
from kernel.http import room
from records.dates import EPOCH, interval
from records.documents import instant
from records.history import DEFAULT_VERSIONS, Wanted, history
from records.query import MOST_ROWS, InvalidSearch
from records.repository import Stored
from records.room import Records

STATUS = {"POST": "201", "PUT": "200", "PATCH": "200", "DELETE": "204"}
KNOWN = frozenset(
    {"_count", "_since", "_at", "_cursor", "_format", "_pretty", "_summary", "_elements", "_sort"}
)


def history_of_resource(resource_type: str, logical_id: str) -> Response:
    """Every version of one document."""
    return _history(resource_type, logical_id)


def history_of_type(resource_type: str) -> Response:
    """Every version of every document of a type."""
    return _history(resource_type, "")


def history_of_everything() -> Response:
    """Every version of every document."""
    return _history("", "")


def _history(resource_type: str, logical_id: str) -> Response:
    require_json()
    page = history(room(Records), current_caller(Door.FHIR), _wanted(resource_type, logical_id))
    place = "".join(f"/{part}" for part in (resource_type, logical_id) if part)
    url = f"{fhir_base()}{place}/_history"
    links = [("self", _with_query(url, {}))]
    if page.next_cursor:
        links.append(("next", _with_query(url, {"_cursor": page.next_cursor})))
    total = None if page.next_cursor or not logical_id or "_cursor" in request.args else len(page.versions)
    return bundle_answer("history", [_entry(stored) for stored in page.versions], links, total)


def _with_query(url: str, more: dict[str, str]) -> str:
    asked = [(name, value) for name, value in request.args.items(multi=True) if name not in more]
    query = urlencode([*asked, *more.items()])
    return f"{url}?{query}" if query else url


def _wanted(resource_type: str, logical_id: str) -> Wanted:
    for name in request.args:
        if name not in KNOWN:
            raise InvalidSearch(name, "it does not go with a history")
    if request.args.get("_sort", "-_lastUpdated") != "-_lastUpdated":
        raise InvalidSearch("_sort", "a history has the newest version first")
    count = request.args.get("_count", str(DEFAULT_VERSIONS))
    if not (count.isascii() and count.isdigit() and len(count) < 7):
        raise InvalidSearch("_count", "write a whole number")
    since, at = request.args.get("_since"), request.args.get("_at")
    return Wanted(
        resource_type,
        logical_id,
        max(1, min(int(count), MOST_ROWS)),
        _span("_since", since)[0] if since else None,
        _span("_at", at) if at else None,
        request.args.get("_cursor", ""),
    )


def _span(name: str, text: str) -> tuple[datetime, datetime]:
    try:
        low, high = interval(text.replace(" ", "+"))
        return EPOCH + timedelta(milliseconds=low), EPOCH + timedelta(milliseconds=high)
    except (ValueError, OverflowError):
        raise InvalidSearch(name, "write a date or an instant") from None


def _entry(stored: Stored) -> Entry:
    name = f"{stored.resource_type}/{stored.logical_id}"
    method = stored.method or "PUT"
    return Entry(
        f"{fhir_base()}/{name}",
        shown(stored) if stored.body else "",
        request={"method": method, "url": stored.resource_type if method == "POST" else name},
        response={
            "status": "201" if stored.version == 1 and method != "DELETE" else STATUS[method],
            "etag": f'W/"{stored.version}"',
            "lastModified": instant(stored.updated_at),
        },
    )
