"""0028 sealed answers: DICOM JSON of studies, series, instances and workitems is sealed. Changes no table.

What is written is sealed from then on, and a job seals what is old. Older code reads it in clear only: while
it runs beside, `database.seals` is off. On the way back all of it is put in clear again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op

from kernel.resealing import open_columns
from kernel.sealed_values import SealedBytes, SealedText

revision = "0028_sealed_answers"
down_revision = "0027_hidden_words"
branch_labels = None
depends_on = None

DOCUMENTS = ("study", "series", "instance", "workitem", "performed_step")
TEXTS = {"workitem_subscriber": ("filter", sa.BigInteger()), "removal": ("comment", sa.String())}


def upgrade() -> None:
    """Nothing: what is in clear passes."""


def downgrade() -> None:
    """Open the documents and texts."""
    for name in DOCUMENTS:
        _open(name, sa.BigInteger(), sa.Column("attributes", SealedBytes(f"{name}.attributes")))
    for name, (text, key) in TEXTS.items():
        _open(name, key, sa.Column(text, SealedText(f"{name}.{text}")))


def _open(name: str, key: Any, sealed: sa.Column[Any]) -> None:
    table = sa.Table(name, sa.MetaData(), sa.Column("id", key, primary_key=True), sealed)
    open_columns(op.get_bind(), context.config.attributes.get("keys"), table)
