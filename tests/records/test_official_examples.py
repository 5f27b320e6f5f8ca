"""The standard's own example resources: each is kept as it is written, in both forms, and found by each of
its search parameters.

A sample of them is kept here (`tests/data/fhir_examples.zip`); the whole set is used where the npm package
`hl7.fhir.r4.examples` lies (CLOUDFILM_FHIR_EXAMPLES, or tests/judges/node_modules).
"""

import json
import os
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from access.caller import Caller
from cloudfilm.rooms import Rooms
from kernel.errors import CloudfilmError
from records.documents import document_text, parse_document
from records.parameters import resource_types
from records.query import parse_search
from records.repository import read, write
from records.search import search
from records.xml_form import from_xml, to_xml
from tests.records.oracle import askings

HERE = Path(__file__).parents[1]
PACKAGE = Path(os.environ.get("CLOUDFILM_FHIR_EXAMPLES", HERE / "judges/node_modules/hl7.fhir.r4.examples"))
DEFINITIONS = frozenset(
    {
        "CodeSystem", "CompartmentDefinition", "ConceptMap", "OperationDefinition", "SearchParameter",
        "StructureDefinition", "ValueSet",
    }
)  # fmt: skip
DRAWN = frozenset({"ImagingStudy", "AuditEvent"})  # of these no documents are written


@lru_cache(maxsize=1)
def examples() -> dict[str, bytes]:
    """Example resources by file name."""
    if PACKAGE.is_dir():
        paths = sorted(path for path in PACKAGE.glob("*.json") if path.stat().st_size < 1_000_000)
        return {
            path.stem: path.read_bytes()
            for path in paths
            if path.stem.partition("-")[0] in resource_types() - DEFINITIONS
        }
    with zipfile.ZipFile(HERE / "data/fhir_examples.zip") as archive:
        return {Path(name).stem: archive.read(name) for name in sorted(archive.namelist())}


def written(text: str | bytes) -> Any:
    """A document as its very tokens, in their order, without what the server writes itself."""
    document = json.loads(
        text, parse_float=lambda t: ("number", t), parse_int=lambda t: ("number", t), object_pairs_hook=list
    )
    kept = []
    for key, value in document:
        if key == "id":
            continue
        if key == "meta":
            value = [pair for pair in value if pair[0] not in ("versionId", "lastUpdated")]
        if key != "meta" or value:
            kept.append((key, value))
    return sorted(kept, key=lambda pair: pair[0] != "meta" and pair[0] != "resourceType")


INVALID = frozenset({"Observation/decimal"})
"""Examples that break a rule of the standard themselves."""


@pytest.fixture
def corpus(rooms: Rooms, operator: Caller) -> dict[str, dict[str, Any]]:
    """Every example stored, by `Type/id`, as it was sent."""
    found: dict[str, dict[str, Any]] = {}
    refused: list[str] = []
    with rooms.database.transaction() as session:
        for text in examples().values():
            document = parse_document(text)
            type_, logical_id = document["resourceType"], str(document.get("id", ""))
            name = f"{type_}/{logical_id}"
            if type_ in DRAWN | {"SearchParameter", "Consent"} or not logical_id or name in found:
                continue
            try:
                with session.begin_nested():
                    write(rooms.records, session, operator, document, logical_id=logical_id)
            except CloudfilmError as refusal:
                refused.append(f"{name}: {refusal}")
            else:
                found[name] = json.loads(text)
    assert [each for each in refused if each.partition(":")[0] not in INVALID] == []
    return found


def test_every_example_is_read_as_it_was_written(
    rooms: Rooms, operator: Caller, corpus: dict[str, dict[str, Any]]
) -> None:
    changed = []
    for text in examples().values():
        sent = json.loads(text)
        name = f"{sent['resourceType']}/{sent.get('id')}"
        if name in corpus and sent == corpus[name]:
            stored = read(rooms.records, operator, sent["resourceType"], sent["id"])
            if written(stored.body) != written(text):
                changed.append(name)

    assert changed == []
    assert len(corpus) > 30


def test_every_example_comes_back_from_xml_as_it_was() -> None:
    changed = []
    for name, text in examples().items():
        document = parse_document(text)
        again = from_xml(to_xml(document))
        if _without_narrative(again) != _without_narrative(document):
            changed.append(name)

    assert changed == []


def _without_narrative(value: Any) -> Any:
    """The narrative's XHTML may be written in several ways that mean the same."""
    if isinstance(value, dict):
        return {key: _without_narrative(each) for key, each in value.items() if key != "div"}
    return [_without_narrative(each) for each in value] if isinstance(value, list) else value


def test_every_example_is_found_by_each_of_its_search_parameters(
    rooms: Rooms, operator: Caller, corpus: dict[str, dict[str, Any]]
) -> None:
    missed, asked = [], 0
    for name, document in corpus.items():
        type_, _, logical_id = name.partition("/")
        for code, value in _once(askings(document)):
            wanted = parse_search(type_, [("_id", logical_id), (code, value)])
            asked += 1
            if not search(rooms.records, operator, wanted).matches:
                missed.append(f"{name}?{code}={value}")

    assert missed == []
    assert asked > 200


def _once(pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(pairs))


def test_a_document_that_is_written_again_is_the_same_text() -> None:
    for text in examples().values():
        once = document_text(parse_document(text))
        assert document_text(parse_document(once)) == once
