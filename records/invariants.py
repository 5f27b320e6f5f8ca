"""Invariants: those of data types as Python, for they are met everywhere; those of resources in FHIRPath,
compiled once (R4 conformance rules, `constraint`).
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import fhirpathpy
from fhirpathpy.models import models

from records.dates import interval
from records.definitions import validation_tables
from records.documents import Written
from records.issues import Issue

Rule = tuple[str, str, Callable[[dict[str, Any]], bool]]
UCUM = "http://unitsofmeasure.org"


def _has(value: dict[str, Any], key: str) -> bool:
    return key in value or f"_{key}" in value


def _any(value: dict[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) or key.startswith("_" + prefix) for key in value)


def _number(value: Any) -> Decimal:
    return Decimal(value.text if isinstance(value, Written) else str(value))


def _in_order(value: dict[str, Any]) -> bool:
    start, end = value.get("start"), value.get("end")
    return not (isinstance(start, str) and isinstance(end, str)) or interval(start)[0] <= interval(end)[1]


def _range_in_order(value: dict[str, Any]) -> bool:
    low, high = value.get("low"), value.get("high")
    if not (isinstance(low, dict) and isinstance(high, dict) and "value" in low and "value" in high):
        return True
    return low.get("code") != high.get("code") or _number(low["value"]) <= _number(high["value"])


def _needs(key: str, other: str) -> Callable[[dict[str, Any]], bool]:
    return lambda value: not _has(value, key) or _has(value, other)


def _not_less(key: str) -> Callable[[dict[str, Any]], bool]:
    return lambda value: key not in value or _number(value[key]) >= 0


def _ucum(value: dict[str, Any]) -> bool:
    return "system" not in value or value["system"] == UCUM


QUANTITY: Rule = ("qty-3", "A code has a system", _needs("code", "system"))
WITH_CODE = "A value has a code of UCUM"

DATA_TYPE_RULES: dict[str, tuple[Rule, ...]] = {
    "Extension": (
        (
            "ext-1",
            "An extension has a value or extensions, not both",
            lambda value: _has(value, "extension") != _any(value, "value"),
        ),
    ),
    "Quantity": (QUANTITY,),
    "Age": (
        QUANTITY,
        (
            "age-1",
            WITH_CODE,
            lambda value: (
                (not _has(value, "value") or _has(value, "code"))
                and _ucum(value)
                and ("value" not in value or _number(value["value"]) > 0)
            ),
        ),
    ),
    "Distance": (
        QUANTITY,
        (
            "dis-1",
            WITH_CODE,
            lambda value: (not _has(value, "value") or _has(value, "code")) and _ucum(value),
        ),
    ),
    "Duration": (
        QUANTITY,
        (
            "drt-1",
            WITH_CODE,
            lambda value: not _has(value, "code") or (_ucum(value) and _has(value, "value")),
        ),
    ),
    "Count": (
        QUANTITY,
        (
            "cnt-3",
            "A count is a whole number with the code 1",
            lambda value: (
                (not _has(value, "value") or _has(value, "code"))
                and _ucum(value)
                and value.get("code", "1") == "1"
                and "." not in str(getattr(value.get("value"), "text", ""))
            ),
        ),
    ),
    "Period": (("per-1", "The start is not after the end", _in_order),),
    "Range": (("rng-2", "The low end is not above the high end", _range_in_order),),
    "Ratio": (
        (
            "rat-1",
            "A ratio has both parts, or neither and an extension",
            lambda value: (
                _has(value, "numerator") == _has(value, "denominator")
                and (_has(value, "numerator") or _has(value, "extension"))
            ),
        ),
    ),
    "Attachment": (("att-1", "Data has a content type", _needs("data", "contentType")),),
    "ContactPoint": (("cpt-2", "A value has a system", _needs("value", "system")),),
    "Expression": (
        (
            "exp-1",
            "An expression or a reference",
            lambda value: _has(value, "expression") or _has(value, "reference"),
        ),
    ),
    "Timing.repeat": (
        ("tim-1", "A duration has a unit", _needs("duration", "durationUnit")),
        ("tim-2", "A period has a unit", _needs("period", "periodUnit")),
        ("tim-4", "A duration is not negative", _not_less("duration")),
        ("tim-5", "A period is not negative", _not_less("period")),
        ("tim-6", "A longest period has a period", _needs("periodMax", "period")),
        ("tim-7", "A longest duration has a duration", _needs("durationMax", "duration")),
        ("tim-8", "A highest count has a count", _needs("countMax", "count")),
        (
            "tim-9",
            "An offset has an event, not a meal",
            lambda value: (
                not _has(value, "offset")
                or (_has(value, "when") and not {"C", "CM", "CD", "CV"} & set(value.get("when", ())))
            ),
        ),
        (
            "tim-10",
            "A time of day or an event, not both",
            lambda value: not (_has(value, "timeOfDay") and _has(value, "when")),
        ),
    ),
    "Signature": (),
}

UNSUPPORTED = ("memberOf", "conformsTo", "htmlChecks", "resolve()")


@dataclass(frozen=True, slots=True)
class Invariant:
    """One constraint of a resource type, compiled when it is first needed."""

    path: str  # of the element that it is about
    key: str
    severity: str
    meaning: str
    expression: str
    holds_without: tuple[frozenset[str], ...] = ()  # elements: where one of them is missing, it holds


@cache
def invariants_of(resource_type: str) -> tuple[Invariant, ...]:
    """The constraints of a resource type that are reckoned with FHIRPath."""
    rows = validation_tables()["invariants"].get(resource_type, ())
    return tuple(
        Invariant(path, key, severity, meaning, expression, _holds_without(path, expression))
        for path, key, severity, meaning, expression in rows
        if not any(word in expression for word in UNSUPPORTED) and key not in BY_HAND
    )


def _holds_without(path: str, expression: str) -> tuple[frozenset[str], ...]:
    """The elements without which an invariant holds: `a.empty() or ...`, as most of them are written.

    Each under the two paths that it may have, for it may be a choice.
    """
    if "." in path or any(word in expression for word in (" and ", " implies ", " xor ")):
        return ()
    found, depth = [], 0
    for part in expression.split(" or "):
        name = EMPTY.fullmatch(part)
        if name and not depth:
            found.append(frozenset({f"{path}.{name[1]}", f"{path}.{name[1]}[x]"}))
        depth += part.count("(") - part.count(")")
    return tuple(found)


EMPTY = re.compile(r"([a-z]\w*)(?:\.[a-z]\w*)*(?:\.where\([^ ]*\))?\.empty\(\)")

BY_HAND = frozenset({"eld-19", "eld-20"})
"""Patterns of names that the published expressions write with a backslash too many."""

_compiled: dict[tuple[str, str], Callable[..., Any]] = {}
COMPILING = threading.Lock()  # the parser of expressions is not made for several threads


def _function(path: str, expression: str) -> Callable[..., Any]:
    """An expression about an element, as a function of the whole resource."""
    known = _compiled.get((path, expression))
    if known is None:
        with COMPILING:
            head, _, rest = path.partition(".")
            steps = ".".join(
                f"`{step}`" if step in RESERVED else step for step in rest.replace("[x]", "").split(".")
            )
            expression_ = TRACE.sub("", expression)
            text = f"{head}.{steps}.where(({expression_}).not()).empty()" if rest else expression_
            known = _compiled[(path, expression)] = fhirpathpy.compile(text, model=models["r4"])
    return known


TRACE = re.compile(r"\.trace\('[^']*'(?:,[^()]*)?\)")  # prints what it sees, and changes nothing
RESERVED = frozenset({"contains", "div", "in", "is", "as", "and", "or", "implies", "mod"})


def check_invariants(document: dict[str, Any], visited: set[str], at: str = "") -> Iterator[Issue]:
    """The constraints that a resource breaks; only those of elements that are there are reckoned."""
    resource_type = str(document["resourceType"])
    at = at or resource_type
    wanted = [
        each
        for each in invariants_of(resource_type)
        if ("." not in each.path or each.path in visited)
        and not any(names.isdisjoint(visited) for names in each.holds_without)
    ]
    if not wanted:
        return
    evaluable = as_evaluable(document)
    for each in wanted:
        if holds(evaluable, each.path, each.expression) is False:
            place = at + each.path[len(resource_type) :].replace("[x]", "")
            yield Issue(each.severity, "invariant", place, f"{each.meaning} ({each.key})", each.key)


def holds(evaluable: dict[str, Any], path: str, expression: str) -> bool | None:
    """Whether a constraint holds; None when it cannot be reckoned."""
    try:
        found = _function(path, expression)(evaluable, {"resource": evaluable, "rootResource": evaluable})
    except Exception:
        return None
    return all(found) if isinstance(found, list) and all(isinstance(each, bool) for each in found) else None


def holds_on(evaluable: dict[str, Any], expression: str) -> bool | None:
    """Whether a profile's constraint holds of an element; None when it cannot be reckoned."""
    return holds(evaluable, "", expression)


def as_evaluable(value: Any) -> Any:
    """The same with numbers as the FHIRPath library reckons with them."""
    if isinstance(value, Written):
        return Decimal(value.text)
    if isinstance(value, dict):
        return {key: as_evaluable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_evaluable(each) for each in value]
    return value
