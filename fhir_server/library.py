"""Definitions that come with the program, as if they were stored: read by id, found by what their index has.

A document of the site's own under the same id, or URL, comes first.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from flask import current_app

from conformance import library
from conformance.capability import operation_definition
from conformance.search_parameters import search_parameter, search_parameters
from fhir_server.negotiate import fhir_base
from fhir_server.operations.everything import TYPES as EVERYTHING
from records.repository import Stored
from terminology import dicom, shipped

CONFORMANCE = ("StructureDefinition", "OperationDefinition", "CompartmentDefinition")
TERMINOLOGY = ("CodeSystem", "ValueSet", "ConceptMap")
TYPES = frozenset({*CONFORMANCE, *TERMINOLOGY, "SearchParameter"})
MADE_AT = datetime(2019, 11, 1, tzinfo=UTC)  # R4 4.0.1
MOST = 200


def offered_operations() -> dict[str, set[str]]:
    """The operations that routes offer, by resource type; "" for the system, "Resource" for every type."""
    found: dict[str, set[str]] = {}
    for rule in current_app.url_map.iter_rules():
        parts = rule.rule.strip("/").split("/")
        if parts[0] != "fhir" or not parts[-1].startswith("$") or "_history" in parts:
            continue
        owner = parts[1] if len(parts) > 2 else ""
        if owner.startswith("$"):
            continue  # where answers wait, no operation
        found.setdefault("Resource" if owner.startswith("<") else owner, set()).add(parts[-1][1:])
    for type_ in EVERYTHING:
        found.setdefault(type_, set()).add("everything")
    found.get("Resource", set()).discard("everything")
    return found


def shipped_resource(resource_type: str, logical_id: str) -> Stored | None:
    """A definition by its id, or None."""
    document: dict[str, Any] | None = None
    if resource_type in TERMINOLOGY:
        document = shipped.document_by_id(resource_type, logical_id)
        if document is None and resource_type == "ValueSet":
            document = dicom.context_group(logical_id)
    elif resource_type == "SearchParameter":
        document = search_parameter(logical_id)
    elif resource_type in CONFORMANCE and not logical_id.startswith("http"):
        document = library.shipped_document(resource_type, logical_id)
        if document is None and resource_type == "OperationDefinition":
            document = operation_definition(fhir_base(), offered_operations(), logical_id)
    if document is None:
        return None
    return Stored(resource_type, logical_id, 1, MADE_AT, json.dumps(document, ensure_ascii=False))


def shipped_matches(resource_type: str, arguments: Iterable[tuple[str, str]]) -> list[Stored]:
    """The definitions that a search by url, name, id and the like finds."""
    criteria = [(name, value) for name, value in arguments if value and not _is_of_the_result(name)]
    if resource_type not in TYPES or not criteria:
        return []
    tests = [_test(name, value) for name, value in criteria]
    ids = [row["id"] for row in _rows(resource_type) if all(test and test(row) for test in tests)]
    loaded = (shipped_resource(resource_type, each) for each in ids[:MOST])
    return [each for each in loaded if each is not None]


def _rows(resource_type: str) -> Iterator[dict[str, Any]]:
    if resource_type == "SearchParameter":
        yield from search_parameters()
    elif resource_type in TERMINOLOGY:
        for entry in shipped.index():
            if entry.type == resource_type:
                names = ("id", "url", "version", "name", "title", "status")
                yield {name: getattr(entry, name) for name in names}
        if resource_type == "ValueSet":
            yield from dicom.index()
    else:
        for row in library.index():
            if row["resourceType"] == resource_type:
                yield {"base": row.get("baseDefinition", ""), **row}


def _is_of_the_result(name: str) -> bool:
    return name.startswith("_") and name != "_id"


def _test(name: str, value: str) -> Callable[[dict[str, Any]], bool] | None:
    """Whether a row meets a criterion; None for one that rows are not found by."""
    code, _, modifier = name.partition(":")
    comparison = COMPARISONS.get((KINDS.get(code, ""), modifier))
    if comparison is None:
        return None
    key, wanted = code.removeprefix("_"), [each for each in value.split(",") if each]

    def holds(row: dict[str, Any]) -> bool:
        values = row.get(key, "")
        texts = values if isinstance(values, list) else [str(values)]
        return any(comparison(row, text, each) for text in texts for each in wanted)

    return holds


KINDS = {
    "url": "uri", "base": "uri", "name": "string", "title": "string", "_id": "token", "version": "token",
    "status": "token", "code": "token", "type": "token", "kind": "token", "derivation": "token",
}  # fmt: skip

Comparison = Callable[[dict[str, Any], str, str], bool]

COMPARISONS: dict[tuple[str, str], Comparison] = {
    ("uri", ""): lambda row, text, wanted: wanted in (text, f"{text}|{row.get('version', '')}"),
    ("uri", "below"): lambda _, text, wanted: text.startswith(wanted),
    ("string", ""): lambda _, text, wanted: text.lower().startswith(wanted.lower()),
    ("string", "contains"): lambda _, text, wanted: wanted.lower() in text.lower(),
    ("string", "exact"): lambda _, text, wanted: text == wanted,
    ("token", ""): lambda _, text, wanted: text.lower() == wanted.rpartition("|")[2].lower(),
}
