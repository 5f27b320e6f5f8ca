"""Search: the one way to find clinical documents (R4 3.1.1, Search).

A parsed `Search` becomes predicates (`records.predicates`). The one with the fewest documents drives the
search. A handful of them is read by its ids, and asked for the other predicates. More are put into the order
of the page by what stands in the indexes, and only then read and asked, until the page is full. Where all are
broad, an index is walked in the order of the page. Either way nothing is found twice, and a page costs what
it shows. The reach is added here and only here. Counting is done only when it is asked for.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, exists, false, func, not_, null, or_, select, true
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import Action, Caller, Reach
from kernel.database import table_of
from records.aliases import fresh, give_back
from records.cursor import Cursor, close_cursor, open_cursor
from records.custom_parameters import know_custom_parameters
from records.definitions import definitions, forms
from records.model import (
    IndexDate,
    IndexNumber,
    IndexReference,
    IndexString,
    IndexToken,
    IndexUri,
    Resource,
)
from records.parameters import parameters_of, resource_types
from records.predicates import Asking, Match, Own, Predicate, Rows, in_compartment, is_one_of, predicate_of
from records.query import Criterion, InvalidSearch, Search, find_parameter, parse_search
from records.reach import reach_of_types
from records.repository import ROW, ResourceRow, Stored, bodies
from records.room import Records
from records.shapes import NOTHING_ASKED, Asked, Reading, Shape

__all__ = ["Criterion", "InvalidSearch", "Search", "SearchResult", "find_ids", "parse_search", "search"]

FEW = 2000  # a set of at most so many documents is gone through; a larger one is walked until a page is full
HANDFUL = 50  # a set of at most so many is known by its ids, and no smaller one is looked for
ESTIMATED_TO = 20_000
WALKED = 1000  # documents that are looked at one by one, where many may be what is looked for
MOST_INCLUDED, MOST_ROUNDS = 1000, 8
COUNTED_FOR_S, MOST_COUNTED = 60.0, 5000  # how long a count is believed, and how many are remembered


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page: matches, what was included with them, and how to go on."""

    matches: tuple[Stored, ...]
    included: tuple[Stored, ...] = ()
    next_cursor: str = ""
    previous_cursor: str = ""
    total: int | None = None
    search: Search = field(default_factory=lambda: Search(""))
    left_out: bool = False  # more was to be included than one answer holds


_TABLE = table_of(Resource)


@dataclass(frozen=True, slots=True)
class _SortKey:
    """One key of the order: a column of the row itself, or the best value of an index."""

    descending: bool
    own: str = ""  # name of the column of the row
    table: Table | None = None
    column: str = ""
    number: int = 0
    is_single: bool = False  # no document has several values

    def value(self, key: ColumnElement[int], resource: Any) -> ColumnElement[Any]:
        """The value of the document with an id (whose row is `resource`); NULL where there is none."""
        if self.own:
            return resource[self.own]  # type: ignore[no-any-return]
        rows = fresh(self.index())
        column = rows.c[self.column]
        best = func.max(column) if self.descending else func.min(column)
        return (
            select(best).where(rows.c.resource_id == key, rows.c.parameter == self.number).scalar_subquery()
        )

    def index(self) -> Table:
        """The index that holds it."""
        if self.table is None:
            raise LookupError(self.own)
        return self.table


SORTED_BY: dict[str, tuple[Table, str, str]] = {  # the column that is least, and the one that is greatest
    "string": (IndexString, "value", "value"),
    "date": (IndexDate, "low", "high"),
    "token": (IndexToken, "text", "text"),
    "uri": (IndexUri, "value", "value"),
    "number": (IndexNumber, "low", "high"),
    "quantity": (IndexNumber, "low", "high"),
}
OWN_KEYS = {"_id": "logical_id", "_lastUpdated": "updated_at"}


