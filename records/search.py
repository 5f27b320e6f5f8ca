"""Search: the one way to find clinical documents (R4 3.1.1, Search).

A parsed `Search` becomes one SQL statement: each parameter a semi-join on an index table, so nothing is
found twice
and a page stops at its size. The reach is added here and only here. Counting is done only when it is
asked for.
"""

import base64
import hmac
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, exists, false, func, not_, or_, select, true
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import Action, Caller
from kernel.errors import CloudfilmError, Kind
from records.dates import EPOCH, interval
from records.hashing import hash_of
from records.indexing import fold, number_interval, reference_hash
from records.model import (
    IndexDate,
    IndexNumber,
    IndexReference,
    IndexString,
    IndexToken,
    IndexUri,
    Resource,
)
from records.parameters import Parameter, parameters_of, resource_types
from records.reach import within
from records.repository import Stored, bodies, require_type
from records.room import Records

AFTER_ALL = "\U0010ffff"
MOST_ROWS, DEFAULT_ROWS, MOST_INCLUDED, MOST_DEPTH = 1000, 20, 1000, 8

RESULT_PARAMETERS = frozenset(
    {
        "_count",
        "_sort",
        "_total",
        "_include",
        "_revinclude",
        "_summary",
        "_elements",
        "_format",
        "_pretty",
        "_cursor",
    }
)


