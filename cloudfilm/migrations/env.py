"""Alembic's entry: runs on the connection, and in the transaction, that `cloudfilm.migrate` hands over."""

from alembic import context

import cloudfilm.models  # noqa: F401 - all tables
from kernel.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
