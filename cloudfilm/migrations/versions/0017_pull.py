"""0017 pull: history pulled from an old archive, and how it compares. Adds tables only; older code runs
beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0017_pull"
down_revision = "0016_forwarding"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "pull",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("node", sa.String(length=16), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("hours", sa.String(length=16), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pull")),
    )
    op.create_table(
        "pull_slice",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("pull_id", sa.Integer(), nullable=False),
        sa.Column("first", sa.Date(), nullable=False),
        sa.Column("last", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pull_id"], ["pull.id"], name=op.f("fk_pull_slice_pull_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pull_slice")),
    )
    op.create_index("ix_pull_slice_state", "pull_slice", ["pull_id", "state"], unique=False)
    op.create_table(
        "pull_study",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("pull_id", sa.Integer(), nullable=False),
        sa.Column("slice_id", BIG_KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("theirs", sa.Integer(), nullable=False),
        sa.Column("ours", sa.Integer(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pull_id"], ["pull.id"], name=op.f("fk_pull_study_pull_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["slice_id"], ["pull_slice.id"], name=op.f("fk_pull_study_slice_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pull_study")),
        sa.UniqueConstraint(
            "pull_id", "study_instance_uid", name=op.f("uq_pull_study_pull_id_study_instance_uid")
        ),
    )
    op.create_index("ix_pull_study_state", "pull_study", ["pull_id", "state"], unique=False)


def downgrade() -> None:
    op.drop_table("pull_study")
    op.drop_table("pull_slice")
    op.drop_table("pull")
