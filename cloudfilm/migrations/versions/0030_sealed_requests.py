"""0030 sealed requests: what subscriptions and bulk jobs ask for and for whom, and masked telephone numbers
of visitors, authorized persons and messages, take the room that sealed they need.

What is written is sealed from then on, and jobs seal what is old and hide what the search index shows of
subscriptions. Older code reads it in clear only: while
it runs beside, `database.seals` is off. On the way back all of it is put in clear again.
"""

import sqlalchemy as sa
from alembic import context, op

from kernel.resealing import open_columns
from kernel.sealed_values import SealedText

revision = "0030_sealed_requests"
down_revision = "0029_token_certificate"
branch_labels = None
depends_on = None

LENGTHS = {  # of the columns that had one
    "share_visit": {"visitor": 64},
    "authorized_person": {"masked": 32},
    "outbound_message": {"masked": 64},
}
TEXTS = {
    **LENGTHS,
    "subscription_state": ("criteria", "owner"),
    "bulk_job": ("owner", "request", "asked"),
}
SEALING = sa.table(
    "sealing_pass",
    sa.column("sealed_to", sa.BigInteger),
    sa.column("is_done", sa.Boolean),
    sa.column("is_indexed", sa.Boolean),
)
KEYS = {"subscription_state": "logical_id"}  # that are not called `id`


def upgrade() -> None:
    """Widen the columns; visits are found by who visits. Documents are gone through once more, and so is the
    table that had sealed columns before."""
    for name, lengths in LENGTHS.items():
        with op.batch_alter_table(name) as changed:
            for text, length in lengths.items():
                changed.alter_column(text, type_=sa.Text(), existing_type=sa.String(length))
    op.add_column("share_visit", sa.Column("visitor_index", sa.String(32), nullable=False, server_default=""))
    op.execute(SEALING.update().values(sealed_to=0, is_done=False, is_indexed=False))
    op.execute("DELETE FROM resealing_pass WHERE sealed_table = 'authorized_person'")


def downgrade() -> None:
    """Open the texts, and make the columns as they were."""
    keys = context.config.attributes.get("keys")
    for name, texts in TEXTS.items():
        key = sa.Column(KEYS.get(name, "id"), sa.String(), primary_key=True)
        table = sa.Table(name, sa.MetaData(), key)
        for text in texts:
            table.append_column(sa.Column(text, SealedText(f"{name}.{text}")))
        open_columns(op.get_bind(), keys, table)
    with op.batch_alter_table("share_visit") as visit:
        visit.drop_column("visitor_index")
    for name, lengths in LENGTHS.items():
        with op.batch_alter_table(name) as changed:
            for text, length in lengths.items():
                changed.alter_column(text, type_=sa.String(length), existing_type=sa.Text())
