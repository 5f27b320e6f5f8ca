"""Search parameters that a site adds: SearchParameter documents, put to use without a stop.

A document with status `active` defines its parameter at once for what is written from now on; a job makes the
rows of what was there before, page by page with its place kept, and then the parameter can be searched by.
R4 SearchParameter.
"""

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kernel.database import Database
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job
from records.documents import parse_document, plain
from records.indexing import COLUMNS, IndexRows, index_parameter, index_rows, store_index
from records.model import INDEX_TABLES, CustomParameter, Resource
from records.parameters import (
    Parameter,
    custom_parameter,
    is_standard,
    parameter_number,
    resource_types,
    set_custom,
)
from records.paths import UnsupportedPath
from records.room import Records

KNOWN_FOR_S = 5.0  # how long a process goes by what it read
WAIT_S = 3 * KNOWN_FOR_S  # by then every process indexes what it writes
PAGE = 500
TYPES = frozenset({"token", "string", "date", "number", "quantity", "reference", "uri"})


class UnusableParameter(CloudfilmError):
    """A SearchParameter that cannot be put to use here, and so is not kept as an active one."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"The SearchParameter cannot be used: {reason}. Keep it with the status draft.")


class _Known:
    """What this process knows of one database's custom parameters."""

    url = ""
    read_at = 0.0


def know_custom_parameters(database: Database, session: Session, afresh: bool = False) -> None:
    """See to it that `records.parameters` knows the site's own parameters, a few seconds old at most."""
    url, now = database.name, time.monotonic()
    if not afresh and _Known.url == url and now - _Known.read_at < KNOWN_FOR_S:
        return
    rows = session.scalars(select(CustomParameter)).all()
    set_custom([_parameter_of(row) for row in rows])
    _Known.url, _Known.read_at = url, now


def _parameter_of(row: CustomParameter) -> Parameter:
    targets = tuple(row.targets.split(",")) if row.targets else ()
    return custom_parameter(row.resource_type, row.code, row.type, row.expression, targets, row.is_ready)


def follow_definition(
    records: Records, session: Session, logical_id: str, document: Mapping[str, Any] | None
) -> None:
    """Put a SearchParameter to use, renew it or take it away, with the transaction that writes it.

    Raises UnusableParameter for an active one that cannot be used.
    """
    wanted = _wanted(document) if document and document.get("status") == "active" else {}
    known = {
        row.resource_type: row
        for row in session.scalars(select(CustomParameter).where(CustomParameter.document == logical_id))
    }
    for resource_type, row in known.items():
        if resource_type not in wanted or row.code != wanted[resource_type].code:
            session.delete(row)
            enqueue(session, records.clock, drop_rows, resource_type, row.code)
    for resource_type, parameter in wanted.items():
        row_now = session.get(CustomParameter, (resource_type, parameter.code))
        if row_now is not None and row_now.document != logical_id:
            raise UnusableParameter(f"{resource_type} has a parameter {parameter.code} already")
        if row_now is None:
            row_now = CustomParameter(
                resource_type=resource_type, code=parameter.code, document=logical_id, revision=0
            )
            session.add(row_now)
        row_now.type, row_now.expression = parameter.type, parameter.expression
        row_now.targets = ",".join(parameter.targets)
        row_now.indexed_to, row_now.is_ready = 0, False
        row_now.revision += 1
        arguments = (resource_type, parameter.code, row_now.revision)
        enqueue(session, records.clock, index_documents, *arguments, delay_s=WAIT_S)
    if known or wanted:
        session.flush()
        know_custom_parameters(records.database, session, afresh=True)


def _wanted(document: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameter that a document defines, by resource type."""
    code, type_ = document.get("code"), document.get("type")
    expression, bases = document.get("expression"), document.get("base")
    targets = document.get("target") or []
    if not (isinstance(code, str) and isinstance(expression, str) and isinstance(bases, list)):
        raise UnusableParameter("it has no code, base or expression")
    if len(code) > 64 or code.startswith("_"):
        raise UnusableParameter("its code begins with _ or is longer than 64 characters")
    if type_ not in TYPES:
        raise UnusableParameter(f"the type must be one of {', '.join(sorted(TYPES))}")
    if not isinstance(targets, list) or not all(each in resource_types() for each in targets):
        raise UnusableParameter("target names a type that R4 does not have")
    found = {}
    for base in bases:
        if base not in resource_types():
            raise UnusableParameter("base names a type that R4 does not have")
        if is_standard(base, code):
            if document.get("derivedFrom") or str(document.get("url", "")).startswith("http://hl7.org/fhir/"):
                continue  # a copy of the standard's own definition changes nothing
            raise UnusableParameter(f"R4 itself defines {code} for {base}")
        try:
            found[base] = custom_parameter(base, code, str(type_), expression, tuple(targets), False)
        except (UnsupportedPath, ValueError):
            raise UnusableParameter("its expression is outside of what can be indexed") from None
    return found


@job(queue="records", retries=20)
def index_documents(records: Records, resource_type: str, code: str, revision: int) -> None:
    """Make one parameter's rows for the documents that were there before it. Goes on where it stopped."""
    while True:
        with records.database.transaction() as session:
            row = session.get(CustomParameter, (resource_type, code), with_for_update=True)
            if row is None or row.revision != revision or row.is_ready:
                return
            parameter = _parameter_of(row)
            page = session.execute(
                select(Resource.id, Resource.body)
                .where(Resource.type == resource_type, Resource.id > row.indexed_to)
                .order_by(Resource.id)
                .limit(PAGE)
            ).all()
            found = {}
            for resource_id, body in page:
                found[resource_id] = IndexRows()
                if body:
                    document = plain(parse_document(body))
                    index_parameter(found[resource_id], parameter, [(document, resource_type)])
            _drop(session, parameter.number, [resource_id for resource_id, _ in page])
            store_index(session, found, [])
            row.indexed_to = page[-1][0] if page else row.indexed_to
            row.is_ready = len(page) < PAGE
            if row.is_ready:
                session.flush()
                know_custom_parameters(records.database, session, afresh=True)
                return


@job(queue="records", retries=5)
def drop_rows(records: Records, resource_type: str, code: str) -> None:
    """Remove the rows of a parameter that is no more."""
    with records.database.transaction() as session:
        if session.get(CustomParameter, (resource_type, code)) is None:
            number = parameter_number(resource_type, code)
            for table in INDEX_TABLES:
                if "parameter" in COLUMNS[table.name]:
                    session.execute(delete(table).where(table.c.parameter == number))


def _drop(session: Session, number: int, resource_ids: list[int]) -> None:
    for table in INDEX_TABLES:
        if "parameter" in COLUMNS[table.name] and resource_ids:
            session.execute(
                delete(table).where(table.c.resource_id.in_(resource_ids), table.c.parameter == number)
            )


def reindex(records: Records, after: int = 0, most: int = PAGE) -> int:
    """Make all rows of the next page of stored documents again; returns the last `resource.id`, 0 at the end.

    For after an upgrade that indexes more than before; the server goes on meanwhile.
    """
    with records.database.transaction() as session:
        know_custom_parameters(records.database, session, afresh=True)
        page = session.execute(
            select(Resource.id, Resource.body)
            .where(Resource.id > after)
            .order_by(Resource.id)
            .limit(most)
            .with_for_update()
        ).all()
        found = {resource_id: index_rows(plain(parse_document(body))) for resource_id, body in page if body}
        store_index(session, found, list(found))
    return int(page[-1][0]) if page else 0
