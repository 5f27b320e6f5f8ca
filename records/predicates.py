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
from typing import Any, Protocol

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
from records.parameters import Parameter, parameter_number, parent_parameter, resource_types
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
from records.shapes import Asked
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

    @property
    def is_set(self) -> bool:
        """Whether it can be asked as a set."""
        ...

    def ids(self) -> Select[Any]:
        """The `resource.id`s for which it holds, where that is a set to begin with."""
        ...

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Whether it holds for the document with this `resource.id`."""
        ...


def is_one_of(column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a column has one of some values that a statement has of its own."""
    found: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return found


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
        return and_(is_one_of(columns.parameter, self.numbers), self.match(columns))

    @property
    def is_set(self) -> bool:
        """What has no such row is none."""
        return not self.negated

    def ids(self) -> Select[Any]:
        """The documents of the rows."""
        rows = fresh(self.table)
        return select(rows.c.resource_id).where(self._where(rows.c))

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

    @property
    def is_set(self) -> bool:
        """Always."""
        return True

    def ids(self) -> Select[Any]:
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

    @property
    def is_set(self) -> bool:
        """Where what it refers to is."""
        return all(predicate.is_set for predicate, _ in self.targets)

    def ids(self) -> Select[Any]:
        """Documents that refer to one of the set."""
        sets = [(predicate.ids(), match) for predicate, match in self.targets]
        rows = fresh(IndexReference)
        found = []
        for ids, match in sets:
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

    @property
    def is_set(self) -> bool:
        """Where what refers is."""
        return self.inner.is_set

    def ids(self) -> Select[Any]:
        """Documents that one of the set refers to."""
        inner = self.inner.ids()
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

    @property
    def is_set(self) -> bool:
        """Where one of them is."""
        return any(part.is_set for part in self.parts)

    def ids(self) -> Select[Any]:
        """The first part's set in which the others hold."""
        first = next(part for part in self.parts if part.is_set)
        rows = first.ids().subquery()
        others = (part.at(rows.c.resource_id) for part in self.parts if part is not first)
        return select(rows.c.resource_id).where(*others)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Each of them here."""
        return and_(true(), *(part.at(key) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of several predicates."""

    parts: tuple[Predicate, ...]
    streams: bool = False

    @property
    def is_set(self) -> bool:
        """Where all of them are."""
        return all(part.is_set for part in self.parts)

    def ids(self) -> Select[Any]:
        """The sets together."""
        found = [part.ids() for part in self.parts]
        rows = fresh(RESOURCE)
        return select(rows.c.id.label("resource_id")).where(rows.c.id.in_(_together(found)))

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """One of them here."""
        return or_(false(), *(part.at(key) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Word:
    """A document has a word: hidden, or in clear where words are not hidden or not yet."""

    forms: tuple[Rows, ...]
    streams: bool = False

    @property
    def is_set(self) -> bool:
        """Always."""
        return True

    def ids(self) -> Select[Any]:
        """The documents of the rows of either."""
        found = union_all(*(form.ids() for form in self.forms)).subquery()
        return select(found.c.resource_id)

    def at(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """A row of this document."""
        return or_(*(form.at_few(key) for form in self.forms))


@dataclass(frozen=True, slots=True)
class Not:
    """What another predicate does not hold for."""

    part: Predicate
    streams: bool = False

    @property
    def is_set(self) -> bool:
        """Never."""
        return False

    def ids(self) -> Select[Any]:
        """None."""
        raise LookupError(self.part)

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
        reach = self.caller.reach_for("s")
        return lambda columns: and_(
            columns.type == resource_type, ~columns.deleted, *reach_of_type(reach, resource_type, columns)
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
    of_type, *named = compartment
    ids, has_ids = Asked.one_of(named), bool(named)
    if of_type == "Patient":
        return Rows(IndexCompartment, (), lambda columns: ids.is_at(columns.patient) if has_ids else true())
    numbers = tuple(parameter_number(type_, code) for type_ in types for code in codes(of_type, type_))
    targets = Asked.one_of([hash_of(f"{of_type}/{each}") for each in named])
    itself = Own(lambda columns: and_(columns.type == of_type, ids.is_at(columns.logical_id)))
    if not numbers:
        return itself
    members = Rows(IndexReference, numbers, lambda columns: targets.is_at(columns.target))
    return Some((members, itself)) if of_type in types else members


def _by_id(_asking: Asking, types: Sequence[str], criterion: Criterion) -> Predicate:
    if criterion.name.endswith(":missing"):
        missing = _flag(criterion)
        return Own(lambda _: false() if missing else true())
    ids = Asked.one_of([unescaped(value) for value in criterion.values])
    named = Own(lambda columns: and_(is_one_of(columns.type, types), ids.is_at(columns.logical_id)))
    return Not(named) if criterion.name.endswith(":not") else named


def _by_update(_asking: Asking, types: Sequence[str], criterion: Criterion) -> Predicate:
    if criterion.name.endswith(":missing"):
        missing = _flag(criterion)
        return Own(lambda _: false() if missing else true())
    matches = [_updated(value) for value in criterion.values]
    return Own(
        lambda columns: and_(is_one_of(columns.type, types), or_(*(match(columns) for match in matches)))
    )


Moment = Callable[[Any, Any, Any], ColumnElement[bool]]  # of a column, and the ends of a span

UPDATED: dict[str, Moment] = {
    "eq": lambda column, low, end: and_(column >= low, column < end),
    "ne": lambda column, low, end: or_(column < low, column >= end),
    "gt": lambda column, low, end: column >= end,
    "sa": lambda column, low, end: column >= end,
    "lt": lambda column, low, end: column < low,
    "eb": lambda column, low, end: column < low,
    "ge": lambda column, low, end: column >= low,
    "le": lambda column, low, end: column < end,
    "ap": lambda column, low, end: and_(column >= low, column < end),  # a day around the span
}


def _updated(value: str) -> Match:
    prefix, text = prefixed(value)
    low, high = (EPOCH + timedelta(milliseconds=each) for each in date_interval("_lastUpdated", text))
    around = timedelta(days=1 if prefix == "ap" else 0)
    first, end = Asked(low - around), Asked(high + timedelta(milliseconds=1) + around)
    compared = UPDATED[prefix]
    return lambda columns: compared(columns.updated_at, first, end)


def _by_words(_asking: Asking, _types: Sequence[str], criterion: Criterion) -> Predicate:
    """_text and _content: every word; `OR` between groups of words (R4 3.1.1.4.2)."""
    narrative = criterion.name == "_text"

    def within(match: Match) -> Match:
        return lambda columns: and_(match(columns), columns.in_narrative) if narrative else match(columns)

    def has(word: str) -> Predicate:
        of_letters = word[-1] < "\u2e80"  # found by its beginning, which is hidden as a word
        in_clear = starts_with("word", word) if of_letters else _is_word(word)
        return Word(
            (Rows(IndexHiddenWord, (), within(_is_word(word))), Rows(IndexWord, (), within(in_clear)))
        )

    groups = [
        Every(tuple(map(has, words))) if len(words) > 1 else has(words[0])
        for group in re.split(r"\s+OR\s+|,", criterion.values[0])
        if (words := words_of(group))
    ]
    if not groups:
        raise InvalidSearch(criterion.name, "write at least one word")
    return groups[0] if len(groups) == 1 else Some(tuple(groups))


def _is_word(word: str) -> Match:
    asked = Asked(word)
    return lambda columns: asked.is_at(columns.word)


def _by_list(asking: Asking, _types: Sequence[str], criterion: Criterion) -> Predicate:
    """What a List names (R4 3.1.1.4.8)."""
    if any(value.startswith("$") for value in criterion.values):
        raise InvalidSearch("_list", "functional lists are not known; name a List by its id")
    asking.caller.require(Action("List", "s"))
    ids = Asked.one_of(criterion.values)
    lists = Own(lambda columns: and_(columns.type == "List", ids.is_at(columns.logical_id)))
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
    if modifier == "of-type":
        parts = [unescaped(part) for part in split_values(value, "|")]
        if len(parts) != 3 or not parts[2]:
            raise InvalidSearch(parameter.code, "write system|code|value")
        typed = _hashed(parameter, *parts)
        return lambda columns: typed.is_at(columns.value)
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
    if len(parts) == 2 and parts[0] in implied:  # the index has the code alone
        codes = {parts[1]} if parts[1] else implied[parts[0]]
        of_code = Asked.one_of([hash_of("", code) for code in sorted(codes & implied[parts[0]])])
        return lambda columns: of_code.is_at(columns.value)
    if len(parts) == 2 and not parts[1]:
        of_system = Asked(hash_of(parts[0]))
        return lambda columns: of_system.is_at(columns.system)
    hashed = _hashed(parameter, *parts)
    if len(parts) == 1:
        return lambda columns: hashed.is_at(columns.code)
    return lambda columns: hashed.is_at(columns.value)


def _hashed(parameter: Parameter, *parts: str) -> Asked:
    """Texts as the index of a parameter holds them: in one form, or in either where it hides them."""
    return Asked(list(either(*parts)) if parameter.is_hidden else hash_of(*parts))


def _begins_or_is_hidden(column: str, text: str, parameter: Parameter) -> Match:
    """A text that begins so, or that is just this where the index hides it."""
    begins = starts_with(column, text[:200])
    if not parameter.is_hidden:
        return begins
    hidden = Asked(HiddenText(text[:200]))
    return lambda columns: or_(begins(columns), hidden.is_at(getattr(columns, column)))


def _one_of(parameter: Parameter, concepts: Iterable[tuple[str, str]]) -> Match:
    """One of many codes; an element of type `code` has no system, which its value set implies."""
    hashes: set[int] = set()
    for system, code in concepts:
        hashes |= {hash_of(system, code), hash_of("", code)}
        if len(hashes) > MOST_CODES:
            raise InvalidSearch(parameter.code, f"the value set has more than {MOST_CODES // 2} codes")
    found = Asked(sorted(hashes))
    return lambda columns: found.is_at(columns.value)


def starts_with(column: str, text: str) -> Match:
    """A text column that begins with a text, as a range of its index."""
    first, end = Asked(Beginning(text)), Asked(Beyond(text))
    return lambda columns: and_(getattr(columns, column) >= first, getattr(columns, column) < end)


def like(parameter: Parameter, text: Containing | Ending) -> Match:
    """A string that holds a text, or ends with it."""
    pattern = Asked(text)
    return _in_form(parameter, lambda columns: columns.value.like(pattern, escape="\\"))


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
        exact = Asked([text[:200], HiddenText(text[:200])] if parameter.is_hidden else text[:200])
        return _in_form(parameter, lambda columns: and_(begins(columns), exact.is_at(columns.exact)))
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
    slack = max(DAY, (high - low) // 10) if prefix == "ap" else 0
    first, last, compared = Asked(low - slack), Asked(high + slack), COMPARED[prefix]
    return lambda columns: compared(columns.low, columns.high, first, last)


def date_interval(code: str, text: str) -> tuple[int, int]:
    """The first and last millisecond of a date that is searched for. Raises InvalidSearch."""
    try:
        return interval(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))  # a + that a client did not escape
    except (ValueError, OverflowError):
        raise InvalidSearch(code, "write a date as 2024-01-31, or 2024-01, or with a time") from None


Compared = Callable[[Any, Any, Any, Any], ColumnElement[bool]]

COMPARED: dict[str, Compared] = {
    # the outer bounds of ge and le follow from what stands inside, and let an index be used; of eq as well
    "eq": lambda low, high, first, last: and_(low.between(first, last), high.between(first, last)),
    "ne": lambda low, high, first, last: or_(low < first, high > last),
    "gt": lambda low, high, first, last: high > last,
    "lt": lambda low, high, first, last: low < first,
    "ge": lambda low, high, first, last: and_(high >= first, or_(high > last, low >= first)),
    "le": lambda low, high, first, last: and_(low <= last, or_(low < first, high <= last)),
    "sa": lambda low, high, first, last: low > last,
    "eb": lambda low, high, first, last: high < first,
    "ap": lambda low, high, first, last: and_(low <= last, high >= first),  # a tenth around the span
}


def _match_number(value: str, _modifier: str, parameter: Parameter, _asking: Asking) -> Match:
    parts = [unescaped(part) for part in split_values(value, "|")]
    prefix, text = prefixed(parts[0])
    bounds = number_interval(text)
    if bounds is None or len(parts) > 3 or len(parts) == 2:
        raise InvalidSearch(parameter.code, "write a number, or number|system|code")
    if len(parts) == 1 or not parts[2]:
        as_written = _compared_number(prefix, bounds, 1)
        if parameter.type == "number":
            return as_written
        return lambda columns: and_(as_written(columns), columns.code != CANONICAL)
    canonical = canonical_unit(parts[2]) if parts[1] == UCUM else None
    if canonical is not None:
        factor, unit = canonical
        converted, of_unit = _compared_number(prefix, bounds, factor), Asked(hash_of("canonical", unit))
        return lambda columns: and_(converted(columns), columns.unit == of_unit)
    amount = _compared_number(prefix, bounds, 1)
    column = "unit" if parts[1] else "code"
    hashed = Asked(hash_of(*parts[1:]) if parts[1] else hash_of(parts[2]))
    return lambda columns: and_(
        amount(columns), getattr(columns, column) == hashed, columns.code != CANONICAL
    )


@dataclass(frozen=True, slots=True)
class _Amount:
    """A number that is searched for: the ends of its precision's interval, itself, and around it."""

    low: Asked
    top: Asked
    high: Asked
    under: Asked  # itself, less what floating point may differ by
    over: Asked
    least: Asked  # of about so much
    most: Asked


Amounts = Callable[
    [Any, Any, _Amount], ColumnElement[bool]
]  # of the columns, the number itself, and what is asked

NUMBERS: dict[
    str, Amounts
] = {  # R4 3.1.1.4.7: eq and ne by the written precision, others by the number itself
    "eq": lambda row, middle, asked: and_(
        row.low < asked.top, row.high >= asked.low, middle >= asked.low, middle < asked.top
    ),
    "ne": lambda row, middle, asked: or_(middle < asked.low, middle >= asked.high),
    "ap": lambda row, middle, asked: and_(row.low <= asked.most, row.high >= asked.least),
    "gt": lambda row, middle, asked: and_(row.high > asked.under, middle > asked.over),
    "sa": lambda row, middle, asked: and_(row.high > asked.under, middle > asked.over),
    "ge": lambda row, middle, asked: and_(row.high >= asked.under, middle >= asked.under),
    "lt": lambda row, middle, asked: and_(row.low < asked.over, middle < asked.under),
    "eb": lambda row, middle, asked: and_(row.low < asked.over, middle < asked.under),
    "le": lambda row, middle, asked: and_(row.low <= asked.over, middle <= asked.over),
}


def _compared_number(prefix: str, bounds: tuple[float, float], factor: float) -> Match:
    low, high = bounds[0] * factor, bounds[1] * factor
    amount = (low + high) / 2
    slack = abs(amount) / 10
    near = max(abs(amount) * 1e-12, 1e-300)  # what floating point may differ by
    top = high + near if high - low < 4 * near else high  # written more finely than floating point holds
    ends = (low - near, top, high, amount - near, amount + near, amount - slack, amount + slack)
    asked, compared = _Amount(*map(Asked, ends)), NUMBERS[prefix]
    return lambda columns: compared(columns, (columns.low + columns.high) / 2, asked)


def _match_reference(value: str, modifier: str, parameter: Parameter, asking: Asking) -> Match:
    if modifier == "identifier":
        parts = [unescaped(part) for part in split_values(value, "|")]
        system, code = parts if len(parts) == 2 else ("", parts[0])
        identifiers = Asked(list(either(system, code)))
        return lambda columns: identifiers.is_at(columns.identifier)
    text = unescaped(value)
    if modifier in ("above", "below"):
        types = [text.split("/")[-2]] if "/" in text else parameter.targets
        family = Asked(_family(asking, types, text.rpartition("/")[2], modifier))
        return lambda columns: family.is_at(columns.target)
    if "/" in text or "://" in text or text.startswith("urn:"):
        target = Asked(reference_hash(text.partition("/_history/")[0]))
        return lambda columns: target.is_at(columns.target)
    targets = (modifier,) if modifier else parameter.targets or tuple(resource_types())
    hashes = [reference_hash(f"{each}/{text}") for each in targets]
    if not modifier:
        hashes.append(reference_hash(text))  # a reference that is written without its type
    referred = Asked.one_of(hashes)
    return lambda columns: referred.is_at(columns.target)


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
    uri = Asked(text)
    if modifier == "below":
        under = starts_with("value", text.rstrip("/") + "/")
        return lambda columns: or_(uri.is_at(columns.value), under(columns))
    if modifier == "above":
        parts = text.split("/")
        above = Asked(["/".join(parts[:at]) for at in range(3, len(parts) + 1)] or [text])
        return lambda columns: above.is_at(columns.value)
    return lambda columns: uri.is_at(columns.value)


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
    x, y, z = map(Asked, on_sphere(latitude, longitude))
    chord = Asked((2 * math.sin(min(distance / EARTH_KM / 2, math.pi / 2))) ** 2)
    band = math.degrees(distance / EARTH_KM)
    south, north = Asked(latitude - band), Asked(latitude + band)
    return lambda columns: and_(
        columns.latitude.between(south, north),
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
    kinds = [component.parameter.type for component in parameter.components]
    return lambda columns: and_(
        *(match(_part_of(columns, at, kinds[at])) for at, match in enumerate(matches))
    )


def _part_of(columns: Any, at: int, kind: str) -> Any:
    """The columns of one value of a composite row, under the names that they have in its own table."""
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
