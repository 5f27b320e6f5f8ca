"""Names of people in the search index, made anew from their documents: where a site has them veiled, or in
clear again (`kernel.name_veil`)."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kernel.database import table_of
from kernel.writes import write_all
from records.custom_parameters import know_custom_parameters
from records.documents import parse_document, plain
from records.indexing import COLUMNS, INSERTS, index_rows
from records.model import IndexString, Resource
from records.parameters import PEOPLE
from records.room import Records

PAGE = 500
TABLES = (IndexString.name,)
_TABLE = table_of(Resource)


def rewrite_document_names(records: Records, session: Session, after: int) -> int:
    """The strings of the next documents of people after a row. Returns the last one's, 0 when there are no
    more."""
    know_custom_parameters(records.database, session)
    documents = session.execute(
        select(_TABLE.c.id, _TABLE.c.body)
        .where(_TABLE.c.id > after, _TABLE.c.type.in_(PEOPLE), _TABLE.c.body != "", ~_TABLE.c.deleted)
        .order_by(_TABLE.c.id)
        .limit(PAGE)
    ).all()
    rows = [
        dict(zip(COLUMNS[IndexString.name], values, strict=True)) | {"resource_id": row.id}
        for row in documents
        for values in index_rows(plain(parse_document(row.body))).rows.get(IndexString.name, ())
    ]
    session.execute(delete(IndexString).where(IndexString.c.resource_id.in_([row.id for row in documents])))
    write_all(session.connection(), [(INSERTS[IndexString.name], rows)])
    return documents[-1].id if documents else 0
