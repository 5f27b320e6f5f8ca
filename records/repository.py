"""The repository: the one way a clinical document changes.

Doors and rooms hand over a document and the Caller who brings it. Its versions, its index rows, the
change and the audit entry are written in one transaction. R4 3.1 (RESTful API).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from access.audit import note, note_once
from access.caller import Action, Caller
from access.site import keep_consent
from kernel.changes import record_change
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind
from records.documents import document_text, plain, with_meta
from records.hashing import hash_of
from records.indexing import IndexRows, index_rows, store_index
from records.model import Resource, ResourceVersion
from records.parameters import resource_types
from records.reach import within
from records.room import Records


class ResourceNotFound(CloudfilmError):
    """No such resource, or none that this caller may know of; the two look alike on purpose."""

    kind = Kind.NOT_FOUND

    def __init__(self, resource_type: str, logical_id: str) -> None:
        super().__init__(f"{resource_type}/{logical_id} was not found.")


class ResourceGone(CloudfilmError):
    """The resource was deleted."""

    kind = Kind.GONE

    def __init__(self, resource_type: str, logical_id: str) -> None:
        super().__init__(f"{resource_type}/{logical_id} was deleted.")


class UnknownType(CloudfilmError):
    """A resource type that R4 does not have."""

    kind = Kind.NOT_FOUND

    def __init__(self, resource_type: str) -> None:
        super().__init__(f"{resource_type[:64]!r} is not a resource type of FHIR R4.")


class DrawnElsewhere(CloudfilmError):
    """A type whose facts have their home elsewhere, and change there alone."""

    kind = Kind.NOT_ALLOWED

    def __init__(self, resource_type: str) -> None:
        super().__init__(
            f"{resource_type} is drawn from the stored objects; store those (DICOMweb, C-STORE)."
        )


class VersionConflict(CloudfilmError):
    """The version that the caller counted on is not the present one."""

    kind = Kind.PRECONDITION

    def __init__(self, present: int) -> None:
        super().__init__(f"The present version is {present}; read it and try again.")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a document."""

    resource_type: str
    logical_id: str
    version: int
    updated_at: datetime
    body: str
    is_new: bool = False


def require_type(resource_type: str) -> None:
    """Raise UnknownType for a type that R4 does not have."""
    if resource_type not in resource_types():
        raise UnknownType(resource_type)


def read(records: Records, caller: Caller, resource_type: str, logical_id: str) -> Stored:
    """The present version. Raises ResourceNotFound, ResourceGone or Forbidden."""
    require_type(resource_type)
    caller.require(Action(resource_type, "r"))
    statement = select(Resource).where(Resource.type == resource_type, Resource.logical_id == logical_id)
    with records.database.snapshot() as session:
        row = session.scalar(within(statement, caller.reach, resource_type))
        if row is None:
            raise ResourceNotFound(resource_type, logical_id)
        if row.deleted:
            raise ResourceGone(resource_type, logical_id)
        stored = bodies(records, session, [row])
    if not stored:
        raise ResourceNotFound(resource_type, logical_id)
    note_read(records, caller, resource_type, logical_id)
    return stored[0]


def note_read(records: Records, caller: Caller, resource_type: str, logical_id: str) -> None:
    """Write down, once in a while, that a caller read a document."""
    note_once(
        records.database, records.recently, records.clock, caller, f"read {resource_type}",
        f"{resource_type}/{logical_id}", logical_id if resource_type == "Patient" else "",
    )  # fmt: skip


def bodies(records: Records, session: Session, rows: list[Resource]) -> list[Stored]:
    """The documents of rows in their order; what is drawn from elsewhere is drawn now, all of a type at
    once."""
    drawn: dict[str, Mapping[str, str]] = {}
    for type_ in {row.type for row in rows} & records.projections.keys():
        ids = [row.logical_id for row in rows if row.type == type_]
        drawn[type_] = records.projections[type_].draw(session, ids)
    found = []
    for row in rows:
        body = drawn[row.type].get(row.logical_id, "") if row.type in drawn else row.body
        if body:
            found.append(Stored(row.type, row.logical_id, row.version, row.updated_at, body))
    return found


def write(
    records: Records,
    session: Session,
    caller: Caller,
    document: dict[str, Any],
    *,
    logical_id: str = "",
    if_match: int | None = None,
    method: str = "PUT",
    institution: str = "",
) -> Stored:
    """Create a document, or make a new version of it, within the caller's transaction.

    logical_id: empty for a new one with an id of ours. if_match: the version that must be the present one.
    Raises UnknownType, DrawnElsewhere, VersionConflict, ResourceNotFound (outside of the reach) or Forbidden.
    """
    resource_type = str(document["resourceType"])
    require_type(resource_type)
    if resource_type in records.projections:
        raise DrawnElsewhere(resource_type)
    logical_id = logical_id or new_id()
    row = session.scalar(
        select(Resource)
        .where(Resource.type == resource_type, Resource.logical_id == logical_id)
        .with_for_update()
    )
    caller.require(Action(resource_type, "c" if row is None or row.deleted else "u"))
    if if_match is not None and (row is None or row.version != if_match):
        raise VersionConflict(row.version if row else 0)
    if row is not None:
        require_reach(session, caller, resource_type, row.id)
    now = records.clock.now()
    version = row.version + 1 if row else 1
    complete = with_meta(document, logical_id, version, now)
    body = document_text(complete)
    if row is None:
        owner = institution or caller.principal.institution or records.institution
        resource_id = _insert(
            session, resource_type, logical_id, owner, caller.principal.department, now, body
        )
    else:
        resource_id = row.id
        session.execute(
            update(Resource)
            .where(Resource.id == resource_id)
            .values(version=version, deleted=False, updated_at=now, body=body)
        )
    _keep_version(session, resource_id, version, method, now, body)
    store_index(session, resource_id, index_rows(plain(complete)), replace=row is not None)
    require_reach(session, caller, resource_type, resource_id)
    if resource_type == "Consent":  # it holds from the commit on, for tokens that are out there too
        keep_consent(now, session, logical_id, plain(complete))
    kind = "resource-created" if row is None else "resource-updated"
    record_change(session, records.clock, kind, f"{resource_type}/{logical_id}", version=version)
    verb = "create" if row is None else "update"
    note(session, records.clock, caller, f"{verb} {resource_type}", f"{resource_type}/{logical_id}")
    return Stored(resource_type, logical_id, version, now, body, is_new=row is None)


