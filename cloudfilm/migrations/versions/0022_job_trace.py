"""0022 job trace: the trace a job was caused in. Adds a column with a default; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0022_job_trace"
down_revision = "0021_newest_studies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("trace", sa.String(length=55), nullable=False, server_default=""))


def downgrade() -> None:
    """As it was."""
    with op.batch_alter_table("job") as job:
        job.drop_column("trace")