class InvalidSearch(CloudfilmError):
    """A parameter that is not known, or a value that does not follow its type."""

    kind = Kind.INVALID

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"The search parameter {parameter[:80]!r} cannot be used: {reason}.")
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter of a search; the values are alternatives."""

    name: str  # as written, with its modifier or chain
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and how it is to be answered."""

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    count: int = DEFAULT_ROWS
    sort: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()  # Type:code[:Target], with `:iterate` in front where asked
    reverse_includes: tuple[str, ...] = ()
    total: str = "none"  # none, estimate or accurate
    cursor: str = ""
    ignored: tuple[str, ...] = ()  # parameters left out, when the client is lenient


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page: matches, what was included with them, and how to go on."""

    matches: tuple[Stored, ...]
    included: tuple[Stored, ...] = ()
    next_cursor: str = ""
    total: int | None = None
    search: Search = field(default_factory=lambda: Search(""))


def parse_search(
    resource_type: str, arguments: Iterable[tuple[str, str]], *, lenient: bool = False
) -> Search:
    """Read the parameters of a search.

    Raises UnknownType, or InvalidSearch for what is not known; with `lenient` that is left out and named
    instead.
    """
    require_type(resource_type)
    search = Search(resource_type)
    criteria: list[Criterion] = []
    ignored: list[str] = []
    for name, value in arguments:
        base, _, modifier = name.partition(":")
        if base in RESULT_PARAMETERS:
            search = _with_result_parameter(search, base, modifier, value)
            continue
        try:
            if value == "":
                continue  # a parameter without a value asks for nothing (R4 3.1.1.4.19)
            check_name(resource_type, name)
            criteria.append(Criterion(name, tuple(split_values(value))))
        except InvalidSearch:
            if not lenient:
                raise
            ignored.append(name)
    return replace(search, criteria=tuple(criteria), ignored=tuple(ignored))


def _with_result_parameter(search: Search, name: str, modifier: str, value: str) -> Search:
    if name == "_count":
        if not re.fullmatch(r"\d{1,6}", value):
            raise InvalidSearch(name, "write a whole number")
        return replace(search, count=min(int(value), MOST_ROWS))
    if name == "_sort":
        return replace(search, sort=tuple(part for part in value.split(",") if part))
    if name == "_total":
        if value not in ("none", "estimate", "accurate"):
            raise InvalidSearch(name, "write none, estimate or accurate")
        return replace(search, total=value)
    if name == "_cursor":
        return replace(search, cursor=value)
    prefix = "iterate:" if modifier in ("iterate", "recurse") else ""
    if name in ("_include", "_revinclude"):
        _check_include(name, value)
    if name == "_include":
        return replace(search, includes=(*search.includes, prefix + value))
    if name == "_revinclude":
        return replace(search, reverse_includes=(*search.reverse_includes, prefix + value))
    return search


def _check_include(name: str, value: str) -> None:
    type_, _, rest = value.partition(":")
    code = rest.partition(":")[0]
    if type_ not in resource_types() or (code != "*" and code not in parameters_of(type_)):
        raise InvalidSearch(name, "write Type:parameter or Type:parameter:Target")


def split_values(text: str) -> Iterable[str]:
    """The alternatives of a value: separated by commas that have no backslash before them (R4 3.1.1.4.1)."""
    for part in re.split(r"(?<!\\),", text):
        yield re.sub(r"\\([,|$\\])", r"\1", part) if "\\" in part else part


def check_name(resource_type: str, name: str, depth: int = 0) -> None:
    """Raise InvalidSearch unless a name, with its chain and modifier, means something for a type."""
    if depth > MOST_DEPTH:
        raise InvalidSearch(name, "the chain is too long")
    if name.startswith("_has:"):
        parts = name.split(":", 3)
        if len(parts) < 4 or parts[1] not in resource_types():
            raise InvalidSearch(name, "write _has:Type:reference:parameter")
        _parameter(parts[1], parts[2], "reference")
        check_name(parts[1], parts[3], depth + 1)
        return
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if dot:
        parameter = _parameter(resource_type, code, "reference")
        for target in _targets(parameter, modifier):
            try:
                check_name(target, rest, depth + 1)
            except InvalidSearch:
                continue
            return
        raise InvalidSearch(name, f"none of its targets has {rest!r}")
    parameter = _parameter(resource_type, code)
    if parameter.type in ("composite", "special") or (
        parameter.path is None and code not in ("_id", "_lastUpdated")
    ):
        raise InvalidSearch(name, "it is not supported")
    goes_with = MODIFIERS[parameter.type] | {"missing", ""}
    names_a_target = parameter.type == "reference" and modifier in resource_types()
    if modifier not in goes_with and not names_a_target:
        raise InvalidSearch(name, f"the modifier {modifier!r} does not go with it")


MODIFIERS = {
    "token": frozenset({"not", "text"}),
    "string": frozenset({"exact", "contains"}),
    "uri": frozenset({"below", "above"}),
    "reference": frozenset({"identifier"}),
    "date": frozenset[str](),
    "number": frozenset[str](),
    "quantity": frozenset[str](),
}


def _parameter(resource_type: str, code: str, type_: str = "") -> Parameter:
    parameter = parameters_of(resource_type).get(code)
    if parameter is None or (type_ and parameter.type != type_):
        raise InvalidSearch(code, f"{resource_type} has no such {type_ or 'parameter'}")
    return parameter


def _targets(parameter: Parameter, modifier: str) -> Sequence[str]:
    if modifier:
        if modifier not in parameter.targets:
            raise InvalidSearch(f"{parameter.code}:{modifier}", "it does not refer to that type")
        return (modifier,)
    return parameter.targets


def search(records: Records, caller: Caller, wanted: Search) -> SearchResult:
    """Find a page of documents. Raises InvalidSearch or Forbidden."""
    caller.require(Action(wanted.resource_type, "s"))
    with records.database.snapshot() as session:
        conditions = [_criterion(wanted.resource_type, each, caller) for each in wanted.criteria]
        statement = select(Resource).where(
            Resource.type == wanted.resource_type, Resource.deleted.is_(False), *conditions
        )
        statement = within(statement, caller.reach, wanted.resource_type)
        total = None
        if wanted.total in ("accurate", "estimate") or wanted.count == 0:
            total = session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
        rows, next_cursor = _page(records, session, statement, wanted) if wanted.count else ([], "")
        matches = bodies(records, session, rows)
        included = _included(records, session, caller, wanted, rows)
    note_once(records.database, records.recently, records.clock, caller, f"search {wanted.resource_type}", "")
    return SearchResult(tuple(matches), tuple(included), next_cursor, total, wanted)


def _page(
    records: Records, session: Session, statement: Select[Any], wanted: Search
) -> tuple[list[Resource], str]:
    """One page by keyset: the cursor holds the last row's sort values and id, signed."""
    keys = [_sort_key(wanted.resource_type, part) for part in wanted.sort]
    columns = [column for column, _ in keys]
    statement = select(Resource, *columns).where(
        statement.whereclause if statement.whereclause is not None else true()
    )
    if wanted.cursor:
        values, last_id = _open_cursor(records, wanted)
        statement = statement.where(_after(keys, values, last_id))
    order = [
        ordered
        for column, descending in keys
        for ordered in (column.is_(None), column.desc() if descending else column.asc())
    ]
    rows = session.execute(statement.order_by(*order, Resource.id).limit(wanted.count + 1)).all()
    page = rows[: wanted.count]
    if len(rows) <= wanted.count or not page:
        return [row[0] for row in page], ""
    return [row[0] for row in page], _close_cursor(records, wanted, list(page[-1][1:]), page[-1][0].id)


