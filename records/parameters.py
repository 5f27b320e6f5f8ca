"""The search parameters of every resource type, from the standard's definitions, compiled when first used."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from records.definitions import definitions
from records.paths import Path, UnsupportedPath, compile_path

EVERY_TYPE = ("Resource", "DomainResource")
FROM_THE_ROW = {"_id": "token", "_lastUpdated": "date"}
"""Answered from the resource's own row; they have no index rows."""

NOT_INDEXED = frozenset(
    {"_content", "_filter", "_query", "_text", "_id", "_lastUpdated", "_list", "_has", "_type"}
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one resource type."""

    resource_type: str
    code: str
    type: str  # token, string, date, number, quantity, reference, uri, composite or special
    number: int  # stands for type and code in the index tables
    expression: str
    targets: tuple[str, ...] = ()
    path: Path | None = None  # None: not made from the document


def parameter_number(resource_type: str, code: str) -> int:
    """A 31-bit number for a parameter of a type, the same on every machine."""
    digest = hashlib.blake2b(f"{resource_type}.{code}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) & 0x7FFFFFFF


@lru_cache(maxsize=256)
def parameters_of(resource_type: str) -> dict[str, Parameter]:
    """The parameters of a type by code."""
    tables = definitions()["parameters"]
    found = {}
    for base in (*EVERY_TYPE, resource_type):
        for code, row in tables.get(base, {}).items():
            found[code] = _parameter(resource_type, code, row)
    return found


RESTATED = {("Patient", "deceased"): "Patient.deceased"}
"""Expressions that say with `and` what the indexing of their leaf says already."""


def _parameter(resource_type: str, code: str, row: dict[str, object]) -> Parameter:
    expression = RESTATED.get((resource_type, code), str(row["expression"]))
    path = None
    if code not in NOT_INDEXED and expression and row["type"] not in ("composite", "special"):
        try:
            path = compile_path(expression, resource_type)
        except UnsupportedPath:
            path = None
    targets = row.get("target", [])
    return Parameter(
        resource_type,
        code,
        str(row["type"]),
        parameter_number(resource_type, code),
        expression,
        tuple(str(target) for target in targets) if isinstance(targets, list) else (),
        path,
    )


@lru_cache(maxsize=1)
def resource_types() -> frozenset[str]:
    """Every resource type that can be stored."""
    return frozenset(
        name
        for name, element in definitions()["elements"].items()
        if "." not in name and element["kind"] == "resource" and not element["abstract"]
    )
