"""0025 hidden index: whether a pass has hidden what the search index hides. Adds a column only.

A job makes the index of what is old anew. Older code, which finds nothing that is hidden, runs beside while
`database.seals` is off; on the way back it makes its own index (`cloudfilm records reindex`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0025_hidden_index"
down_revision = "0024_sealed_documents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: a pass that was over begins anew."""
    op.add_column(
        "sealing_pass", sa.Column("is_indexed", sa.Boolean, nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("sealing_pass") as sealing_pass:
        sealing_pass.drop_column("is_indexed")
