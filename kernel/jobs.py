"""Jobs: function calls that happen later, in a worker, and may happen twice.

A job is declared beside its function and queued through a row written in the transaction that causes it,
so neither a crash nor a lost queue loses one. Arguments are names of things, not the things. A worker
claims a row for a while, runs the function, and deletes the row; a job that fails waits longer each time and
after its last try is kept as dead, with its error, until somebody looks.
"""

import json
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Index,
    Integer,
    String,
    Text,
    delete,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from kernel.clock import Clock
from kernel.database import Base, Database, UtcDateTime, table_of
from kernel.metrics import JOB_SECONDS, JOBS
from kernel.traces import CONSUMER, span, traceparent

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
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    tries: Mapped[int] = mapped_column(default=0)
    dead: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str] = mapped_column(Text, default="")
    key: Mapped[str | None] = mapped_column(
        String(192), unique=True, default=None
    )  # at most one waits per key
    trace: Mapped[str] = mapped_column(String(55), default="", server_default="")  # traceparent of its cause


@dataclass(frozen=True, slots=True)
class Job:
    """What a function declares about its running as a job."""

    name: str
    function: Callable[..., None]
    queue: str
    retries: int
    every: timedelta | None  # also run by itself, this often
    gives_way: bool = False  # waits while somebody stores
    together: int = 1  # calls that may be made as one, with the arguments of all of them


