"""0012 renditions: other forms of instances, kept beside them. Adds a table; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0012_renditions"
down_revision = "0011_messages"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "rendition",
        sa.Column("id", BIG, nullable=False),
        sa.Column("instance_id", BIG, nullable=False),
        sa.Column("form", sa.String(64), nullable=False),
        sa.Column("blob_key", sa.String(160), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_rendition_instance_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rendition")),
        sa.UniqueConstraint("instance_id", "form", name=op.f("uq_rendition_instance_id_form")),
    )
    op.create_index("ix_rendition_blob", "rendition", ["blob_key"])


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("rendition")
