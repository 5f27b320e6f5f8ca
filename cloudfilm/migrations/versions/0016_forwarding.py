"""0016 forwarding: studies on their way to other nodes. Adds a table only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0016_forwarding"
down_revision = "0015_removals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forwarding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due", UtcDateTime(), nullable=False),
        sa.Column("until_instance", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forwarding")),
        sa.UniqueConstraint("study_instance_uid", "node", name=op.f("uq_forwarding_study_instance_uid_node")),
    )
    op.create_index("ix_forwarding_waiting", "forwarding", ["node", "state", "due"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_forwarding_waiting", table_name="forwarding")
    op.drop_table("forwarding")
