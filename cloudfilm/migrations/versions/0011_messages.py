"""0011 messages: accession counters, sequence numbers, continued answers. Older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0011_messages"
down_revision = "0010_storage_care"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "accession_counter",
        sa.Column("prefix", sa.String(64), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_accession_counter")),
    )
    op.create_table(
        "hl7_sequence",
        sa.Column("sender", sa.String(200), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sender", name=op.f("pk_hl7_sequence")),
    )
    op.create_table(
        "hl7_continuation",
        sa.Column("pointer", sa.String(64), nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("patients", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pointer", name=op.f("pk_hl7_continuation")),
    )
    op.create_index("ix_hl7_continuation_at", "hl7_continuation", ["at"])


def downgrade() -> None:
    """Remove them; the numbers start anew."""
    op.drop_table("hl7_continuation")
    op.drop_table("hl7_sequence")
    op.drop_table("accession_counter")
