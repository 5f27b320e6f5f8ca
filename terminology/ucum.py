"""UCUM: the grammar of units, what they mean in base units, and the code system that they are.

A unit is parsed by the grammar of the Unified Code for Units of Measure, chapter 2: prefixes on metric atoms,
exponents, `.` and `/`, parentheses, annotations. The table of atoms is UCUM's own (`definitions/ucum.json`).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from terminology.code_system import CodeSystem, has_words
from terminology.concept import Concept, Property

UCUM = "http://unitsofmeasure.org"
FILE = Path(__file__).parent / "definitions" / "ucum.json"
LONGEST, DEEPEST, LARGEST_EXPONENT = 200, 16, 99

ANNOTATION = re.compile(r"\{[\x20-\x7a\x7c\x7e]*\}")
EXPONENT = re.compile(r"[+-]?\d{1,4}")
NUMBER = re.compile(r"\d{1,30}")
SYMBOL = re.compile(r"(?:\[[^\[\]{}\s]*\]|10[*^]|[^\s.\-+/(){}\[\]0-9]|(?<=[A-Za-z_])[0-9](?=[A-Za-z_\[]))+")


class InvalidUnit(ValueError):
    """A text that is no unit of UCUM."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit means: a factor and the exponents of base units. `function`: a scale of its own (Cel)."""

    factor: Decimal
    dimension: tuple[tuple[str, int], ...]
    function: str = ""
    name: str = ""


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return loaded


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit:
    """Read a unit. Raises InvalidUnit."""
    if not text or len(text) > LONGEST or not text.isascii():
        raise InvalidUnit(f"{text[:40]!r} is not a unit")
    parser = _Parser(text)
    try:
        with localcontext() as context:
            context.prec = 40
            unit = parser.term(0)
    except (DivisionByZero, InvalidOperation, Overflow):
        raise InvalidUnit(f"{text[:40]!r} is beyond what can be reckoned with") from None
    if parser.at != len(text):
        raise InvalidUnit(f"{text[parser.at :][:40]!r} is not expected in {text[:40]!r}")
    return unit


def is_unit(text: str) -> bool:
    """Whether a text is a unit of UCUM."""
    try:
        parse_unit(text)
    except InvalidUnit:
        return False
    return True


def canonical(value: Decimal, text: str) -> tuple[Decimal, str]:
    """A quantity in base units: (value, unit), the same for all ways to say the same. Raises InvalidUnit."""
    unit = parse_unit(text)
    with localcontext() as context:
        context.prec = 40
        try:
            amount = value * unit.factor
            converted = TO_BASE[unit.function](amount) if unit.function else amount
        except (KeyError, InvalidOperation, Overflow):
            raise InvalidUnit(f"{text[:40]!r} has a scale that is not reckoned with") from None
    return converted, dimension_text(unit)


def dimension_text(unit: Unit) -> str:
    """The dimension as a unit of base units, in a fixed order."""
    return ".".join(f"{base}{power if power != 1 else ''}" for base, power in unit.dimension) or "1"


TO_BASE = {
    "Cel": lambda value: value + Decimal("273.15"),
    "degF": lambda value: (value + Decimal("459.67")) * 5 / 9,
    "degRe": lambda value: value * 5 / 4 + Decimal("273.15"),
}