def _sort_key(resource_type: str, part: str) -> _SortKey:
    descending, code = part.startswith("-"), part.removeprefix("-")
    if code in OWN_KEYS:
        return _SortKey(descending, OWN_KEYS[code])
    parameter = find_parameter(resource_type, code)
    table, low, high = SORTED_BY[parameter.type]
    column, is_single = high if descending else low, _has_one_value(resource_type, code)
    return _SortKey(descending, table=table, column=column, number=parameter.number, is_single=is_single)


def search(records: Records, caller: Caller, wanted: Search) -> SearchResult:
    """Find a page of documents. Raises InvalidSearch, InvalidCursor or Forbidden."""
    with records.database.snapshot() as session:
        result = _search(records, Reading(records.database, session, is_snapshot=True), caller, wanted)
    what = wanted.resource_type or "every type"
    note_once(records.database, records.recently, records.clock, caller, f"search {what}", "")
    return result


def search_in(records: Records, session: Session, caller: Caller, wanted: Search) -> SearchResult:
    """Find a page of documents as a transaction sees them."""
    return _search(records, Reading(records.database, session), caller, wanted)


def _search(records: Records, reading: Reading, caller: Caller, wanted: Search) -> SearchResult:
    session = reading.session
    know_custom_parameters(records.database, session)
    looking = _looking(records, reading, caller, wanted)
    few = looking.fewest()
    total = looking.total(few, wanted.total) if wanted.total != "none" or wanted.count == 0 else None
    if not wanted.count:
        return SearchResult((), total=total, search=wanted)
    bound_to = _bound_to(wanted)
    cursor = open_cursor(records.keys, bound_to, wanted.cursor) if wanted.cursor else None
    page, goes_on = looking.page(few, wanted.count, cursor)
    backwards = cursor is not None and cursor.backwards
    following, previous = "", ""
    if page and (goes_on or backwards):
        following = close_cursor(records.keys, bound_to, Cursor(page[-1].values))
    if page and (cursor is not None if not backwards else goes_on):
        previous = close_cursor(records.keys, bound_to, Cursor(page[0].values, backwards=True))
    rows = [found.row for found in page]
    included, left_out = _included(reading, caller, wanted, rows)
    return SearchResult(
        tuple(bodies(records, session, rows)),
        tuple(bodies(records, session, included)),
        following,
        previous,
        total,
        wanted,
        left_out,
    )


def find_ids(
    records: Records, session: Session, caller: Caller, wanted: Search, most: int
) -> list[tuple[int, str]]:
    """Ids of the first documents that are found, as a transaction sees them: `resource.id`, logical id."""
    know_custom_parameters(records.database, session)
    reading = Reading(records.database, session)
    looking = _looking(records, reading, caller, replace(wanted, sort=()))
    page, _ = looking.page(looking.fewest(), most, None)
    return [(found.row.id, found.row.logical_id) for found in page]


@dataclass(frozen=True, slots=True)
class _Found:
    """One row of a page, and its sort values with the id at the end."""

    values: tuple[Any, ...]
    row: ResourceRow


def _bound_to(wanted: Search) -> str:
    return json.dumps(
        [
            wanted.resource_type, wanted.types, wanted.compartment, wanted.sort,
            [(each.name, each.values) for each in wanted.criteria],
        ]
    )  # fmt: skip


