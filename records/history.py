"""History of a document, of a type and of everything, the newest version first (R4 3.1.0.9)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, or_, select

from access.audit import note_once
from access.caller import Action, Caller
from kernel.database import table_of
from records.cursor import Cursor, close_cursor, open_cursor
from records.model import Resource, ResourceVersion
from records.parameters import resource_types
from records.reach import reach_of_types
from records.repository import ResourceNotFound, Stored, bodies, require_own, require_type, rows_by_id
from records.room import Records

DEFAULT_VERSIONS = 50


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Versions, the newest first, and how to go on."""

    versions: tuple[Stored, ...]
    next_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which versions: of everything, of a type, or of one document."""

    resource_type: str = ""
    logical_id: str = ""
    count: int = DEFAULT_VERSIONS
    since: datetime | None = None  # made at or after
    at: tuple[datetime, datetime] | None = None  # present at some time between
    cursor: str = ""


_ROWS = table_of(Resource)
_VERSIONS = table_of(ResourceVersion)


def history(records: Records, caller: Caller, wanted: Wanted) -> HistoryPage:
    """A page of versions. Raises ResourceNotFound, InvalidCursor or Forbidden."""
    verb = "r" if wanted.logical_id else "s"  # of a type and of everything it is a search (SMART 2.2, 3.0.2)
    if wanted.resource_type:
        require_type(wanted.resource_type)
        caller.require(Action(wanted.resource_type, verb))
        types = {wanted.resource_type}
    else:
        caller.require(Action("*", verb))
        types = {type_ for type_ in resource_types() if caller.may(Action(type_, verb))}
    reach = caller.reach_for(verb)
    bound_to = f"history {wanted.resource_type}/{wanted.logical_id} {wanted.since} {wanted.at}"
    statement = (
        select(
            _VERSIONS.c.resource_id, _VERSIONS.c.version, _VERSIONS.c.method, _VERSIONS.c.updated_at,
            _VERSIONS.c.body, _VERSIONS.c.type, _ROWS.c.logical_id,
        )
        .join(_ROWS, _ROWS.c.id == _VERSIONS.c.resource_id)
        .order_by(_VERSIONS.c.updated_at.desc(), _VERSIONS.c.resource_id.desc(), _VERSIONS.c.version.desc())
        .limit(bindparam("most"))
    )  # fmt: skip
    if len(types) < len(resource_types()) or not reach.is_everywhere:
        statement = statement.where(_VERSIONS.c.type.in_(sorted(types)))
    if not reach.is_everywhere:
        statement = statement.where(reach_of_types(reach, types, _ROWS.c))
    if wanted.since is not None:
        statement = statement.where(_VERSIONS.c.updated_at >= wanted.since)
    if wanted.at is not None:
        statement = statement.where(_was_present(*wanted.at))
    if wanted.cursor:
        cursor = open_cursor(records.keys, bound_to, wanted.cursor)
        statement = statement.where(_before(cursor))
    with records.database.snapshot() as session:
        row_id = 0
        if wanted.logical_id:
            row = session.execute(
                select(_ROWS.c.id).where(
                    _ROWS.c.type == wanted.resource_type,
                    _ROWS.c.logical_id == wanted.logical_id,
                    reach_of_types(reach, types, _ROWS.c),
                )
            ).first()
            if row is None:
                raise ResourceNotFound(wanted.resource_type, wanted.logical_id)
            row_id = row.id
            statement = statement.where(_VERSIONS.c.resource_id == row_id)
        found = session.connection().execute(statement, {"most": wanted.count + 1}).all()
        for each in found:
            if each.body:
                require_own(each.type, each.logical_id, each.version, each.body)
        versions = [
            Stored(each.type, each.logical_id, each.version, each.updated_at, each.body, method=each.method)
            for each in found[: wanted.count]
        ]
        if wanted.logical_id and not wanted.cursor and wanted.resource_type in records.projections:
            present = bodies(records, session, rows_by_id(session, [row_id]))
            if present and (not versions or versions[0].version < present[0].version):
                versions.insert(0, present[0])  # drawn, and not yet at rest
    subject = "/".join(part for part in (wanted.resource_type, wanted.logical_id) if part)
    note_once(
        records.database, records.recently, records.clock, caller,
        f"read {wanted.resource_type or 'every type'}", subject,
    )  # fmt: skip
    if len(found) <= wanted.count or not wanted.count:
        return HistoryPage(tuple(versions))
    last = found[wanted.count - 1]
    values = (last.updated_at, last.resource_id, last.version)
    return HistoryPage(tuple(versions), close_cursor(records.keys, bound_to, Cursor(values)))


def _before(cursor: Cursor) -> Any:
    at, resource_id, version = cursor.values
    return or_(
        _VERSIONS.c.updated_at < at,
        and_(_VERSIONS.c.updated_at == at, _VERSIONS.c.resource_id < resource_id),
        and_(
            _VERSIONS.c.updated_at == at,
            _VERSIONS.c.resource_id == resource_id,
            _VERSIONS.c.version < version,
        ),
    )


def _was_present(first: datetime, last: datetime) -> Any:
    """Versions that were the present one at some time between (R4 3.1.0.9, _at)."""
    later = _VERSIONS.alias()
    following = (
        select(later.c.updated_at)
        .where(later.c.resource_id == _VERSIONS.c.resource_id, later.c.version > _VERSIONS.c.version)
        .order_by(later.c.version)
        .limit(1)
        .scalar_subquery()
    )
    return and_(_VERSIONS.c.updated_at <= last, or_(following.is_(None), following > first))
