"""Writes of several tables that nothing is waited for in between: to PostgreSQL they go in one message.

What a document leaves behind stands in ten tables. One statement after the other would be as many messages to
the server and back, each with what SQLAlchemy does around it; the rows themselves cost less than either.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Update

Rows = Sequence[Mapping[str, Any]]
Write = tuple[Insert | Update, Rows]
MOST_BYTES = 8388608  # of one message


def write_all(connection: Connection, writes: Iterable[Write]) -> None:
    """Run inserts and updates in their order, each for all of its rows; rows of a write have the same keys.

    The statements are built once and kept by who asks, for their text is kept by them.
    """
    if connection.dialect.name != "postgresql":
        for statement, rows in writes:
            if rows:
                connection.execute(statement, rows)
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

    def filled(self, cursor: Any, rows: Rows) -> bytes:
        """With the values of all rows."""
        return self.once + self.between.join(cursor.mogrify(self.each, self._written(row)) for row in rows)

    def _written(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        values = {**self.values, **row}
        for name, writer in self.writers.items():
            if values[name] is not None:
                values[name] = writer(values[name])
        return values


@lru_cache(maxsize=512)
def _text_of(statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]) -> _Text:
    quiet = statement.inline() if isinstance(statement, Insert) else statement  # nothing is to come back
    compiled = quiet.compile(dialect=dialect, column_keys=list(keys))
    writers = {
        name: writer
        for bind, name in compiled.bind_names.items()
        if (writer := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    values = {name: value for name, value in compiled.params.items() if name not in keys}
    text = str(compiled)
    if isinstance(statement, Insert):
        once, values_word, each = text.partition(" VALUES ")
        return _Text((once + values_word).encode(), each, b", ", writers, values)
    return _Text(b"", text, b";\n", writers, values)
