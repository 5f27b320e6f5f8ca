"""A document becomes rows of the search index, by the table of search parameters (R4 search 3.2.1).

What a leaf becomes depends on the parameter's type and the leaf's own: one small function for each pair.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import product
from typing import Any

from pypinyin import Style, lazy_pinyin
from pypinyin import pinyin as readings
from sqlalchemy import Table, delete, insert
from sqlalchemy.orm import Session

from kernel.sealed_text import Hidden, HiddenText
from kernel.veiled_text import Name
from kernel.writes import Write, write_all
from records.dates import FIRST, LAST, interval
from records.definitions import definitions
from records.hashing import hash_of
from records.model import (
    INDEX_TABLES,
    IndexCompartment,
    IndexComposite,
    IndexDate,
    IndexNumber,
    IndexPosition,
    IndexReference,
    IndexString,
    IndexToken,
    IndexUri,
)
from records.parameters import Parameter, parameter_number, parameters_of
from records.paths import Node, reference_type
from records.units import UCUM, canonical_unit

Row = tuple[Any, ...]
COLUMNS = {
    table.name: tuple(column.name for column in table.columns if column.name != "resource_id")
    for table in INDEX_TABLES
}

INSERTS = {table.name: insert(table) for table in INDEX_TABLES}  # built once: every write runs them


@dataclass(slots=True)
class IndexRows:
    """The index rows of one document, by table, and the patients in whose compartments it is."""

    rows: dict[str, dict[Row, None]] = field(default_factory=dict)
    patients: set[str] = field(default_factory=set)

    def add(self, table: Table, parameter: Parameter, *values: Any) -> None:
        """Add a row, its values in the order of the table's columns; the very same is there once."""
        self.rows.setdefault(table.name, {})[(parameter.number, *values)] = None


def index_rows(document: dict[str, Any]) -> IndexRows:
    """The index rows of a document. A leaf that is not what its type says is left out, for validation
    has its say."""
    resource_type = str(document["resourceType"])
    found = IndexRows()
    nodes = [(document, resource_type)]
    compartment = compartment_codes(resource_type)
    for parameter in parameters_of(resource_type).values():
        if parameter.keys is not None and parameter.keys.isdisjoint(document):
            continue
        index_parameter(found, parameter, nodes, compartment)
    if resource_type == "Patient" and "id" in document:
        found.patients.add(str(document["id"]))
    return found


def index_parameter(
    found: IndexRows, parameter: Parameter, nodes: list[Node], compartment: frozenset[str] = frozenset()
) -> None:
    """Add the rows of one parameter."""
    if parameter.path is None:
        return
    leaves = parameter.path(nodes)
    if parameter.components:
        _composite(found, parameter, nodes, leaves)
        return
    add = ADDERS.get(parameter.type)
    if add is None:
        return
    for value, type_ in leaves:
        add(found, parameter, value, type_)
    if parameter.code in compartment:
        found.patients.update(_patients(leaves))


@lru_cache(maxsize=256)
def compartment_codes(resource_type: str) -> frozenset[str]:
    """Codes of the parameters that put a type into a patient's compartment."""
    return frozenset(definitions()["compartments"]["Patient"].get(resource_type, ()))


def is_in_patient_compartment(resource_type: str) -> bool:
    """Whether documents of a type belong to patients; others (organizations, codes) are everyone's."""
    return resource_type == "Patient" or bool(compartment_codes(resource_type))


def _patients(leaves: Iterable[Node]) -> Iterator[str]:
    for value, type_ in leaves:
        if type_ == "Reference" and isinstance(value, dict) and reference_type(value) == "Patient":
            yield str(value.get("reference", "")).split("/_history/")[0].rpartition("/")[2][:64]


def store_index(
    session: Session, found: Mapping[int, IndexRows], replaced: Sequence[int], also: Iterable[Write] = ()
) -> None:
    """Write the rows of some documents by `resource.id`, one insert for each table, however many they are.

    replaced: the documents that have rows already, which go. also: what is written with them.
    """
    connection = session.connection()
    if replaced:
        for table in INDEX_TABLES:
            connection.execute(delete(table).where(table.c.resource_id.in_(replaced)))
    writes = list(also)
    for table in INDEX_TABLES:
        columns = COLUMNS[table.name]
        rows = [
            dict(zip(columns, row, strict=True)) | {"resource_id": resource_id}
            for resource_id, rows in found.items()
            for row in rows.rows.get(table.name, ())
        ]
        writes.append((INSERTS[table.name], rows))
    members = [
        {"patient": patient, "resource_id": resource_id}
        for resource_id, rows in found.items()
        for patient in sorted(rows.patients)
    ]
    write_all(connection, [*writes, (INSERTS[IndexCompartment.name], members)])


def fold(text: str) -> str:
    """A text as it is compared: without case, accents and width; Chinese characters stay as they are."""
    if text.isascii():
        return " ".join(text.casefold().split())
    plain = unicodedata.normalize("NFKD", text)
    return " ".join("".join(each for each in plain if not unicodedata.combining(each)).casefold().split())


OF_TYPE = ":of-type"


def of_type_number(parameter: Parameter) -> int:
    """The number under which identifiers stand with their type, for `:of-type`."""
    return parameter_number(parameter.resource_type, f"{parameter.code}{OF_TYPE}")


CANONICAL = 0
"""Stands in place of a unit's code in the row of a quantity that was brought to its canonical unit."""


def canonical_number(parameter: Parameter) -> int:
    """The number under which quantities stand in their canonical unit."""
    return parameter_number(parameter.resource_type, f"{parameter.code}:canonical")


def _token(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    hidden = parameter.is_hidden
    for system, code, text in _tokens(value, type_):
        if code or system or text:
            whole, alone, shown = hash_of(system, code), hash_of(code), fold(text or code)[:200]
            if hidden:
                whole, alone, shown = Hidden(whole), Hidden(alone), shown if text else HiddenText(shown)
            found.add(IndexToken, parameter, whole, alone, hash_of(system), shown)
    if type_ == "Identifier" and isinstance(value, dict):
        _token_of_type(found, parameter, value)


def _token_of_type(found: IndexRows, parameter: Parameter, value: dict[str, Any]) -> None:
    """An identifier under the codes of its type (R4 3.1.1.4.5, `:of-type`)."""
    kind = value.get("type")
    codings = kind.get("coding") if isinstance(kind, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and value.get("value"):
            parts = (str(coding.get("system", "")), str(coding.get("code", "")), str(value["value"]))
            hashed = Hidden(hash_of(*parts)) if parameter.is_hidden else hash_of(*parts)
            row = (of_type_number(parameter), hashed, 0, 0, HiddenText("") if parameter.is_hidden else "")
            found.rows.setdefault(IndexToken.name, {})[row] = None


def _tokens(value: Any, type_: str) -> Iterator[tuple[str, str, str]]:
    if type_ == "CodeableConcept" and isinstance(value, dict):
        text = str(value.get("text", ""))
        for coding in value.get("coding") or ():
            yield from _tokens(coding, "Coding")
        if text:
            yield "", "", text
    elif type_ == "Coding" and isinstance(value, dict):
        yield str(value.get("system", "")), str(value.get("code", "")), str(value.get("display", ""))
    elif type_ == "Identifier" and isinstance(value, dict):
        text = str((value.get("type") or {}).get("text", "")) if isinstance(value.get("type"), dict) else ""
        yield str(value.get("system", "")), str(value.get("value", "")), text
    elif type_ == "ContactPoint" and isinstance(value, dict):
        yield str(value.get("system", "")), str(value.get("value", "")), ""
    elif isinstance(value, bool):
        yield "", str(value).lower(), ""
    elif isinstance(value, str):
        yield "", value, ""


def _string(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    kept = Name if parameter.is_veiled else str
    for text, part in _texts(value, type_):
        folded, exact = kept(fold(text)[:200]), kept(text[:200])
        if parameter.is_hidden and part not in AREAS:
            folded, exact = HiddenText(folded), HiddenText(exact)
        found.add(IndexString, parameter, folded, exact)
        if type_ == "HumanName" or parameter.code in NAME_CODES:
            for sound in _ways_to_ask(fold(text)[:32]):
                found.add(IndexString, parameter, kept(sound[:200]), "")


NAME_CODES = frozenset({"name", "family", "given", "phonetic"})


def _ways_to_ask(name: str) -> Iterator[str]:
    """How else a Chinese name is asked for: from a later character on, by pinyin and by its initials.

    A surname that is read in several ways is found by each of them (单: shan, dan).
    """
    if not any("\u4e00" <= each <= "\u9fff" for each in name):
        return
    for at in range(1, len(name)):
        if not name[at].isspace():
            yield name[at:]
    first = readings(name[0], style=Style.NORMAL, heteronym=True, errors="ignore")
    rest = lazy_pinyin(name[1:], errors="ignore")
    for sound in dict.fromkeys(first[0] if first else ("",)):
        sounds = [sound, *rest] if sound else rest
        if sounds:
            yield "".join(sounds)
            yield " ".join(sounds)
            yield "".join(each[0] for each in sounds)
    if len(rest) > 1:
        yield "".join(rest)


NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
AREAS = ("city", "district", "state", "country", "postalCode")
ADDRESS_PARTS = ("text", "line", *AREAS)


def _texts(value: Any, type_: str) -> Iterator[tuple[str, str]]:
    """The texts of a leaf, each with the part that it is of a name or an address."""
    if isinstance(value, str):
        yield value, ""
    elif isinstance(value, dict):
        for part in NAME_PARTS if type_ == "HumanName" else ADDRESS_PARTS:
            inner = value.get(part)
            for text in inner if isinstance(inner, list) else (inner,):
                if isinstance(text, str) and text.strip():
                    yield text, part


def _date(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    for low, high in _intervals(value, type_):
        found.add(IndexDate, parameter, low, high)


def _intervals(value: Any, type_: str) -> Iterator[tuple[int, int]]:
    try:
        if isinstance(value, str):
            yield interval(value)
        elif type_ == "Period" and isinstance(value, dict):
            low = interval(value["start"])[0] if value.get("start") else FIRST
            yield low, interval(value["end"])[1] if value.get("end") else LAST
        elif type_ == "Timing" and isinstance(value, dict):
            events = [interval(event) for event in value.get("event") or ()]
            if events:
                yield min(low for low, _ in events), max(high for _, high in events)
            bounds = (value.get("repeat") or {}).get("boundsPeriod")
            if bounds:
                yield from _intervals(bounds, "Period")
    except (ValueError, TypeError, AttributeError, OverflowError):
        return


def _quantity(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    if isinstance(value, dict):
        amount = value.get("value")
        if amount is None and type_ == "Range":
            for end in ("low", "high"):
                _quantity(found, parameter, value.get(end), "Quantity")
            return
        system, code = str(value.get("system", "")), str(value.get("code") or value.get("currency") or "")
        names = {code, str(value.get("unit", ""))} - {""} or {""}
        for name in names:
            _number_row(found, parameter, amount, hash_of(system, name) if name == code else 0, hash_of(name))
        canonical = canonical_unit(code) if system == UCUM else None
        if canonical is not None:
            factor, unit = canonical
            _number_row(found, parameter, amount, hash_of("canonical", unit), CANONICAL, factor)
    else:
        _number_row(found, parameter, value, 0, hash_of(""))


def _number_row(
    found: IndexRows, parameter: Parameter, amount: Any, unit: int, code: int, factor: float = 1
) -> None:
    bounds = number_interval(str(amount)) if isinstance(amount, int | float | str | Decimal) else None
    if bounds is not None:
        number = canonical_number(parameter) if code == CANONICAL else parameter.number
        row = (number, bounds[0] * factor, bounds[1] * factor, unit, code)
        found.rows.setdefault(IndexNumber.name, {})[row] = None


def number_interval(text: str) -> tuple[float, float] | None:
    """The interval that a number as written stands for: 2.0 is 1.95 to 2.05 (R4 search 3.2.1.5.7)."""
    try:
        number = Decimal(text)
        if not number.is_finite() or abs(number) > Decimal("1e300"):
            return None
        half = Decimal(1).scaleb(int(number.as_tuple().exponent)) / 2
    except (InvalidOperation, ValueError):
        return None
    return float(number - half), float(number + half)


def _reference(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    if isinstance(value, str):  # canonical and uri, found with their version and without
        for text in dict.fromkeys((value, value.partition("|")[0])):
            found.add(IndexReference, parameter, hash_of(text), "", 0)
        return
    if not isinstance(value, dict):
        return
    literal = str(value.get("reference", "")).split("/_history/")[0]
    identifier = value.get("identifier")
    hashed = 0
    if isinstance(identifier, dict) and identifier.get("value"):
        hashed = Hidden(hash_of(str(identifier.get("system", "")), str(identifier["value"])))
    if literal or hashed:
        target = reference_hash(literal) if literal else 0
        found.add(IndexReference, parameter, target, reference_type(value)[:40], hashed)


def reference_hash(literal: str) -> int:
    """The hash of a reference: of `Type/id` for a relative one, else of the whole URL."""
    return hash_of(literal)


def _uri(found: IndexRows, parameter: Parameter, value: Any, _type: str) -> None:
    if isinstance(value, str) and value:
        found.add(IndexUri, parameter, value[:500])


def _position(found: IndexRows, parameter: Parameter, value: Any, _type: str) -> None:
    if isinstance(value, dict):
        try:
            latitude, longitude = float(value["latitude"]), float(value["longitude"])
        except (KeyError, TypeError, ValueError):
            return
        if abs(latitude) <= 90 and abs(longitude) <= 180:
            found.add(IndexPosition, parameter, latitude, *on_sphere(latitude, longitude))


def on_sphere(latitude: float, longitude: float) -> tuple[float, float, float]:
    """A place on Earth as a point of a sphere of radius 1, so that distance is a sum of squares in SQL."""
    phi, theta = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi)


MOST_COMBINATIONS = 400


def _composite(found: IndexRows, parameter: Parameter, nodes: list[Node], bases: list[Node]) -> None:
    """For each element that the values stand in together, every combination of them (R4 3.1.1.4.14)."""
    for base in bases:
        parts: list[list[Row]] = []
        given = [each.path(nodes if each.from_root else [base]) for each in parameter.components]
        if not all(given):
            continue
        for component, leaves in zip(parameter.components, given, strict=True):
            scratch = IndexRows()
            for value, type_ in leaves:
                ADDERS[component.parameter.type](scratch, component.parameter, value, type_)
            parts.append([COMPOSED[table](row[1:]) for table, rows in scratch.rows.items() for row in rows])
        for number, combination in enumerate(product(*parts)):
            if number == MOST_COMBINATIONS:
                break
            first, second = combination[0], combination[1]
            third = combination[2][4:6] if len(combination) > 2 else (0.0, 0.0)
            found.add(IndexComposite, parameter, *first[:3], *second[:3], *second[3:8], *third)


COMPOSED: dict[str, Callable[[Row], Row]] = {
    # row of a table: target or code (3 hashes), text, low, high, unit, code of the unit
    "index_token": lambda row: (row[0], row[1], row[2], "", 0.0, 0.0, 0, 0),
    "index_reference": lambda row: (row[0], 0, 0, "", 0.0, 0.0, 0, 0),
    "index_string": lambda row: (0, 0, 0, row[0], 0.0, 0.0, 0, 0),
    "index_date": lambda row: (0, 0, 0, "", float(row[0]), float(row[1]), 0, 0),
    "index_number": lambda row: (0, 0, 0, "", row[0], row[1], row[2], row[3]),
}


Adder = Callable[[IndexRows, Parameter, Any, str], None]

ADDERS: dict[str, Adder] = {
    "token": _token,
    "string": _string,
    "date": _date,
    "quantity": _quantity,
    "number": _quantity,
    "reference": _reference,
    "uri": _uri,
    "special": _position,
}