def _after(
    keys: list[tuple[ColumnElement[Any], bool]], values: list[Any], last_id: int
) -> ColumnElement[bool]:
    """Rows that come after the last one: greater at the first key that differs; missing values come last."""
    alternatives: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(keys, values, strict=True):
        if value is None:
            same.append(column.is_(None))
            continue
        further = column < value if descending else column > value
        alternatives.append(and_(*same, or_(further, column.is_(None))))
        same.append(column == value)
    alternatives.append(and_(*same, Resource.id > last_id))
    return or_(*alternatives)


def _sort_key(resource_type: str, part: str) -> tuple[ColumnElement[Any], bool]:
    descending, code = part.startswith("-"), part.removeprefix("-")
    if code == "_id":
        return Resource.logical_id.expression, descending
    if code == "_lastUpdated":
        return Resource.updated_at.expression, descending
    parameter = _parameter(resource_type, code)
    if parameter.type not in SORTED_BY or parameter.path is None:
        raise InvalidSearch(f"_sort={code}", "it cannot be sorted by")
    table, low, high = SORTED_BY[parameter.type]
    column = table.c[high if descending else low]
    best = func.max(column) if descending else func.min(column)
    value = (
        select(best)
        .where(table.c.resource_id == Resource.id, table.c.parameter == parameter.number)
        .correlate(Resource)
        .scalar_subquery()
    )
    return value, descending


SORTED_BY: dict[str, tuple[Table, str, str]] = {
    "string": (IndexString, "value", "value"),
    "date": (IndexDate, "low", "high"),
    "token": (IndexToken, "text", "text"),
    "uri": (IndexUri, "value", "value"),
    "number": (IndexNumber, "low", "high"),
    "quantity": (IndexNumber, "low", "high"),
}


def _close_cursor(records: Records, wanted: Search, values: list[Any], last_id: int) -> str:
    plain = [value.isoformat() if hasattr(value, "isoformat") else value for value in values]
    text = json.dumps([last_id, plain]).encode()
    return base64.urlsafe_b64encode(_signature(records, wanted, text) + text).decode().rstrip("=")


def _open_cursor(records: Records, wanted: Search) -> tuple[list[Any], int]:
    try:
        raw = base64.urlsafe_b64decode(wanted.cursor + "=" * (-len(wanted.cursor) % 4))
        signature, text = raw[:16], raw[16:]
        if not hmac.compare_digest(signature, _signature(records, wanted, text)):
            raise ValueError
        last_id, values = json.loads(text)
    except ValueError:
        raise InvalidSearch("_cursor", "it is not one of this search's") from None
    for at, part in enumerate(wanted.sort):
        if part.removeprefix("-") == "_lastUpdated" and values[at]:
            values[at] = datetime.fromisoformat(values[at])
    return values, last_id


def _signature(records: Records, wanted: Search, text: bytes) -> bytes:
    """Binds a cursor to its search: the same criteria and order."""
    asked = json.dumps(
        [wanted.resource_type, [(each.name, each.values) for each in wanted.criteria], wanted.sort]
    )
    return hmac.new(records.keys.signing_key, asked.encode() + text, sha256).digest()[:16]


