"""0031 name veil: which form names in searched columns have. Adds a table only; older code runs beside it.

Older code does not know veiled names: they are put in clear before it is started again (`cloudfilm names
unveil`), and the way back is refused until then.
"""

import sqlalchemy as sa
from alembic import op

from kernel.errors import CloudfilmError, Kind

revision = "0031_name_veil"
down_revision = "0030_sealed_requests"
branch_labels = None
depends_on = None


class NamesAreVeiled(CloudfilmError):
    """Older code would neither find nor add to them."""

    kind = Kind.CONFLICT


def upgrade() -> None:
    """One table; without a row names are in clear."""
    op.create_table(
        "name_veil",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("is_veiled", sa.Boolean, nullable=False),
        sa.Column("is_under_way", sa.Boolean, nullable=False),
        sa.Column("rows_of", sa.String(64), nullable=False),
        sa.Column("done_to", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_name_veil")),
    )


def downgrade() -> None:
    """Back, if names are in clear."""
    veil = sa.table("name_veil", sa.column("is_veiled", sa.Boolean), sa.column("is_under_way", sa.Boolean))
    other = sa.select(sa.literal(1)).where(sa.or_(veil.c.is_veiled, veil.c.is_under_way))
    if op.get_bind().execute(other).first() is not None:
        raise NamesAreVeiled("Names in the database are veiled; first run: cloudfilm names unveil")
    op.drop_table("name_veil")
