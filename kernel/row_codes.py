"""Codes over rows that decide who may do what: one that was changed behind our back shows.

A model that is `Coded` names the columns that count. A row that is added or changed through the ORM gets its
code with the same flush; another program, or a bulk UPDATE, leaves the code behind. Only a row that is as it
was left can be changed, so that no code is ever made over what somebody else wrote. Where older code, which
knows no codes, changes rows as well (`database.seals` is off), a change takes the code away.

GB/T 39786 level 3: integrity of access control information.
"""

import hmac
import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import Connection, String, event, inspect
from sqlalchemy.orm import InstanceState, Mapped, Mapper, mapped_column

from kernel.crypto import KeyRing
from kernel.errors import Unauthenticated
from kernel.sealed_text import sealing_of


class RowChanged(Unauthenticated):
    """A row that decides about access is not as it was left: nothing is decided by it any more."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} was changed outside of cloudfilm and does not count: an administrator has to look at it "
            "and accept it (cloudfilm access accept)."
        )


class Coded:
    """A mapped row with a code."""

    COVERED: ClassVar[tuple[str, ...]]  # columns; the first names the row
    integrity: Mapped[str] = mapped_column(String(64), default="", server_default="")

    @property
    def row_name(self) -> str:
        """What it is called in the trail: `account/zhang`."""
        return f"{self.__tablename__}/{getattr(self, self.COVERED[0])}"  # type: ignore[attr-defined]


def row_code(row: Coded, keys: KeyRing) -> str:
    """The code of a row as it is."""
    return _code(row, {name: getattr(row, name) for name in row.COVERED}, keys)


def is_intact(row: Coded, keys: KeyRing) -> bool:
    """Whether a row is as it was left. One without a code is not."""
    return hmac.compare_digest(row.integrity, row_code(row, keys))


def _code(row: Coded, values: dict[str, Any], keys: KeyRing) -> str:
    table = inspect(type(row)).local_table
    told = {name: _plain(table.c[name], value) for name, value in values.items()}
    return keys.sign(f"row of {table.name} {json.dumps(told, sort_keys=True)}").hex()


def _plain(column: Any, value: Any) -> Any:
    if value is None and column.default is not None and column.default.is_scalar:
        value = column.default.arg  # of a row that is about to be added
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else value


@event.listens_for(Coded, "before_insert", propagate=True)
def _add(_mapper: Mapper[Any], connection: Connection, row: Coded) -> None:
    sealing = sealing_of(connection.dialect)
    row.integrity = row_code(row, sealing.keys) if sealing.seals else ""


@event.listens_for(Coded, "before_update", propagate=True)
def _change(_mapper: Mapper[Any], connection: Connection, row: Coded) -> None:
    state: InstanceState[Any] = inspect(row)
    before = {name: _before(state, name) for name in row.COVERED}
    if all(before[name] == getattr(row, name) for name in row.COVERED):
        return
    sealing = sealing_of(connection.dialect)
    if not sealing.seals:
        row.integrity = ""
    elif row.integrity:  # one without a code gets it from the pass through all of them, or from nobody
        if not hmac.compare_digest(row.integrity, _code(row, before, sealing.keys)):
            raise RowChanged(row.row_name)
        row.integrity = row_code(row, sealing.keys)


def _before(state: InstanceState[Any], name: str) -> Any:
    history = state.attrs[name].load_history()
    found = history.deleted or history.unchanged
    return found[0] if found else None
