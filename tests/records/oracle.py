"""A naive reading of R4 search: one document, one parameter, one value; by FHIRPath of another library.

Slow, and shares nothing with the index: what it says is what a search should find.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any

import fhirpathpy
from fhirpathpy.models import models

from records.definitions import definitions

WHOLE = {("Observation", "value-string"), ("DocumentReference", "description")}
"""Texts that are kept so that nobody reads them in the index: they are found as a whole (docs/fhir.md)."""
CHINA = timezone(timedelta(hours=8))
EARTH_KM = 6371.0088


def parameters(resource_type: str) -> dict[str, dict[str, Any]]:
    """The standard's search parameters of a type that have an expression."""
    tables = definitions()["parameters"]
    found: dict[str, dict[str, Any]] = {}
    for base in ("Resource", "DomainResource", resource_type):
        found |= {code: row for code, row in tables.get(base, {}).items() if row["expression"]}
    return {
        code: row
        for code, row in found.items()
        if not code.startswith(("_id", "_lastUpdated", "_text"))
        and "xtension(" not in row["expression"]  # of extensions; the library has no hasExtension
    }


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    return fhirpathpy.compile(expression, models["r4"])


def leaves(document: dict[str, Any], resource_type: str, expression: str) -> list[Any]:
    """What a parameter's expression gives."""
    found = []
    for part in _own_parts(expression, resource_type):
        part = re.sub(r"\.as\(|\s+as\s+", ".ofType(", part.replace("DateTime", "dateTime"))
        part = re.sub(r"(\.ofType\(\w+)\)?", r"\1)", part.lstrip("(")) if ".ofType(" in part else part
        reference = re.fullmatch(r"(.*)\.where\(resolve\(\) is (\w+)\)", part)
        values = _compiled(reference[1] if reference else part)(document)
        if reference:
            values = [each for each in values if _type_of(each) == reference[2]]
        found += [each for each in values if each is not None]
    return found


def _own_parts(expression: str, resource_type: str) -> Iterator[str]:
    for part in re.split(r"\s*\|\s*", expression):
        name = re.match(r"\(*([A-Z]\w*)", part)
        if name is None or name[1] in (resource_type, "Resource", "DomainResource"):
            yield part


def _type_of(reference: Any) -> str:
    if not isinstance(reference, dict):
        return ""
    parts = str(reference.get("reference", "")).split("/_history/")[0].split("/")
    return str(reference.get("type") or (parts[-2] if len(parts) > 1 else ""))


def tokens(value: Any) -> Iterator[tuple[str, str]]:
    """The (system, code) pairs of a leaf."""
    if isinstance(value, bool):
        yield "", str(value).lower()
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        if "coding" in value or set(value) <= {"text", "id", "extension"}:
            for coding in value.get("coding", ()):
                yield str(coding.get("system", "")), str(coding.get("code", ""))
        elif "code" in value or "display" in value:
            yield str(value.get("system", "")), str(value.get("code", ""))
        else:
            yield str(value.get("system", "")), str(value.get("value", ""))


def strings(value: Any) -> Iterator[str]:
    """The texts of a leaf: of a name or an address, its parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("use", "type", "period", "id", "extension"):
                continue
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def folded(text: str) -> str:
    """As texts are compared: no case, no accents."""
    bare = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return " ".join(bare.casefold().split())


def span(text: str) -> tuple[float, float]:
    """A date as seconds since 1970: its first moment, and the first one after it."""
    text = text.strip()
    for form, following in (("%Y", "year"), ("%Y-%m", "month"), ("%Y-%m-%d", "day")):
        if re.fullmatch(
            {"year": r"\d{4}", "month": r"\d{4}-\d\d", "day": r"\d{4}-\d\d-\d\d"}[following], text
        ):
            start = datetime.strptime(text, form).replace(tzinfo=CHINA)
            if following == "year":
                end = start.replace(year=start.year + 1) if start.year < 9999 else start
            elif following == "month":
                end = (start.replace(day=28) + timedelta(days=4)).replace(day=1)
            else:
                end = start + timedelta(days=1)
            return start.timestamp(), end.timestamp()
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=CHINA)
    moment = moment.astimezone(UTC)
    if "." in text:
        first = math.floor(moment.timestamp() * 1000) / 1000
        return first, first + 0.001
    seconds = 60 if re.fullmatch(r".*T\d\d:\d\d(Z|[+-].*)?", text) else 1
    return moment.timestamp(), moment.timestamp() + seconds


ALWAYS = (-1e15, 1e15)


def spans(value: Any) -> Iterator[tuple[float, float]]:
    """The intervals of a leaf."""
    if isinstance(value, str):
        yield span(value)
    elif isinstance(value, dict) and ("event" in value or "repeat" in value or "code" in value):
        events = [span(each) for each in value.get("event", ())]
        if events:
            yield min(first for first, _ in events), max(last for _, last in events)
        bounds = value.get("repeat", {}).get("boundsPeriod")
        if bounds:
            yield from spans(bounds)
    elif isinstance(value, dict):
        first = span(value["start"])[0] if value.get("start") else ALWAYS[0]
        yield first, span(value["end"])[1] if value.get("end") else ALWAYS[1]


def date_holds(row: tuple[float, float], prefix: str, wanted: tuple[float, float]) -> bool:
    """R4 3.1.1.4.6; the ends are exclusive here."""
    (low, high), (first, last) = row, wanted
    inside = low >= first and high <= last
    return {
        "eq": inside,
        "ne": not inside,
        "gt": high > last,
        "lt": low < first,
        "ge": high > last or inside,
        "le": low < first or inside,
        "sa": low >= last,
        "eb": high <= first,
    }[prefix]


def numbers(value: Any) -> Iterator[tuple[Decimal, str, str]]:
    """Amount, system and code of a leaf."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float | Decimal):
        yield Decimal(str(value)), "", ""
    elif isinstance(value, dict) and "value" in value:
        code = str(value.get("code") or value.get("currency") or "")
        yield Decimal(str(value["value"])), str(value.get("system", "")), code
    elif isinstance(value, dict):
        for end in ("low", "high"):
            if end in value:
                yield from numbers(value[end])