def _criterion(
    resource_type: str, criterion: Criterion, caller: Caller, depth: int = 0
) -> ColumnElement[bool]:
    name = criterion.name
    check_name(resource_type, name, depth)
    if name.startswith("_has:"):
        return _has(criterion, caller, depth)
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    parameter = _parameter(resource_type, code)
    if dot:
        return _chain(parameter, modifier, Criterion(rest, criterion.values), caller, depth)
    if modifier == "missing":
        return _missing(parameter, criterion)
    if code == "_id":
        return Resource.logical_id.in_(criterion.values)
    if code == "_lastUpdated":
        return or_(false(), *(_updated(value) for value in criterion.values))
    table, match = MATCHERS[parameter.type]
    if modifier == "not":
        return not_(_rows(parameter, table, [match(value, "", parameter) for value in criterion.values]))
    return _rows(parameter, table, [match(value, modifier, parameter) for value in criterion.values])


def _rows(parameter: Parameter, table: Table, alternatives: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    return Resource.id.in_(
        select(table.c.resource_id).where(table.c.parameter == parameter.number, or_(false(), *alternatives))
    )


def _missing(parameter: Parameter, criterion: Criterion) -> ColumnElement[bool]:
    if criterion.values not in (("true",), ("false",)):
        raise InvalidSearch(criterion.name, "write true or false")
    if parameter.code in ("_id", "_lastUpdated"):
        return false() if criterion.values == ("true",) else true()
    table = MATCHERS[parameter.type][0]
    present = exists().where(table.c.resource_id == Resource.id, table.c.parameter == parameter.number)
    return not_(present) if criterion.values == ("true",) else present


def _chain(
    parameter: Parameter, modifier: str, criterion: Criterion, caller: Caller, depth: int
) -> ColumnElement[bool]:
    """Documents that refer to one which is found by the rest of the chain, within the same reach (R4
    3.1.1.4.16)."""
    alternatives: list[ColumnElement[bool]] = []
    for target in _targets(parameter, modifier):
        if not caller.may(Action(target, "s")):
            continue
        try:
            inner = _criterion(target, criterion, caller, depth + 1)
        except InvalidSearch:
            continue
        found = select(Resource.self_hash).where(Resource.type == target, Resource.deleted.is_(False), inner)
        found = within(found, caller.reach, target)
        alternatives.append(IndexReference.c.target.in_(found))
    return _rows(parameter, IndexReference, alternatives)


def _has(criterion: Criterion, caller: Caller, depth: int) -> ColumnElement[bool]:
    """Documents that one of another type refers to, which is found by the rest (R4 3.1.1.4.17)."""
    _, type_, code, rest = criterion.name.split(":", 3)
    caller.require(Action(type_, "s"))
    parameter = _parameter(type_, code, "reference")
    inner = _criterion(type_, Criterion(rest, criterion.values), caller, depth + 1)
    found = within(
        select(Resource.id).where(Resource.type == type_, Resource.deleted.is_(False), inner),
        caller.reach,
        type_,
    )
    targets = select(IndexReference.c.target).where(
        IndexReference.c.parameter == parameter.number, IndexReference.c.resource_id.in_(found)
    )
    return Resource.self_hash.in_(targets)


def _match_token(value: str, modifier: str, _parameter: Parameter) -> ColumnElement[bool]:
    if modifier == "text":
        folded = fold(value)
        return and_(IndexToken.c.text >= folded, IndexToken.c.text < folded + AFTER_ALL)
    system, bar, code = value.partition("|")
    if not bar:
        return IndexToken.c.code == hash_of(value)
    if not code:
        return IndexToken.c.system == hash_of(system)
    return IndexToken.c.value == hash_of(system, code)


def _match_string(value: str, modifier: str, _parameter: Parameter) -> ColumnElement[bool]:
    if modifier == "exact":
        return IndexString.c.exact == value
    folded = fold(value)
    if modifier == "contains":
        escaped = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return IndexString.c.value.like(f"%{escaped}%", escape="\\")
    return and_(IndexString.c.value >= folded, IndexString.c.value < folded + AFTER_ALL)


PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[\d-])")