def _looking(records: Records, reading: Reading, caller: Caller, wanted: Search) -> "_Looking":
    give_back()
    if wanted.resource_type:
        caller.require(Action(wanted.resource_type, "s"))
    elif not wanted.types:  # who may not search every type says which ones: `_type`
        caller.require(Action("*", "s"))
    for type_ in wanted.types:
        caller.require(Action(type_, "s"))
    types = wanted.types or tuple(
        type_ for type_ in sorted(resource_types()) if caller.may(Action(type_, "s"))
    )
    asking = Asking(records, reading.session, caller)
    predicates = [(each, predicate_of(asking, types, each)) for each in wanted.criteria]
    merged = _merged(types, predicates)
    if wanted.compartment:
        belongs = in_compartment(types, wanted.compartment, compartment_parameters)
        merged.append((f"in {'/'.join(wanted.compartment)} {types}", belongs))
    for code in (part.removeprefix("-") for part in wanted.sort):
        is_name = code not in OWN_KEYS and find_parameter(wanted.resource_type, code).is_veiled
        if is_name and records.database.veils_names():
            raise InvalidSearch(f"_sort={code}", "names are veiled in this database and have no order")
    keys = tuple(_sort_key(wanted.resource_type, part) for part in wanted.sort)
    reach = caller.reach_for("s")
    shape = NOTHING_ASKED.with_more(types, [predicate for _, predicate in merged], keys, reach)
    return _Looking(reading, types, merged, keys, reach, shape)


def compartment_parameters(compartment: str, resource_type: str) -> Iterable[str]:
    """Codes of the parameters that put a type into a compartment."""
    found: list[str] = forms()["compartments"].get(compartment, {}).get(resource_type, [])
    return [code for code in found if code in parameters_of(resource_type)]


def _merged(
    types: Sequence[str], predicates: list[tuple[Criterion, Predicate]]
) -> list[tuple[str, Predicate]]:
    """Both ends of a span as one predicate: `date=ge..&date=lt..` is a range of one index.

    Only where a document has at most one value; with several, each end may be met by another one.
    """
    merged: list[tuple[str, Predicate]] = []
    spans: dict[str, list[Any]] = {}
    for criterion, predicate in predicates:
        key = f"{types} {criterion.name}={criterion.values}"
        is_span = isinstance(predicate, Rows) and predicate.table is IndexDate and not predicate.negated
        is_one = is_span and len(types) == 1 and _has_one_value(types[0], criterion.name)
        if is_one or (isinstance(predicate, Own) and criterion.name == "_lastUpdated"):
            spans.setdefault(criterion.name, []).append((key, predicate))
        else:
            merged.append((key, predicate))
    for found in spans.values():
        key, first = " ".join(key for key, _ in found), found[0][1]
        if len(found) > 1:
            first = replace(first, match=_all_of([predicate.match for _, predicate in found]))
            if isinstance(first, Rows):
                first = replace(first, is_range=any(predicate.is_range for _, predicate in found))
        merged.append((key, first))
    return merged


def _all_of(matches: Sequence[Match]) -> Match:
    return lambda columns: and_(*(match(columns) for match in matches))


@lru_cache(maxsize=4096)
def _has_one_value(resource_type: str, code: str) -> bool:
    """Whether a document has at most one value of a parameter: a plain path of single elements."""
    parameter = parameters_of(resource_type).get(code)
    paths = [] if parameter is None else parameter.expression.split("|")
    own = [path.strip() for path in paths if path.strip().startswith(f"{resource_type}.")]
    if len(own) != 1 or not own[0].replace(".", "").isalnum():
        return False
    elements, at = definitions()["elements"], resource_type
    for name in own[0].split(".")[1:]:
        at = f"{at}.{name}"
        element = elements.get(at) or elements.get(f"{at}[x]")
        if element is None or "max" in element:
            return False
    return True


_counted: dict[tuple[str, str], tuple[int, float]] = {}
"""For how many documents predicates were found to hold, where these are no handful, and until when that is
believed; up to one more than FEW."""


@dataclass(frozen=True, slots=True)
class _Few:
    """The predicate that leads to the documents, and these themselves where they are a handful."""

    predicate: Predicate
    ids: Asked | None = None
    count: int = 0

    def are(self, key: ColumnElement[int]) -> ColumnElement[bool]:
        """Whether the document with this `resource.id` is one of them."""
        return key.in_(self.predicate.ids()) if self.ids is None else self.ids.is_at(key)


