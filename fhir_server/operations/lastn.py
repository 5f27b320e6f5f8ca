"""Observation/$lastn: the last observations of each kind (R4 Observation-lastn)."""

import json
from urllib.parse import urlencode

from flask import Response, request

from access.bearer import current_caller
from access.caller import Door
from fhir_server.bundles import bundle_answer, entries_of
from fhir_server.negotiate import fhir_base
from fhir_server.operations.given import InvalidParameter, given
from kernel.http import room
from records.query import parse_search
from records.repository import Stored
from records.room import Records
from records.search import SearchResult, search

LOOKED_THROUGH = 1000


def last_observations() -> Response:
    """Of a patient or subject: the last `max` of each code, the newest first."""
    caller = current_caller(Door.FHIR)
    said = given()
    most = said.integer("max") or 1
    arguments = [*request.args.items(multi=True), *request.form.items(multi=True)]
    criteria = [(name, value) for name, value in arguments if name not in ("max", "_format", "_pretty")]
    if not any(name.partition(":")[0] in ("patient", "subject") for name, _ in criteria):
        raise InvalidParameter("patient", "given")
    fixed = [("_sort", "-date"), ("_count", str(LOOKED_THROUGH))]
    found = search(room(Records), caller, parse_search("Observation", [*criteria, *fixed]))
    counts: dict[str, int] = {}
    kept: list[Stored] = []
    for each in found.matches:
        code = kind_of(json.loads(each.body))
        counts[code] = counts.get(code, 0) + 1
        if counts[code] <= most:
            kept.append(each)
    url = f"{fhir_base()}/Observation/$lastn?{urlencode(arguments)}"
    return bundle_answer("searchset", entries_of(SearchResult(tuple(kept))), [("self", url)], len(kept))


def kind_of(observation: dict[str, object]) -> str:
    """What makes two observations of one kind: their first coding, else the text."""
    code = observation.get("code")
    if not isinstance(code, dict):
        return ""
    for coding in code.get("coding") or ():
        return f"{coding.get('system')}|{coding.get('code')}"
    return str(code.get("text", ""))
