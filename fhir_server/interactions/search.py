"""FHIR search by GET and by POST: of a type, of everything, of a compartment (R4 3.1.1)."""

from dataclasses import replace
from urllib.parse import urlencode

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import Entry, bundle_answer, entries_of
from fhir_server.library import TYPES, shipped_matches
from fhir_server.negotiate import fhir_base, prefers, require_json
from fhir_server.outcomes import outcome
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from records.definitions import forms
from records.documents import document_text
from records.query import parse_search
from records.repository import Stored
from records.room import Records
from records.search import SearchResult, search

FORM = "application/x-www-form-urlencoded"


class NoCompartment(CloudfilmError):
    """A type that makes no compartment (R4 3.1.1.2)."""

    kind = Kind.NOT_FOUND

    def __init__(self, resource_type: str) -> None:
        super().__init__(f"{resource_type[:64]!r} makes no compartment.")


class NoSuchOperation(CloudfilmError):
    """An operation that there is not on a resource (R4 3.2.0)."""

    kind = Kind.NOT_FOUND

    def __init__(self, resource_type: str, operation: str) -> None:
        super().__init__(f"{resource_type[:64]} has no operation {operation[:64]!r}.")


class BodyIsNoSearch(CloudfilmError):
    """A search by POST whose body is not the form that a search is written in (R4 3.1.1.1)."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__(f"Send what is searched for as {FORM}.")


def search_type(resource_type: str) -> Response:
    """Find documents of a type."""
    return _search(resource_type, f"/{resource_type}")


def search_everything() -> Response:
    """Find documents of several types, or of all."""
    return _search("", "/")


def search_compartment(compartment: str, logical_id: str, resource_type: str) -> Response:
    """Find what belongs to a patient, an encounter, a practitioner, a device; of a type, or `*` for all."""
    current_caller(Door.FHIR)
    if resource_type.startswith("$"):
        raise NoSuchOperation(compartment, resource_type)
    if compartment not in forms()["compartments"]:
        raise NoCompartment(compartment)
    type_ = "" if resource_type == "*" else resource_type
    return _search(type_, f"/{compartment}/{logical_id}/{resource_type}", (compartment, logical_id))


def _search(resource_type: str, path: str, compartment: tuple[str, ...] = ()) -> Response:
    """What is not known is refused, unless the client prefers `handling=lenient`."""
    require_json()
    arguments = list(request.args.items(multi=True))
    if request.method == "POST":
        if request.mimetype != FORM and request.stream.read(1):
            raise BodyIsNoSearch
        arguments += request.form.items(multi=True)
    wanted = parse_search(
        resource_type,
        [(name, _own(value)) for name, value in arguments],
        lenient=prefers("handling") == "lenient",
        compartment=compartment,
    )
    result = search(room(Records), current_caller(Door.FHIR), wanted)
    if not result.next_cursor and not wanted.cursor and resource_type in TYPES:
        result = _with_shipped(result, shipped_matches(resource_type, arguments))
    return bundle_answer("searchset", _entries(result), _links(result, path, arguments), result.total)


def _with_shipped(result: SearchResult, shipped: list[Stored]) -> SearchResult:
    """The definitions that come with the program behind the site's own."""
    known = {each.logical_id for each in result.matches}
    more = tuple(each for each in shipped if each.logical_id not in known)
    total = None if result.total is None else result.total + len(more)
    return replace(result, matches=(*result.matches, *more), total=total)


def _own(value: str) -> str:
    """A value with references to this server as they are kept: `Patient/1`."""
    return value.replace(f"{fhir_base()}/", "") if "://" in value else value


def _entries(result: SearchResult) -> list[Entry]:
    entries, told = entries_of(result), []
    if result.search.ignored:
        told.append(f"These parameters were ignored: {', '.join(result.search.ignored)}")
    if result.left_out:
        told.append("More was to be included than one answer holds; ask with a smaller _count.")
    for text in told:
        warning = document_text(outcome("warning", "not-supported", text))
        entries.append(Entry("", warning, {"mode": "outcome"}))
    return entries


def _links(result: SearchResult, path: str, arguments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Where this page is found again, without what was ignored, and where the others are."""
    url = fhir_base() + path.rstrip("/")
    kept = [(name, value) for name, value in arguments if name not in result.search.ignored]
    first = [(name, value) for name, value in kept if name != "_cursor"]
    links = [("self", _at(url, kept)), ("first", _at(url, first))]
    if result.previous_cursor:
        links.append(("previous", _at(url, [*first, ("_cursor", result.previous_cursor)])))
    if result.next_cursor:
        links.append(("next", _at(url, [*first, ("_cursor", result.next_cursor)])))
    return links


def _at(url: str, arguments: list[tuple[str, str]]) -> str:
    return f"{url}?{urlencode(arguments)}" if arguments else url
