"""0010 storage care: tiers of studies, scrubbing, damaged objects, backups, when a job was queued. Adds
only; older code runs beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0010_storage_care"
down_revision = "0009_search_tables"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("study") as study:
        study.add_column(sa.Column("tier", sa.String(length=16), nullable=False, server_default=""))
    op.create_index("ix_study_tier", "study", ["tier", "created_at"])
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("queued_at", UtcDateTime(), nullable=True))
    op.create_table(
        "scrub_round",
        sa.Column("naming", sa.String(length=16), nullable=False),
        sa.Column("last_id", KEY, nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("checked", KEY, nullable=False),
        sa.Column("mended", KEY, nullable=False),
        sa.PrimaryKeyConstraint("naming", name=op.f("pk_scrub_round")),
    )
    op.create_table(
        "damaged_object",
        sa.Column("blob_key", sa.String(length=160), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("found_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("blob_key", name=op.f("pk_damaged_object")),
    )
    op.create_table(
        "backup_run",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("good", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup_run")),
    )
    op.create_index(op.f("ix_backup_run_began_at"), "backup_run", ["began_at"])


def downgrade() -> None:
    op.drop_table("backup_run")
    op.drop_table("damaged_object")
    op.drop_table("scrub_round")
    with op.batch_alter_table("job") as job:
        job.drop_column("queued_at")
    op.drop_index("ix_study_tier", table_name="study")
    with op.batch_alter_table("study") as study:
        study.drop_column("tier")
