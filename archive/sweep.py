"""The sweeper removes what a crash left behind: blobs that no row names.

A blob younger than the grace is left alone, for its row may be in a transaction right now.
"""

from datetime import timedelta

from sqlalchemy import select

from archive.blobs.store import BlobInfo
from archive.blobs.tiers import COLD, key_in
from archive.model import Hold, Instance
from archive.non_patient_model import NonPatientInstance
from archive.removal_model import RemovedInstance
from archive.renditions_model import Rendition
from archive.room import Archive
from kernel.jobs import job
from records.bulk_model import BulkFile

NAMING = (Instance, Hold, RemovedInstance, NonPatientInstance, BulkFile, Rendition)
GRACE = timedelta(hours=1)
BATCH = 400


@job(queue="archive", every=timedelta(hours=6))
def sweep_strays(archive: Archive) -> None:
    """Remove stray blobs older than the grace."""
    sweep(archive)


def sweep(archive: Archive, grace: timedelta = GRACE) -> int:
    """Remove stray blobs; returns how many."""
    before = archive.clock.now() - grace
    removed, batch = 0, list[BlobInfo]()
    for blob in archive.blobs.store.list():
        if blob.changed_at <= before:
            batch.append(blob)
        if len(batch) == BATCH:
            removed += _remove(archive, batch)
            batch = []
    return removed + _remove(archive, batch)


def _remove(archive: Archive, batch: list[BlobInfo]) -> int:
    keys = [blob.key for blob in batch]
    named: set[str] = set()
    with archive.database.snapshot() as session:
        for model in NAMING:
            named |= set(session.scalars(select(model.blob_key).where(model.blob_key.in_(keys))))
        strays = [key for key in keys if key not in named]
        elsewhere = {key_in(tier, key): key for key in strays for tier in ("", COLD)}
        moved = {
            elsewhere[key]
            for model in NAMING
            for key in session.scalars(select(model.blob_key).where(model.blob_key.in_(elsewhere)))
        }
    for key in strays:
        if key in moved:  # the copies are of the object where it is now
            archive.blobs.store.delete(key)
        else:
            archive.blobs.delete(key)
    return len(strays)
