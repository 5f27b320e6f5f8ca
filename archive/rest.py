"""A study comes to rest: nothing was stored into it for a while, and what reads need is made once.

Made then: each series' metadata bundle. Others follow the `study-rested` change (the ImagingStudy's search
index, completeness, notices). A study that moves again rests again.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from archive.bundles import draw_bundle, keep_bundles
from archive.model import Series, Study
from archive.room import Archive
from kernel.changes import record_changes
from kernel.database import table_of
from kernel.jobs import job
from kernel.writes import write_all

TOGETHER = 50  # studies that are kept in one transaction
LONGEST_S = 0.5  # that one which is ready waits for others


@job(queue="archive", retries=8, gives_way=True, together=TOGETHER)
def rest_study(archive: Archive, *study_instance_uids: str) -> None:
    """Make what resting studies are read by. Safe to run twice: what is already made is left alone."""
    with archive.database.snapshot() as session:
        studies = session.execute(
            select(Study.id, Study.revision, Study.study_instance_uid)
            .where(Study.study_instance_uid.in_(study_instance_uids))
            .order_by(Study.study_instance_uid)
        ).all()
        moved = session.execute(
            select(Series.study_id, Series.id).where(
                Series.study_id.in_([study.id for study in studies]),
                Series.bundle_revision != Series.revision,
            )
        ).all()
    series_of = defaultdict(list)
    for study_id, series_id in moved:
        series_of[study_id].append(series_id)
    ready: dict[int, list[dict[str, Any]]] = {}
    began = time.monotonic()
    for study in studies:
        drawn = [draw_bundle(archive, series_id) for series_id in series_of[study.id]]
        ready[study.id] = [each for each in drawn if each is not None]
        if time.monotonic() - began > LONGEST_S:
            _keep(archive, studies, ready)
            ready, began = {}, time.monotonic()
    _keep(archive, studies, ready)


def _keep(
    archive: Archive, studies: Sequence[Row[int, int, str]], bundles: Mapping[int, list[dict[str, Any]]]
) -> None:
    """Keep the bundles of some of the studies, by id, which are at rest from now on unless they moved on
    meanwhile."""
    if not bundles:
        return
    drawn_from = {study.id: study.revision for study in studies}
    with archive.database.transaction() as session:
        locked = session.execute(
            select(Study.id, Study.study_instance_uid, Study.revision, Study.rested_revision)
            .where(Study.id.in_(bundles))
            .order_by(Study.study_instance_uid)  # as those who store lock them
            .with_for_update()
        ).all()
        still = [study for study in locked if study.revision == drawn_from[study.id]]
        rested = [study for study in still if study.rested_revision != study.revision]
        keep_bundles(session, [bundle for study in still for bundle in bundles[study.id]])
        write_all(session.connection(), [(_REST, [{"resting": study.id} for study in rested])])
        record_changes(
            session, archive.clock,
            [("study-rested", study.study_instance_uid, {"revision": study.revision}) for study in rested],
        )  # fmt: skip


_STUDY = table_of(Study)
_REST = update(_STUDY).where(_STUDY.c.id == bindparam("resting")).values(rested_revision=_STUDY.c.revision)
