"""0005 nodes: further addresses, and limits of what is sent. Adds columns only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0005_nodes"
down_revision = "0004_reconciliation"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("node") as node:
        node.add_column(sa.Column("alternates", sa.Text(), nullable=False, server_default=""))
        node.add_column(sa.Column("max_sending", sa.Integer(), nullable=False, server_default="0"))
        node.add_column(sa.Column("max_bytes_per_s", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("node") as node:
        node.drop_column("max_bytes_per_s")
        node.drop_column("max_sending")
        node.drop_column("alternates")
