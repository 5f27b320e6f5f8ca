"""$everything: all that belongs to a patient, an encounter, the members of a group or all patients, page by
page, with what it refers to outside (R4 Patient-everything, Encounter-everything, Group-everything).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from access.caller import Action, Caller
from records.dates import interval
from records.definitions import forms
from records.documents import plain
from records.indexing import is_in_patient_compartment
from records.parameters import parameters_of
from records.query import Criterion, InvalidSearch, Search
from records.repository import Stored, read, require_type
from records.room import Records
from records.search import SearchResult, search

CARE_DATES = (  # the parameter that says when care took place, the first that a type has
    "clinical-date", "date", "effective", "occurrence", "started", "period", "authored", "issued",
    "recorded-date", "onset-date", "performed", "effective-time", "created",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    """What is asked for."""

    resource_type: str  # Patient, Encounter or Group
    logical_id: str = ""  # empty: of every patient
    start: str = ""  # care dates, as FHIR dates
    end: str = ""
    since: str = ""
    types: tuple[str, ...] = ()
    count: int = 200
    cursor: str = ""


def everything(records: Records, caller: Caller, wanted: Everything) -> SearchResult:
    """A page of all that belongs. Raises ResourceNotFound, InvalidSearch or Forbidden."""
    caller.require(Action(wanted.resource_type, "r"))
    compartment: tuple[str, ...] = (wanted.resource_type,)
    if wanted.logical_id:
        asked_of = read(records, caller, wanted.resource_type, wanted.logical_id)
        compartment += (wanted.logical_id,)
        if wanted.resource_type == "Group":
            compartment = ("Patient", *members(asked_of))
            if len(compartment) == 1:
                return SearchResult(())
    for each in wanted.types:
        require_type(each)
    belonging = [compartment[0], *forms()["compartments"][compartment[0]]]
    types = tuple(
        type_
        for type_ in sorted(set(belonging))
        if caller.may(Action(type_, "s")) and (not wanted.types or type_ in wanted.types)
    )
    if not types:
        return SearchResult(())
    criteria = (Criterion("_lastUpdated", (f"ge{wanted.since}",)),) if wanted.since else ()
    asked = Search(
        "",
        criteria,
        wanted.count,
        includes=() if wanted.types else ("*:*",),
        cursor=wanted.cursor,
        types=types,
        compartment=compartment,
    )
    found = search(records, caller, asked)
    outside = tuple(each for each in found.included if not is_in_patient_compartment(each.resource_type))
    if not (wanted.start or wanted.end):
        return replace(found, included=outside)
    span = (_bound(wanted.start, 0), _bound(wanted.end, 1))
    return replace(found, matches=tuple(_within(found.matches, span)), included=outside)


def members(group: Stored) -> list[str]:
    """The logical ids of the patients who are in a Group now."""
    found = []
    for member in json.loads(group.body).get("member") or ():
        kind, _, logical_id = str((member.get("entity") or {}).get("reference", "")).partition("/")
        if kind == "Patient" and not member.get("inactive"):
            found.append(logical_id)
    return found


def _bound(text: str, end: int) -> int | None:
    try:
        return interval(text)[end] if text else None
    except (ValueError, OverflowError):
        raise InvalidSearch("start" if end == 0 else "end", "write a date") from None


def _within(found: Iterable[Stored], span: tuple[int | None, int | None]) -> Iterable[Stored]:
    """Those whose care took place within the span; what has no date of care belongs always."""
    for each in found:
        moments = _moments(each)
        if not moments or any(
            (span[1] is None or low <= span[1]) and (span[0] is None or high >= span[0])
            for low, high in moments
        ):
            yield each


def _moments(stored: Stored) -> list[tuple[int, int]]:
    parameters = parameters_of(stored.resource_type)
    parameter = next((parameters[code] for code in CARE_DATES if code in parameters), None)
    if parameter is None or parameter.path is None or parameter.type != "date":
        return []
    found = []
    for value, type_ in parameter.path([(plain(json.loads(stored.body)), stored.resource_type)]):
        if isinstance(value, str):
            texts = (value, value)
        elif type_ == "Period" and isinstance(value, dict):
            texts = (str(value.get("start", "0001")), str(value.get("end", "9999")))
        else:
            continue
        try:
            found.append((interval(texts[0])[0], interval(texts[1])[1]))
        except (ValueError, OverflowError):
            continue
    return found
