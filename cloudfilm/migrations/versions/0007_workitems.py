"""0007 workitems: scheduled and performed steps, their subscribers, storage commitment requests. Adds tables
only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0007_workitems"
down_revision = "0006_terminology"
branch_labels = None
depends_on = None

BigKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text_key(length: int) -> sa.String:
    """A searched text, compared by code point on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "workitem",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("sop_instance_uid", text_key(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("on_worklist", sa.Boolean(), nullable=False),
        sa.Column("service_request_id", sa.String(64), nullable=True),
        sa.Column("institution", sa.String(32), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("patient_logical_id", sa.String(64), nullable=False),
        sa.Column("patient_id", text_key(64), nullable=False),
        sa.Column("accession_number", text_key(64), nullable=False),
        sa.Column("study_instance_uid", text_key(64), nullable=False),
        sa.Column("step_id", text_key(64), nullable=False),
        sa.Column("modality", text_key(16), nullable=False),
        sa.Column("stations", sa.Text(), nullable=False),
        sa.Column("scheduled_date", sa.Date(), nullable=True),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_workitem_sop_instance_uid")),
        sa.UniqueConstraint("service_request_id", name=op.f("uq_workitem_service_request_id")),
    )
    op.create_index("ix_workitem_open", "workitem", ["state", "on_worklist", "scheduled_date", "id"])
    for column in (
        "patient_logical_id", "patient_id", "accession_number", "study_instance_uid", "step_id", "ended_at",
    ):  # fmt: skip
        op.create_index(op.f(f"ix_workitem_{column}"), "workitem", [column])
    op.create_table(
        "performed_step",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("sop_instance_uid", text_key(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("institution", sa.String(32), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_performed_step")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_performed_step_sop_instance_uid")),
    )
    op.create_table(
        "performed_step_study",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("performed_step_id", BigKey, nullable=False),
        sa.Column("study_instance_uid", text_key(64), nullable=False),
        sa.Column("workitem_id", BigKey, nullable=True),
        sa.ForeignKeyConstraint(
            ["performed_step_id"],
            ["performed_step.id"],
            name=op.f("fk_performed_step_study_performed_step_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["workitem_id"],
            ["workitem.id"],
            name=op.f("fk_performed_step_study_workitem_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_performed_step_study")),
        sa.UniqueConstraint(
            "performed_step_id",
            "study_instance_uid",
            "workitem_id",
            name=op.f("uq_performed_step_study_performed_step_id_study_instance_uid_workitem_id"),
        ),
    )
    for column in ("study_instance_uid", "workitem_id"):
        op.create_index(op.f(f"ix_performed_step_study_{column}"), "performed_step_study", [column])
    op.create_table(
        "workitem_subscriber",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("well_known_uid", sa.String(64), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("reach", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem_subscriber")),
        sa.UniqueConstraint(
            "ae_title", "well_known_uid", name=op.f("uq_workitem_subscriber_ae_title_well_known_uid")
        ),
    )
    op.create_table(
        "workitem_subscription",
        sa.Column("workitem_id", BigKey, nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workitem_id"],
            ["workitem.id"],
            name=op.f("fk_workitem_subscription_workitem_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workitem_id", "ae_title", name=op.f("pk_workitem_subscription")),
    )
    op.create_index(op.f("ix_workitem_subscription_ae_title"), "workitem_subscription", ["ae_title"])
    op.create_table(
        "commitment",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("transaction_uid", text_key(64), nullable=False),
        sa.Column("institution", sa.String(32), nullable=False),
        sa.Column("referenced", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "ae_title", "transaction_uid", name=op.f("uq_commitment_ae_title_transaction_uid")
        ),
    )


def downgrade() -> None:
    """Drop them."""
    for table in (
        "commitment", "workitem_subscription", "workitem_subscriber", "performed_step_study",
        "performed_step", "workitem",
    ):  # fmt: skip
        op.drop_table(table)
