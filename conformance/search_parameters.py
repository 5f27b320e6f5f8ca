"""R4's SearchParameters that search goes by, drawn from its own tables (R4 3.1.1, SearchParameter).

One definition may be that of several types: `clinical-patient`, `individual-phonetic`.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from records.definitions import definitions
from records.parameters import EVERY_TYPE

NOT_SEARCHED = frozenset({"_query"})


def definition_id(resource_type: str, code: str) -> str:
    """The id of the standard's definition of a type's parameter."""
    tables = definitions()["parameters"]
    for base in (resource_type, *EVERY_TYPE):
        row = tables.get(base, {}).get(code)
        if row is not None:
            return str(row.get("id") or f"{base}-{code.removeprefix('_')}")
    raise LookupError(f"{resource_type}.{code}")


def parameter_url(resource_type: str, code: str) -> str:
    """The canonical URL of a search parameter of the standard."""
    return f"http://hl7.org/fhir/SearchParameter/{definition_id(resource_type, code)}"


@lru_cache(maxsize=1)
def _drawn() -> dict[str, dict[str, Any]]:
    """Every definition by its id."""
    found: dict[str, dict[str, Any]] = {}
    for base, rows in sorted(definitions()["parameters"].items()):
        for code, row in rows.items():
            if code in NOT_SEARCHED:
                continue
            document = found.setdefault(
                definition_id(base, code),
                {
                    "resourceType": "SearchParameter",
                    "id": definition_id(base, code),
                    "url": parameter_url(base, code),
                    "version": "4.0.1",
                    "name": code,
                    "status": "active",
                    "description": f"What resources are found by as {code}",
                    "code": code,
                    "base": [],
                    "type": row["type"],
                }
                | ({"expression": row["expression"]} if row["expression"] else {})
                | ({"target": row["target"]} if "target" in row else {}),
            )
            document["base"].append(base)
    return found


def search_parameter(logical_id: str) -> dict[str, Any] | None:
    """The definition with an id, or None."""
    return _drawn().get(logical_id)


def search_parameters() -> Iterator[dict[str, Any]]:
    """Every definition."""
    return iter(_drawn().values())
