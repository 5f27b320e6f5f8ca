"""0026 sealed names: names of accounts, what shares say of people, and who did what in the audit trail take
the room that sealed they need.

What is written is sealed from then on, and a job seals what is old. Older code reads names in clear only:
while it runs beside, `database.seals` is off. On the way back every name is put in clear again. SQLite copies
the tables, which takes some seconds for a million entries of the trail.
"""

import sqlalchemy as sa
from alembic import context, op

from kernel.resealing import open_columns
from kernel.sealed_values import SealedText

revision = "0026_sealed_names"
down_revision = "0025_hidden_index"
branch_labels = None
depends_on = None

LENGTHS = {  # of the columns that had one
    "account": {"name": 200, "federated": 320},
    "share_grant": {"recipient": 100, "reason": 200, "made_by_name": 200},
    "authorized_person": {"name": 100},
    "audit_entry": {"principal_name": 200},
}
TEXTS = {**LENGTHS, "break_glass": ("reason", "verdict"), "audit_entry": ("principal_name", "detail")}
KEYS = {  # that are no text called `id`
    "break_glass": ("id", sa.Integer()),
    "audit_entry": ("seq", sa.BigInteger()),
}


def upgrade() -> None:
    """Widen the columns; what is looked up gets a keyed hash: who an account is at a hospital's provider, and
    who an entry names."""
    op.create_table(
        "resealing_pass",
        sa.Column("sealed_table", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("sealed_to", sa.String(64), nullable=False),
        sa.Column("is_done", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("sealed_table", name=op.f("pk_resealing_pass")),
    )
    for name, lengths in LENGTHS.items():
        with op.batch_alter_table(name) as changed:
            for text, length in lengths.items():
                changed.alter_column(text, type_=sa.Text(), existing_type=sa.String(length))
    with op.batch_alter_table("account") as account:
        account.add_column(sa.Column("federated_index", sa.String(32), nullable=False, server_default=""))
        account.drop_index("ix_account_federated")
        account.create_index("ix_account_federated_index", ["federated_index"])
    op.add_column(
        "audit_entry", sa.Column("principal_index", sa.String(32), nullable=False, server_default="")
    )


def downgrade() -> None:
    """Open the names, and make the columns as they were."""
    keys = context.config.attributes.get("keys")
    for name, texts in TEXTS.items():
        key, type_ = KEYS.get(name, ("id", sa.String()))
        table = sa.Table(name, sa.MetaData(), sa.Column(key, type_, primary_key=True))
        for text in texts:
            table.append_column(sa.Column(text, SealedText(f"{name}.{text}")))
        open_columns(op.get_bind(), keys, table)
    with op.batch_alter_table("account") as account:
        account.drop_index("ix_account_federated_index")
        account.drop_column("federated_index")
        account.create_index("ix_account_federated", ["federated"])
    with op.batch_alter_table("audit_entry") as trail:
        trail.drop_column("principal_index")
    for name, lengths in LENGTHS.items():
        with op.batch_alter_table(name) as changed:
            for text, length in lengths.items():
                changed.alter_column(text, type_=sa.String(length), existing_type=sa.Text())
    op.drop_table("resealing_pass")
