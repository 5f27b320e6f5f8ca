"""Columns of names, which are veiled on the way in where the database's names are (see `kernel.veil`).

The column's type does it, for a row as for a comparison: an equality needs nothing, a beginning or a pattern
is one of `Asked`. Names in a table of texts of all kinds go in as `Name`, and are compared by `NAME`.
"""

from typing import Any

from sqlalchemy import Dialect, String, TypeDecorator
from sqlalchemy.types import TypeEngine

from kernel.sealed_text import IndexText, sealing_of
from kernel.veil import Asked, Veil


class Name(str):
    """The name of somebody, among texts of other kinds."""

    __slots__ = ()


class VeiledText(TypeDecorator[str]):
    """A name that is searched for, compared by code point on every database; one that is too long is cut."""

    impl = String
    cache_ok = True

    def __init__(self, length: int, inner: bool = False) -> None:
        """inner: ideographs are found from each of them on."""
        super().__init__(length)
        self.length = length
        self.inner = inner

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(self.length, collation=collation))

    @property
    def python_type(self) -> type[str]:
        """What a value is."""
        return str

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database. Raises Unanswerable."""
        if not value:
            return value
        veil = _veil_of(dialect)
        if isinstance(value, Asked):
            return str(value) if veil is None else value.veiled(veil, self.length)
        return value[: self.length] if veil is None else veil.veiled(value, self.length, self.inner)


NAME = VeiledText(200)
"""What names in a table of all kinds of texts are compared by."""


class TextOrName(IndexText):
    """A text in a search index, of which a `Name` is veiled."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        if type(value) is str:  # as most are
            return value
        if isinstance(value, Name):
            return NAME.process_bind_param(str(value), dialect)
        return super().process_bind_param(value, dialect)


def _veil_of(dialect: Dialect) -> Veil | None:
    sealing = sealing_of(dialect)
    return sealing.keys.veil if sealing.veils() else None
