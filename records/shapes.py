"""Statements kept by the shape of what is asked, so that a search like one before it is run and not built.

What is searched for are predicates: frozen dataclasses and functions that hold other such things, names, and
values. The values stand in them as `Asked`. All the rest is their shape; two searches of one shape are one
statement with other values, which is kept. Whatever is in a predicate and is no `Asked` is part of the shape,
so nothing that makes a statement another one can be overlooked; and a shape holds nothing of people: what
names some of them other than by an `Asked` is not kept at all.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import FunctionType
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, Table, bindparam
from sqlalchemy.orm import Session
from sqlalchemy.types import NULLTYPE

from access.caller import Reach
from kernel.database import Database

MOST_KEPT = 512  # statements
MOST_VALUES = 64  # of one that is kept
PERSONAL = (
    "patients", "persons", "studies", "series", "documents", "study_dates", "except_patients",
    "except_studies", "search",
)  # fmt: skip


class Asked:
    """A value that is asked about, or a list of them; it stands in expressions in place of the value.

    All columns that it is compared with are of one type.
    """

    __slots__ = ("name", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.name = ""  # in a statement that is kept

    @classmethod
    def one_of(cls, values: Sequence[Any]) -> "Asked":
        """Alternatives: a list, unless it is but one."""
        return cls(values[0] if len(values) == 1 else list(values))

    def is_at(self, column: Any) -> ColumnElement[bool]:
        """Whether a column has the value, or one of the list."""
        found: ColumnElement[bool] = column.in_(self) if self.is_list else column == self
        return found

    @property
    def is_list(self) -> bool:
        """Whether it stands for several values."""
        return isinstance(self.value, list)

    def __clause_element__(self) -> BindParameter[Any]:
        """What SQLAlchemy takes it for: a parameter, of the type of what it is compared with."""
        if self.name:
            return bindparam(self.name, type_=NULLTYPE, expanding=self.is_list)
        return bindparam(None, self.value, NULLTYPE, unique=True, expanding=self.is_list)


class _NotKept(Exception):
    """A shape that would hold what is not to be kept, or too much."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of what is asked, all but its values; and these, by their names in the statement."""

    key: tuple[Hashable, ...] | None  # None: not kept
    asked: Mapping[str, Asked]

    @property
    def values(self) -> dict[str, Any]:
        """What the statement is run with; a value without a name stands in it."""
        return {name: asked.value for name, asked in self.asked.items()}

    def with_more(self, *parts: Any) -> "Shape":
        """The same with something more that is asked."""
        if self.key is None:
            return self
        asked = dict(self.asked)
        try:
            return Shape((*self.key, *_shapes(parts, asked)), asked)
        except _NotKept:
            return Shape(None, asked)

    def statement(self, build: Callable[[], Select[Any]]) -> Select[Any]:
        """The statement of this shape, built if it is the first. A shape that is not kept has none."""
        known = _kept.get(self.key)
        if known is None:
            known = build()
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            _kept[self.key] = known
        return known


NOTHING_ASKED = Shape((), {})

_kept: dict[Hashable, Select[Any]] = {}


def _shapes(parts: Sequence[Any], asked: dict[str, Asked]) -> Iterator[Hashable]:
    """The shapes of things; the values in them are named, and added to what is asked."""
    for part in parts:
        kind = type(part)
        if kind is Asked:
            if asked.get(part.name) is not part:
                if len(asked) == MOST_VALUES:
                    raise _NotKept
                part.name = f"asked_{len(asked)}"
                asked[part.name] = part
            yield part.name, part.is_list
        elif kind is tuple or kind is list:
            yield tuple(_shapes(part, asked))
        elif kind is FunctionType:
            held = [cell.cell_contents for cell in part.__closure__ or ()]
            yield part.__code__, *_shapes(held, asked)
        elif kind is Reach:
            if any(getattr(clause, name) for limit in part.limits for clause in limit for name in PERSONAL):
                raise _NotKept
            yield part
        elif part is None or kind in (str, int, bool, Table):
            yield part
        elif is_dataclass(part):
            yield kind, *_shapes([getattr(part, name) for name in kind.__slots__], asked)
        else:
            raise _NotKept


@dataclass(frozen=True, slots=True)
class Reading:
    """How statements are run."""

    database: Database
    session: Session
    is_snapshot: bool = False  # nothing was written that must be seen: a statement needs no session

    def rows(self, shape: Shape, build: Callable[[], Select[Any]]) -> Sequence[Any]:
        """What the statement of a shape finds; build: makes it, where it is not kept."""
        if shape.key is None:
            return self.session.connection().execute(build(), shape.values).all()
        seen_by = None if self.is_snapshot else self.session
        return self.database.rows(shape.statement(build), shape.values, seen_by)
