"""0019 non-patient instances: what no patient has, such as hanging protocols. Adds tables only; older code
runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0019_non_patient"
down_revision = "0018_subscriptions"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "non_patient_instance",
        sa.Column("id", BIG, nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("sop_instance_uid", _text(64), nullable=False),
        sa.Column("sop_class_uid", _text(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("institution", sa.String(32), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("md5", sa.LargeBinary(16), nullable=False),
        sa.Column("blob_key", sa.String(160), nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
        sa.Column("bulk", sa.Text, nullable=False),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("door", sa.String(16), nullable=False),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.Column("removed_at", UtcDateTime, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_non_patient_instance")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_non_patient_instance_sop_instance_uid")),
    )
    op.create_index("ix_non_patient_category", "non_patient_instance", ["category", "id"])
    op.create_index("ix_non_patient_blob", "non_patient_instance", ["blob_key"])
    op.create_table(
        "non_patient_value",
        sa.Column("id", BIG, nullable=False),
        sa.Column("instance_id", BIG, nullable=False),
        sa.Column("path", sa.String(64), nullable=False),
        sa.Column("value", _text(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["non_patient_instance.id"], name=op.f("fk_non_patient_value_instance_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_non_patient_value")),
    )  # fmt: skip
    op.create_index("ix_non_patient_value", "non_patient_value", ["path", "value"])
    op.create_index("ix_non_patient_value_instance", "non_patient_value", ["instance_id"])


def downgrade() -> None:
    """Remove the tables; what they name becomes stray and is swept."""
    op.drop_table("non_patient_value")
    op.drop_table("non_patient_instance")
