"""0015 removals: what was taken out and can be brought back. Adds tables only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0015_removals"
down_revision = "0014_indexed_values"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _uid() -> sa.String:
    return sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "removal",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", _uid(), nullable=False),
        sa.Column("series_instance_uid", _uid(), nullable=False),
        sa.Column("sop_instance_uid", _uid(), nullable=False),
        sa.Column("patient_logical_id", sa.String(64), nullable=False),
        sa.Column("institution", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("removed_by", sa.String(64), nullable=False),
        sa.Column("removed_at", UtcDateTime(), nullable=False),
        sa.Column("purge_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("end", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removal")),
    )
    op.create_index("ix_removal_open", "removal", ["purge_at", "ended_at"])
    op.create_index("ix_removal_study_instance_uid", "removal", ["study_instance_uid"])
    op.create_table(
        "removed_instance",
        sa.Column("id", BIG, nullable=False),
        sa.Column("removal_id", sa.String(64), nullable=False),
        sa.Column("sop_instance_uid", _uid(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("md5", sa.LargeBinary(16), nullable=False),
        sa.Column("blob_key", sa.String(160), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["removal_id"], ["removal.id"], name=op.f("fk_removed_instance_removal_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removed_instance")),
    )
    op.create_index("ix_removed_instance_removal", "removed_instance", ["removal_id"])
    op.create_index("ix_removed_instance_blob", "removed_instance", ["blob_key"])
    op.create_index("ix_removed_instance_uid", "removed_instance", ["sop_instance_uid"])


def downgrade() -> None:
    """Remove both tables."""
    op.drop_table("removed_instance")
    op.drop_table("removal")
