"""A study comes to rest: nothing was stored into it for a while, and what reads need is made once.

Made then: each series' metadata bundle. Others follow the `study-rested` change (the ImagingStudy's search
index, completeness, notices). A study that moves again rests again.
"""

from sqlalchemy import select, update

from archive.bundles import make_bundle
from archive.model import Series, Study
from archive.room import Archive
from kernel.changes import record_change
from kernel.jobs import job


@job(queue="archive", retries=8)
def rest_study(archive: Archive, study_instance_uid: str) -> None:
    """Make what a resting study is read by. Safe to run twice: what is already made is left alone."""
    with archive.database.snapshot() as session:
        study = session.execute(
            select(Study.id, Study.revision).where(Study.study_instance_uid == study_instance_uid)
        ).first()
        if study is None:
            return
        moved = session.scalars(
            select(Series.id).where(Series.study_id == study.id, Series.bundle_revision != Series.revision)
        ).all()
    for series_id in moved:
        make_bundle(archive, series_id)
    with archive.database.transaction() as session:
        rested = session.execute(
            update(Study)
            .where(
                Study.id == study.id,
                Study.revision == study.revision,
                Study.rested_revision != study.revision,
            )
            .values(rested_revision=study.revision)
        )
        if rested.rowcount:  # type: ignore[attr-defined]
            record_change(session, archive.clock, "study-rested", study_instance_uid, revision=study.revision)