def number_holds(amount: Decimal, prefix: str, text: str) -> bool:
    """R4 3.1.1.4.7."""
    wanted = Decimal(text)
    half = Decimal(1).scaleb(int(wanted.as_tuple().exponent)) / 2
    close = wanted - half <= amount < wanted + half
    return {
        "eq": close, "ne": not close, "gt": amount > wanted, "lt": amount < wanted, "ge": amount >= wanted,
        "le": amount <= wanted, "sa": amount > wanted, "eb": amount < wanted,
    }[prefix]  # fmt: skip


MILLIGRAMS = {"mg": 1, "kg": 1_000_000}


def _factor(system: str, unit: str, wanted_system: str, wanted: str) -> Decimal:
    """From one unit to another: 1 where none is asked for, 0 where there is no way."""
    if not wanted or (system, unit) == (wanted_system, wanted):
        return Decimal(1)
    if system == wanted_system == "http://unitsofmeasure.org" and unit in MILLIGRAMS and wanted in MILLIGRAMS:
        return Decimal(MILLIGRAMS[unit]) / MILLIGRAMS[wanted]
    return Decimal(0)


def holds(document: dict[str, Any], code: str, modifier: str, value: str) -> bool:
    """Whether a document is found by `code:modifier=value`."""
    resource_type = document["resourceType"]
    row = parameters(resource_type)[code]
    found = leaves(document, resource_type, row["expression"])
    if modifier == "missing":
        return (not found) == (value == "true")
    kind = row["type"]
    if kind == "token":
        pairs = {pair for each in found for pair in tokens(each)}
        system, bar, wanted = value.partition("|")
        is_in = any(
            (code_ == value) if not bar else (system_ == system and (not wanted or code_ == wanted))
            for system_, code_ in pairs
        )
        return is_in is (modifier != "not")
    if kind == "string":
        texts = [text for each in found for text in strings(each)]
        if modifier == "exact":
            return value in texts
        if (resource_type, code) in WHOLE:
            return modifier != "contains" and folded(value) in map(folded, texts)
        if modifier == "contains":
            return any(folded(value) in folded(text) for text in texts)
        return any(folded(text).startswith(folded(value)) for text in texts)
    prefix, text = (
        (value[:2], value[2:]) if re.match(r"(eq|ne|gt|lt|ge|le|sa|eb)[\d-]", value) else ("eq", value)
    )
    if kind == "date":
        return any(date_holds(row_, prefix, span(text)) for each in found for row_ in spans(each))
    if kind in ("number", "quantity"):
        amount, system, unit = [*text.split("|"), "", ""][:3]
        return any(
            number_holds(each * _factor(system_, unit_, system, unit), prefix, amount)
            for leaf in found
            for each, system_, unit_ in numbers(leaf)
            if not unit or _factor(system_, unit_, system, unit)
        )
    if kind == "reference":
        return any(_refers(each, value) for each in found)
    return value in found


def _refers(leaf: Any, value: str) -> bool:
    if isinstance(leaf, str):
        return value in (leaf, leaf.partition("|")[0])
    return isinstance(leaf, dict) and str(leaf.get("reference", "")).split("/_history/")[0] == value


def askings(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters with values by which a document has to be found: one for each parameter that it has."""
    resource_type = document["resourceType"]
    for code, row in parameters(resource_type).items():
        if row["type"] in ("composite", "special"):
            continue
        for leaf in leaves(document, resource_type, row["expression"])[:2]:
            for value in _values(row["type"], leaf):
                yield code, value


def _values(kind: str, leaf: Any) -> Iterator[str]:
    if kind == "token":
        for system, code in tokens(leaf):
            if code:
                yield f"{_escaped(system)}|{_escaped(code)}" if system else _escaped(code)
    elif kind == "string":
        for text in strings(leaf):
            if text.strip():
                yield _escaped(text[:200])
    elif kind == "date":
        if isinstance(leaf, str) and re.match(r"\d{4}", leaf):
            yield leaf
        elif isinstance(leaf, dict) and leaf.get("start"):
            yield f"ge{leaf['start'][:10]}"
    elif kind in ("number", "quantity"):
        for amount, system, code in numbers(leaf):
            yield f"{amount}|{_escaped(system)}|{_escaped(code)}" if system and code else str(amount)
    elif kind == "reference":
        target = leaf if isinstance(leaf, str) else str(leaf.get("reference", ""))
        if target and not target.startswith("#"):
            yield _escaped(target.split("/_history/")[0])
    elif isinstance(leaf, str):
        yield _escaped(leaf)


def _escaped(text: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", text)
