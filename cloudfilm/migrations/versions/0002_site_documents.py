"""0002 site documents: the rules move into a table of named documents. Older code cannot run beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0002_site_documents"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and bring the rules over under their own numbers."""
    op.create_table(
        "site_document",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_site_document")),
    )
    op.execute(
        'INSERT INTO site_document (name, version, at, "by", comment, document) '
        "SELECT 'rules', id, at, \"by\", comment, document FROM policy_version"
    )
    op.drop_table("policy_version")


def downgrade() -> None:
    """Give the rules their own table again; other documents are lost."""
    op.create_table(
        "policy_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_version")),
    )
    op.execute(
        'INSERT INTO policy_version (id, at, "by", comment, document) '
        "SELECT version, at, \"by\", comment, document FROM site_document WHERE name = 'rules'"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('policy_version', 'id'), "
            "coalesce((SELECT max(id) FROM policy_version), 0) + 1, false)"
        )
    op.drop_table("site_document")
