"""0009 search tables: composite, position and word indexes, custom parameters; versions know their type.

Older code cannot run beside it. `cloudfilm records reindex` makes the new rows of older documents.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009_search_tables"
down_revision = "0008_audit_algorithm"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

INDEXES = (
    ("ix_resource_type", "resource", ["type", "id"]),
    ("ix_index_token_text", "index_token", ["parameter", "text", "resource_id"]),
    ("ix_index_number_high", "index_number", ["parameter", "high", "resource_id"]),
    ("ix_index_reference_identifier", "index_reference", ["parameter", "identifier", "resource_id"]),
)


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _column(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


def _of_resource(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        _column("resource_id", KEY),
        sa.ForeignKeyConstraint(
            ["resource_id"],
            ["resource.id"],
            name=op.f(f"fk_{table}_resource_id"),
            ondelete="CASCADE",
        ),
    )


def upgrade() -> None:
    """Add what search needs, and give every version the type of its resource."""
    op.add_column("resource_version", sa.Column("type", _text(40), nullable=False, server_default=""))
    op.execute("UPDATE resource_version SET type = (SELECT r.type FROM resource r WHERE r.id = resource_id)")
    with op.batch_alter_table("resource_version") as versions:
        versions.alter_column("type", server_default=None)
    op.drop_index("ix_resource_version_at", "resource_version")
    op.create_index("ix_resource_version_at", "resource_version", ["updated_at", "resource_id", "version"])
    op.create_index(
        "ix_resource_version_type", "resource_version", ["type", "updated_at", "resource_id", "version"]
    )
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)
    op.create_table(
        "index_composite",
        _column("parameter", sa.Integer()),
        *(
            _column(name, sa.BigInteger())
            for name in ("first", "first_code", "first_system", "second", "second_code", "second_system")
        ),
        _column("text", _text(200)),
        _column("low", sa.Float(53)),
        _column("high", sa.Float(53)),
        _column("unit", sa.BigInteger()),
        _column("unit_code", sa.BigInteger()),
        _column("third_low", sa.Float(53)),
        _column("third_high", sa.Float(53)),
        *_of_resource("index_composite"),
    )
    op.create_index(
        "ix_index_composite_first", "index_composite", ["parameter", "first", "second", "low", "resource_id"]
    )
    op.create_index(
        "ix_index_composite_code",
        "index_composite",
        ["parameter", "first_code", "second_code", "low", "resource_id"],
    )
    op.create_index("ix_index_composite_resource", "index_composite", ["resource_id", "parameter"])
    op.create_table(
        "index_position",
        _column("parameter", sa.Integer()),
        *(_column(name, sa.Float(53)) for name in ("latitude", "x", "y", "z")),
        *_of_resource("index_position"),
    )
    op.create_index("ix_index_position_latitude", "index_position", ["parameter", "latitude", "resource_id"])
    op.create_index("ix_index_position_resource", "index_position", ["resource_id", "parameter"])
    op.create_table(
        "index_word",
        _column("word", _text(64)),
        _column("in_narrative", sa.Boolean()),
        *_of_resource("index_word"),
    )
    op.create_index("ix_index_word_word", "index_word", ["word", "resource_id"])
    op.create_index("ix_index_word_resource", "index_word", ["resource_id"])
    op.create_table(
        "custom_parameter",
        _column("resource_type", sa.String(40)),
        _column("code", sa.String(64)),
        _column("type", sa.String(16)),
        _column("expression", sa.Text()),
        _column("targets", sa.Text()),
        _column("document", sa.String(64)),
        _column("indexed_to", sa.BigInteger()),
        _column("is_ready", sa.Boolean()),
        _column("revision", sa.Integer()),
        sa.PrimaryKeyConstraint("resource_type", "code", name=op.f("pk_custom_parameter")),
    )
    op.create_index(op.f("ix_custom_parameter_document"), "custom_parameter", ["document"])


def downgrade() -> None:
    """Take it all away again."""
    op.drop_index("ix_resource_version_type", "resource_version")
    op.drop_index("ix_resource_version_at", "resource_version")
    op.create_index("ix_resource_version_at", "resource_version", ["updated_at"])
    with op.batch_alter_table("resource_version") as versions:
        versions.drop_column("type")
    for table in ("custom_parameter", "index_word", "index_position", "index_composite"):
        op.drop_table(table)
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
