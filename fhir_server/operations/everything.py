"""$everything of patients, encounters and groups (R4 Patient-, Encounter- and Group-everything)."""

from urllib.parse import urlencode

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import bundle_answer, entries_of
from fhir_server.negotiate import fhir_base
from fhir_server.operations.given import Given, given
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from records.everything import Everything, everything
from records.room import Records
from records.search import SearchResult

MOST = 1000
TYPES = ("Patient", "Encounter", "Group")


class NoEverything(CloudfilmError):
    """$everything is asked of a type that has none."""

    kind = Kind.NOT_ALLOWED

    def __init__(self, resource_type: str) -> None:
        super().__init__(f"{resource_type[:64]} has no $everything; {', '.join(TYPES)} have.")


def everything_of_patients() -> Response:
    """A page of all that belongs to any patient, and what it refers to outside."""
    return everything_of("Patient", "")


def everything_of(resource_type: str, logical_id: str) -> Response:
    """A page of all that belongs to one patient, encounter or group, and what it refers to outside."""
    caller = current_caller(Door.FHIR)
    if resource_type not in TYPES:
        raise NoEverything(resource_type)
    said = given()
    wanted = Everything(
        resource_type=resource_type,
        logical_id=logical_id,
        start=said.text("start"),
        end=said.text("end"),
        since=said.text("_since"),
        types=types_of(said),
        count=min(said.integer("_count") or 200, MOST),
        cursor=said.text("_cursor"),
    )
    found = everything(room(Records), caller, wanted)
    return bundle_answer("searchset", entries_of(found), _links(found, request.path.partition("/fhir")[2]))


def types_of(said: Given) -> tuple[str, ...]:
    """The types that `_type` names, separated by commas."""
    return tuple(each.strip() for text in said.texts("_type") for each in text.split(",") if each.strip())


def _links(found: SearchResult, path: str) -> list[tuple[str, str]]:
    url = fhir_base() + path
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != "_cursor"]
    links = [("self", f"{url}?{urlencode([*request.args.items(multi=True)])}".rstrip("?"))]
    if found.next_cursor:
        links.append(("next", f"{url}?{urlencode([*kept, ('_cursor', found.next_cursor)])}"))
    return links
