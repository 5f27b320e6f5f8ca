"""0018 subscriptions: subscriptions and bulk data. Adds tables only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime
from records.model import BigKey, text_key

revision = "0018_subscriptions"
down_revision = "0017_pull"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "subscription_state",
        sa.Column("logical_id", text_key(64), primary_key=True),
        sa.Column("resource_type", text_key(40), nullable=False),
        sa.Column("criteria", sa.Text, nullable=False),
        sa.Column("topic", text_key(200), nullable=False),
        sa.Column("channel", text_key(16), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("ends_at", UtcDateTime),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failing_since", UtcDateTime),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("ix_subscription_state_type", "subscription_state", ["resource_type"])
    op.create_table(
        "subscription_event",
        sa.Column(
            "logical_id",
            text_key(64),
            sa.ForeignKey("subscription_state.logical_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("number", BigKey, primary_key=True),
        sa.Column("focus", text_key(110), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_subscription_event_at", "subscription_event", ["at"])
    op.create_table(
        "bulk_job",
        sa.Column("id", text_key(40), primary_key=True),
        sa.Column("kind", text_key(8), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("principal", text_key(160), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("state", text_key(12), nullable=False),
        sa.Column("progress", text_key(100), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("made_at", UtcDateTime, nullable=False),
        sa.Column("done_at", UtcDateTime),
    )
    op.create_index("ix_bulk_job_made_at", "bulk_job", ["made_at"])
    op.create_table(
        "bulk_file",
        sa.Column("id", BigKey, primary_key=True),
        sa.Column("job_id", text_key(40), sa.ForeignKey("bulk_job.id", ondelete="CASCADE"), nullable=False),
        sa.Column("resource_type", text_key(40), nullable=False),
        sa.Column("what", text_key(8), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("blob_key", text_key(100), nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_bulk_file_job", "bulk_file", ["job_id"])
    op.create_index("ix_bulk_file_blob", "bulk_file", ["blob_key"])


def downgrade() -> None:
    """Drop them; exports that were made and events that wait are lost."""
    for name in ("bulk_file", "bulk_job", "subscription_event", "subscription_state"):
        op.drop_table(name)
