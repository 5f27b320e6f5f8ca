"""0020 indexed version: for which paths a study's searched values were made. Adds a column only; older code
runs beside it, and what it stores is indexed anew."""

import sqlalchemy as sa
from alembic import op

revision = "0020_indexed_version"
down_revision = "0019_non_patient"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: every study that is there is indexed anew, by a job."""
    op.add_column("study", sa.Column("indexed_version", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_study_indexed", "study", ["indexed_version", "id"])


def downgrade() -> None:
    """Remove it."""
    op.drop_index("ix_study_indexed", "study")
    op.drop_column("study", "indexed_version")
