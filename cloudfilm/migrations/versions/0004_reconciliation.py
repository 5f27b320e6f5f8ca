"""0004 reconciliation: studies beside orders, and what moved between patients. Older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0004_reconciliation"
down_revision = "0003_job_schedule"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "study_comparison",
        sa.Column("id", BIG, nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("patient_logical_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("compared_at", UtcDateTime(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("decided_by", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_study_comparison_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_comparison")),
        sa.UniqueConstraint("study_id", "source", name=op.f("uq_study_comparison_study_id_source")),
    )
    op.create_index("ix_study_comparison_source", "study_comparison", ["source"])
    op.create_index("ix_study_comparison_state", "study_comparison", ["state", "id"])
    op.create_table(
        "patient_move",
        sa.Column("id", BIG, nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("from_patient", sa.String(64), nullable=False),
        sa.Column("to_patient", sa.String(64), nullable=False),
        sa.Column("cause", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("undone_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_move")),
    )
    op.create_index("ix_patient_move_cause", "patient_move", ["cause"])
    op.create_index("ix_patient_move_subject", "patient_move", ["subject"])


def downgrade() -> None:
    """Remove both tables."""
    op.drop_table("patient_move")
    op.drop_table("study_comparison")
