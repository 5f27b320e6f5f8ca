"""Bringing what stands in sealed columns under the ring's current key: values from before there was sealing,
and all when the ring has turned. The keyed hashes beside them are made on the way.

A pass goes through each table page by page with its place kept. What is written meanwhile is sealed as it is,
and a row that changes under the pass stays as it was changed.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    Update,
    bindparam,
    select,
    type_coerce,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import TypeEngine

from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import Base, Database, Overtaken, table_of
from kernel.sealed_values import KeyedHash, SealedBytes, SealedText
from kernel.writes import write_all

PAGE = 500
Row = Mapping[str, Any]


class ResealingPass(Base):
    """How far the values of one table were brought under a key."""

    __tablename__ = "resealing_pass"

    sealed_table: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32))  # of the key ring
    sealed_to: Mapped[str] = mapped_column(String(64))  # primary key up to which every row is sealed
    is_done: Mapped[bool] = mapped_column(Boolean)


def sealed_tables() -> list[Table]:
    """The tables of every room that have sealed columns."""
    return [table for table in Base.metadata.sorted_tables if _sealed(table)]


def reseal_table(database: Database, keys: KeyRing, table: Table) -> int:
    """Go on with a table's pass to its end. Returns how many rows were looked at."""
    done = 0
    while True:
        try:
            count = reseal_page(database, keys, table)
        except Overtaken:  # who stores locks studies in an order of its own, and went first
            continue
        if not count:
            return done
        done += count


def reseal_page(database: Database, keys: KeyRing, table: Table, most: int = PAGE) -> int:
    """Seal the next rows of a table. Returns how many were looked at, 0 when its pass is over."""
    if not database.seals:
        return 0
    keys.renew()
    key_id = keys.current
    with database.snapshot() as session:
        place = session.get(ResealingPass, table.name)
        if place is not None and place.key_id == key_id and place.is_done:
            return 0
        after = place.sealed_to if place is not None and place.key_id == key_id else ""
        rows = _rows_after(session.connection(), table, after, most)
    old = [_resealed(table, row, keys) for row in rows if not _is_current(table, row, keys)]
    values = {"key_id": key_id, "sealed_to": str(rows[-1]["id"]) if rows else after, "is_done": not rows}
    with database.transaction() as session:
        write_all(session.connection(), [(_update(table), old)])
        _keep_place(session, table.name, values)
    return len(rows)


def open_columns(connection: Connection, keys: KeyRing | None, table: Table) -> None:
    """Put what is sealed in a table into its rows in clear again, for older code, within the caller's
    transaction; the next pass begins with the first row.

    table: its key, and its sealed columns. Raises DamagedBlob when there are no keys.
    """
    after = ""
    while rows := _rows_after(connection, table, after, PAGE):
        opened = []
        for row in rows:
            if any(type_.is_sealed(row[name]) for name, type_ in _sealed(table).items()):
                if keys is None:
                    raise DamagedBlob("Values are sealed; go back with the key ring at hand.")
                opened.append(_changed(table, row, _plain(table, row, keys)))
        write_all(connection, [(_update(table), opened)])
        after = str(rows[-1]["id"])
    passes = table_of(ResealingPass)
    connection.execute(passes.delete().where(passes.c.sealed_table == table.name))


@cache
def _sealed(table: Table) -> dict[str, SealedText | SealedBytes]:
    return {each.name: each.type for each in table.columns if isinstance(each.type, SealedText | SealedBytes)}


@cache
def _hashes(table: Table) -> dict[str, str]:
    """The columns of keyed hashes, each with the column whose text it is of."""
    return {
        each.name: each.type.context.rpartition(".")[2]
        for each in table.columns
        if isinstance(each.type, KeyedHash)
    }


def _kept(column: Column[Any]) -> ColumnElement[Any]:
    """A column as it stands in the row."""
    return type_coerce(column, column.type.impl_instance)  # type: ignore[attr-defined]


def _key_of(table: Table) -> Column[Any]:
    (key,) = table.primary_key.columns
    return key


def _rows_after(connection: Connection, table: Table, after: str, most: int) -> Sequence[Row]:
    """The next rows in the order of their keys, with sealed values and hashes as they stand there."""
    key = _key_of(table)
    kept = [_kept(table.c[name]).label(name) for name in (*_sealed(table), *_hashes(table))]
    statement = select(key.label("id"), *kept).order_by(key).limit(most)
    if after:
        statement = statement.where(key > key.type.python_type(after))
    return [dict(row) for row in connection.execute(statement).mappings()]


def _is_current(table: Table, row: Row, keys: KeyRing) -> bool:
    """Whether a row is as it would be written now."""
    return all(type_.is_current(row[name], keys) for name, type_ in _sealed(table).items()) and not any(
        row[plain] and not row[name] for name, plain in _hashes(table).items()
    )


def _plain(table: Table, row: Row, keys: KeyRing) -> dict[str, Any]:
    return {name: type_.open(row[name], keys) for name, type_ in _sealed(table).items()}


def _resealed(table: Table, row: Row, keys: KeyRing) -> Row:
    plain = _plain(table, row, keys)
    sealed = {
        name: type_.seal(plain[name], keys) if plain[name] else row[name]
        for name, type_ in _sealed(table).items()
    }
    return _changed(table, row, sealed | {name: plain[of] for name, of in _hashes(table).items()})


def _changed(table: Table, row: Row, values: Mapping[str, Any]) -> Row:
    """A row's change as `_update` takes it."""
    before = {f"was_{name}": row[name] for name in _sealed(table)}
    return {"of_row": row["id"]} | before | {f"new_{name}": value for name, value in values.items()}


@cache
def _update(table: Table) -> Update:
    """Write what stands in one row, if what stood there still does. A hash is made of its text on the way."""
    kept = {name: type_.impl_instance for name, type_ in _sealed(table).items()}
    same = [_kept(table.c[name]) == bindparam(f"was_{name}", type_=type_) for name, type_ in kept.items()]
    types: dict[str, TypeEngine[Any]] = {**kept, **{name: table.c[name].type for name in _hashes(table)}}
    return (
        update(table)
        .where(_key_of(table) == bindparam("of_row"), *same)
        .values({name: bindparam(f"new_{name}", type_=type_) for name, type_ in types.items()})
    )


def _keep_place(session: Session, name: str, values: Row) -> None:
    passes = table_of(ResealingPass)
    kept = session.execute(passes.update().where(passes.c.sealed_table == name).values(**values))
    if not kept.rowcount:  # type: ignore[attr-defined]
        session.execute(passes.insert().values(sealed_table=name, **values))
