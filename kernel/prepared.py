"""Reading statements in the form that the driver takes: made once, for what is read with every request.

What SQLAlchemy does each time around such a statement costs several times what the database does. PostgreSQL
besides plans each anew, which costs it more than reading one row: of those, a connection prepares what it
sees again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Dialect, Executable, Float, Select
from sqlalchemy.sql.compiler import SQLCompiler

NAMED = re.compile(r"%\((\w+)\)s|%%")
LIST = re.compile(r"(NOT )?IN \(__\[POSTCOMPILE_(\w+)\]\)")  # as SQLAlchemy leaves it, to be written out


@dataclass(frozen=True, slots=True)
class Prepared:
    """One statement for one kind of database."""

    text: str
    body: str  # the same for PREPARE, and the parameters of EXECUTE; empty where the driver's are positional
    call: str
    values: Mapping[str, Any]  # that the statement has of its own, as the driver takes them
    order: tuple[str, ...] | None  # of positional parameters; None: by name
    lists: (
        SQLCompiler | None
    )  # where lists that are asked for have no form of their own: what writes them out
    writers: Mapping[str, Callable[[Any], Any]]  # of parameters that the driver does not take as they are
    readers: tuple[tuple[int, Callable[[Any], Any]], ...]  # of columns that it does not give so

    @classmethod
    def of(cls, statement: Executable, dialect: Dialect) -> "Prepared":
        """Prepare a statement."""
        compiled = cast(Select[Any], statement).compile(dialect=dialect)
        writers = {
            name: processor
            for name, bind in compiled.binds.items()
            if (processor := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        columns = cast(Select[Any], statement).selected_columns
        readers = tuple(
            (at, processor)
            for at, column in enumerate(columns)
            if not isinstance(column.type, Float)  # both drivers give them as they are
            and (processor := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        )
        own = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
        values = {name: _written(writers, name, value) for name, value in own.items()}
        if compiled.positional:
            lists = {found[2] for found in LIST.finditer(compiled.string)}
            if lists <= values.keys():
                written_out = compiled.construct_expanded_state(dict.fromkeys(compiled.binds) | values)
                order = tuple(written_out.positiontup or ())
                own = dict(written_out.parameters)
                return cls(written_out.statement, "", "", own, order, None, writers, readers)
            return cls(compiled.string, "", "", values, (), compiled, writers, readers)
        text = LIST.sub(lambda found: f"{'<> ALL' if found[1] else '= ANY'}(%({found[2]})s)", compiled.string)
        body, call = _numbered(text)
        return cls(text, body, call, values, None, None, writers, readers)

    def asked(self, parameters: Mapping[str, Any]) -> tuple[str, Sequence[Any] | dict[str, Any]]:
        """The text and the parameters as the driver takes them. A list is a Python list."""
        values = {**self.values}
        for name, value in parameters.items():
            values[name] = _written(self.writers, name, value)
        if self.order is None:
            return self.text, values
        if self.lists is None:
            return self.text, [values[name] for name in self.order]
        written_out = self.lists.construct_expanded_state(values)
        order = written_out.positiontup or ()
        return written_out.statement, [written_out.parameters[name] for name in order]

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
    if isinstance(value, list | tuple | set | frozenset):
        return [each if writer is None else writer(each) for each in value]
    return writer(value) if writer is not None and value is not None else value
