"""Bringing documents that are there already under the ring's current key: those from before there was
sealing, and all when the ring has turned.

A pass goes through the rows page by page with its place kept. What is written meanwhile is sealed as it is,
and a row that changes under the pass stays as it was changed. Then the words that stand in clear are moved to
where they are hidden; what is left of them says how far that came.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    not_,
    select,
    type_coerce,
    union,
    update,
)
from sqlalchemy.orm import Session

from kernel.crypto import DamagedBlob, KeyRing
from kernel.database import table_of
from kernel.jobs import job
from kernel.sealed_text import CLEAR, HIDDEN
from kernel.veil import AFTER_ALL
from kernel.writes import write_all
from records.custom_parameters import know_custom_parameters
from records.documents import parse_document, plain
from records.indexing import OF_TYPE, index_rows, store_index
from records.model import DOCUMENT, IndexString, IndexToken, IndexWord, Resource, ResourceVersion, SealingPass
from records.parameters import HIDDEN_PARAMETERS, parameter_number
from records.report_documents import SOURCE, report_documents
from records.repository import index_all_projected
from records.room import Records
from records.words import reindex_words

PAGE = 100  # documents, each with its versions
_TABLE, _VERSIONS, _PASS = table_of(Resource), table_of(ResourceVersion), table_of(SealingPass)
_KEYS: dict[Table, ColumnElement[int]] = {_TABLE: _TABLE.c.id, _VERSIONS: _VERSIONS.c.resource_id}
_HIDDEN_NUMBERS = [
    parameter_number(type_, f"{code}{suffix}")
    for type_, codes in HIDDEN_PARAMETERS.items()
    for code in codes
    for suffix in ("", OF_TYPE)
]
_SET = {
    table: update(table)
    .where(key == bindparam("of_row"), table.c.version == bindparam("of_version"))
    .values(body=bindparam("kept", type_=Text))
    for table, key in _KEYS.items()
}


@job(queue="records", retries=1, every=timedelta(minutes=10))
def seal_documents(records: Records) -> None:
    """Go on with the pass, to its end. One begins where none ever ran, and when the ring has turned."""
    while seal_page(records):
        pass
    last = 0
    while last := hide_words(records, last):
        pass


def begin_pass(records: Records) -> None:
    """Let the next pass begin with the first document."""
    with records.database.transaction() as session:
        session.execute(_PASS.delete())


def seal_page(records: Records, most: int = PAGE) -> int:
    """Seal the next page of documents. Returns how many they were, 0 when the pass is over."""
    if not records.database.seals:
        return 0
    records.keys.renew()
    key_id = records.keys.current
    with records.database.snapshot() as session:
        place = session.get(SealingPass, 1)
        is_indexed = place is not None and place.is_indexed
        after = place.sealed_to if place is not None and place.key_id == key_id else 0
        if place is not None and place.key_id == key_id and place.is_done:
            if is_indexed:
                return 0
            after = 0  # it was over before there was anything to hide
        ids = _next(session.connection(), after, most)
        kept = {table: _kept(session.connection(), table, ids) for table in _SET}
    for rows in kept.values():
        rows[:] = [row for row in rows if not row["kept"].startswith(f"{key_id}.")]
        for row in rows:
            row["kept"] = DOCUMENT.seal(DOCUMENT.open(row["kept"], records.keys), records.keys)
    values = {
        "key_id": key_id, "sealed_to": ids[-1] if ids else after, "is_done": not ids,
        "is_indexed": is_indexed or not ids,
    }  # fmt: skip
    with records.database.transaction() as session:
        if not is_indexed:
            know_custom_parameters(records.database, session)
            _hide(records, session, ids)
        write_all(session.connection(), [(_SET[table], rows) for table, rows in kept.items()])
        made = _PASS.insert().values(id=1, **values) if place is None else _PASS.update().values(values)
        session.execute(made)
    return len(ids)


def _hide(records: Records, session: Session, ids: Sequence[int]) -> None:
    """Make the index of documents anew of which it shows what it hides now, and their words."""
    stale = union(
        *(
            select(table.c.resource_id).where(
                table.c.resource_id.in_(ids), table.c.parameter.in_(_HIDDEN_NUMBERS),
                not_(column.between(HIDDEN, HIDDEN + AFTER_ALL)),
            )
            for table, column in ((IndexToken, IndexToken.c.text), (IndexString, IndexString.c.value))
        )
    )  # fmt: skip
    rows = session.execute(
        select(_TABLE.c.id, _TABLE.c.body)
        .where(_TABLE.c.id.in_(stale), _TABLE.c.body != "")
        .order_by(_TABLE.c.type, _TABLE.c.logical_id)
        .with_for_update()
    ).all()
    found = {row.id: index_rows(plain(parse_document(row.body))) for row in rows}
    store_index(session, found, list(found))
    reindex_words(session, [(row.id, row.body) for row in rows])
    reports = session.scalars(
        select(_TABLE.c.logical_id).where(_TABLE.c.id.in_(ids), _TABLE.c.type == SOURCE, ~_TABLE.c.deleted)
    ).all()
    index_all_projected(records, session, report_documents(session, reports), announced=False)


def hide_words(records: Records, after: int, most: int = PAGE) -> int:
    """Hide the words of the next documents that show them, each from its document.

    Returns the last one's `resource.id`, to go on after it: to begin at the first row each time would mean to
    step over all that are gone. 0 when there are none.
    """
    if not records.database.seals:
        return 0
    key = IndexWord.c.resource_id
    with records.database.transaction() as session:
        ids = session.scalars(select(key).where(key > after).order_by(key).distinct().limit(most)).all()
        rows = session.execute(
            select(_TABLE.c.id, _TABLE.c.body)
            .where(_TABLE.c.id.in_(ids))
            .order_by(_TABLE.c.type, _TABLE.c.logical_id)
            .with_for_update()
        ).all()
        reindex_words(session, [(row.id, row.body) for row in rows])
    return ids[-1] if ids else 0


def open_documents(connection: Connection, keys: KeyRing | None) -> None:
    """Put every document into its rows in clear again, for older code, within the caller's transaction.

    Raises DamagedBlob when something is sealed, and there are no keys.
    """
    last = 0
    while ids := _next(connection, last, PAGE):
        for table, statement in _SET.items():
            for row in _kept(connection, table, ids):
                if row["kept"][0] != CLEAR:
                    if keys is None:
                        raise DamagedBlob("Documents are sealed; go back with the key ring at hand.")
                    connection.execute(statement, row | {"kept": DOCUMENT.open(row["kept"], keys)})
        last = ids[-1]


def _next(connection: Connection, after: int, most: int) -> Sequence[int]:
    """Documents that have versions: of what is drawn from elsewhere, most have none, and no body either."""
    key = _VERSIONS.c.resource_id
    return connection.scalars(select(key).where(key > after).order_by(key).distinct().limit(most)).all()


def _kept(connection: Connection, table: Table, ids: Sequence[int]) -> list[dict[str, Any]]:
    """What the rows of documents hold as it stands there, in the order in which writers lock them."""
    kept = type_coerce(table.c.body, Text)
    rows = connection.execute(
        select(_KEYS[table].label("of_row"), table.c.version.label("of_version"), kept.label("kept"))
        .where(_KEYS[table].in_(ids), kept != "")
        .order_by(table.c.type, *([table.c.logical_id] if table is _TABLE else ()))
    )
    return [dict(row) for row in rows.mappings()]
