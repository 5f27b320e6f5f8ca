"""The `_filter` expression: comparisons joined by `and`, `or` and `not` (R4 3.1.3, Filter Parameter).

given eq "peter" and not (birthdate ge 2014-10-10 or gender eq male)
subject.identifier eq "urn:x|1"                                          a chain, as in a search
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import and_

from kernel.veil import Ending
from records.indexing import fold
from records.model import IndexDate, IndexString
from records.parameters import Parameter
from records.predicates import (
    Asking,
    Every,
    Not,
    Predicate,
    Rows,
    Some,
    date_interval,
    like,
    predicate_of,
)
from records.query import Criterion, InvalidSearch, check_name, find_parameter
from records.shapes import Asked

TOKEN = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))')
MOST_TOKENS, MOST_DEPTH = 256, 16


class Expression(Protocol):
    """A part of a filter."""

    def predicate(self, asking: Asking, types: Sequence[str]) -> Predicate:
        """What it means for documents of some types. Raises InvalidSearch."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path operator value`."""

    path: str
    operator: str
    value: str

    def predicate(self, asking: Asking, types: Sequence[str]) -> Predicate:
        """The same as a search parameter, with a modifier or a prefix in place of the operator."""
        if self.operator in ("ew", "po"):
            return _by_rows(self, types[0])
        name, value, negated = _as_criterion(self, types[0])
        found = predicate_of(asking, types, Criterion(name, (value,)))
        return Not(found) if negated else found


@dataclass(frozen=True, slots=True)
class Joined:
    """Expressions joined by `and` or `or`, or one that is negated."""

    operator: str
    parts: tuple[Expression, ...] = field(default=())

    def predicate(self, asking: Asking, types: Sequence[str]) -> Predicate:
        """All of them, or one of them, or not."""
        parts = tuple(part.predicate(asking, types) for part in self.parts)
        if self.operator == "not":
            return Not(parts[0])
        return Every(parts) if self.operator == "and" else Some(parts)


ORDERED = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"})
TOKEN_MODIFIERS = {"ss": ":below", "sb": ":above", "in": ":in", "ni": ":not-in"}
OPERATORS = ORDERED | TOKEN_MODIFIERS.keys() | {"co", "sw", "ew", "pr", "po", "re"}


def _as_criterion(comparison: Comparison, resource_type: str) -> tuple[str, str, bool]:
    """The name and value of a search parameter, and whether it is negated."""
    path, operator, value = comparison.path, comparison.operator, comparison.value
    parameter = _parameter_at(resource_type, path)
    kind = parameter.type if parameter else "token"
    if operator == "pr":
        if value not in ("true", "false"):
            raise InvalidSearch("_filter", "write pr true or pr false")
        return f"{path}:missing", "false" if value == "true" else "true", False
    if operator in TOKEN_MODIFIERS:
        return path + TOKEN_MODIFIERS[operator], value, False
    if kind in ("date", "number", "quantity"):
        if operator not in ORDERED:
            raise InvalidSearch("_filter", f"{operator} does not go with {path}")
        return path, f"{operator}{value}", False
    if kind == "string":
        names = {"eq": ":exact", "ne": ":exact", "co": ":contains", "sw": ""}
        if operator not in names:
            raise InvalidSearch("_filter", f"{operator} does not go with {path}")
        return path + names[operator], value, operator == "ne"
    if operator in ("eq", "re", "ne"):
        return path, value, operator == "ne"
    if operator in ("co", "sw") and kind == "token":
        return f"{path}:text", value, False
    raise InvalidSearch("_filter", f"{operator} does not go with {path}")


def _parameter_at(resource_type: str, path: str) -> Parameter | None:
    """The parameter that ends a path; None where a chain leads to several types or the row itself."""
    check_name(resource_type, path)
    head, dot, rest = path.partition(".")
    code, _, modifier = head.partition(":")
    if code in ("_id", "_list", "_text", "_content"):
        return None
    if code == "_lastUpdated":
        return find_parameter(resource_type, "_lastUpdated")
    parameter = find_parameter(resource_type, code)
    if not dot:
        return parameter
    for target in (modifier,) if modifier else parameter.targets:
        try:
            return _parameter_at(target, rest)
        except InvalidSearch:
            continue
    return None


def _by_rows(comparison: Comparison, resource_type: str) -> Predicate:
    """Operators that no search parameter has: a text's end, and periods that overlap."""
    if comparison.operator == "ew":
        parameter = find_parameter(resource_type, comparison.path, "string")
        return Rows(IndexString, (parameter.number,), like(parameter, Ending(fold(comparison.value))))
    parameter = find_parameter(resource_type, comparison.path, "date")
    first, last = map(Asked, date_interval(parameter.code, comparison.value))
    return Rows(
        IndexDate, (parameter.number,), lambda columns: and_(columns.low <= last, columns.high >= first)
    )


def parse_filter(text: str) -> Expression:
    """Read a filter. Raises InvalidSearch."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = TOKEN.match(text, at)
            if match is None or len(self.tokens) == MOST_TOKENS:
                raise InvalidSearch("_filter", f"it cannot be read at character {at}")
            opening, closing, quoted, word = match.groups()
            kind = "(" if opening else ")" if closing else "word" if word is not None else "text"
            value = word if word is not None else re.sub(r"\\(.)", r"\1", quoted or "")
            self.tokens.append((kind, value))
            at = match.end()
        self.at = 0

    def whole(self) -> Expression:
        found = self.either(0)
        if self.at < len(self.tokens):
            raise InvalidSearch("_filter", "something follows its end")
        return found

    def either(self, depth: int) -> Expression:
        parts = [self.both(depth)]
        while self._take("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Joined("or", tuple(parts))

    def both(self, depth: int) -> Expression:
        parts = [self.one(depth)]
        while self._take("and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else Joined("and", tuple(parts))

    def one(self, depth: int) -> Expression:
        if depth > MOST_DEPTH:
            raise InvalidSearch("_filter", "it is nested too deeply")
        if self._take("not"):
            return Joined("not", (self.one(depth + 1),))
        kind, value = self._next()
        if kind == "(":
            inner = self.either(depth + 1)
            if self._next()[0] != ")":
                raise InvalidSearch("_filter", "a bracket is not closed")
            return inner
        operator_kind, operator = self._next()
        value_kind, operand = self._next()
        if kind != "word" or operator_kind != "word" or operator not in OPERATORS or value_kind in ("(", ")"):
            raise InvalidSearch("_filter", f"write a comparison as: name eq value; not {value[:40]!r}")
        return Comparison(value, operator, operand)

    def _take(self, word: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == ("word", word):
            self.at += 1
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise InvalidSearch("_filter", "it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]
