"""Searched values of studies that were stored before their paths were searched, made from their documents.

A study says which set of paths its values were made for; a job goes through those of another set, one study a
transaction, and goes on where it was interrupted.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from archive.documents import open_document
from archive.indexed_values import IndexedValue, rows_of, write_rows
from archive.keys import INDEX_VERSION, INSTANCE_PATHS, SERIES_PATHS, STUDY_PATHS
from archive.model import Instance, Study
from archive.room import Archive
from kernel.jobs import enqueue, job

MOST_STUDIES = 1000  # of one run of the job, so that it ends well within its lease
PAGE = 200


@job(queue="archive", every=timedelta(hours=6))
def reindex_studies(archive: Archive) -> None:
    """Bring the searched values of some studies up to the paths of today; queues itself while there are
    more."""
    if reindex(archive, MOST_STUDIES) == MOST_STUDIES:
        with archive.database.transaction() as session:
            enqueue(session, archive.clock, reindex_studies, key="reindex")


def reindex(archive: Archive, most: int) -> int:
    """The same of up to `most` studies; returns how many."""
    done = last = 0
    while done < most:
        with archive.database.snapshot() as session:
            found = session.execute(
                select(Study.id, Study.revision)
                .where(Study.indexed_version != INDEX_VERSION, Study.id > last)
                .order_by(Study.id)
                .limit(min(PAGE, most - done))
            ).all()
        if not found:
            break
        for study_id, revision in found:
            _reindex_study(archive, study_id, revision)
            last = study_id
        done += len(found)
    return done


def _reindex_study(archive: Archive, study_id: int, revision: int) -> None:
    """Write the values of one study anew, unless something came into it meanwhile: the next round has it."""
    rows = list(_rows(archive, study_id))
    with archive.database.transaction() as session:
        current = session.scalar(select(Study.revision).where(Study.id == study_id).with_for_update())
        if current != revision:
            return
        session.execute(delete(IndexedValue).where(IndexedValue.study_id == study_id))
        write_rows(session.connection(), rows)
        session.execute(update(Study).where(Study.id == study_id).values(indexed_version=INDEX_VERSION))


def _rows(archive: Archive, study_id: int) -> Iterator[dict[str, Any]]:
    """As at arrival: of the study and of each series what their first instances say."""
    seen: set[int] = set()
    last = 0
    while True:
        with archive.database.snapshot() as session:
            page = session.execute(
                select(Instance.id, Instance.series_id, Instance.document)
                .where(Instance.study_id == study_id, Instance.id > last)
                .order_by(Instance.id)
                .limit(PAGE)
            ).all()
        for instance_id, series_id, document in page:
            attributes = open_document(archive.blobs.keys, document)
            if not seen:
                yield from rows_of(attributes, STUDY_PATHS, study_id)
            if series_id not in seen:
                yield from rows_of(attributes, SERIES_PATHS, study_id, series_id)
            yield from rows_of(attributes, INSTANCE_PATHS, study_id, series_id, instance_id)
            seen.add(series_id)
            last = instance_id
        if len(page) < PAGE:
            return
