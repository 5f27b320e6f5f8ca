"""0014 indexed values: searched values within sequences. Adds a table only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0014_indexed_values"
down_revision = "0013_sharing"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "indexed_value",
        sa.Column("id", BIG, nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("series_id", BIG, nullable=True),
        sa.Column("instance_id", BIG, nullable=True),
        sa.Column("path", sa.String(64), nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_indexed_value_study_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_indexed_value_series_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_indexed_value_instance_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_indexed_value")),
    )
    op.create_index("ix_indexed_value", "indexed_value", ["path", "value"])
    op.create_index("ix_indexed_value_study", "indexed_value", ["study_id"])
    op.create_index("ix_indexed_value_series", "indexed_value", ["series_id"])
    op.create_index("ix_indexed_value_instance", "indexed_value", ["instance_id"])


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("indexed_value")
