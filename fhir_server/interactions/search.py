"""FHIR search on a type, by GET and by POST (R4 3.1.1)."""

from urllib.parse import urlencode

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.negotiate import fhir_base, prefers, require_json
from fhir_server.outcomes import outcome
from kernel.http import room
from records.documents import document_text
from records.room import Records
from records.search import SearchResult, parse_search, search


def search_type(resource_type: str) -> Response:
    """Find documents of a type. What is not known is refused, unless the client prefers
    `handling=lenient`."""
    require_json()
    arguments = [*request.args.items(multi=True), *request.form.items(multi=True)]
    wanted = parse_search(resource_type, arguments, lenient=prefers("handling") == "lenient")
    result = search(room(Records), current_caller(Door.FHIR), wanted)
    return bundle_answer("searchset", _entries(result), _links(result, arguments), result.total)


def _entries(result: SearchResult) -> list[Entry]:
    base = fhir_base()
    entries = [
        Entry(f"{base}/{stored.resource_type}/{stored.logical_id}", stored.body, {"mode": mode})
        for mode, page in (("match", result.matches), ("include", result.included))
        for stored in page
    ]
    if result.search.ignored:
        names = ", ".join(result.search.ignored)
        told = outcome("warning", "not-supported", f"These parameters were ignored: {names}")
        entries.append(Entry("", document_text(told), {"mode": "outcome"}))
    return entries


def _links(result: SearchResult, arguments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Where this page is found again, without what was ignored, and where the next one is."""
    url = f"{fhir_base()}/{result.search.resource_type}"
    kept = [(name, value) for name, value in arguments if name not in result.search.ignored]
    links = [("self", f"{url}?{urlencode(kept)}" if kept else url)]
    if result.next_cursor:
        following = [(name, value) for name, value in kept if name != "_cursor"]
        links.append(("next", f"{url}?{urlencode([*following, ('_cursor', result.next_cursor)])}"))
    return links
