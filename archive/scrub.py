"""Scrubbing: every object is read and proven again and again, and mended from a good copy.

Disks lose bits silently; what is only read in ten years must be found damaged while a good copy still
exists. Each hour a share of the archive is read, so that all of it is proven within `archive.scrub_days`:
every chunk opens and the digest is that of the arrival. What is lost or damaged in one store is written anew
from another; what no store has whole is listed until somebody restores it, and raises an alarm.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import String, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from access.audit import note
from access.caller import Action, Caller, system
from archive.blobs.store import BlobStore, StorageUnavailable
from archive.blobs.tiers import key_in
from archive.blobs.transfer import is_sound, transfer
from archive.kept import NAMING, Kept, kept_after
from archive.model import BigKey
from archive.room import Archive
from kernel.database import Base, UtcDateTime
from kernel.jobs import job

log = logging.getLogger(__name__)

PAGE = 100
MAIN = ""  # how the store that objects arrive in is called among the copies


class ScrubRound(Base):
    """How far the present round over a table's objects is; one row a table."""

    __tablename__ = "scrub_round"

    naming: Mapped[str] = mapped_column(String(16), primary_key=True)  # the table whose rows name the objects
    last_id: Mapped[int] = mapped_column(BigKey, default=0)
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)  # the round before
    checked: Mapped[int] = mapped_column(BigKey, default=0)  # in this round
    mended: Mapped[int] = mapped_column(BigKey, default=0)


class DamagedObject(Base):
    """An object that no store has whole."""

    __tablename__ = "damaged_object"

    blob_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), default="")
    found_at: Mapped[datetime] = mapped_column(UtcDateTime)


@job(queue="archive", every=timedelta(hours=1))
def scrub_share(archive: Archive) -> None:
    """Prove the hour's share of the archive."""
    days = archive.settings.scrub_days
    if days > 0:
        for table in NAMING:
            with archive.database.snapshot() as session:
                newest = session.scalar(select(func.max(NAMING[table].id))) or 0
            scrub(archive, table, int(newest / (days * 24)) + PAGE)


def scrub(archive: Archive, table: str, most: int) -> None:
    """Prove up to `most` objects that a table names, from where the last time ended."""
    done = 0
    while done < most:
        with archive.database.transaction() as session:
            progress = session.get(ScrubRound, table)
            if progress is None:
                progress = ScrubRound(
                    naming=table, last_id=0, began_at=archive.clock.now(), checked=0, mended=0
                )
                session.add(progress)
            last_id = progress.last_id
        with archive.database.snapshot() as session:
            page = kept_after(session, table, last_id, min(PAGE, most - done))
        mended = sum(check_object(archive, kept) for kept in page)
        done += len(page)
        with archive.database.transaction() as session:
            session.execute(
                update(ScrubRound)
                .where(ScrubRound.naming == table)
                .values(
                    last_id=page[-1].id if page else 0,
                    checked=(ScrubRound.checked + len(page)) if page else 0,
                    mended=(ScrubRound.mended + mended) if page else 0,
                    **({} if page else {"began_at": archive.clock.now(), "finished_at": archive.clock.now()}),
                )
            )
        if not page:
            return


def check_object(archive: Archive, kept: Kept) -> int:
    """Prove one object in every store, and mend where it is not sound. Returns how many stores were
    mended."""
    sound: list[tuple[str, BlobStore, str]] = []
    unsound: list[tuple[str, BlobStore, str]] = []
    for name, store, key in _places(archive, kept.key):
        try:
            good = is_sound(store, key, archive.blobs.keys, kept.seal, kept.sha256)
        except StorageUnavailable:
            log.warning("store %s is away; object %s is checked in the next round", name or "main", kept.key)
            continue
        (sound if good else unsound).append((name, store, key))
    mended = 0
    if sound:
        _, source, source_key = sound[0]
        for name, store, key in unsound:
            log.error("object %s was damaged or missing in store %s; mended", kept.key, name or "main")
            transfer(source, source_key, store, key, kept.seal)
            mended += 1
    with archive.database.transaction() as session:
        if sound:
            session.execute(delete(DamagedObject).where(DamagedObject.blob_key == kept.key))
        elif unsound and session.get(DamagedObject, kept.key) is None:
            log.error("object %s is damaged and no copy is whole", kept.key)
            session.add(
                DamagedObject(
                    blob_key=kept.key, sop_instance_uid=kept.sop_instance_uid, found_at=archive.clock.now()
                )
            )
        if mended:
            note(session, archive.clock, system("scrub"), "mend ImagingStudy", kept.sop_instance_uid)
    return mended


def _places(archive: Archive, key: str) -> Iterator[tuple[str, BlobStore, str]]:
    yield MAIN, archive.blobs.store, key
    for name, store in archive.blobs.copies.items():
        yield name, store, key_in("", key)


def damaged_objects(archive: Archive, caller: Caller) -> list[DamagedObject]:
    """What no store has whole, the oldest finding first."""
    caller.require(Action("Job", "s"))
    with archive.database.snapshot() as session:
        return list(session.scalars(select(DamagedObject).order_by(DamagedObject.found_at)))


def scrub_rounds(archive: Archive, caller: Caller) -> list[ScrubRound]:
    """How far the rounds are."""
    caller.require(Action("Job", "s"))
    with archive.database.snapshot() as session:
        return list(session.scalars(select(ScrubRound).order_by(ScrubRound.naming)))
