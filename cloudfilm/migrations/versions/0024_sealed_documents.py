"""0024 sealed documents: how far those from before there was sealing were sealed. Adds a table only.

What is written is sealed from then on, and a job seals what is old. Older code reads documents in clear only:
while it runs beside, `database.seals` is off. On the way back every document is put in clear again.
"""

import sqlalchemy as sa
from alembic import context, op

from records.sealing import open_documents

revision = "0024_sealed_documents"
down_revision = "0023_sorted_dates"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "sealing_pass",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("sealed_to", sa.BigInteger, nullable=False),
        sa.Column("is_done", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sealing_pass")),
    )


def downgrade() -> None:
    """Open the documents, and remove the table."""
    open_documents(op.get_bind(), context.config.attributes.get("keys"))
    op.drop_table("sealing_pass")