class _Parser:
    """Recursive descent over UCUM 2.2 (grammar of the syntax)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def term(self, depth: int) -> Unit:
        if depth > DEEPEST:
            raise InvalidUnit("the unit is nested too deeply")
        inverse = self._take("/")
        found = self.component(depth)
        if inverse:
            found = _power(found, -1)
        while True:
            if self._take("."):
                found = _product(found, self.component(depth))
            elif self._take("/"):
                found = _product(found, _power(self.component(depth), -1))
            else:
                return found

    def component(self, depth: int) -> Unit:
        if self._take("("):
            inner = self.term(depth + 1)
            if not self._take(")"):
                raise InvalidUnit("a ) is missing")
            found = inner
        elif annotation := ANNOTATION.match(self.text, self.at):
            self.at = annotation.end()
            return Unit(Decimal(1), (), name=annotation[0])
        else:
            found = self.annotatable()
        if annotation := ANNOTATION.match(self.text, self.at):
            self.at = annotation.end()
        return found

    def annotatable(self) -> Unit:
        number = NUMBER.match(self.text, self.at)
        if number and not self.text.startswith(("10*", "10^"), self.at):
            self.at = number.end()
            if Decimal(number[0]) == 0:
                raise InvalidUnit("a factor cannot be 0")
            return Unit(Decimal(number[0]), (), name=number[0])
        symbol = SYMBOL.match(self.text, self.at)
        if symbol is None:
            raise InvalidUnit(f"a unit is missing at {self.text[self.at :][:20]!r}")
        self.at = symbol.end()
        unit = _simple(symbol[0])
        exponent = EXPONENT.match(self.text, self.at)
        if exponent is None:
            return unit
        self.at = exponent.end()
        power = int(exponent[0])
        if power == 0 or abs(power) > LARGEST_EXPONENT:
            raise InvalidUnit("an exponent is 1 to 99, or less than 0")
        return _power(unit, power)

    def _take(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False


@lru_cache(maxsize=2048)
def _simple(symbol: str) -> Unit:
    """An atom, or a prefix and a metric atom."""
    table = _table()
    if symbol in table["units"]:
        return _atom(symbol)
    for length in (2, 1):
        prefix, atom = symbol[:length], symbol[length:]
        if prefix in table["prefixes"] and atom in table["units"] and table["units"][atom][1]:
            unit = _atom(atom)
            return Unit(
                unit.factor * Decimal(table["prefixes"][prefix]), unit.dimension, unit.function, symbol
            )
    raise InvalidUnit(f"{symbol[:40]!r} is not a unit")


@lru_cache(maxsize=512)
def _atom(code: str) -> Unit:
    name, _metric, factor, of, *rest = _table()["units"][code]
    if not of:
        return Unit(Decimal(1), ((code, 1),), name=name)
    inner = parse_unit(of)
    if rest[1:]:  # what a function makes of the value stands in TO_BASE
        return Unit(Decimal(1), inner.dimension, rest[1], name)
    return Unit(Decimal(factor) * inner.factor, inner.dimension, "", name)


def _product(one: Unit, other: Unit) -> Unit:
    if one.function or other.function:
        raise InvalidUnit("a unit on a scale of its own stands alone")
    powers = dict(one.dimension)
    for base, power in other.dimension:
        powers[base] = powers.get(base, 0) + power
    return Unit(one.factor * other.factor, _sorted(powers))


def _power(unit: Unit, power: int) -> Unit:
    if unit.function and power != 1:
        raise InvalidUnit("a unit on a scale of its own has no exponent")
    return Unit(
        unit.factor**power, _sorted({base: each * power for base, each in unit.dimension}), unit.function
    )


def _sorted(powers: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((base, power) for base, power in powers.items() if power))


class UcumCodeSystem(CodeSystem):
    """UCUM as a code system: a grammar, whose atoms alone can be listed."""

    is_enumerable = False

    def __init__(self) -> None:
        self.header = {
            "resourceType": "CodeSystem",
            "id": "ucum",
            "url": UCUM,
            "version": _table()["version"],
            "name": "UCUM",
            "title": "Unified Code for Units of Measure (UCUM)",
            "status": "active",
            "content": "complete",
            "caseSensitive": True,
            "compositional": True,
        }

    def find(self, code: str) -> Concept | None:
        """Any unit that the grammar allows."""
        try:
            unit = parse_unit(code)
        except InvalidUnit:
            return None
        row = _table()["units"].get(code)
        dimension = Property("canonical", "String", f"{unit.factor.normalize():f}.{dimension_text(unit)}")
        return Concept(code, row[0] if row else code, properties=(dimension,))

    def parents(self, code: str) -> tuple[str, ...]:
        """Units lie below no other."""
        return ()

    def children(self, code: str) -> tuple[str, ...]:
        """Nothing lies below a unit."""
        return ()

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """The atoms."""
        for code in _table()["units"]:
            concept = self.find(code)
            if concept is not None and has_words(concept, words):
                yield concept

    def with_property(self, code: str, value: str) -> set[str]:
        """Units of a dimension (`canonical`, as `m` or `g.m-3`); properties of UCUM's filters (R4 4.1.14)."""
        if code != "canonical" or not is_unit(value):
            return set()
        wanted = parse_unit(value).dimension
        return {each for each in _table()["units"] if parse_unit(each).dimension == wanted}

    def has_dimension(self, code: str, value: str) -> bool:
        """Whether a unit can be converted to another one."""
        return is_unit(code) and is_unit(value) and parse_unit(code).dimension == parse_unit(value).dimension
