"""Space: how much room each store has left, and an alarm in the trail before one is full.

What is full refuses (STOW-RS 507, C-STORE 0xA700) and loses nothing, but nobody should come to that: a job
looks at every store, of arrivals, of the cold tier and of copies, and notes the one that has less room than
`blobs.low_bytes`, once a day. Prometheus has a figure of each store. A bucket has no bound of its own, so its
provider's alarm is the one for it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import system
from access.model import AuditEntry
from archive.blobs.store import BlobStore
from archive.blobs.tiers import TieredStore
from archive.room import Archive
from kernel.jobs import job

ALARM = "alarm Storage"
ONCE_WITHIN = timedelta(days=1)


def room_left(archive: Archive) -> Mapping[str, int]:
    """Bytes that are free, by store; stores without a bound are left out, and those that are away."""
    found: dict[str, int] = {}
    for name, store in _stores(archive):
        try:
            free = store.free_bytes()
        except OSError:
            continue
        if free is not None:
            found[name] = free
    return found


def _stores(archive: Archive) -> Iterator[tuple[str, BlobStore]]:
    yield "main", archive.blobs.store
    if isinstance(archive.blobs.store, TieredStore):
        yield from archive.blobs.store.tiers().items()
    yield from archive.blobs.copies.items()


@job(queue="archive", every=timedelta(minutes=10))
def watch_space(archive: Archive) -> None:
    """Note each store that has little room left."""
    low = {name for name, free in room_left(archive).items() if free < archive.blobs.settings.low_bytes}
    if not low:
        return
    now = archive.clock.now()
    with archive.database.transaction() as session:
        for name in sorted(low - told_of(session, now)):
            note(session, archive.clock, system("space"), ALARM, name, detail="little room is left")


def told_of(session: Session, now: datetime) -> set[str]:
    """The stores that an alarm was noted of within a day."""
    told = select(AuditEntry.subject.distinct()).where(
        AuditEntry.at > now - ONCE_WITHIN, AuditEntry.action == ALARM
    )
    return set(session.scalars(told))
