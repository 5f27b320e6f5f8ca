"""Bring a database schema up to date: the migrations of `cloudfilm/migrations`, run by Alembic."""

from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text

from kernel.crypto import KeyRing
from kernel.database import Database

FOLDER = Path(__file__).parent / "migrations"
LOCK = 7215438  # an advisory lock's number: one migration at a time on PostgreSQL


def migrate(url: str, revision: str = "head") -> tuple[str, str]:
    """Upgrade to a revision, or to the newest. Returns the revision before and after."""
    return _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str, keys: KeyRing | None = None) -> tuple[str, str]:
    """Go back to a revision. keys: for what older code does not know to be sealed.

    Raises DamagedBlob when something is, and there are no keys.
    """
    return _run(url, lambda config: command.downgrade(config, revision), keys)


def _run(url: str, act: object, keys: KeyRing | None = None) -> tuple[str, str]:
    database = Database(url)
    if (
        database.is_sqlite
    ):  # a table that is made anew is dropped first, which would take what refers to it along
        event.listen(database.engine, "connect", _without_foreign_keys)
    try:
        with database.transaction() as session:
            connection = session.connection()
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
            before = current_revision(connection)
            config = Config()
            config.set_main_option("script_location", str(FOLDER))
            config.attributes["connection"] = connection
            config.attributes["keys"] = keys
            act(config)  # type: ignore[operator]
            return before, current_revision(connection)
    finally:
        database.close()


def _without_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys=OFF")


def current_revision(connection: Connection) -> str:
    """The revision that a schema is at, or `nothing`."""
    return MigrationContext.configure(connection).get_current_revision() or "nothing"


def schema_revision(database: Database) -> str:
    """The revision that a database's schema is at."""
    with database.snapshot() as session:
        return current_revision(session.connection())


def expected_revision() -> str:
    """The newest revision that this code knows."""
    return revisions()[0]


def is_usable(revision: str) -> bool:
    """Whether this code can serve on a schema: its own, or one that newer code made.

    A newer one is never named here. Migrations are made so that the code before them goes on beside, and has
    to, until the last machine was restarted.
    """
    return revision != "nothing" and revision not in revisions()[1:]


@cache
def revisions() -> tuple[str, ...]:
    """What this code knows, the newest first."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return tuple(each.revision for each in ScriptDirectory.from_config(config).walk_revisions())