@dataclass(frozen=True, slots=True)
class _Looking:
    """A search that is being run."""

    reading: Reading
    types: tuple[str, ...]
    predicates: list[tuple[str, Predicate]]
    keys: tuple[_SortKey, ...]
    reached: Reach  # for searching
    shape: Shape  # of all these

    def page(self, few: _Few | None, count: int, cursor: Cursor | None) -> tuple[list[_Found], bool]:
        """The rows of a page, and whether it goes on beyond."""
        along = self._sorted_range()
        most = Asked(count + 1)
        if cursor is not None:
            values = (None if value is None else Asked(value) for value in cursor.values)
            cursor = Cursor(tuple(values), cursor.backwards)
        if along is not None and (few is None or few.predicate is along):
            found = self._with_value(most, cursor, cursor is not None and cursor.backwards, along)
        elif few is not None and few.ids is None:
            found = self._from_few(most, cursor, few)
        elif few is not None:
            found = self._from_rows(most, cursor, few) if few.count else []
        elif not self.keys and (streaming := self._streaming()) is not None:
            found = self._from_index(most, cursor, streaming)
        elif len(self.keys) == 1 and not self.keys[0].own:
            found = self._from_sort_index(count + 1, cursor)
        else:
            found = self._from_next(most, cursor) or self._from_rows(most, cursor, None)
        page, goes_on = found[:count], len(found) > count
        if cursor is not None and cursor.backwards:
            page.reverse()
        return page, goes_on

    def total(self, few: _Few | None, how: str) -> int:
        """How many there are; an estimate counts to some thousands only."""
        if few is None and len(self.predicates) == 1:
            ((_, only),) = self.predicates
            few = _Few(only) if only.is_set else None

        def build() -> Select[Any]:
            statement = select(_TABLE.c.id).where(*self._conditions(_TABLE.c, few))
            if few is not None:
                statement = statement.where(few.are(_TABLE.c.id))
            if how == "estimate":
                statement = statement.limit(ESTIMATED_TO)
            return select(func.count()).select_from(statement.subquery())

        ((count,),) = self._rows(("total", how, self._led_by(few)), build)
        return int(count)

    def _rows(self, about: tuple[Any, ...], build: Callable[[], Select[Any]]) -> Sequence[Any]:
        """What a statement of this search finds. about: all that it is made from beside the search."""
        return self.reading.rows(self.shape.with_more(*about), build)

    def _led_by(self, few: _Few | None) -> tuple[Any, ...]:
        """What a statement that begins with few documents is made from."""
        return () if few is None else (self._number_of(few.predicate), few.ids)

    def _number_of(self, predicate: Predicate) -> int:
        return next(at for at, (_, each) in enumerate(self.predicates) if each is predicate)

    def fewest(self) -> _Few | None:
        """The predicate that holds for the fewest documents, when these are few."""
        if len(self.predicates) == 1:
            ((_, only),) = self.predicates
            if self._sorted_range() is not None or (not self.keys and only.streams):
                return None  # its index gives the page as it is
        along, best = self._sorted_range(), None
        for key, predicate in sorted(
            self.predicates, key=lambda each: (not each[1].streams, each[1] is along)
        ):
            few = self._few(key, predicate, FEW if best is None else best.count)
            if few is not None and (best is None or few.count < best.count):
                best = few
                if few.count <= HANDFUL:
                    break
        return best

    def _few(self, key: str, predicate: Predicate, most: int) -> _Few | None:
        """A predicate with its documents; None for more than `most`, or when they are no set."""
        remembered, now = (self.reading.database.name, key), time.monotonic()
        count, until = _counted.get(remembered, (0, 0.0))
        if (until > now and count > most) or not predicate.is_set:
            return None
        if until < now:
            number, at_most, counted_to = self._number_of(predicate), Asked(HANDFUL + 1), Asked(most + 1)

            def handful_of() -> Select[Any]:
                return predicate.ids().limit(at_most)

            def count_of() -> Select[Any]:
                return select(func.count()).select_from(predicate.ids().limit(counted_to).subquery())

            handful = [found for (found,) in self._rows(("handful", number, at_most), handful_of)]
            if len(handful) <= HANDFUL:
                return _Few(predicate, Asked(list(set(handful))), len(handful))
            ((count,),) = self._rows(("count", number, counted_to), count_of)
            if count <= most or most == FEW:
                if len(_counted) >= MOST_COUNTED:
                    _counted.clear()
                _counted[remembered] = count, now + COUNTED_FOR_S
        return _Few(predicate, None, count) if count <= most else None

    def _streaming(self) -> Rows | None:
        found = (each for _, each in self.predicates if isinstance(each, Rows) and each.streams)
        return next(found, None)

    def _sorted_range(self) -> Rows | None:
        """The predicate that is a range of the index of the one sort key: a walk along it meets no others."""
        if len(self.keys) != 1 or not self.keys[0].is_single:
            return None
        (sort,) = self.keys
        ranges = (each for _, each in self.predicates if isinstance(each, Rows) and each.is_range)
        return next((each for each in ranges if each.numbers == (sort.number,)), None)

    def _conditions(
        self, resource: Any, few: _Few | None, *, one_by_one: bool = False
    ) -> list[ColumnElement[bool]]:
        """All that must hold at a row of the resource table, beside what led to it.

        one_by_one: few rows are asked about.
        """
        conditions = [~resource.deleted]
        if len(self.types) < len(resource_types()) or not self.reached.is_everywhere:
            conditions.append(reach_of_types(self.reached, self.types, resource))
        for _, predicate in self.predicates:
            if few is not None and predicate is few.predicate:
                continue
            if isinstance(predicate, Own):
                conditions.append(predicate.match(resource))
            elif isinstance(predicate, Rows) and (one_by_one or few is not None):
                conditions.append(predicate.at_few(resource.id))
            else:
                conditions.append(predicate.at(resource.id))
        return conditions

    def _from_rows(self, most: Asked, cursor: Cursor | None, few: _Few | None) -> list[_Found]:
        """From the resource table in the order of the page: all along it, or from a handful."""

        def build() -> Select[Any]:
            values = [key.value(_TABLE.c.id, _TABLE.c) for key in self.keys]
            statement = select(*values, *ROW).where(*self._conditions(_TABLE.c, few))
            if few is not None:
                statement = statement.where(few.are(_TABLE.c.id))
            return self._page_of(statement, values, _TABLE.c.id, most, cursor)

        return self._read(("rows", most, cursor, self._led_by(few)), build)

    def _from_next(self, most: Asked, cursor: Cursor | None) -> list[_Found]:
        """A whole page of the next documents of the type for which all holds, or nothing.

        Of what is broad, a page is found among few documents. But PostgreSQL cannot tell how often several
        predicates hold together; where it guesses too little, it goes through all that one of them holds for.
        SQLite walks by itself.
        """
        if self.keys or len(self.types) != 1 or self.reading.database.is_sqlite:
            return []
        walked = Asked(WALKED)

        def build() -> Select[Any]:
            near = select(_TABLE).where(_TABLE.c.type == self.types[0])
            backwards = cursor is not None and cursor.backwards
            if cursor is not None:
                near = near.where(_beyond([], [], [], _TABLE.c.id, cursor))
            rows = near.order_by(*self._order([], _TABLE.c.id, backwards)).limit(walked).subquery()
            conditions = self._conditions(rows.c, None, one_by_one=True)
            statement = select(*(rows.c[column.name] for column in ROW)).where(*conditions)
            return statement.order_by(*self._order([], rows.c.id, backwards)).limit(most)

        found = self._read(("next", most, cursor, walked), build)
        return found if len(found) == most.value else []

    def _from_few(self, most: Asked, cursor: Cursor | None, few: _Few) -> list[_Found]:
        """From the few documents of a driver: all are sorted by their ids and values, and read one by one.

        That the sorted ids are a query of their own keeps the database from reading every document first:
        PostgreSQL goes through them in their order and stops when the page is full.
        """

        def build() -> Select[Any]:
            rows = few.predicate.ids().distinct().subquery()
            key = rows.c.resource_id
            chosen = select(key.label("id"))
            own = fresh(_TABLE)
            if any(each.own for each in self.keys):
                chosen = chosen.join(own, own.c.id == key)
            named = [each.value(key, own.c).label(f"value{at}") for at, each in enumerate(self.keys)]
            backwards = cursor is not None and cursor.backwards
            found = chosen.add_columns(*named).order_by(*self._order(named, key, backwards)).subquery()
            values: list[ColumnElement[Any]] = [found.c[each.name] for each in named]
            statement = (
                select(*values, *ROW)
                .select_from(found.join(_TABLE, _TABLE.c.id == found.c.id))
                .where(*self._conditions(_TABLE.c, few))
            )
            return self._page_of(statement, values, found.c.id, most, cursor)

        return self._read(("few", most, cursor, self._led_by(few)), build)

    def _read(self, about: tuple[Any, ...], build: Callable[[], Select[Any]]) -> list[_Found]:
        """What a statement finds: a sort value for each key, and the columns of the row."""
        at = len(self.keys)
        return [_Found(tuple(row[: at + 1]), ResourceRow(*row[at:])) for row in self._rows(about, build)]

    def _page_of(
        self,
        statement: Select[Any],
        values: list[ColumnElement[Any]],
        key: ColumnElement[int],
        most: Asked,
        cursor: Cursor | None,
    ) -> Select[Any]:
        """A statement in the order of the page, from the cursor on."""
        backwards = cursor is not None and cursor.backwards
        ascending = [each.descending is backwards for each in self.keys]
        is_own = [bool(each.own) for each in self.keys]
        if cursor is not None:
            statement = statement.where(_beyond(values, ascending, is_own, key, cursor))
        return statement.order_by(*self._order(values, key, backwards)).limit(most)

    def _order(
        self, values: Sequence[ColumnElement[Any]], key: ColumnElement[int], backwards: bool
    ) -> list[ColumnElement[Any]]:
        """The order of a page, what has no value last; or the reverse of it."""
        order: list[ColumnElement[Any]] = []
        for sort, value in zip(self.keys, values, strict=True):
            by_value = value.asc() if sort.descending is backwards else value.desc()
            if not sort.own:
                by_value = by_value.nulls_first() if backwards else by_value.nulls_last()
            order.append(by_value)
        return [*order, key.desc() if backwards else key.asc()]

    def _at_index(self, key: ColumnElement[int], without: Predicate | None) -> list[ColumnElement[bool]]:
        """All that must hold at a row of an index, beside the predicate that it stands for."""
        conditions = [each.at(key) for _, each in self.predicates if each is not without]
        if not self.reached.is_everywhere:
            own = fresh(_TABLE)
            is_reached = reach_of_types(self.reached, self.types, own.c)
            conditions.append(exists().where(own.c.id == key, is_reached))
        return conditions

    def _from_index(self, most: Asked, cursor: Cursor | None, driver: Rows) -> list[_Found]:
        """Along the index of one value, which holds documents in the order of their ids."""

        def build() -> Select[Any]:
            rows = fresh(driver.table)
            key = rows.c.resource_id
            is_it = and_(rows.c.parameter == driver.numbers[0], driver.match(rows.c))
            ids = select(key).distinct().where(is_it, *self._at_index(key, driver))
            page = select(*ROW).where(_TABLE.c.id.in_(self._page_of(ids, [], key, most, cursor)))
            backwards = cursor is not None and cursor.backwards
            return page.order_by(*self._order([], _TABLE.c.id, backwards))

        return self._read(("index", most, cursor, self._number_of(driver)), build)

    def _from_sort_index(self, most: int, cursor: Cursor | None) -> list[_Found]:
        """Along the index of the one sort key; then (or before, going back) what has no value of it."""
        backwards = cursor is not None and cursor.backwards
        has_value = cursor is None or cursor.values[0] is not None
        parts = [self._with_value, self._without_value]
        if backwards:
            parts.reverse()
        if has_value is backwards:
            parts = parts[1:]
        found: list[_Found] = []
        for part in parts:
            if len(found) < most:
                at = cursor if cursor is not None and part is parts[0] and not found else None
                found += part(Asked(most - len(found)), at, backwards)
        return found

    def _with_value(
        self, most: Asked, cursor: Cursor | None, backwards: bool, within: Rows | None = None
    ) -> list[_Found]:
        """Along the index of the one sort key, all of it or the range of a predicate."""
        (sort,) = self.keys
        upwards = sort.descending is backwards
        if cursor is not None and cursor.values[0] is None:
            cursor = None

        def order(value: ColumnElement[Any], key: ColumnElement[int]) -> tuple[ColumnElement[Any], ...]:
            return value.asc() if upwards else value.desc(), key.desc() if backwards else key.asc()

        def build() -> Select[Any]:
            rows, other = fresh(sort.index()), fresh(sort.index())
            value, key = rows.c[sort.column], rows.c.resource_id
            statement = select(value, key).where(
                rows.c.parameter == sort.number, *self._at_index(key, within)
            )
            if within is not None:
                statement = statement.where(within.match(rows.c))
            if not sort.is_single:
                better = other.c[sort.column] > value if sort.descending else other.c[sort.column] < value
                of_same = and_(other.c.resource_id == key, other.c.parameter == sort.number)
                statement = statement.distinct().where(not_(exists().where(of_same, better)))
            if cursor is not None:
                statement = statement.where(_beyond([value], [upwards], [True], key, cursor))
            page = statement.order_by(*order(value, key)).limit(most).subquery()
            value, key = page.c[sort.column], page.c.resource_id
            statement = select(value, *ROW).join_from(page, _TABLE, _TABLE.c.id == key)
            return statement.order_by(*order(value, key))

        along = None if within is None else self._number_of(within)
        return self._read(("value", most, cursor, backwards, along), build)

    def _without_value(self, most: Asked, cursor: Cursor | None, backwards: bool) -> list[_Found]:
        (sort,) = self.keys
        last = None if cursor is None or cursor.values[0] is not None else cursor.values[-1]

        def build() -> Select[Any]:
            rows = fresh(sort.index())
            present = exists().where(rows.c.resource_id == _TABLE.c.id, rows.c.parameter == sort.number)
            statement = select(null(), *ROW).where(*self._conditions(_TABLE.c, None), not_(present))
            if last is not None:
                statement = statement.where(_TABLE.c.id < last if backwards else _TABLE.c.id > last)
            order = _TABLE.c.id.desc() if backwards else _TABLE.c.id.asc()
            return statement.order_by(order).limit(most)

        return self._read(("no value", most, last, backwards), build)