def _prefixed(value: str) -> tuple[str, str]:
    match = PREFIX.match(value)
    return (match[1], value[2:]) if match else ("eq", value)


DAY = 86_400_000


def _match_date(value: str, _modifier: str, parameter: Parameter) -> ColumnElement[bool]:
    """R4 3.1.1.4.6: the row's interval against the value's."""
    prefix, text = _prefixed(value)
    low, high = _interval(parameter.code, text)
    return COMPARED[prefix](IndexDate.c.low, IndexDate.c.high, low, high, max(DAY, (high - low) // 10))


def _interval(code: str, text: str) -> tuple[int, int]:
    try:
        return interval(text)
    except (ValueError, OverflowError):
        raise InvalidSearch(code, "write a date as 2024-01-31, or 2024-01, or with a time") from None


def _updated(value: str) -> ColumnElement[bool]:
    prefix, text = _prefixed(value)
    low, high = (EPOCH + timedelta(milliseconds=each) for each in _interval("_lastUpdated", text))
    column: Any = Resource.updated_at
    end = high + timedelta(milliseconds=1)
    conditions: dict[str, ColumnElement[bool]] = {
        "eq": and_(column >= low, column < end),
        "ne": or_(column < low, column >= end),
        "gt": column >= end,
        "sa": column >= end,
        "lt": column < low,
        "eb": column < low,
        "ge": column >= low,
        "le": column < end,
        "ap": and_(column >= low - timedelta(days=1), column < end + timedelta(days=1)),
    }
    return conditions[prefix]


Compared = Callable[[Any, Any, Any, Any, Any], ColumnElement[bool]]

COMPARED: dict[str, Compared] = {
    "eq": lambda low, high, first, last, _: and_(low >= first, low <= last, high <= last),
    "ne": lambda low, high, first, last, _: or_(low < first, high > last),
    "gt": lambda low, high, first, last, _: high > last,
    "lt": lambda low, high, first, last, _: low < first,
    "ge": lambda low, high, first, last, _: or_(high > last, and_(low >= first, high <= last)),
    "le": lambda low, high, first, last, _: or_(low < first, and_(low >= first, high <= last)),
    "sa": lambda low, high, first, last, _: low > last,
    "eb": lambda low, high, first, last, _: high < first,
    "ap": lambda low, high, first, last, slack: and_(low <= last + slack, high >= first - slack),
}


def _match_number(value: str, _modifier: str, parameter: Parameter) -> ColumnElement[bool]:
    parts = value.split("|")
    prefix, text = _prefixed(parts[0])
    bounds = number_interval(text)
    if bounds is None:
        raise InvalidSearch(parameter.code, "write a number, or number|system|code")
    low, high = bounds
    amount = (low + high) / 2
    slack = abs(amount) / 10
    middle = (
        IndexNumber.c.low + IndexNumber.c.high
    ) / 2  # the number itself; the row has its precision's interval
    condition = {
        "eq": and_(IndexNumber.c.low < high, middle >= low, middle < high),
        "ne": or_(middle < low, middle >= high),
        "ap": and_(IndexNumber.c.low <= amount + slack, IndexNumber.c.high >= amount - slack),
        "gt": IndexNumber.c.high > amount,
        "ge": IndexNumber.c.high >= amount,
        "lt": IndexNumber.c.low < amount,
        "le": IndexNumber.c.low <= amount,
        "sa": IndexNumber.c.low > amount,
        "eb": IndexNumber.c.high < amount,
    }[prefix]
    if len(parts) == 3 and parts[1]:
        return and_(condition, IndexNumber.c.unit == hash_of(parts[1], parts[2]))
    if len(parts) == 3 and parts[2]:
        return and_(condition, IndexNumber.c.code == hash_of(parts[2]))
    return condition


def _match_reference(value: str, modifier: str, parameter: Parameter) -> ColumnElement[bool]:
    if modifier == "identifier":
        system, _, code = value.rpartition("|")
        return IndexReference.c.identifier == hash_of(system, code)
    if "/" in value or "://" in value or value.startswith("urn:"):
        return IndexReference.c.target == reference_hash(value.partition("/_history/")[0])
    targets = (modifier,) if modifier else parameter.targets or tuple(resource_types())
    return IndexReference.c.target.in_([reference_hash(f"{target}/{value}") for target in targets])


def _match_uri(value: str, modifier: str, _parameter: Parameter) -> ColumnElement[bool]:
    if modifier == "below":
        return or_(
            IndexUri.c.value == value,
            and_(IndexUri.c.value >= value + "/", IndexUri.c.value < value + "/" + AFTER_ALL),
        )
    if modifier == "above":
        parts = value.split("/")
        return IndexUri.c.value.in_(["/".join(parts[:at]) for at in range(3, len(parts) + 1)] or [value])
    return IndexUri.c.value == value


Matcher = Callable[[str, str, Parameter], ColumnElement[bool]]

MATCHERS: dict[str, tuple[Table, Matcher]] = {
    "token": (IndexToken, _match_token),
    "string": (IndexString, _match_string),
    "date": (IndexDate, _match_date),
    "number": (IndexNumber, _match_number),
    "quantity": (IndexNumber, _match_number),
    "reference": (IndexReference, _match_reference),
    "uri": (IndexUri, _match_uri),
}


def _included(
    records: Records, session: Session, caller: Caller, wanted: Search, rows: list[Resource]
) -> list[Stored]:
    """What the matches refer to, and what refers to them: one query for each parameter and round (R4
    3.1.1.5.4)."""
    found: dict[int, Resource] = {}
    known = {row.id for row in rows}
    fresh = rows
    rounds = 0
    while fresh and rounds < MOST_DEPTH and len(found) < MOST_INCLUDED:
        more: dict[int, Resource] = {}
        for text, forward in (
            *((include, True) for include in wanted.includes),
            *((include, False) for include in wanted.reverse_includes),
        ):
            iterates = text.startswith("iterate:")
            if rounds and not iterates:
                continue
            for row in _follow(session, caller, text.removeprefix("iterate:"), forward, fresh):
                if row.id not in known:
                    known.add(row.id)
                    more[row.id] = row
        found |= more
        fresh = list(more.values())
        rounds += 1
    return bodies(records, session, list(found.values())[:MOST_INCLUDED])


def _follow(
    session: Session, caller: Caller, text: str, forward: bool, rows: list[Resource]
) -> list[Resource]:
    type_, _, rest = text.partition(":")
    code, _, target = rest.partition(":")
    table = IndexReference
    numbers = [
        parameter.number
        for parameter in parameters_of(type_).values()
        if parameter.type == "reference" and code in ("*", parameter.code)
    ]
    if forward:
        ids = [row.id for row in rows if row.type == type_]
        hashes = select(table.c.target).where(table.c.resource_id.in_(ids), table.c.parameter.in_(numbers))
        statement = select(Resource).where(Resource.self_hash.in_(hashes))
    else:
        hashes_of_rows = [row.self_hash for row in rows]
        referring = select(table.c.resource_id).where(
            table.c.target.in_(hashes_of_rows), table.c.parameter.in_(numbers)
        )
        statement = select(Resource).where(Resource.id.in_(referring), Resource.type == type_)
    if target:
        statement = statement.where(Resource.type == target)
    found = session.scalars(statement.where(Resource.deleted.is_(False)).limit(MOST_INCLUDED)).all()
    return _reachable(session, caller, list(found))


def _reachable(session: Session, caller: Caller, rows: list[Resource]) -> list[Resource]:
    """Those of some rows that the caller may read: what is included obeys the same rules as what is found."""
    kept: set[int] = set()
    for type_ in {row.type for row in rows}:
        if caller.may(Action(type_, "r")):
            ids = [row.id for row in rows if row.type == type_]
            kept |= set(
                session.scalars(within(select(Resource.id).where(Resource.id.in_(ids)), caller.reach, type_))
            )
    return [row for row in rows if row.id in kept]
