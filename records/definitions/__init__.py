"""The standard's own definitions as data, trimmed and packed. Loaded once, when first asked for.

Origin: the npm package `hl7.fhir.r4.examples` 4.0.1 by Health Level Seven International, CC0-1.0.
`build.py` beside this file makes `r4.json.gz` from it, `build_validation.py` makes `validation.json.gz`.
"""

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "r4.json.gz"
FORMS = Path(__file__).parent / "forms.json.gz"
VALIDATION_FILE = Path(__file__).parent / "validation.json.gz"


@lru_cache(maxsize=1)
def definitions() -> dict[str, Any]:
    """`parameters`, `elements` and `compartments`; see `build.py` for their shapes."""
    with gzip.open(FILE, "rb") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


@lru_cache(maxsize=1)
def forms() -> dict[str, Any]:
    """`order`, `summary` and `compartments`: what other forms of a document than JSON as it is take."""
    with gzip.open(FORMS, "rb") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


@lru_cache(maxsize=1)
def validation_tables() -> dict[str, Any]:
    """`codes` and `invariants`; see `build_validation.py` for their shapes."""
    with gzip.open(VALIDATION_FILE, "rb") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded
