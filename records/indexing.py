"""A document becomes rows of the search index, by the table of search parameters (R4 search 3.2.1).

What a leaf becomes depends on the parameter's type and the leaf's own: one small function for each pair.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from pypinyin import lazy_pinyin
from sqlalchemy import Table, delete, insert
from sqlalchemy.orm import Session

from records.dates import FIRST, LAST, interval
from records.definitions import definitions
from records.hashing import hash_of
from records.model import (
    INDEX_TABLES,
    IndexCompartment,
    IndexDate,
    IndexNumber,
    IndexReference,
    IndexString,
    IndexToken,
    IndexUri,
)
from records.parameters import Parameter, parameters_of
from records.paths import reference_type

Row = dict[str, Any]


@dataclass(slots=True)
class IndexRows:
    """The index rows of one document, by table, and the patients in whose compartments it is."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    patients: set[str] = field(default_factory=set)

    def add(self, table: Table, parameter: Parameter, **values: Any) -> None:
        """Add a row, unless the very same is there."""
        row = {"parameter": parameter.number, **values}
        rows = self.rows.setdefault(table.name, [])
        if row not in rows:
            rows.append(row)


def index_rows(document: dict[str, Any]) -> IndexRows:
    """The index rows of a document. A leaf that is not what its type says is left out, for validation
    has its say."""
    resource_type = str(document["resourceType"])
    found = IndexRows()
    nodes = [(document, resource_type)]
    compartment = compartment_codes(resource_type)
    for parameter in parameters_of(resource_type).values():
        if parameter.path is None:
            continue
        add = ADDERS.get(parameter.type)
        if add is None:
            continue
        leaves = parameter.path(nodes)
        for value, type_ in leaves:
            add(found, parameter, value, type_)
        if parameter.code in compartment:
            found.patients.update(_patients(leaves))
    if resource_type == "Patient" and "id" in document:
        found.patients.add(str(document["id"]))
    return found


@lru_cache(maxsize=256)
def compartment_codes(resource_type: str) -> frozenset[str]:
    """Codes of the parameters that put a type into a patient's compartment."""
    return frozenset(definitions()["compartments"]["Patient"].get(resource_type, ()))


def is_in_patient_compartment(resource_type: str) -> bool:
    """Whether documents of a type belong to patients; others (organizations, codes) are everyone's."""
    return resource_type == "Patient" or bool(compartment_codes(resource_type))


def _patients(leaves: Iterable[tuple[Any, str]]) -> Iterator[str]:
    for value, type_ in leaves:
        if type_ == "Reference" and isinstance(value, dict) and reference_type(value) == "Patient":
            yield str(value.get("reference", "")).split("/_history/")[0].rpartition("/")[2]


def store_index(session: Session, resource_id: int, found: IndexRows, replace: bool) -> None:
    """Write the rows of a document, in place of the old ones when it has some."""
    if replace:
        for table in INDEX_TABLES:
            session.execute(delete(table).where(table.c.resource_id == resource_id))
    tables = {table.name: table for table in INDEX_TABLES}
    for name, rows in found.rows.items():
        if rows:
            session.execute(insert(tables[name]), [{**row, "resource_id": resource_id} for row in rows])
    if found.patients:
        members = [{"patient": patient, "resource_id": resource_id} for patient in sorted(found.patients)]
        session.execute(insert(IndexCompartment), members)


def fold(text: str) -> str:
    """A text as it is compared: without case, accents and width; Chinese characters stay as they are."""
    plain = unicodedata.normalize("NFKD", text)
    return " ".join("".join(each for each in plain if not unicodedata.combining(each)).casefold().split())


def _token(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    for system, code, text in _tokens(value, type_):
        if code or system:
            found.add(
                IndexToken,
                parameter,
                value=hash_of(system, code),
                code=hash_of(code),
                system=hash_of(system),
                text=fold(text)[:200],
            )


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
        yield "", "true" if type_ == "dateTime" else value, ""  # Patient.deceased: a date says yes


def _string(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    for text in _texts(value, type_):
        exact = " ".join(text.split())
        found.add(IndexString, parameter, value=fold(exact)[:200], exact=exact[:200])
        if parameter.code == "phonetic" or type_ == "HumanName":
            sound = pinyin(exact)
            if sound:
                found.add(IndexString, parameter, value=sound[:200], exact=exact[:200])


def pinyin(text: str) -> str:
    """How a Chinese text sounds, written together; empty without Chinese characters."""
    return "".join(lazy_pinyin(text, errors="ignore"))


NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
ADDRESS_PARTS = ("text", "line", "city", "district", "state", "country", "postalCode")


def _texts(value: Any, type_: str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in NAME_PARTS if type_ == "HumanName" else ADDRESS_PARTS:
            inner = value.get(part)
            for text in inner if isinstance(inner, list) else (inner,):
                if isinstance(text, str) and text.strip():
                    yield text


def _date(found: IndexRows, parameter: Parameter, value: Any, type_: str) -> None:
    for low, high in _intervals(value, type_):
        found.add(IndexDate, parameter, low=low, high=high)


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
    else:
        _number_row(found, parameter, value, 0, hash_of(""))


def _number_row(found: IndexRows, parameter: Parameter, amount: Any, unit: int, code: int) -> None:
    bounds = number_interval(str(amount)) if isinstance(amount, int | float | str | Decimal) else None
    if bounds is not None:
        found.add(IndexNumber, parameter, low=bounds[0], high=bounds[1], unit=unit, code=code)


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
    if isinstance(value, str):  # canonical and uri
        found.add(
            IndexReference, parameter, target=hash_of(value.partition("|")[0]), target_type="", identifier=0
        )
        return
    if not isinstance(value, dict):
        return
    literal = str(value.get("reference", "")).split("/_history/")[0]
    identifier = value.get("identifier")
    hashed = 0
    if isinstance(identifier, dict) and identifier.get("value"):
        hashed = hash_of(str(identifier.get("system", "")), str(identifier["value"]))
    if literal or hashed:
        found.add(
            IndexReference,
            parameter,
            target=reference_hash(literal) if literal else 0,
            target_type=reference_type(value)[:40],
            identifier=hashed,
        )


def reference_hash(literal: str) -> int:
    """The hash of a reference: of `Type/id` for a relative one, else of the whole URL."""
    return hash_of(literal)


def _uri(found: IndexRows, parameter: Parameter, value: Any, _type: str) -> None:
    if isinstance(value, str) and value:
        found.add(IndexUri, parameter, value=value[:500])


Adder = Callable[[IndexRows, Parameter, Any, str], None]

ADDERS: dict[str, Adder] = {
    "token": _token,
    "string": _string,
    "date": _date,
    "quantity": _quantity,
    "number": _quantity,
    "reference": _reference,
    "uri": _uri,
}
