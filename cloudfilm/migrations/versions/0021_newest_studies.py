"""0021 newest studies: an index in the order of an answer on PostgreSQL. Older code runs beside it.

A study without a date comes last, which PostgreSQL reads from an index only when it was told so at its
making. Writers wait while it is made: some two seconds for a million studies.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021_newest_studies"
down_revision = "0020_indexed_version"
branch_labels = None
depends_on = None

NEWEST = [sa.text("study_date DESC NULLS LAST"), sa.text("study_time DESC"), sa.text("id DESC")]


def upgrade() -> None:
    """Make the index, and remove the one whose place it takes."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_study_newest", "study", NEWEST)
        op.drop_index("ix_study_recent", table_name="study")


def downgrade() -> None:
    """As it was."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ix_study_recent", "study", ["study_date", "study_time", "id"])
        op.drop_index("ix_study_newest", table_name="study")
