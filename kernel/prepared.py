"""Reading statements in the form that the driver takes: made once, for what is read with every request.

What SQLAlchemy does each time around such a statement costs several times what the database does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Dialect, Executable, Select


@dataclass(frozen=True, slots=True)
class Prepared:
    """One statement for one kind of database."""

    text: str
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
        return cls(
            expanded.statement,
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


def _written(writers: Mapping[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    writer = writers.get(name)
    return writer(value) if writer is not None and value is not None else value
