"""0033 one digest: MD5 of objects is no longer taken as they arrive, and its columns may be empty. Older code
goes on filling them beside; a later release drops them.

On the way back what has none gets an empty one, which is no digest; older code only hands it on. SQLite
copies the tables, a quarter of a minute for 200,000 objects.
"""

import sqlalchemy as sa
from alembic import op

revision = "0033_one_digest"
down_revision = "0032_row_codes"
branch_labels = None
depends_on = None

TABLES = ("instance", "non_patient_instance", "removed_instance")


def upgrade() -> None:
    """Let them be empty."""
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.alter_column("md5", existing_type=sa.LargeBinary(16), nullable=True)


def downgrade() -> None:
    """Fill them, so that none is null."""
    for name in TABLES:
        rows = sa.table(name, sa.column("md5", sa.LargeBinary(16)))
        op.execute(rows.update().where(rows.c.md5.is_(None)).values(md5=b""))
        with op.batch_alter_table(name) as table:
            table.alter_column("md5", existing_type=sa.LargeBinary(16), nullable=False)
