"""Names in the columns by which studies are found, written anew from what the studies say: where a site has
them veiled, or in clear again (`kernel.name_veil`)."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from archive.attributes import text
from archive.documents import open_document, parse_marked
from archive.folding import name_columns
from archive.indexed_values import IndexedValue, rows_of, write_rows
from archive.keys import NAME_PATHS, SERIES_PATHS, STUDY_PATHS
from archive.model import Instance, Study
from archive.room import Archive
from kernel.database import table_of
from kernel.writes import write_all

PAGE = 500
TABLES = (table_of(Study).name, table_of(IndexedValue).name)
OF_STUDY = tuple(path for path in STUDY_PATHS if path in NAME_PATHS)
OF_SERIES = tuple(path for path in SERIES_PATHS if path in NAME_PATHS)
_SET = (
    update(table_of(Study))
    .where(table_of(Study).c.id == bindparam("of_study"))
    .values({name: bindparam(f"new_{name}") for name in name_columns("", "")})
)


def rewrite_study_names(archive: Archive, session: Session, after: int) -> int:
    """The next studies after a row. Returns the last one's, 0 when there are no more."""
    studies = session.execute(
        select(Study.id, Study.attributes).where(Study.id > after).order_by(Study.id).limit(PAGE)
    ).all()
    rows = [
        {"of_study": study_id} | {f"new_{name}": value for name, value in _names(attributes).items()}
        for study_id, attributes in studies
    ]
    write_all(session.connection(), [(_SET, rows)])
    _rewrite_values(archive, session, [study_id for study_id, _ in studies])
    return studies[-1].id if studies else 0


def _names(attributes: bytes) -> dict[str, str]:
    said = parse_marked(attributes)
    return name_columns(text(said, "PatientName"), text(said, "ReferringPhysicianName"))


def _rewrite_values(archive: Archive, session: Session, studies: Sequence[int]) -> None:
    """Names of physicians, which stand in rows of their own: as at arrival, what the first instances of the
    study and of each series say."""
    named = IndexedValue.path.in_(NAME_PATHS)
    have_some = session.scalars(
        select(IndexedValue.study_id).where(IndexedValue.study_id.in_(studies), named).distinct()
    ).all()
    session.execute(delete(IndexedValue).where(IndexedValue.study_id.in_(have_some), named))
    first = select(func.min(Instance.id)).where(Instance.study_id.in_(have_some)).group_by(Instance.series_id)
    instances = session.execute(
        select(Instance.study_id, Instance.series_id, Instance.document)
        .where(Instance.id.in_(first))
        .order_by(Instance.study_id, Instance.id)
    )
    for study_id, of_study in groupby(instances, key=lambda each: each.study_id):
        for at, (_, series_id, document) in enumerate(of_study):
            said = open_document(archive.blobs.keys, document)
            if at == 0:
                write_rows(session.connection(), rows_of(said, OF_STUDY, study_id))
            write_rows(session.connection(), rows_of(said, OF_SERIES, study_id, series_id))
