"""Reading statements in the form that the driver takes: made once, for what is read with every request.

What SQLAlchemy does each time around such a statement costs several times what the database does. PostgreSQL
besides plans each anew, which costs it more than reading the row: there a connection prepares what it sees
again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Dialect, Executable, Select

NAMED = re.compile(r"%\((\w+)\)s|%%")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One statement for one kind of database."""

    text: str
    body: str  # the same for PREPARE, and the parameters of EXECUTE; empty where the driver's are positional
    call: str
    values: Mapping[str, Any]  # that the statement has of its own, as the driver takes them
    order: tuple[str, ...] | None  # of positional parameters; None: by name
    writers: Mapping[str, Callable[[Any], Any]]  # of parameters that the driver does not take as they are
    readers: tuple[tuple[int, Callable[[Any], Any]], ...]  # of columns that it does not give so

    @classmethod
    def of(cls, statement: Executable, dialect: Dialect, parameters: Mapping[str, Any]) -> "Prepared":
        """Prepare a statement whose lists are its own; parameters: single values, of its first use."""
        compiled = cast(Select[Any], statement).compile(dialect=dialect)
        expanded = compiled.construct_expanded_state(parameters)  # its lists, written out
        writers = {
            name: processor
            for name, bind in compiled.binds.items()
            if (processor := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        } | dict(expanded.processors)
        columns = cast(Select[Any], statement).selected_columns
        readers = tuple(
            (at, processor)
            for at, column in enumerate(columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        )
        body, call = ("", "") if compiled.positional else _numbered(expanded.statement)
        return cls(
            expanded.statement,
            body,
            call,
            {name: _written(writers, name, value) for name, value in expanded.parameters.items()},
            tuple(expanded.positiontup or ()) if compiled.positional else None,
            writers,
            readers,
        )

    def bound(self, parameters: Mapping[str, Any]) -> Sequence[Any] | dict[str, Any]:
        """The parameters as the driver takes them."""
        values = {**self.values}
        for name, value in parameters.items():
            values[name] = _written(self.writers, name, value)
        return values if self.order is None else [values[name] for name in self.order]

    def read(self, found: Sequence[Any]) -> tuple[Any, ...]:
        """A row as the statement's types have it."""
        if not self.readers:
            return tuple(found)
        row = list(found)
        for at, processor in self.readers:
            row[at] = processor(row[at])
        return tuple(row)


def _numbered(text: str) -> tuple[str, str]:
    """`... = %(uid)s` as `... = $1`, and `(%(uid)s)`."""
    order: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return "%" if found[0] == "%%" else f"${order.setdefault(found[1], len(order) + 1)}"

    body = NAMED.sub(number, text)
    return body, f"({', '.join(f'%({name})s' for name in order)})" if order else ""


def _written(writers: Mapping[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    writer = writers.get(name)
    return writer(value) if writer is not None and value is not None else value