def _beyond(
    values: list[ColumnElement[Any]],
    ascending: list[bool],
    is_own: list[bool],
    key: ColumnElement[int],
    cursor: Cursor,
) -> ColumnElement[bool]:
    """Rows after the cursor in the order of the page (before it, going back). Missing values come last."""
    alternatives: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for value, upwards, never_null, last in zip(values, ascending, is_own, cursor.values, strict=False):
        if last is None:
            if cursor.backwards:
                alternatives.append(and_(*same, value.is_not(None)))
            same.append(value.is_(None))
            continue
        further = value > last if upwards else value < last
        if not never_null and not cursor.backwards:
            further = or_(further, value.is_(None))
        alternatives.append(and_(*same, further))
        same.append(value == last)
    last_id = cursor.values[-1]
    alternatives.append(and_(true(), *same, key < last_id if cursor.backwards else key > last_id))
    return or_(false(), *alternatives)


def _included(
    reading: Reading, caller: Caller, wanted: Search, rows: Sequence[ResourceRow]
) -> tuple[list[ResourceRow], bool]:
    """What the matches refer to and what refers to them, each once, and whether there was too much.

    One query for each direction and round; `:iterate` goes on from what was included (R4 3.1.1.5.4).
    """
    known = {row.id for row in rows}
    found: list[ResourceRow] = []
    fresh, left_out = list(rows), False
    for round_ in range(MOST_ROUNDS):
        if not fresh or not (wanted.includes or wanted.reverse_includes):
            break
        more: dict[int, ResourceRow] = {}
        for texts, forward in ((wanted.includes, True), (wanted.reverse_includes, False)):
            followed = [
                text.removeprefix("iterate:") for text in texts if not round_ or text.startswith("iterate:")
            ]
            led = _followed(reading, followed, forward, fresh) if followed else []
            left_out |= len(led) > MOST_INCLUDED
            new = [row for row in led[:MOST_INCLUDED] if row.id not in known]
            for row in _reachable(reading, caller, new):
                known.add(row.id)
                more[row.id] = row
        fresh = list(more.values())
        found += fresh
        if len(found) > MOST_INCLUDED:
            return found[:MOST_INCLUDED], True
    return found, left_out