def job(
    queue: str = "default",
    retries: int = 3,
    every: timedelta | None = None,
    gives_way: bool = False,
    together: int = 1,
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Declare a function as a job. Its first parameter is the bundle of its room; the rest are names."""

    def declare(function: Callable[P, None]) -> Callable[P, None]:
        name = f"{function.__module__}.{function.__qualname__}"
        function.__job__ = Job(name, function, queue, retries, every, gives_way, together)  # type: ignore[attr-defined]
        return function

    return declare


def declared(function: Callable[..., None]) -> Job:
    """The declaration of a job function. Raises TypeError for a function that is none."""
    found = getattr(function, "__job__", None)
    if not isinstance(found, Job):
        raise TypeError(f"{function.__qualname__} is not declared with @job")
    return found


# Built once: a job is queued, or put off, in every ingest.
_QUEUE = {
    name: (begun := dialect.insert(table_of(JobRow))).on_conflict_do_update(
        index_elements=["key"], set_={"due": begun.excluded.due}
    )
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


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
    enqueue_all(session, clock, function, ((key, arguments),), delay_s=delay_s)


def enqueue_all(
    session: Session,
    clock: Clock,
    function: Callable[..., None],
    calls: Sequence[tuple[str, tuple[Any, ...]]],
    *,
    delay_s: float = 0,
) -> None:
    """Queue several calls (key, arguments) of one function, as `enqueue` does each; keys in their order."""
    declaration = declared(function)
    now = clock.now()
    due = now + timedelta(seconds=delay_s)
    connection = session.connection()
    connection.execute(
        _QUEUE[connection.dialect.name],
        [
            {
                "name": declaration.name,
                "queue": declaration.queue,
                "arguments": json.dumps(arguments),
                "due": due,
                "queued_at": now,
                "tries": 0,
                "dead": False,
                "error": "",
                "key": key or None,
                "trace": traceparent(),
            }
            for key, arguments in sorted(calls)
        ],
    )


class ScheduleRow(Base):
    """When a job that runs by itself is due next: one row for a job, whatever the number of workers."""

    __tablename__ = "job_schedule"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    due: Mapped[datetime] = mapped_column(UtcDateTime)


def enqueue_scheduled(database: Database, clock: Clock, jobs: Iterable[Job]) -> None:
    """Queue each job whose period has passed since some worker queued it last."""
    now = clock.now()
    periodic = {job.name: job for job in jobs if job.every}
    with database.snapshot() as session:
        known = {row.name: row.due for row in session.scalars(select(ScheduleRow))}
    if all(name in known and known[name] > now for name in periodic):
        return
    with database.transaction() as session:
        for name, job in periodic.items():
            if job.every is None or known.get(name, now) > now:
                continue
            if name not in known:
                _insert_unless_there(session, name, now)
            taken = session.execute(
                update(ScheduleRow)
                .where(ScheduleRow.name == name, ScheduleRow.due <= now)
                .values(due=now + job.every)
            )
            if taken.rowcount:  # type: ignore[attr-defined]
                enqueue(session, clock, job.function, key=f"every {name}")


def _insert_unless_there(session: Session, name: str, now: datetime) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(table_of(ScheduleRow)).values(name=name, due=now).on_conflict_do_nothing())


@dataclass(slots=True)
class Claim:
    """A job that this worker runs now; nobody else takes it before `due`."""

    id: int
    name: str
    arguments: str
    tries: int
    due: datetime
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """Runs jobs of the table. `jobs` maps a job's name to it; `bind` finds what its first parameter wants.

    is_still: whether nobody stores now, for whom some jobs give way.
    """

    database: Database
    clock: Clock
    jobs: Mapping[str, Job]
    bind: Callable[[Job], Any]
    is_still: Callable[[], bool] = lambda: True

    def run_one(self) -> bool:
        """Claim and run one due job, with those that can be done together with it. Returns whether there was
        one."""
        claims = self.claim(1)
        self._perform_all(claims)
        return bool(claims)

    def claim(self, most: int) -> list[Claim]:
        """Take due jobs for the time of a lease. most: of one, those that can be done together with it come
        as well."""
        now = self.clock.now()
        due: tuple[ColumnElement[bool], ...] = (~JobRow.dead, JobRow.due <= now)
        with self.database.snapshot() as session:
            if session.scalar(select(JobRow.id).where(*due).limit(1)) is None:
                return []
            waiting = [name for name, job in self.jobs.items() if job.gives_way]
            if waiting and not self.is_still():
                due = (*due, JobRow.name.not_in(waiting))
                if session.scalar(select(JobRow.id).where(*due).limit(1)) is None:
                    return []
        with self.database.transaction() as session:
            rows = session.scalars(
                select(JobRow).where(*due).order_by(JobRow.due).limit(most).with_for_update(skip_locked=True)
            ).all()
            if most == 1 and rows:
                rows = [*rows, *self._mates(session, rows[0])]
            for row in rows:
                row.tries += 1
                row.due = now + LEASE
            return [Claim(row.id, row.name, row.arguments, row.tries, row.due, row.trace) for row in rows]

    def _mates(self, session: Session, row: JobRow) -> Sequence[JobRow]:
        """Other due calls of the same job, as many as can be made together with this one."""
        found = self.jobs.get(row.name)
        if found is None or found.together == 1:
            return []
        return session.scalars(
            select(JobRow)
            .where(~JobRow.dead, JobRow.due <= self.clock.now(), JobRow.name == row.name, JobRow.id != row.id)
            .order_by(JobRow.due)
            .limit(found.together - 1)
            .with_for_update(skip_locked=True)
        ).all()

    def claimed(self, row_id: int, tries: int) -> Claim | None:
        """A job that was claimed for somebody else to run, unless it has been claimed again since."""
        with self.database.snapshot() as session:
            row = session.get(JobRow, row_id)
            if row is None or row.dead or row.tries != tries:
                return None
            return Claim(row.id, row.name, row.arguments, row.tries, row.due, row.trace)

    def _perform_all(self, claims: Sequence[Claim]) -> None:
        """Run calls of one job as one; where that fails each by itself, which shows whose failure it is."""
        if len(claims) > 1:
            found = self.jobs[claims[0].name]
            arguments = [argument for claim in claims for argument in json.loads(claim.arguments)]
            began = time.monotonic()
            try:
                with self._held(claims), span(f"job {found.name}", CONSUMER, claims[0].trace):
                    found.function(self.bind(found), *arguments)
            except Exception as failure:
                log.info("%d calls of %s are made one by one: %s", len(claims), found.name, failure)
            else:
                JOBS.labels(found.name, "done").inc(len(claims))
                JOB_SECONDS.labels(found.name).observe(time.monotonic() - began)
                self._done(claims)
                return
        for claim in claims:
            self.perform(claim)

    def perform(self, claim: Claim) -> None:
        """Run a job, holding on to its lease while it runs; then delete its row, or put it off."""
        found = self.jobs.get(claim.name)
        began = time.monotonic()
        try:
            if found is None:
                raise LookupError(f"no job is called {claim.name}")
            with self._held([claim]), span(f"job {claim.name}", CONSUMER, claim.trace, job_try=claim.tries):
                found.function(self.bind(found), *json.loads(claim.arguments))
        except Exception as failure:
            log.warning("job %s failed (try %d): %s", claim.name, claim.tries, type(failure).__name__)
            JOBS.labels(claim.name, "failed").inc()
            self._failed(claim, found.retries if found else 0, traceback.format_exc())
        else:
            JOBS.labels(claim.name, "done").inc()
            JOB_SECONDS.labels(claim.name).observe(time.monotonic() - began)
            self._done([claim])

    def _done(self, claims: Sequence[Claim]) -> None:
        """Delete the rows of calls that were made, unless they were put off again meanwhile."""
        with self.database.transaction() as session:
            for claim in claims:
                session.execute(delete(JobRow).where(JobRow.id == claim.id, JobRow.due == claim.due))

    @contextmanager
    def _held(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Renew leases until the block ends, so that a long job is not taken for one whose worker died."""
        ended = threading.Event()

        def renew() -> None:
            held = list(claims)
            while held and not ended.wait(LEASE.total_seconds() / 3):
                until = self.clock.now() + LEASE
                with self.database.transaction() as session:
                    held = [
                        claim
                        for claim in held
                        if session.execute(
                            update(JobRow)
                            .where(JobRow.id == claim.id, JobRow.due == claim.due)
                            .values(due=until)
                        ).rowcount  # type: ignore[attr-defined]
                    ]
                for claim in held:
                    claim.due = until

        renewing = threading.Thread(target=renew, name=f"lease of {claims[0].name}", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()

    def _failed(self, claim: Claim, retries: int, error: str) -> None:
        given_up = claim.tries > retries
        with self.database.transaction() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == claim.id)
                .values(
                    dead=given_up,
                    key=None if given_up else JobRow.key,
                    error=error[-4000:],
                    due=self.clock.now() + timedelta(seconds=min(3600, 5 * 4 ** (claim.tries - 1))),
                )
            )
