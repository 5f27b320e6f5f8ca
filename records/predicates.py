"""Search criteria as predicates on documents, each of which SQL can ask in two ways.

As a set (`ids`): which documents does it hold for, by an index on the value. At one document (`at`): does it
hold for this one, by an index on the document. `records.search` drives a statement from the smallest set and
asks the others at each row of it, so that a page costs what it shows and not what the archive holds.
Standards: R4 3.1.1.4 (parameters), 3.1.1.4.10 (token) to 3.1.1.4.17 (_has).
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Protocol, cast

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    exists,
    false,
    literal_column,
    not_,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session

from access.caller import Action, Caller
from kernel.database import table_of
from kernel.sealed_text import HiddenText
from kernel.veil import Beginning, Beyond, Containing, Ending
from kernel.veiled_text import NAME
from records.aliases import fresh
from records.dates import EPOCH, interval
from records.hashing import either, hash_of
from records.implied_systems import implied_systems
from records.indexing import (
    CANONICAL,
    canonical_number,
    fold,
    number_interval,
    of_type_number,
    on_sphere,
    reference_hash,
)
from records.model import (
    IndexCompartment,
    IndexComposite,
    IndexDate,
    IndexHiddenWord,
    IndexNumber,
    IndexPosition,
    IndexReference,
    IndexString,
    IndexToken,
    IndexUri,
    IndexWord,
    Resource,
)
from records.parameters import (
    Component,
    Parameter,
    parameter_number,
    parent_parameter,
    resource_types,
)
from records.query import (
    Criterion,
    InvalidSearch,
    NotYetIndexed,
    check_name,
    find_parameter,
    split_values,
    targets_of,
    unescaped,
)
from records.reach import reach_of_type
from records.room import Records
from records.units import UCUM, canonical_unit
from records.words import words_of

RESOURCE = table_of(Resource)
MOST_CODES = 30000

Match = Callable[[Any], ColumnElement[bool]]  # from the columns of a table, or of an alias, to a condition


class Predicate(Protocol):
    """A condition on documents."""

    @property
    def streams(self) -> bool:
        """Whether its set comes in the order of documents by itself: an equality on one index."""
        ...

    def ids(self) -> Select[Any] | None:
        """The `resource.id`s for which it holds; None when that is no set to begin with."""
        ...

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Whether it holds for the document with this `resource.id`."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """There is (or with `negated`, there is not) an index row that matches."""

    table: Table
    numbers: tuple[int, ...]  # of the parameter in each type that is searched; empty: the table has none
    match: Match
    streams: bool = False
    negated: bool = False
    is_range: bool = False  # all that match stand side by side in the index, by its low and by its high

    def _where(self, columns: Any) -> ColumnElement[bool]:
        if not self.numbers:
            return self.match(columns)
        number = columns.parameter
        is_it = number == self.numbers[0] if len(self.numbers) == 1 else number.in_(self.numbers)
        return and_(is_it, self.match(columns))

    def ids(self) -> Select[Any] | None:
        """The documents of the rows."""
        rows = fresh(self.table)
        return None if self.negated else select(rows.c.resource_id).where(self._where(rows.c))

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """A row of this document."""
        rows = fresh(self.table)
        found = exists().where(rows.c.resource_id == key, self._where(rows.c))
        return not_(found) if self.negated else found

    def at_few(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """The same where few documents are left to ask about: each is looked up by itself."""
        rows = fresh(self.table)
        found = _looked_up(rows.c.resource_id == key, self._where(rows.c))
        return not_(found) if self.negated else found


@dataclass(frozen=True, slots=True)
class Own:
    """A condition on the document's own row."""

    match: Match
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """The rows."""
        rows = fresh(RESOURCE)
        return select(rows.c.id.label("resource_id")).where(self.match(rows.c))

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """This row."""
        rows = fresh(RESOURCE)
        return exists().where(rows.c.id == key, self.match(rows.c))


_ONE: Select[Any] = select(literal_column("1")).offset(0)
"""OFFSET 0 keeps PostgreSQL from making one join of it all: it can but guess how many rows a value has, and
along a chain the guesses multiply."""


