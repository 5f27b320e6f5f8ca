"""Writes of several tables that nothing is waited for in between: to PostgreSQL they go in one message, to
SQLite by the driver's own way for many rows.

What a document leaves behind stands in ten tables. One statement after the other would be as many messages to
the server and back, each with what SQLAlchemy does around it; the rows themselves cost less than either. Many
rows of a table go as one array for each column: values one by one cost the driver and the parser as much as
the server takes to write the rows.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Date, Dialect, Insert, Table, Update
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from kernel.database import UtcDateTime

Rows = Sequence[Mapping[str, Any]]
Write = tuple[Insert | Update, Rows]
NEXT_IDS = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
MOST_BYTES = 8388608  # of one message
MANY = 4  # rows, from which on they go as arrays
PLAIN = re.compile(r"\((%\(\w+\)s(, )?)+\)")  # the values of a row, as they are


def write_all(connection: Connection, writes: Iterable[Write]) -> None:
    """Run inserts and updates in their order, each for all of its rows; rows of a write have the same keys.

    The statements are built once and kept by who asks, for their text is kept by them.
    """
    if connection.dialect.name != "postgresql":
        for statement, rows in writes:
            if rows:
                positional = _positional(statement, connection.dialect, tuple(rows[0]))
                connection.exec_driver_sql(positional.text, [positional.filled(row) for row in rows])
        return
    cursor = connection.connection.cursor()
    try:
        message: list[bytes] = []
        for statement, rows in writes:
            if rows:
                message.append(_text_of(statement, connection.dialect, tuple(rows[0])).filled(cursor, rows))
            if sum(map(len, message)) > MOST_BYTES:
                _send(connection, message)
        _send(connection, message)
    finally:
        cursor.close()


def reserve(connection: Connection, table: Table, count: int) -> list[int]:
    """Ids for rows that are to come, ascending, so that rows of other tables can name them in the same
    message. On SQLite nobody else writes until they are there."""
    if connection.dialect.name == "postgresql":
        return list(connection.exec_driver_sql(NEXT_IDS, (table.name, count)).scalars())
    last = connection.exec_driver_sql(f"SELECT max(id) FROM {table.name}").scalar() or 0  # noqa: S608
    return list(range(last + 1, last + count + 1))


@dataclass(frozen=True, slots=True)
class _Positional:
    """A statement whose values go by their places."""

    text: str
    order: tuple[str, ...]
    writers: Mapping[str, Callable[[Any], Any]]  # of values that the driver does not take as they are
    values: Mapping[str, Any]  # that the statement has of its own

    def filled(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of a row."""
        written = _written(self.values, self.writers, row)
        return tuple([written[name] for name in self.order])


@lru_cache(maxsize=512)
def _positional(statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]) -> _Positional:
    compiled = _quiet(statement).compile(dialect=dialect, column_keys=list(keys))
    values = {name: value for name, value in compiled.params.items() if name not in keys}
    return _Positional(str(compiled), tuple(compiled.positiontup or ()), _writers_of(compiled), values)


def _send(connection: Connection, message: list[bytes]) -> None:
    if message:
        text = b";\n".join(message).decode()
        connection.exec_driver_sql(text, execution_options={"no_parameters": True})
        message.clear()


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement as the driver takes it: what comes once, and what comes for each row."""

    once: bytes
    each: str
    between: bytes
    writers: Mapping[str, Callable[[Any], Any]]  # of values that the driver does not take as they are
    values: Mapping[str, Any]  # that the statement has of its own
    columns: Mapping[str, str]  # of an insert of plain values, with their types; else empty

    def filled(self, cursor: Any, rows: Rows) -> bytes:
        """With the values of all rows."""
        if self.columns and len(rows) >= MANY:
            written = [_written(self.values, self.writers, row) for row in rows]
            arrays = [
                cursor.mogrify(f"%s::{type_}[]", (_array([row[name] for row in written]),))
                for name, type_ in self.columns.items()
            ]
            head = self.once.removesuffix(b" VALUES ")
            return head + b" SELECT * FROM unnest(" + b", ".join(arrays) + b")"
        return self.once + self.between.join(
            cursor.mogrify(self.each, _written(self.values, self.writers, row)) for row in rows
        )


def _written(
    own: Mapping[str, Any], writers: Mapping[str, Callable[[Any], Any]], row: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A row's values, and those that the statement has of its own, as the driver takes them."""
    values = {**own, **row}
    for name, writer in writers.items():
        if values[name] is not None:
            values[name] = writer(values[name])
    return values


def _array(values: list[Any]) -> Any:
    """An array as PostgreSQL reads it; where there is no short form, the list, which the driver writes."""
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return "{" + ",".join(map(str, values)) + "}"
    if kinds == {str}:
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
        return '{"' + '","'.join(quoted) + '"}'
    return values


def _columns_of(table: Table, each: str, dialect: Dialect) -> dict[str, str]:
    """The columns of a row's values with the types of their arrays.

    A text is no longer than its column because the column says so: a cast to it would cut it without a word.
    """
    if not PLAIN.fullmatch(each):
        return {}
    names = re.findall(r"%\((\w+)\)s", each)
    types = {name: table.c[name].type.compile(dialect) for name in names}
    return {name: "text" if type_.startswith(("VARCHAR", "TEXT")) else type_ for name, type_ in types.items()}


@lru_cache(maxsize=512)
def _text_of(statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]) -> _Text:
    compiled = _quiet(statement).compile(dialect=dialect, column_keys=list(keys))
    writers = _writers_of(compiled)
    values = {name: value for name, value in compiled.params.items() if name not in keys}
    text = str(compiled)
    if isinstance(statement, Insert):
        once, values_word, each = text.partition(" VALUES ")
        columns = _columns_of(cast(Table, statement.table), each, dialect)
        return _Text((once + values_word).encode(), each, b", ", writers, values, columns)
    return _Text(b"", text, b";\n", writers, values, {})


def _quiet(statement: Insert | Update) -> Insert | Update:
    """The statement, of which nothing is to come back."""
    return statement.inline() if isinstance(statement, Insert) else statement


def _writers_of(compiled: SQLCompiler) -> dict[str, Callable[[Any], Any]]:
    return {
        name: writer
        for bind, name in compiled.bind_names.items()
        if (writer := _writer_of(bind.type, compiled.dialect)) is not None
    }


def _writer_of(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    writer = type_.dialect_impl(dialect).bind_processor(dialect)
    if writer is not None and isinstance(type_, UtcDateTime | Date):
        return lru_cache(maxsize=64)(writer)  # rows that go together have moments and days in common
    return writer
