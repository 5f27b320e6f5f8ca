"""R4's own StructureDefinitions, OperationDefinitions and CompartmentDefinitions, as they come with the
program."""

import json
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "definitions" / "r4.zip"


@lru_cache(maxsize=1)
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(FILE)


@lru_cache(maxsize=1)
def index() -> tuple[dict[str, Any], ...]:
    """What each document is found by: resourceType, id, url, name and the like."""
    return tuple(json.loads(_archive().read("index.json")))


@lru_cache(maxsize=1)
def _rows() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for row in index():
        found[(row["resourceType"], row["id"])] = row
        found[(row["resourceType"], row["url"])] = row
    return found


@lru_cache(maxsize=64)
def _document(resource_type: str, logical_id: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_archive().read(f"{resource_type}/{logical_id}.json"))
    return loaded


def shipped_document(resource_type: str, id_or_url: str) -> dict[str, Any] | None:
    """A document by its logical id or its canonical URL, or None."""
    row = _rows().get((resource_type, id_or_url))
    return None if row is None else _document(resource_type, row["id"])
