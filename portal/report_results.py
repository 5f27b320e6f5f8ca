"""What a report found in numbers and codes, as a table: its Observations.

FHIR R4 DiagnosticReport.result, Observation.value[x], referenceRange, interpretation, component.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from access.caller import Action, Caller
from records.documents import parse_document, plain
from records.repository import Stored
from records.room import Records
from records.search import parse_search, search

READ_RESULTS = Action("Observation", "s")
MOST_RESULTS = 200
FLAGS = {  # HL7 table 0078 as v3 ObservationInterpretation: how the row is marked
    "H": "high", "HH": "high", "HU": "high", "L": "low", "LL": "low", "LU": "low", "A": "abnormal",
    "AA": "abnormal", "POS": "abnormal", "DET": "abnormal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResultShown:
    """One row: what was measured or found, and what is usual."""

    name: str
    value: str
    usual: str
    flag: str  # high, low, abnormal, or nothing


def results_of(
    records: Records, caller: Caller, documents: Iterable[Mapping[str, Any]]
) -> dict[str, tuple[ResultShown, ...]]:
    """The results of some DiagnosticReports, by the report's id, each in the report's order.

    What the caller may not read is left out.
    """
    named = {str(document["id"]): _names(document) for document in documents}
    found = {
        stored.logical_id: tuple(_rows(plain(parse_document(stored.body.encode()))))
        for stored in _observations(records, caller, named.values())
    }
    return {
        report: tuple(row for name in names for row in found.get(name, ())) for report, names in named.items()
    }


def observations_of(
    records: Records, caller: Caller, documents: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The Observations that some DiagnosticReports name, as far as the caller may read them."""
    named = [_names(document) for document in documents]
    return [json.loads(stored.body) for stored in _observations(records, caller, named)]


def _observations(records: Records, caller: Caller, named: Iterable[Sequence[str]]) -> Sequence[Stored]:
    wanted = list(dict.fromkeys(name for names in named for name in names))[:MOST_RESULTS]
    if not wanted or not caller.may(READ_RESULTS):
        return ()
    asked = parse_search("Observation", [("_id", ",".join(wanted)), ("_count", str(MOST_RESULTS))])
    return search(records, caller, asked).matches


def _names(document: Mapping[str, Any]) -> list[str]:
    references = (str(each.get("reference", "")).partition("/") for each in document.get("result", []))
    return [name for kind, _, name in references if kind == "Observation"]


def _rows(observation: dict[str, Any]) -> Iterable[ResultShown]:
    """An Observation is a row; each of its components, or its members, one more."""
    if observation.get("status") in ("cancelled", "entered-in-error"):
        return
    parts = [observation, *observation.get("component", [])]
    for part in parts:
        value = value_text(part)
        if value:
            yield ResultShown(concept_text(part.get("code")), value, _usual(part), _flag(part))


def concept_text(concept: Any) -> str:
    """A CodeableConcept as people read it."""
    if not isinstance(concept, dict):
        return ""
    names = [
        concept.get("text"),
        *(each.get("display") or each.get("code") for each in concept.get("coding", [])),
    ]
    return str(next((name for name in names if name), ""))


def value_text(part: Mapping[str, Any]) -> str:
    """The value of an Observation or component; empty when it has none."""
    if "valueQuantity" in part:
        return _quantity(part["valueQuantity"])
    if "valueCodeableConcept" in part:
        return concept_text(part["valueCodeableConcept"])
    if "valueRange" in part:
        return _between(part["valueRange"].get("low"), part["valueRange"].get("high"))
    if "valueRatio" in part:
        sides = (_quantity(part["valueRatio"].get(side) or {}) for side in ("numerator", "denominator"))
        return " : ".join(side for side in sides if side)
    if "valueBoolean" in part:
        return "+" if part["valueBoolean"] else "−"
    plain = ("valueString", "valueInteger", "valueDateTime", "valueTime")
    return str(next((part[name] for name in plain if name in part), ""))


def _quantity(quantity: Mapping[str, Any]) -> str:
    if "value" not in quantity:
        return ""
    unit = quantity.get("unit") or quantity.get("code") or ""
    return f"{quantity.get('comparator', '')}{quantity['value']} {unit}".strip()


def _between(low: Any, high: Any) -> str:
    low, high = (_quantity(each) if isinstance(each, dict) else "" for each in (low, high))
    if low and high:
        return f"{low} – {high}"
    return f"≥ {low}" if low else f"≤ {high}" if high else ""


def _usual(part: Mapping[str, Any]) -> str:
    ranges = part.get("referenceRange", [])
    told = (str(each.get("text") or _between(each.get("low"), each.get("high"))) for each in ranges)
    return "; ".join(text for text in told if text)


def _flag(part: Mapping[str, Any]) -> str:
    codes = (code.get("code") for each in part.get("interpretation", []) for code in each.get("coding", []))
    return next((FLAGS[code] for code in codes if code in FLAGS), "")
