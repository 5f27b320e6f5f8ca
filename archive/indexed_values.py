"""Values that are searched for and have no column of their own: plain ones and those within sequences.

One row for each value, by path (`00400275.00400009`); which paths there are stands in `archive.keys`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, ForeignKey, Index, String, insert
from sqlalchemy.orm import Mapped, mapped_column

from archive.folding import fold, fold_name
from archive.keys import NAME_PATHS
from archive.model import BigKey
from kernel.database import Base, table_of
from kernel.veiled_text import Name, TextOrName
from kernel.writes import write_all

MOST_VALUES = 50  # of one path that are kept


class IndexedValue(Base):
    """A searched value of a study, a series or an instance."""

    __tablename__ = "indexed_value"
    __table_args__ = (
        Index("ix_indexed_value", "path", "value"),
        Index("ix_indexed_value_study", "study_id"),
        Index("ix_indexed_value_series", "series_id"),
        Index("ix_indexed_value_instance", "instance_id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(BigKey, ForeignKey("study.id", ondelete="CASCADE"))
    series_id: Mapped[int | None] = mapped_column(
        BigKey, ForeignKey("series.id", ondelete="CASCADE"), default=None
    )
    instance_id: Mapped[int | None] = mapped_column(
        BigKey, ForeignKey("instance.id", ondelete="CASCADE"), default=None
    )
    path: Mapped[str] = mapped_column(String(64))
    value: Mapped[str] = mapped_column(TextOrName(200))  # folded


ADD_VALUES = insert(table_of(IndexedValue))


def values_at(attributes: dict[str, Any], path: str) -> Iterator[str]:
    """The values of an attribute at a path, folded as they are compared."""
    tag, _, rest = path.partition(".")
    for value in attributes.get(tag, {}).get("Value", ()):
        if rest:
            if isinstance(value, dict):
                yield from values_at(value, rest)
        elif isinstance(value, dict):
            yield from (fold_name(str(group)) for group in value.values())
        elif value is not None:
            yield fold(str(value))


def rows_of(
    attributes: dict[str, Any],
    paths: tuple[str, ...],
    study_id: int,
    series_id: int | None = None,
    instance_id: int | None = None,
) -> list[dict[str, Any]]:
    """The rows of a new study, series or instance, of what an instance says."""
    return [
        {
            "study_id": study_id,
            "series_id": series_id,
            "instance_id": instance_id,
            "path": path,
            "value": Name(value) if path in NAME_PATHS else value,
        }
        for path in paths
        if path[:8] in attributes
        for value in sorted({each[:200] for each in values_at(attributes, path)})[:MOST_VALUES]
    ]


def write_rows(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, if there are any."""
    write_all(connection, [(ADD_VALUES, rows)])
