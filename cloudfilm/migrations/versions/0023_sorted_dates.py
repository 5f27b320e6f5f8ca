"""0023 sorted dates: indexes of dates in the order of answers, with both ends. Older code runs beside it.

A page sorted by a date is read from its index as it is, the newest first as well, and a range of dates is
counted without a look at the rows. Writers wait while they are made: some two seconds for a million studies.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023_sorted_dates"
down_revision = "0022_job_trace"
branch_labels = None
depends_on = None

LATEST: list[str | sa.TextClause] = ["parameter", "high", sa.text("resource_id DESC"), "low"]


def upgrade() -> None:
    """Make the indexes, and remove those whose place they take."""
    op.create_index("ix_index_date_earliest", "index_date", ["parameter", "low", "resource_id", "high"])
    op.create_index("ix_index_date_latest", "index_date", LATEST)
    op.drop_index("ix_index_date_low", table_name="index_date")
    op.drop_index("ix_index_date_high", table_name="index_date")


def downgrade() -> None:
    """As it was."""
    op.create_index("ix_index_date_low", "index_date", ["parameter", "low", "resource_id"])
    op.create_index("ix_index_date_high", "index_date", ["parameter", "high", "resource_id"])
    op.drop_index("ix_index_date_earliest", table_name="index_date")
    op.drop_index("ix_index_date_latest", table_name="index_date")