def _looked_up(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is such a row, looked up for each document that is asked about."""
    return _ONE.where(*conditions).exists()


def _together(sets: Sequence[Select[Any]]) -> Any:
    """Several sets as one: alternatives of IN would be asked of every row, a union leads to the rows."""
    return sets[0] if len(sets) == 1 else union_all(*sets)


@dataclass(frozen=True, slots=True)
class Chained:
    """The document refers to one for which another predicate holds (R4 3.1.1.4.16)."""

    number: int
    targets: tuple[tuple[Predicate, Match], ...]  # what holds there, and its type and reach
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """Documents that refer to one of the set."""
        sets = [(predicate.ids(), match) for predicate, match in self.targets]
        rows = fresh(IndexReference)
        found = []
        for ids, match in sets:
            if ids is None:
                return None
            target = fresh(RESOURCE)
            found.append(select(target.c.self_hash).where(target.c.id.in_(ids), match(target.c)))
        leads_there = rows.c.target.in_(_together(found)) if found else false()
        return select(rows.c.resource_id).where(rows.c.parameter == self.number, leads_there)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """A reference of this document that leads to one."""
        rows = fresh(IndexReference)
        found = []
        for predicate, match in self.targets:
            target = fresh(RESOURCE)
            found.append(
                exists().where(
                    target.c.self_hash == rows.c.target, match(target.c), predicate.at(target.c.id)
                )
            )
        return _looked_up(rows.c.resource_id == key, rows.c.parameter == self.number, or_(false(), *found))


@dataclass(frozen=True, slots=True)
class Referred:
    """A document for which another predicate holds refers to this one (R4 3.1.1.4.17, _has)."""

    number: int
    inner: Predicate
    match: Match  # type and reach of what refers
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """Documents that one of the set refers to."""
        inner = self.inner.ids()
        if inner is None:
            return None
        rows, referring, own = fresh(IndexReference), fresh(RESOURCE), fresh(RESOURCE)
        sources = select(referring.c.id).where(referring.c.id.in_(inner), self.match(referring.c))
        targets = select(rows.c.target).where(
            rows.c.parameter == self.number, rows.c.resource_id.in_(sources)
        )
        return select(own.c.id.label("resource_id")).where(own.c.self_hash.in_(targets), ~own.c.deleted)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """A reference to this document from one."""
        rows, referring, own = fresh(IndexReference), fresh(RESOURCE), fresh(RESOURCE)
        holds = exists().where(
            referring.c.id == rows.c.resource_id, self.match(referring.c), self.inner.at(referring.c.id)
        )
        return _looked_up(
            own.c.id == key,
            exists().where(rows.c.parameter == self.number, rows.c.target == own.c.self_hash, holds),
        )


@dataclass(frozen=True, slots=True)
class Every:
    """All of several predicates."""

    parts: tuple[Predicate, ...]
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """The first part's set in which the others hold."""
        first = next(((part, ids) for part in self.parts if (ids := part.ids()) is not None), None)
        if first is None:
            return None
        rows = first[1].subquery()
        others = (part.at(rows.c.resource_id) for part in self.parts if part is not first[0])
        return select(rows.c.resource_id).where(*others)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Each of them here."""
        return and_(true(), *(part.at(key) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of several predicates."""

    parts: tuple[Predicate, ...]
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """The sets together."""
        sets = [part.ids() for part in self.parts]
        if not sets or any(ids is None for ids in sets):
            return None
        rows = fresh(RESOURCE)
        found = [ids for ids in sets if ids is not None]
        return select(rows.c.id.label("resource_id")).where(rows.c.id.in_(_together(found)))

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """One of them here."""
        return or_(false(), *(part.at(key) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Word:
    """A document has a word: hidden, or in clear where words are not hidden or not yet."""

    forms: tuple[Rows, ...]
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """The documents of the rows of either."""
        found = union_all(*(ids for form in self.forms if (ids := form.ids()) is not None)).subquery()
        return select(found.c.resource_id)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """A row of this document."""
        return or_(*(form.at_few(key) for form in self.forms))


@dataclass(frozen=True, slots=True)
class Not:
    """What another predicate does not hold for."""

    part: Predicate
    streams: bool = False

    def ids(self) -> Select[Any] | None:
        """No set to begin with."""
        return None

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Not here."""
        return not_(self.part.at(key))


@dataclass(frozen=True, slots=True)
class Asking:
    """Who searches, and where: what turning criteria into predicates takes."""

    records: Records
    session: Session
    caller: Caller

    def lives(self, resource_type: str) -> Match:
        """Rows of a type that are there and within the caller's reach."""
        return lambda columns: and_(
            columns.type == resource_type,
            ~columns.deleted,
            *reach_of_type(self.caller.reach_for("s"), resource_type, columns),
        )


def predicate_of(asking: Asking, types: Sequence[str], criterion: Criterion, depth: int = 0) -> Predicate:
    """The predicate of one criterion on documents of some types. Raises InvalidSearch or Forbidden."""
    name = criterion.name
    for type_ in types if len(types) < 8 else ("Resource",):
        check_name(type_, name, depth)
    if name.startswith("_has:"):
        return _referred(asking, criterion, depth)
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if code in ELSEWHERE:
        return ELSEWHERE[code](asking, types, criterion)
    if dot:
        if len(types) > 1:
            raise InvalidSearch(name, "a chain begins at one type")
        parameter = find_parameter(types[0], code)
        return _chained(asking, parameter, modifier, Criterion(rest, criterion.values), depth)
    parameters = [find_parameter(type_, code) for type_ in types]
    if any(not parameter.is_ready for parameter in parameters):
        raise NotYetIndexed(code)
    parameter = parameters[0]
    numbers = tuple(each.number for each in parameters)
    if modifier == "missing":
        return Rows(TABLES[parameter.type], numbers, lambda _: true(), negated=_flag(criterion))
    veiled = tuple(each.resource_type for each in parameters if each.is_veiled)
    if 0 < len(veiled) < len(types):  # names of people and of what is none
        others = tuple(type_ for type_ in types if type_ not in veiled)
        return Some(tuple(predicate_of(asking, some, criterion, depth) for some in (veiled, others)))
    if modifier == "of-type":
        numbers = tuple(of_type_number(each) for each in parameters)
    if parameter.type == "quantity":
        numbers += tuple(canonical_number(each) for each in parameters)
    match = MATCHERS[parameter.type]
    matches = [match(value, modifier, parameter, asking) for value in criterion.values]
    return Rows(
        TABLES[parameter.type],
        numbers,
        lambda columns: or_(false(), *(each(columns) for each in matches)),
        streams=len(matches) == len(numbers) == 1 and _is_equality(parameter, modifier, criterion.values[0]),
        negated=modifier in ("not", "not-in"),
        is_range=parameter.type == "date" and [prefixed(each)[0] for each in criterion.values] == ["eq"],
    )


def _is_equality(parameter: Parameter, modifier: str, value: str) -> bool:
    """Whether the index gives the rows of one value in the order of documents."""
    if parameter.is_hidden or modifier == "identifier":  # two forms of the value are asked for
        return False
    if modifier in ("text", "contains", "in", "not-in", "not", "above", "below", "exact"):
        return False
    if parameter.type == "token":
        return not value.endswith("|")
    return parameter.type == "uri" or (parameter.type == "reference" and ("/" in value or modifier != ""))


def _flag(criterion: Criterion) -> bool:
    if criterion.values not in (("true",), ("false",)):
        raise InvalidSearch(criterion.name, "write true or false")
    return criterion.values == ("true",)


def _chained(
    asking: Asking, parameter: Parameter, modifier: str, criterion: Criterion, depth: int
) -> Predicate:
    found: list[tuple[Predicate, Match]] = []
    for target in targets_of(parameter, modifier):
        try:
            check_name(target, criterion.name, depth + 1)
        except InvalidSearch:
            continue
        if not asking.caller.may(Action(target, "s")):
            continue
        inner = predicate_of(asking, (target,), criterion, depth + 1)
        found.append((inner, asking.lives(target)))
    return Chained(parameter.number, tuple(found))


def _referred(asking: Asking, criterion: Criterion, depth: int) -> Predicate:
    _, type_, code, rest = criterion.name.split(":", 3)
    asking.caller.require(Action(type_, "s"))
    parameter = find_parameter(type_, code, "reference")
    inner = predicate_of(asking, (type_,), Criterion(rest, criterion.values), depth + 1)
    return Referred(parameter.number, inner, asking.lives(type_))


def in_compartment(
    types: Sequence[str], compartment: tuple[str, ...], codes: Callable[[str, str], Iterable[str]]
) -> Predicate:
    """Documents of some types that belong to a compartment, or to one of several (R4 3.1.1.2)."""
    of_type, *ids = compartment
    if of_type == "Patient":
        return Rows(IndexCompartment, (), lambda columns: columns.patient.in_(ids) if ids else true())
    numbers = tuple(parameter_number(type_, code) for type_ in types for code in codes(of_type, type_))
    targets = [hash_of(f"{of_type}/{each}") for each in ids]
    itself = Own(lambda columns: and_(columns.type == of_type, columns.logical_id.in_(ids)))
    if not numbers:
        return itself
    members = Rows(IndexReference, numbers, lambda columns: columns.target.in_(targets))
    return Some((members, itself)) if of_type in types else members


def _by_id(_asking: Asking, types: Sequence[str], criterion: Criterion) -> Predicate:
    if criterion.name.endswith(":missing"):
        missing = _flag(criterion)
        return Own(lambda _: false() if missing else true())
    values = tuple(unescaped(value) for value in criterion.values)
    named = Own(lambda columns: and_(columns.type.in_(types), columns.logical_id.in_(values)))
    return Not(named) if criterion.name.endswith(":not") else named


def _by_update(_asking: Asking, types: Sequence[str], criterion: Criterion) -> Predicate:
    if criterion.name.endswith(":missing"):
        missing = _flag(criterion)
        return Own(lambda _: false() if missing else true())
    matches = [_updated(value) for value in criterion.values]
    return Own(lambda columns: and_(columns.type.in_(types), or_(*(match(columns) for match in matches))))


def _updated(value: str) -> Match:
    prefix, text = prefixed(value)
    low, high = (EPOCH + timedelta(milliseconds=each) for each in date_interval("_lastUpdated", text))
    end = high + timedelta(milliseconds=1)

    def match(columns: Any) -> ColumnElement[bool]:
        column = columns.updated_at
        conditions: dict[str, Callable[[], ColumnElement[bool]]] = {
            "eq": lambda: and_(column >= low, column < end),
            "ne": lambda: or_(column < low, column >= end),
            "gt": lambda: column >= end,
            "sa": lambda: column >= end,
            "lt": lambda: column < low,
            "eb": lambda: column < low,
            "ge": lambda: column >= low,
            "le": lambda: column < end,
            "ap": lambda: and_(column >= low - timedelta(days=1), column < end + timedelta(days=1)),
        }
        return conditions[prefix]()

    return match


def _by_words(_asking: Asking, _types: Sequence[str], criterion: Criterion) -> Predicate:
    """_text and _content: every word; `OR` between groups of words (R4 3.1.1.4.2)."""
    narrative = criterion.name == "_text"

    def within(match: Match) -> Match:
        return lambda columns: and_(match(columns), columns.in_narrative) if narrative else match(columns)

    def has(word: str) -> Predicate:
        def is_it(columns: Any) -> ColumnElement[bool]:
            return cast(ColumnElement[bool], columns.word == word)

        of_letters = word[-1] < "\u2e80"  # found by its beginning, which is hidden as a word
        in_clear = starts_with("word", word) if of_letters else is_it
        return Word((Rows(IndexHiddenWord, (), within(is_it)), Rows(IndexWord, (), within(in_clear))))

    groups = [
        Every(tuple(map(has, words))) if len(words) > 1 else has(words[0])
        for group in re.split(r"\s+OR\s+|,", criterion.values[0])
        if (words := words_of(group))
    ]
    if not groups:
        raise InvalidSearch(criterion.name, "write at least one word")
    return groups[0] if len(groups) == 1 else Some(tuple(groups))


def _by_list(asking: Asking, _types: Sequence[str], criterion: Criterion) -> Predicate:
    """What a List names (R4 3.1.1.4.8)."""
    if any(value.startswith("$") for value in criterion.values):
        raise InvalidSearch("_list", "functional lists are not known; name a List by its id")
    asking.caller.require(Action("List", "s"))
    lists = Own(lambda columns: and_(columns.type == "List", columns.logical_id.in_(criterion.values)))
    return Referred(parameter_number("List", "item"), lists, asking.lives("List"))


def _by_filter(asking: Asking, types: Sequence[str], criterion: Criterion) -> Predicate:
    from records.filter_expression import parse_filter  # it is written in terms of this module

    return parse_filter(criterion.values[0]).predicate(asking, types)


ELSEWHERE: dict[str, Callable[[Asking, Sequence[str], Criterion], Predicate]] = {
    "_id": _by_id,
    "_lastUpdated": _by_update,
    "_text": _by_words,
    "_content": _by_words,
    "_list": _by_list,
    "_filter": _by_filter,
}


def _match_token(value: str, modifier: str, parameter: Parameter, asking: Asking) -> Match:
    if modifier == "text":
        return _begins_or_is_hidden("text", fold(unescaped(value)), parameter)
    is_hash = _is_either if parameter.is_hidden else _is_hash
    if modifier == "of-type":
        parts = [unescaped(part) for part in split_values(value, "|")]
        if len(parts) != 3 or not parts[2]:
            raise InvalidSearch(parameter.code, "write system|code|value")
        return lambda columns: is_hash(columns.value, *parts)
    if modifier in ("in", "not-in"):
        return _one_of(parameter, asking.records.concepts.members(asking.session, unescaped(value)))
    parts = [unescaped(part) for part in split_values(value, "|")]
    if len(parts) > 2:
        raise InvalidSearch(parameter.code, "write code, system|code, |code or system|")
    implied = implied_systems(parameter.resource_type, parameter.expression)
    if modifier in ("below", "above"):
        code = parts[-1]
        systems = parts[:-1] or [system for system, codes in implied.items() if code in codes]
        if len(systems) != 1:
            raise InvalidSearch(f"{parameter.code}:{modifier}", "write system|code")
        system, concepts = systems[0], asking.records.concepts
        found = (concepts.below if modifier == "below" else concepts.above)(asking.session, system, code)
        return _one_of(parameter, found)
    if len(parts) == 1:
        return lambda columns: is_hash(columns.code, parts[0])
    if parts[0] in implied:  # the index has the code alone
        codes = {parts[1]} if parts[1] else implied[parts[0]]
        values = [hash_of("", code) for code in sorted(codes & implied[parts[0]])]
        return lambda columns: columns.value.in_(values)
    if not parts[1]:
        return lambda columns: _is_hash(columns.system, parts[0])
    return lambda columns: is_hash(columns.value, *parts)


def _is_hash(column: Any, *parts: str) -> ColumnElement[bool]:
    return cast(ColumnElement[bool], column == hash_of(*parts))


def _is_either(column: Any, *parts: str) -> ColumnElement[bool]:
    return cast(ColumnElement[bool], column.in_(either(*parts)))


def _begins_or_is_hidden(column: str, text: str, parameter: Parameter) -> Match:
    """A text that begins so, or that is just this where the index hides it."""
    begins = starts_with(column, text[:200])
    if not parameter.is_hidden:
        return begins
    hidden = HiddenText(text[:200])
    return lambda columns: or_(begins(columns), getattr(columns, column) == hidden)


def _one_of(parameter: Parameter, concepts: Iterable[tuple[str, str]]) -> Match:
    """One of many codes; an element of type `code` has no system, which its value set implies."""
    hashes: set[int] = set()
    for system, code in concepts:
        hashes |= {hash_of(system, code), hash_of("", code)}
        if len(hashes) > MOST_CODES:
            raise InvalidSearch(parameter.code, f"the value set has more than {MOST_CODES // 2} codes")
    found = sorted(hashes)
    return lambda columns: columns.value.in_(found)


def starts_with(column: str, text: str) -> Match:
    """A text column that begins with a text, as a range of its index."""

    def match(columns: Any) -> ColumnElement[bool]:
        at = getattr(columns, column)
        return and_(at >= Beginning(text), at < Beyond(text))

    return match


def like(parameter: Parameter, text: Containing | Ending) -> Match:
    """A string that holds a text, or ends with it."""
    return _in_form(parameter, lambda columns: columns.value.like(text, escape="\\"))


def _in_form(parameter: Parameter, match: Match) -> Match:
    """The same of a parameter's strings as they stand: names may be veiled."""
    if not parameter.is_veiled:
        return match
    return lambda columns: match(
        SimpleNamespace(**{name: type_coerce(columns[name], NAME) for name in ("value", "exact")})
    )


def _match_string(value: str, modifier: str, parameter: Parameter, _asking: Asking) -> Match:
    text = unescaped(value)
    if modifier == "contains":
        return like(parameter, Containing(fold(text)))
    begins = _begins_or_is_hidden("value", fold(text), parameter)
    if modifier == "exact":  # the index; then the text itself
        exact = (text[:200], HiddenText(text[:200])) if parameter.is_hidden else (text[:200],)
        return _in_form(parameter, lambda columns: and_(begins(columns), columns.exact.in_(exact)))
    return _in_form(parameter, begins)


PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[\d.+-])")


def prefixed(value: str) -> tuple[str, str]:
    """The prefix of an ordered value, `eq` without one, and the value."""
    match = PREFIX.match(value)
    return (match[1], value[2:]) if match else ("eq", value)


DAY = 86_400_000


def _match_date(value: str, _modifier: str, parameter: Parameter, _asking: Asking) -> Match:
    """R4 3.1.1.4.6: the row's interval against the value's."""
    prefix, text = prefixed(value)
    low, high = date_interval(parameter.code, text)
    slack = max(DAY, (high - low) // 10)
    return lambda columns: COMPARED[prefix](columns.low, columns.high, low, high, slack)


def date_interval(code: str, text: str) -> tuple[int, int]:
    """The first and last millisecond of a date that is searched for. Raises InvalidSearch."""
    try:
        return interval(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))  # a + that a client did not escape
    except (ValueError, OverflowError):
        raise InvalidSearch(code, "write a date as 2024-01-31, or 2024-01, or with a time") from None


Compared = Callable[[Any, Any, Any, Any, Any], ColumnElement[bool]]

COMPARED: dict[str, Compared] = {
    # the outer bounds of ge and le follow from what stands inside, and let an index be used; of eq as well
    "eq": lambda low, high, first, last, _: and_(low.between(first, last), high.between(first, last)),
    "ne": lambda low, high, first, last, _: or_(low < first, high > last),
    "gt": lambda low, high, first, last, _: high > last,
    "lt": lambda low, high, first, last, _: low < first,
    "ge": lambda low, high, first, last, _: and_(high >= first, or_(high > last, low >= first)),
    "le": lambda low, high, first, last, _: and_(low <= last, or_(low < first, high <= last)),
    "sa": lambda low, high, first, last, _: low > last,
    "eb": lambda low, high, first, last, _: high < first,
    "ap": lambda low, high, first, last, slack: and_(low <= last + slack, high >= first - slack),
}


def _match_number(value: str, _modifier: str, parameter: Parameter, _asking: Asking) -> Match:
    parts = [unescaped(part) for part in split_values(value, "|")]
    prefix, text = prefixed(parts[0])
    bounds = number_interval(text)
    if bounds is None or len(parts) > 3 or len(parts) == 2:
        raise InvalidSearch(parameter.code, "write a number, or number|system|code")
    if len(parts) == 1 or not parts[2]:
        if parameter.type == "number":
            return lambda columns: _compared_number(columns, prefix, bounds, 1)
        return lambda columns: and_(_compared_number(columns, prefix, bounds, 1), columns.code != CANONICAL)
    hashed = hash_of(*parts[1:]) if parts[1] else hash_of(parts[2])
    canonical = canonical_unit(parts[2]) if parts[1] == UCUM else None
    if canonical is not None:
        factor, unit = canonical
        in_canonical = hash_of("canonical", unit)
        return lambda columns: and_(
            _compared_number(columns, prefix, bounds, factor), columns.unit == in_canonical
        )
    by_system = bool(parts[1])
    return lambda columns: and_(
        _compared_number(columns, prefix, bounds, 1),
        columns.unit == hashed if by_system else columns.code == hashed,
        columns.code != CANONICAL,
    )


def _compared_number(
    columns: Any, prefix: str, bounds: tuple[float, float], factor: float
) -> ColumnElement[bool]:
    """R4 3.1.1.4.7: eq and ne by the written precision, the others by the number itself."""
    low, high = bounds[0] * factor, bounds[1] * factor
    amount = (low + high) / 2
    slack = abs(amount) / 10
    near = max(abs(amount) * 1e-12, 1e-300)  # what floating point may differ by
    top = high + near if high - low < 4 * near else high  # written more finely than floating point holds
    middle = (columns.low + columns.high) / 2  # the number itself; the row has its precision's interval
    conditions: dict[str, Callable[[], ColumnElement[bool]]] = {
        "eq": lambda: and_(columns.low < top, columns.high >= low - near, middle >= low - near, middle < top),
        "ne": lambda: or_(middle < low - near, middle >= high),
        "ap": lambda: and_(columns.low <= amount + slack, columns.high >= amount - slack),
        "gt": lambda: and_(columns.high > amount, middle > amount + near),
        "sa": lambda: and_(columns.high > amount, middle > amount + near),
        "ge": lambda: and_(columns.high >= amount - near, middle >= amount - near),
        "lt": lambda: and_(columns.low < amount, middle < amount - near),
        "eb": lambda: and_(columns.low < amount, middle < amount - near),
        "le": lambda: and_(columns.low <= amount + near, middle <= amount + near),
    }
    return conditions[prefix]()


def _match_reference(value: str, modifier: str, parameter: Parameter, asking: Asking) -> Match:
    if modifier == "identifier":
        parts = [unescaped(part) for part in split_values(value, "|")]
        system, code = parts if len(parts) == 2 else ("", parts[0])
        identifiers = either(system, code)
        return lambda columns: columns.identifier.in_(identifiers)
    text = unescaped(value)
    if modifier in ("above", "below"):
        types = [text.split("/")[-2]] if "/" in text else parameter.targets
        family = _family(asking, types, text.rpartition("/")[2], modifier)
        return lambda columns: columns.target.in_(family)
    if "/" in text or "://" in text or text.startswith("urn:"):
        target = reference_hash(text.partition("/_history/")[0])
        return lambda columns: columns.target == target
    targets = (modifier,) if modifier else parameter.targets or tuple(resource_types())
    hashes = [reference_hash(f"{each}/{text}") for each in targets]
    if len(hashes) == 1 and modifier:
        return lambda columns: columns.target == hashes[0]
    hashes.append(reference_hash(text))  # a reference that is written without its type
    return lambda columns: columns.target.in_(hashes)


MOST_RELATIVES = 10000


def _family(asking: Asking, types: Iterable[str], logical_id: str, modifier: str) -> list[int]:
    """The hashes of a document and of those that are part of it, or that it is part of, to any depth
    (R4 3.1.1.4.13, hierarchies)."""
    found: set[int] = set()
    for type_ in types:
        level = {reference_hash(f"{type_}/{logical_id}")}
        parent = parent_parameter(type_)
        while level:
            found |= level
            if parent is None:
                break
            if len(found) > MOST_RELATIVES:
                raise InvalidSearch(modifier, f"more than {MOST_RELATIVES} belong together")
            rows, own = fresh(IndexReference), fresh(RESOURCE)
            near, far = (own.c.self_hash, rows.c.target)
            if modifier == "below":
                near, far = far, near
            joined = select(far).join_from(rows, own, own.c.id == rows.c.resource_id)
            step = joined.where(
                rows.c.parameter == parent.number, near.in_(level), asking.lives(type_)(own.c)
            )
            level = set(asking.session.scalars(step)) - found
    return sorted(found)


def _match_uri(value: str, modifier: str, _parameter: Parameter, _asking: Asking) -> Match:
    text = unescaped(value)
    if modifier == "below":
        under = starts_with("value", text.rstrip("/") + "/")
        return lambda columns: or_(columns.value == text, under(columns))
    if modifier == "above":
        parts = text.split("/")
        above = ["/".join(parts[:at]) for at in range(3, len(parts) + 1)] or [text]
        return lambda columns: columns.value.in_(above)
    return lambda columns: columns.value == text


EARTH_KM = 6371.0088  # mean radius
KILOMETRES = {"km": 1.0, "m": 0.001, "mi": 1.609344, "[mi_i]": 1.609344, "[mi_us]": 1.609347219, "": 1.0}


def _match_near(value: str, _modifier: str, parameter: Parameter, _asking: Asking) -> Match:
    """latitude|longitude|distance|units (R4 Location, near): within 10 km where no distance is given."""
    parts = value.split("|")
    try:
        latitude, longitude = float(parts[0]), float(parts[1])
        distance = float(parts[2]) if len(parts) > 2 and parts[2] else 10.0
        distance *= KILOMETRES[parts[3] if len(parts) > 3 else ""]
        if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 <= distance <= 21000):
            raise ValueError
    except (ValueError, IndexError, KeyError):
        raise InvalidSearch(parameter.code, "write latitude|longitude|distance|km") from None
    x, y, z = on_sphere(latitude, longitude)
    chord = (2 * math.sin(min(distance / EARTH_KM / 2, math.pi / 2))) ** 2
    band = math.degrees(distance / EARTH_KM)
    return lambda columns: and_(
        columns.latitude.between(latitude - band, latitude + band),
        (columns.x - x) * (columns.x - x) + (columns.y - y) * (columns.y - y)
        + (columns.z - z) * (columns.z - z) <= chord,
    )  # fmt: skip


def _match_composite(value: str, _modifier: str, parameter: Parameter, asking: Asking) -> Match:
    parts = list(split_values(value, "$"))
    if len(parts) != len(parameter.components):
        raise InvalidSearch(parameter.code, f"write {len(parameter.components)} values with $ between them")
    matches = [
        MATCHERS[component.parameter.type](part, "", component.parameter, asking)
        for part, component in zip(parts, parameter.components, strict=True)
    ]
    return lambda columns: and_(
        *(match(_part_of(columns, at, parameter.components[at])) for at, match in enumerate(matches))
    )


def _part_of(columns: Any, at: int, component: Component) -> Any:
    """The columns of one value of a composite row, under the names that they have in its own table."""
    kind = component.parameter.type
    if kind == "token":
        first = ("first", "second")[at]
        names = {"value": first, "code": f"{first}_code", "system": f"{first}_system"}
    elif kind == "reference":
        names = {"target": ("first", "second")[at]}
    elif kind == "string":
        names = {"value": "text"}
    elif at == 2:
        names = {"low": "third_low", "high": "third_high"}
    else:
        names = {"low": "low", "high": "high", "unit": "unit", "code": "unit_code"}
    return SimpleNamespace(**{name: columns[column] for name, column in names.items()})


Matcher = Callable[[str, str, Parameter, Asking], Match]

MATCHERS: dict[str, Matcher] = {
    "token": _match_token,
    "string": _match_string,
    "date": _match_date,
    "number": _match_number,
    "quantity": _match_number,
    "reference": _match_reference,
    "uri": _match_uri,
    "composite": _match_composite,
    "special": _match_near,
}

TABLES = {
    "token": IndexToken,
    "string": IndexString,
    "date": IndexDate,
    "number": IndexNumber,
    "quantity": IndexNumber,
    "reference": IndexReference,
    "uri": IndexUri,
    "composite": IndexComposite,
    "special": IndexPosition,
}
