"""0027 hidden words: keyed hashes of the words of documents. Adds a table only; older code runs beside it.

A job moves the words that are there in clear; until it is done both are searched. Older code, which finds
nothing that is hidden, runs beside while `database.seals` is off; on the way back it makes its own index
(`cloudfilm records reindex`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0027_hidden_words"
down_revision = "0026_sealed_names"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "index_hidden_word",
        sa.Column("word", sa.BigInteger, nullable=False),
        sa.Column("in_narrative", sa.Boolean, nullable=False),
        sa.Column("resource_id", key, nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"],
            ["resource.id"],
            name=op.f("fk_index_hidden_word_resource_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_index_hidden_word_word", "index_hidden_word", ["word", "resource_id"])
    op.create_index("ix_index_hidden_word_resource", "index_hidden_word", ["resource_id"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("index_hidden_word")