def _insert(
    session: Session,
    resource_type: str,
    logical_id: str,
    institution: str,
    department: str,
    at: datetime,
    body: str,
) -> int:
    return int(
        session.execute(
            insert(Resource)
            .values(
                type=resource_type,
                logical_id=logical_id,
                self_hash=hash_of(f"{resource_type}/{logical_id}"),
                version=1,
                deleted=False,
                institution=institution,
                department=department,
                updated_at=at,
                body=body,
            )
            .returning(Resource.id)
        ).scalar_one()
    )


def _keep_version(
    session: Session, resource_id: int, version: int, method: str, at: datetime, body: str
) -> None:
    session.execute(
        insert(ResourceVersion).values(
            resource_id=resource_id, version=version, method=method, updated_at=at, body=body
        )
    )


def require_reach(session: Session, caller: Caller, resource_type: str, resource_id: int) -> None:
    """A caller changes only what it may know of, and what it makes must lie within its reach."""
    if caller.reach.is_everywhere:
        return
    statement = within(select(Resource.id).where(Resource.id == resource_id), caller.reach, resource_type)
    if session.execute(statement).first() is None:
        raise ResourceNotFound(resource_type, "the resource")


def remove(
    records: Records, session: Session, caller: Caller, resource_type: str, logical_id: str
) -> int | None:
    """Delete a document within the caller's transaction; its history stays (R4 3.1.0.7).

    Returns the version that says so, or None when there was nothing to delete.
    """
    require_type(resource_type)
    caller.require(Action(resource_type, "d"))
    if resource_type in records.projections:
        raise DrawnElsewhere(resource_type)
    row = session.scalar(
        select(Resource)
        .where(Resource.type == resource_type, Resource.logical_id == logical_id)
        .with_for_update()
    )
    if row is None or row.deleted:
        return None
    require_reach(session, caller, resource_type, row.id)
    now, version = records.clock.now(), row.version + 1
    session.execute(
        update(Resource)
        .where(Resource.id == row.id)
        .values(version=version, deleted=True, updated_at=now, body="")
    )
    _keep_version(session, row.id, version, "DELETE", now, "")
    store_index(session, row.id, IndexRows(), replace=True)
    if resource_type == "Consent":
        keep_consent(now, session, logical_id, None)
    record_change(
        session, records.clock, "resource-deleted", f"{resource_type}/{logical_id}", version=version
    )
    note(session, records.clock, caller, f"delete {resource_type}", f"{resource_type}/{logical_id}")
    return version


def index_projected(
    records: Records,
    session: Session,
    document: dict[str, Any],
    *,
    institution: str,
    department: str,
    version: int,
    updated_at: datetime,
) -> None:
    """Keep the search index of a document that is drawn from elsewhere; its body is not stored."""
    resource_type, logical_id = str(document["resourceType"]), str(document["id"])
    row = session.scalar(
        select(Resource)
        .where(Resource.type == resource_type, Resource.logical_id == logical_id)
        .with_for_update()
    )
    if row is None:
        resource_id = _insert(session, resource_type, logical_id, institution, department, updated_at, "")
    else:
        resource_id = row.id
        session.execute(
            update(Resource)
            .where(Resource.id == resource_id)
            .values(
                version=version,
                deleted=False,
                updated_at=updated_at,
                institution=institution,
                department=department,
            )
        )
    store_index(session, resource_id, index_rows(document), replace=row is not None)
    kind = "resource-created" if row is None else "resource-updated"
    record_change(session, records.clock, kind, f"{resource_type}/{logical_id}", version=version)


def history(
    records: Records, caller: Caller, resource_type: str, logical_id: str
) -> list[tuple[str, Stored]]:
    """Every version, the newest first, each with the method that made it; a deletion has no body.

    Raises ResourceNotFound or Forbidden.
    """
    require_type(resource_type)
    caller.require(Action(resource_type, "r"))
    statement = select(Resource).where(Resource.type == resource_type, Resource.logical_id == logical_id)
    with records.database.snapshot() as session:
        row = session.scalar(within(statement, caller.reach, resource_type))
        if row is None:
            raise ResourceNotFound(resource_type, logical_id)
        if resource_type in records.projections:
            return [("PUT", stored) for stored in bodies(records, session, [row])]
        versions = session.scalars(
            select(ResourceVersion)
            .where(ResourceVersion.resource_id == row.id)
            .order_by(ResourceVersion.version.desc())
        ).all()
    return [
        (each.method, Stored(resource_type, logical_id, each.version, each.updated_at, each.body))
        for each in versions
    ]


def read_version(
    records: Records, caller: Caller, resource_type: str, logical_id: str, version: int
) -> Stored:
    """One version. Raises ResourceNotFound, ResourceGone or Forbidden."""
    for method, stored in history(records, caller, resource_type, logical_id):
        if stored.version == version:
            if method == "DELETE":
                raise ResourceGone(resource_type, logical_id)
            return stored
    raise ResourceNotFound(resource_type, f"{logical_id}/_history/{version}")
