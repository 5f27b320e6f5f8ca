"""0008 audit algorithm: by what the trail is chained. Adds a column only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0008_audit_algorithm"
down_revision = "0007_workitems"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("audit_head") as head:
        head.add_column(sa.Column("algorithm", sa.String(16), nullable=False, server_default="sha256"))


def downgrade() -> None:
    with op.batch_alter_table("audit_head") as head:
        head.drop_column("algorithm")
