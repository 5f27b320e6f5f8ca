"""0029 token certificate: by which certificate a session began. Adds a column with a default; older code runs
beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0029_token_certificate"
down_revision = "0028_sealed_answers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("token") as token:
        token.add_column(sa.Column("certificate", sa.String(length=128), nullable=False, server_default=""))


def downgrade() -> None:
    """As it was."""
    with op.batch_alter_table("token") as token:
        token.drop_column("certificate")
