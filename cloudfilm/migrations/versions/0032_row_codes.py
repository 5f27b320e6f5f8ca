"""0032 row codes: a code over what decides about access in rows of accounts, clients and nodes. Adds columns
with a default; a job makes the codes of the rows that are there.

Older code changes rows without their codes: while it runs beside, `database.seals` is off.
"""

import sqlalchemy as sa
from alembic import op

revision = "0032_row_codes"
down_revision = "0031_name_veil"
branch_labels = None
depends_on = None

TABLES = ("account", "client", "node")


def upgrade() -> None:
    """Add the columns."""
    for name in TABLES:
        op.add_column(name, sa.Column("integrity", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove them."""
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_column("integrity")