def _followed(
    reading: Reading, texts: list[str], forward: bool, rows: list[ResourceRow]
) -> Sequence[ResourceRow]:
    """What some rows lead to along parameters (Type:code:Target), or what leads to them."""
    ways: list[tuple[tuple[int, ...], str]] = []  # numbers of parameters, and the type that they lead to
    types = sorted({row.type for row in rows})
    for text in texts:
        type_, _, rest = text.partition(":")
        code, _, target = rest.partition(":")
        sources = types if forward and type_ == "*" else sorted(resource_types()) if type_ == "*" else [type_]
        numbers = tuple(
            parameter.number
            for source in sources
            for parameter in parameters_of(source).values()
            if parameter.type == "reference" and code in ("", "*", parameter.code)
        )
        if forward:
            ways.append((numbers, target))
        elif not target or target in types:
            ways.append((numbers, ""))
    if not ways:
        return []
    begun = Asked([row.id if forward else row.self_hash for row in rows])

    def build() -> Select[Any]:
        index, own = fresh(IndexReference), fresh(_TABLE)
        if forward:
            met = and_(begun.is_at(index.c.resource_id), own.c.self_hash == index.c.target)
        else:
            met = and_(begun.is_at(index.c.target), own.c.id == index.c.resource_id)
        along = [
            and_(is_one_of(index.c.parameter, numbers), own.c.type == target if target else true())
            for numbers, target in ways
        ]
        led = select(own.c.id).where(met, or_(*along))
        statement = select(*ROW).where(_TABLE.c.id.in_(led), ~_TABLE.c.deleted)
        return statement.order_by(_TABLE.c.id).limit(MOST_INCLUDED + 1)

    shape = NOTHING_ASKED.with_more("included", forward, ways, begun)
    return [ResourceRow(*row) for row in reading.rows(shape, build)]


def _reachable(reading: Reading, caller: Caller, rows: list[ResourceRow]) -> list[ResourceRow]:
    """Those of some rows that the caller may read: what is included obeys the same rules as what is found."""
    rows = [row for row in rows if caller.may(Action(row.type, "r"))]
    reach = caller.reach_for("r")
    if reach.is_everywhere or not rows:
        return rows
    types = sorted({row.type for row in rows})
    among = Asked([row.id for row in rows])

    def build() -> Select[Any]:
        within = reach_of_types(reach, types, _TABLE.c)
        return select(_TABLE.c.id).where(among.is_at(_TABLE.c.id), within)

    shape = NOTHING_ASKED.with_more("reachable", reach, types, among)
    kept = {found for (found,) in reading.rows(shape, build)}
    return [row for row in rows if row.id in kept]
