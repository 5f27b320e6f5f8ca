"""0006 terminology: loaded code systems, value sets and maps. Adds tables only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime
from records.model import BigKey, text_key

revision = "0006_terminology"
down_revision = "0005_nodes"
branch_labels = None
depends_on = None

DEFINITION = "terminology_definition"


def _of_definition(primary: bool = False) -> sa.Column[int]:
    return sa.Column(
        "definition_id",
        BigKey,
        sa.ForeignKey(f"{DEFINITION}.id", ondelete="CASCADE", name=None),
        primary_key=primary,
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        DEFINITION,
        sa.Column("id", BigKey, primary_key=True),
        sa.Column("kind", text_key(16), nullable=False),
        sa.Column("url", text_key(500), nullable=False),
        sa.Column("version", text_key(64), nullable=False),
        sa.Column("name", text_key(200), nullable=False),
        sa.Column("source", text_key(200), nullable=False),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("concepts", sa.Integer, nullable=False),
        sa.Column("loaded_at", UtcDateTime, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_terminology_definition_url", DEFINITION, ["kind", "url", "version"])
    op.create_table(
        "terminology_concept",
        sa.Column("id", BigKey, primary_key=True),
        _of_definition(),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("code", text_key(200), nullable=False),
        sa.Column("folded_code", text_key(200), nullable=False),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("inactive", sa.Boolean, nullable=False),
        sa.Column("more", sa.Text, nullable=False),
    )
    op.create_index("ix_terminology_concept_code", "terminology_concept", ["definition_id", "code"])
    op.create_index("ix_terminology_concept_folded", "terminology_concept", ["definition_id", "folded_code"])
    op.create_index("ix_terminology_concept_place", "terminology_concept", ["definition_id", "place"])
    op.create_table(
        "terminology_parent",
        _of_definition(primary=True),
        sa.Column("parent", text_key(200), primary_key=True),
        sa.Column("child", text_key(200), primary_key=True),
    )
    op.create_index("ix_terminology_parent_child", "terminology_parent", ["definition_id", "child"])
    op.create_table(
        "terminology_property",
        sa.Column("id", BigKey, primary_key=True),
        _of_definition(),
        sa.Column("property", text_key(100), nullable=False),
        sa.Column("value", text_key(200), nullable=False),
        sa.Column("code", text_key(200), nullable=False),
    )
    op.create_index(
        "ix_terminology_property_value",
        "terminology_property",
        ["definition_id", "property", "value", "code"],
    )
    op.create_table(
        "terminology_mapping",
        sa.Column("id", BigKey, primary_key=True),
        _of_definition(),
        sa.Column("source_system", text_key(500), nullable=False),
        sa.Column("source_code", text_key(200), nullable=False),
        sa.Column("target_system", text_key(500), nullable=False),
        sa.Column("target_code", text_key(200), nullable=False),
        sa.Column("target_display", sa.Text, nullable=False),
        sa.Column("equivalence", text_key(20), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
    )
    op.create_index("ix_terminology_mapping_source", "terminology_mapping", ["source_code", "definition_id"])
    op.create_index("ix_terminology_mapping_target", "terminology_mapping", ["target_code", "definition_id"])
    op.create_index("ix_terminology_mapping_definition", "terminology_mapping", ["definition_id"])
    op.create_table(
        "terminology_closure",
        sa.Column("name", text_key(100), primary_key=True),
        sa.Column("system", text_key(300), primary_key=True),
        sa.Column("code", text_key(200), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    for name in (
        "terminology_closure",
        "terminology_mapping",
        "terminology_property",
        "terminology_parent",
        "terminology_concept",
        DEFINITION,
    ):
        op.drop_table(name)
