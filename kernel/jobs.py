"""Jobs: function calls that happen later, in a worker, and may happen twice.

A job is declared beside its function and queued through a row written in the transaction that causes it,
so neither a crash nor a lost queue loses one. Arguments are names of things, not the things. A worker
claims a row for a while, runs the function, and deletes the row; a job that fails waits longer each time and
after its last try is kept as dead, with its error, until somebody looks.
"""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    BigInteger,
    Index,
    Integer,
    String,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from kernel.clock import Clock
from kernel.database import Base, Database, UtcDateTime, table_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

LEASE = timedelta(minutes=15)  # a job whose worker died is free again after this


class JobRow(Base):
    """One call that waits, runs or is dead."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_due", "dead", "queue", "due"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    queue: Mapped[str] = mapped_column(String(32))
    arguments: Mapped[str] = mapped_column(Text)
    due: Mapped[datetime] = mapped_column(UtcDateTime)
    tries: Mapped[int] = mapped_column(default=0)
    dead: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str] = mapped_column(Text, default="")
    key: Mapped[str | None] = mapped_column(
        String(192), unique=True, default=None
    )  # at most one waits per key


@dataclass(frozen=True, slots=True)
class Job:
    """What a function declares about its running as a job."""

    name: str
    function: Callable[..., None]
    queue: str
    retries: int
    every: timedelta | None  # also run by itself, this often


def job(
    queue: str = "default", retries: int = 3, every: timedelta | None = None
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Declare a function as a job. Its first parameter is the bundle of its room; the rest are names."""

    def declare(function: Callable[P, None]) -> Callable[P, None]:
        name = f"{function.__module__}.{function.__qualname__}"
        function.__job__ = Job(name, function, queue, retries, every)  # type: ignore[attr-defined]
        return function

    return declare


def declared(function: Callable[..., None]) -> Job:
    """The declaration of a job function. Raises TypeError for a function that is none."""
    found = getattr(function, "__job__", None)
    if not isinstance(found, Job):
        raise TypeError(f"{function.__qualname__} is not declared with @job")
    return found


_QUEUE = insert(table_of(JobRow))  # built once: a job is queued, or put off, in every ingest
_PUT_OFF = update(table_of(JobRow)).where(JobRow.key == bindparam("waiting")).values(due=bindparam("later"))


def enqueue(
    session: Session,
    clock: Clock,
    function: Callable[..., None],
    *arguments: Any,
    delay_s: float = 0,
    key: str = "",
) -> None:
    """Queue a call within the caller's transaction.

    key: with one, a call already waiting under it is put off to the new time instead of queued twice.
    """
    declaration = declared(function)
    due = clock.now() + timedelta(seconds=delay_s)
    connection = session.connection()
    if key and connection.execute(_PUT_OFF, {"waiting": key, "later": due}).rowcount:
        return
    connection.execute(
        _QUEUE,
        {
            "name": declaration.name,
            "queue": declaration.queue,
            "arguments": json.dumps(arguments),
            "due": due,
            "tries": 0,
            "dead": False,
            "error": "",
            "key": key or None,
        },
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """Runs jobs from the table. `jobs` maps a job's name to it; `bundles`, a parameter type to its bundle."""

    database: Database
    clock: Clock
    jobs: Mapping[str, Job]
    bind: Callable[[Job], Any]  # the bundle that a job's first parameter wants

    def run_one(self) -> bool:
        """Claim and run one due job. Returns whether there was one."""
        claimed = self._claim()
        if claimed is None:
            return False
        row_id, name, arguments, tries, due = claimed
        found = self.jobs.get(name)
        try:
            if found is None:
                raise LookupError(f"no job is called {name}")
            found.function(self.bind(found), *json.loads(arguments))
        except Exception as failure:
            log.warning("job %s failed (try %d): %s", name, tries, type(failure).__name__)
            self._failed(row_id, tries, found.retries if found else 0, traceback.format_exc())
        else:
            with self.database.transaction() as session:  # unless it was put off again meanwhile
                session.execute(delete(JobRow).where(JobRow.id == row_id, JobRow.due == due))
        return True

    def _claim(self) -> tuple[int, str, str, int, datetime] | None:
        now = self.clock.now()
        with self.database.snapshot() as session:
            if session.scalar(select(JobRow.id).where(~JobRow.dead, JobRow.due <= now).limit(1)) is None:
                return None
        with self.database.transaction() as session:
            row = session.scalar(
                select(JobRow)
                .where(~JobRow.dead, JobRow.due <= now)
                .order_by(JobRow.due)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            if row is None:
                return None
            row.tries += 1
            row.due = now + LEASE
            return row.id, row.name, row.arguments, row.tries, row.due

    def _failed(self, row_id: int, tries: int, retries: int, error: str) -> None:
        with self.database.transaction() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == row_id)
                .values(
                    dead=tries > retries,
                    key=None if tries > retries else JobRow.key,
                    error=error[-4000:],
                    due=self.clock.now() + timedelta(seconds=min(3600, 5 * 4 ** (tries - 1))),
                )
            )
