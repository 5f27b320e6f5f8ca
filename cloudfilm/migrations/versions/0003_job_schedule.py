"""0003 job schedule: when each periodic job is due next. Adds a table only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0003_job_schedule"
down_revision = "0002_site_documents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_schedule",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("due", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_schedule")),
    )


def downgrade() -> None:
    op.drop_table("job_schedule")
