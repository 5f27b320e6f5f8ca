"""Composition/$document: a composition and all that it refers to, as one document (R4 Composition-document,
3.3)."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Action, Caller, Door
from fhir_server.negotiate import document_answer, fhir_base
from fhir_server.operations.given import given
from kernel.clock import new_id
from kernel.http import room
from records.documents import document_text, instant, parse_document
from records.parameters import resource_types
from records.query import Criterion, Search
from records.repository import Stored, read, write
from records.room import Records
from records.search import search

MOST_ROUNDS, MOST_ENTRIES, AT_ONCE = 4, 1000, 200


def compose_document(logical_id: str) -> Response:
    """The document Bundle, the composition first; with `persist` it is stored as well."""
    caller, records = current_caller(Door.FHIR), room(Records)
    said = given()
    composition = read(records, caller, "Composition", logical_id)
    base = fhir_base()
    entries = [composition, *_referred(records, caller, composition)]
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{new_id()}"},
        "type": "document",
        "timestamp": instant(records.clock.now()),
        "entry": [
            {
                "fullUrl": f"{base}/{each.resource_type}/{each.logical_id}",
                "resource": parse_document(each.body),
            }
            for each in entries
        ],
    }
    if not said.boolean("persist"):
        return document_answer(document_text(bundle))
    with records.database.transaction() as session:
        stored = write(records, session, caller, bundle, method="POST")
    answer = document_answer(stored.body, 201)
    answer.headers["Location"] = f"{base}/Bundle/{stored.logical_id}"
    return answer


def _referred(records: Records, caller: Caller, start: Stored) -> list[Stored]:
    """What a composition refers to, and what that refers to, a few steps deep; each once."""
    found: dict[str, Stored] = {}
    known = {f"{start.resource_type}/{start.logical_id}"}
    fresh = [start]
    for _ in range(MOST_ROUNDS):
        names = {name for each in fresh for name in references_in(json.loads(each.body))} - known
        fresh = list(_read_all(records, caller, names))
        known |= names
        found |= {f"{each.resource_type}/{each.logical_id}": each for each in fresh}
        if not fresh or len(found) >= MOST_ENTRIES:
            break
    return list(found.values())[:MOST_ENTRIES]


def references_in(value: Any) -> Iterator[str]:
    """Every literal reference to a resource of this server, as Type/id."""
    if isinstance(value, dict):
        literal = value.get("reference")
        if isinstance(literal, str):
            type_, slash, logical_id = literal.partition("/_history/")[0].partition("/")
            if slash and type_ in resource_types() and "/" not in logical_id:
                yield f"{type_}/{logical_id}"
        for each in value.values():
            yield from references_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from references_in(each)


def _read_all(records: Records, caller: Caller, names: Iterable[str]) -> Iterator[Stored]:
    """Several resources by name, one search for each type; those out of reach are left out."""
    by_type: dict[str, list[str]] = {}
    for name in sorted(names):
        type_, _, logical_id = name.partition("/")
        by_type.setdefault(type_, []).append(logical_id)
    for type_, ids in by_type.items():
        if not (caller.may(Action(type_, "s")) and caller.may(Action(type_, "r"))):
            continue
        for at in range(0, len(ids), AT_ONCE):
            some = ids[at : at + AT_ONCE]
            wanted = Search(type_, (Criterion("_id", tuple(some)),), count=len(some), types=(type_,))
            yield from search(records, caller, wanted).matches
