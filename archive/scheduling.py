"""Scheduling rules: at which modalities an order is done, decided by the site in a document with history.

An order often names no station, and sometimes no modality. The first rule whose conditions all hold says
which; what the order says itself is never overruled. Conditions take `*` and `?`.

    {"zone": "Asia/Shanghai",
     "rules": [{"when": {"modality": "CT", "location": "Emergency*"}, "stations": ["CT_ER"], "room": "ER 2"},
               {"when": {"code": "US*"}, "modality": "US", "stations": ["US01", "US02"]}]}

IHE RAD-4 (Procedure Scheduled).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from access.document_kind import DocumentKind
from kernel.errors import CloudfilmError, Kind

CONDITIONS = ("modality", "location", "institution", "department", "code", "description", "priority")
MOST_STATIONS = 32


class InvalidScheduling(CloudfilmError):
    """A scheduling document that cannot be followed."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class SchedulingRule:
    """One rule; an empty part decides nothing."""

    when: tuple[tuple[str, tuple[str, ...]], ...]  # condition -> alternatives
    modality: str = ""
    stations: tuple[str, ...] = ()  # AE titles
    station_name: str = ""
    room: str = ""

    def holds(self, facts: Mapping[str, str]) -> bool:
        """Whether every condition does."""
        return all(
            any(fnmatchcase(facts.get(name, "").casefold(), pattern.casefold()) for pattern in alternatives)
            for name, alternatives in self.when
        )


@dataclass(frozen=True, slots=True)
class Scheduling:
    """The document as a value."""

    zone: str = "Asia/Shanghai"  # the time of day that modalities are told
    rules: tuple[SchedulingRule, ...] = ()

    def rule_for(self, facts: Mapping[str, str]) -> SchedulingRule:
        """The first rule that holds; one that decides nothing when none does."""
        return next((rule for rule in self.rules if rule.holds(facts)), SchedulingRule(()))


@lru_cache(maxsize=8)
def parse_scheduling(text: str) -> Scheduling:
    """Read the document. Raises InvalidScheduling."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) - {"zone", "rules"}:
            raise InvalidScheduling("A scheduling document has zone and rules, and nothing else.")
        zone = ZoneInfo(str(found.get("zone", "Asia/Shanghai"))).key
    except (KeyError, ValueError, OSError):
        raise InvalidScheduling("The scheduling document is not JSON, or its zone is not known.") from None
    rules = found.get("rules", [])
    if not isinstance(rules, list):
        raise InvalidScheduling("rules is a list.")
    return Scheduling(zone, tuple(_rule(at, rule) for at, rule in enumerate(rules, 1)))


def _rule(at: int, rule: Any) -> SchedulingRule:
    fields = {"when", "modality", "stations", "station_name", "room"}
    if not isinstance(rule, dict) or set(rule) - fields or not isinstance(rule.get("when", {}), dict):
        raise InvalidScheduling(f"Rule {at} has something other than {', '.join(sorted(fields))}.")
    when = rule.get("when", {})
    unknown = set(when) - set(CONDITIONS)
    if unknown:
        raise InvalidScheduling(f"Rule {at} asks for {sorted(unknown)[0]!r}; use {', '.join(CONDITIONS)}.")
    stations = _texts(at, "stations", rule.get("stations", []), 16)
    if len(stations) > MOST_STATIONS:
        raise InvalidScheduling(f"Rule {at} names more than {MOST_STATIONS} stations.")
    return SchedulingRule(
        tuple((name, _texts(at, name, alternatives, 200)) for name, alternatives in when.items()),
        "".join(_texts(at, "modality", rule.get("modality", []), 16)),
        stations,
        "".join(_texts(at, "station_name", rule.get("station_name", []), 16)),
        "".join(_texts(at, "room", rule.get("room", []), 64)),
    )


def _texts(at: int, name: str, value: Any, most: int) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(
        isinstance(text, str) and 0 < len(text) <= most and "\\" not in text for text in texts
    ):
        raise InvalidScheduling(
            f"{name} of rule {at} is a text or a list of texts of 1 to {most} characters."
        )
    return tuple(texts)


SCHEDULING = DocumentKind(
    "scheduling",
    "At which stations orders are done, and the time zone that modalities are told.",
    parse_scheduling,
    '{"zone": "Asia/Shanghai", "rules": []}',
)
