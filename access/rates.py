"""Limits of how often: atomic counters in the database, so that many processes and parallel requests share
one count.

A window is a slice of time that begins at a multiple of its length; a counter that is over is swept.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from access.grant_model import RateCounter
from access.tokens import Access
from kernel.database import table_of
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job

_SWEEP_EVERY = timedelta(hours=1)


class TooOften(CloudfilmError):
    """A limit was reached; whether what was asked for exists is not said."""

    kind = Kind.TOO_MANY

    def __init__(self) -> None:
        super().__init__("This was asked for too often. Wait a while and try again.")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of something within `seconds`."""

    most: int
    seconds: int


def count_up(session: Session, now: datetime, name: str, limit: Limit) -> int:
    """Count one more and return the count, within the caller's transaction."""
    window = int(now.timestamp()) // limit.seconds
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table_of(RateCounter)).values(
        name=f"{name} {limit.seconds}",
        window=window,
        count=1,
        expires_at=datetime.fromtimestamp((window + 1) * limit.seconds, UTC),
    )
    counted = statement.on_conflict_do_update(
        index_elements=["name", "window"], set_={"count": RateCounter.count + 1}
    ).returning(RateCounter.count)
    return int(session.execute(counted).scalar_one())


def within_limits(session: Session, now: datetime, name: str, *limits: Limit) -> bool:
    """Count one more under each limit; whether all of them still hold."""
    counts = [count_up(session, now, name, limit) for limit in limits]  # every one, whatever the others say
    return all(count <= limit.most for count, limit in zip(counts, limits, strict=True))


@job(every=_SWEEP_EVERY)
def sweep_counters(access: Access) -> None:
    """Remove counters whose window is over."""
    with access.database.transaction() as session:
        session.execute(delete(RateCounter).where(RateCounter.expires_at < access.clock.now()))
