"""The code systems, value sets and concept maps that come with the program (`definitions/r4.zip`)."""

import json
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "definitions" / "r4.zip"


@dataclass(frozen=True, slots=True)
class Entry:
    """One shipped document, by what it is found by."""

    type: str
    id: str
    url: str
    version: str = ""
    name: str = ""
    title: str = ""
    status: str = ""
    valueSet: str = ""
    content: str = ""
    supplements: str = ""


@lru_cache(maxsize=1)
def _archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(FILE)


@lru_cache(maxsize=1)
def index() -> tuple[Entry, ...]:
    """Every shipped document."""
    return tuple(Entry(**row) for row in json.loads(_archive().read("index.json")))


@lru_cache(maxsize=1)
def _by_url() -> dict[tuple[str, str], list[Entry]]:
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in index():
        found.setdefault((entry.type, entry.url), []).append(entry)
    return found


def entries(type_: str, url: str) -> list[Entry]:
    """The shipped versions of a canonical URL."""
    return _by_url().get((type_, url), [])


@lru_cache(maxsize=1)
def implicit_code_systems() -> dict[str, str]:
    """The code systems by the URL of the value set of all their codes (CodeSystem.valueSet)."""
    return {entry.valueSet: entry.url for entry in index() if entry.valueSet}


@lru_cache(maxsize=128)
def document(entry: Entry) -> dict[str, Any]:
    """The document of an entry."""
    loaded: dict[str, Any] = json.loads(_archive().read(f"{entry.type}/{entry.id}.json"))
    return loaded


@lru_cache(maxsize=1)
def _by_id() -> dict[tuple[str, str], Entry]:
    return {(entry.type, entry.id): entry for entry in index()}


def document_by_id(type_: str, logical_id: str) -> dict[str, Any] | None:
    """A shipped document by its logical id, or None."""
    entry = _by_id().get((type_, logical_id))
    return None if entry is None else document(entry)
