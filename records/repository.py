"""The repository: the one way a clinical document changes.

Doors and rooms hand over a document and the Caller who brings it. Its versions, its index rows, the
change and the audit entry are written in one transaction. R4 3.1 (RESTful API).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import Select, bindparam, func, insert, select, text, tuple_, update
from sqlalchemy.orm import Session

from access.audit import Noted, note_all, note_once
from access.caller import Action, Caller, Door
from access.site import keep_consent
from kernel.changes import record_changes, written_changes
from kernel.clock import new_id
from kernel.crypto import DamagedBlob
from kernel.database import table_of
from kernel.errors import CloudfilmError, Kind
from kernel.writes import Write, reserve
from records.custom_parameters import follow_definition, know_custom_parameters
from records.documents import document_text, plain, with_meta
from records.hashing import hash_of
from records.indexing import IndexRows, index_rows, store_index
from records.integrity import require_targets, require_unnamed
from records.model import DOCUMENT, IndexCompartment, Resource, ResourceVersion
from records.parameters import resource_types
from records.reach import reach_of_types, within
from records.references import named_references
from records.room import Records
from records.shapes import NOTHING_ASKED, Asked, Reading


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
        super().__init__(f"{resource_type} is drawn from {HOMES[resource_type]}")


HOMES = {
    "AuditEvent": "the audit trail; what is done writes it.",
    "ImagingStudy": "the stored objects; store those (DICOMweb, C-STORE).",
    "DocumentReference": "a report; write the DiagnosticReport.",
    "Consent": "a share; make and end shares ($share, the pages).",
}
"""Where the facts of what is drawn have their home, and how they change there."""


class VersionConflict(CloudfilmError):
    """The version that the caller counted on is not the present one."""

    kind = Kind.PRECONDITION

    def __init__(self, present: int) -> None:
        super().__init__(f"The present version is {present}; read it and try again.")


class ExistsAlready(CloudfilmError):
    """The resource is there, and the caller counted on that it is not (If-None-Match: *)."""

    kind = Kind.PRECONDITION

    def __init__(self, resource_type: str, logical_id: str) -> None:
        super().__init__(f"{resource_type}/{logical_id} exists already.")


class NamedTwice(CloudfilmError):
    """The same resource changed twice in one transaction (R4 3.1.0.11.2)."""

    kind = Kind.INVALID

    def __init__(self, resource_type: str, logical_id: str) -> None:
        super().__init__(f"{resource_type}/{logical_id} is changed by more than one entry.")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a document; of a deletion, `body` is empty."""

    resource_type: str
    logical_id: str
    version: int
    updated_at: datetime
    body: str
    is_new: bool = False
    method: str = ""  # that made it, where it was asked for: POST, PUT, PATCH or DELETE


@dataclass(frozen=True, slots=True)
class Writing:
    """One change of a resource."""

    resource_type: str
    document: dict[str, Any] | None  # None: delete
    logical_id: str = ""  # empty: a new one, with an id of ours
    if_match: int | None = None  # the version that must be the present one
    must_be_new: bool = False
    method: str = "PUT"
    institution: str = ""
    id_is_ours: bool = False  # the id was made for it just now: nothing can be there under it


_TABLE = table_of(Resource)
_VERSIONS = table_of(ResourceVersion)
_ADD_VERSION = insert(_VERSIONS)  # built once: every write runs it
ROW = (
    _TABLE.c.id, _TABLE.c.type, _TABLE.c.logical_id, _TABLE.c.self_hash, _TABLE.c.version, _TABLE.c.deleted,
    _TABLE.c.updated_at, _TABLE.c.body,
)  # fmt: skip


class ResourceRow(NamedTuple):
    """A row of these columns."""

    id: int
    type: str
    logical_id: str
    self_hash: int
    version: int
    deleted: bool
    updated_at: datetime
    body: str


def require_type(resource_type: str) -> None:
    """Raise UnknownType for a type that R4 does not have."""
    if resource_type not in resource_types():
        raise UnknownType(resource_type)


def read(records: Records, caller: Caller, resource_type: str, logical_id: str) -> Stored:
    """The present version. Raises ResourceNotFound, ResourceGone or Forbidden."""
    require_type(resource_type)
    caller.require(Action(resource_type, "r"))
    with records.database.snapshot() as session:
        reading = Reading(records.database, session, is_snapshot=True)
        stored = _present(records, reading, caller, resource_type, logical_id)
    note_read(records, caller, resource_type, logical_id)
    return stored


def _present(
    records: Records, reading: Reading, caller: Caller, resource_type: str, logical_id: str
) -> Stored:
    row = _row(reading, caller, resource_type, logical_id)
    if row.deleted:
        raise ResourceGone(resource_type, logical_id)
    stored = bodies(records, reading.session, [row])
    if not stored:
        raise ResourceNotFound(resource_type, logical_id)
    return stored[0]


def _row(reading: Reading, caller: Caller, resource_type: str, logical_id: str) -> ResourceRow:
    """The row of a document that the caller may read."""
    reach, own_id = caller.reach_for("r"), Asked(logical_id)

    def build() -> Select[Any]:
        own = select(*ROW).where(_TABLE.c.type == resource_type, _TABLE.c.logical_id == own_id)
        return within(own, reach, resource_type)

    for row in reading.rows(NOTHING_ASKED.with_more("one", resource_type, own_id, reach), build):
        return ResourceRow(*row)
    raise ResourceNotFound(resource_type, logical_id)


def read_in(
    records: Records, session: Session, caller: Caller, resource_type: str, logical_id: str
) -> Stored:
    """The present version as a transaction sees it. Raises ResourceNotFound, ResourceGone or Forbidden."""
    require_type(resource_type)
    caller.require(Action(resource_type, "r"))
    return _present(records, Reading(records.database, session), caller, resource_type, logical_id)


def note_read(records: Records, caller: Caller, resource_type: str, logical_id: str) -> None:
    """Write down, once in a while, that a caller read a document."""
    note_once(
        records.database, records.recently, records.clock, caller, f"read {resource_type}",
        f"{resource_type}/{logical_id}", logical_id if resource_type == "Patient" else "",
    )  # fmt: skip


def rows_by_id(session: Session, ids: Sequence[int]) -> list[ResourceRow]:
    """Rows in the order of their `resource.id`s; those that went meanwhile are left out."""
    if not ids:
        return []
    rows = session.connection().execute(select(*ROW).where(_TABLE.c.id.in_(ids), ~_TABLE.c.deleted))
    found = {row.id: ResourceRow(*row) for row in rows}
    return [found[each] for each in ids if each in found]


def bodies(records: Records, session: Session, rows: Sequence[ResourceRow]) -> list[Stored]:
    """The documents of rows in their order; what is drawn from elsewhere is drawn now, all of a type at
    once."""
    drawn: dict[tuple[str, str], Stored] = {}
    for type_ in {row.type for row in rows if not row.body} & records.projections.keys():
        ids = [row.logical_id for row in rows if row.type == type_]
        for logical_id, each in records.projections[type_].draw(session, ids).items():
            drawn[type_, logical_id] = Stored(type_, logical_id, each.version, each.updated_at, each.body)
    found = []
    for row in rows:
        if row.body:
            require_own(row.type, row.logical_id, row.version, row.body)
            found.append(Stored(row.type, row.logical_id, row.version, row.updated_at, row.body))
        elif (row.type, row.logical_id) in drawn:
            found.append(drawn[row.type, row.logical_id])
    return found


def require_own(resource_type: str, logical_id: str, version: int, body: str) -> None:
    """Raise DamagedBlob unless a document is the one that its row is about: a sealed one that was put into
    another row opens there, and names itself."""
    head = f'{{"resourceType":"{resource_type}","id":"{logical_id}","meta":{{'
    if body.startswith(head) and f'"versionId":"{version}"' in body:
        return
    told = json.loads(body)  # written by older code, in another order
    named = (told.get("resourceType"), told.get("id"), told.get("meta", {}).get("versionId"))
    if named != (resource_type, logical_id, str(version)):
        raise DamagedBlob("A document lies in the row of another one: the database was changed.")


def write(
    records: Records,
    session: Session,
    caller: Caller,
    document: dict[str, Any],
    *,
    logical_id: str = "",
    if_match: int | None = None,
    must_be_new: bool = False,
    method: str = "PUT",
    institution: str = "",
) -> Stored:
    """Create a document, or make a new version of it, within the caller's transaction.

    logical_id: empty for a new one with an id of ours. if_match: the version that must be the present one.
    Raises UnknownType, DrawnElsewhere, VersionConflict, ExistsAlready, InvalidResource, ResourceNotFound
    (outside of the reach) or Forbidden.
    """
    writing = Writing(
        str(document["resourceType"]), document, logical_id, if_match, must_be_new, method, institution
    )
    return cast(Stored, write_all(records, session, caller, (writing,))[0])  # only a deletion gives None


def remove(
    records: Records,
    session: Session,
    caller: Caller,
    resource_type: str,
    logical_id: str,
    if_match: int | None = None,
) -> int | None:
    """Delete a document within the caller's transaction; its history stays (R4 3.1.0.7).

    Returns the version that says so, or None when there was nothing to delete.
    """
    writing = Writing(resource_type, None, logical_id, if_match, method="DELETE")
    stored = write_all(records, session, caller, (writing,))[0]
    return stored.version if stored else None


@dataclass(slots=True)
class _Planned:
    """A change with what it meets and what it makes."""

    writing: Writing
    logical_id: str
    row: Any = None  # as it stands, if at all
    stored: Stored | None = None
    sealed: str = ""  # the new body as both its rows hold it
    resource_id: int = 0
    index: IndexRows = field(default_factory=IndexRows)
    plain: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.writing.resource_type}/{self.logical_id}"

    @property
    def verb(self) -> str:
        if self.writing.document is None:
            return "delete"
        return "create" if self.row is None or self.row.deleted else "update"


def write_all(
    records: Records, session: Session, caller: Caller, writings: Sequence[Writing]
) -> list[Stored | None]:
    """Make several changes within the caller's transaction: one statement for each table, however many.

    Returns what each made, in their order; None for the deletion of what is not there. Rows are locked in
    the order of their names, so that two such calls never wait for each other. Raises as `write`, and
    NamedTwice.
    """
    know_custom_parameters(records.database, session)
    for each in writings:
        require_type(each.resource_type)
        if each.resource_type in records.projections and each.resource_type in DRAWN_ONLY:
            caller.require(Action(each.resource_type, VERBS.get(each.method, "u")))
            raise DrawnElsewhere(each.resource_type)
    planned = [_Planned(each, each.logical_id or new_id()) for each in writings]
    _meet(records, session, planned)
    changing = [each for each in planned if each.verb != "delete" or (each.row and not each.row.deleted)]
    for meeting in planned:
        caller.require(Action(meeting.writing.resource_type, meeting.verb[0]))
    for meeting in changing:
        _check(records, meeting)
    _require_reach(session, caller, [each for each in changing if each.row is not None])
    if caller.door is Door.FHIR:  # what other doors write is made by tables of ours, which tests judge
        written = [change.writing.document for change in changing]
        records.validation.require_valid(session, [each for each in written if each is not None])
    if changing:
        _store(records, session, caller, changing)
    if records.references_must_exist and caller.door is Door.FHIR:
        documents = (each.plain for each in changing if each.plain is not None)
        require_targets(session, caller, (name for each in documents for name in named_references(each)))
        require_unnamed(session, (each.name for each in changing if each.verb == "delete"))
    return [each.stored for each in planned]


VERBS = {"POST": "c", "DELETE": "d"}

DRAWN_ONLY = frozenset({"ImagingStudy", "AuditEvent"})
"""Types of which there are no stored documents at all: every one is drawn."""


def _meet(records: Records, session: Session, planned: Sequence[_Planned]) -> None:
    """Lock the rows that the changes meet."""
    seen: set[tuple[str, str]] = set()
    for each in planned:
        name = (each.writing.resource_type, each.logical_id)
        if name in seen:
            raise NamedTwice(*name)
        if each.writing.logical_id and not each.writing.id_is_ours:
            seen.add(name)
    named = sorted(seen)
    found = _locked(session, named)
    absent = [name for name in named if name not in found]
    if absent and not records.database.is_sqlite:  # two creators of one name: the second waits for the first
        session.connection().execute(_TAKE_TURNS, {"of": [hash_of("/".join(name)) for name in absent]})
        found |= _locked(session, absent)
    for each in planned:
        each.row = found.get((each.writing.resource_type, each.logical_id))


_TAKE_TURNS = text("SELECT pg_advisory_xact_lock(name) FROM unnest(CAST(:of AS bigint[])) AS name")
"""Locks on names, taken in their order by one statement."""


def _locked(session: Session, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    if not names:
        return {}
    statement = select(*ROW).order_by(_TABLE.c.type, _TABLE.c.logical_id).with_for_update()
    if len(names) == 1:
        statement = statement.where(_TABLE.c.type == names[0][0], _TABLE.c.logical_id == names[0][1])
    else:
        statement = statement.where(tuple_(_TABLE.c.type, _TABLE.c.logical_id).in_(names))
    return {(row.type, row.logical_id): row for row in session.connection().execute(statement)}


def lock(session: Session, resource_type: str, logical_id: str) -> None:
    """Let nobody else change a document until the transaction ends."""
    _locked(session, [(resource_type, logical_id)])


def _check(records: Records, each: _Planned) -> None:
    row, writing = each.row, each.writing
    if writing.if_match is not None and (row is None or row.deleted or row.version != writing.if_match):
        raise VersionConflict(row.version if row else 0)
    if row is not None and not row.deleted:
        if writing.must_be_new:
            raise ExistsAlready(writing.resource_type, each.logical_id)
        if not row.body and writing.resource_type in records.projections:
            raise DrawnElsewhere(writing.resource_type)


def _require_reach(session: Session, caller: Caller, planned: Sequence[_Planned]) -> None:
    """A caller changes only what it may change, and what it makes must lie within its reach."""
    for verb in ("create", "update", "delete"):
        reach = caller.reach_for(verb[0])
        ids = {(each.resource_id or each.row.id): each for each in planned if each.verb == verb}
        if reach.is_everywhere or not ids:
            continue
        types = {each.writing.resource_type for each in ids.values()}
        seen = session.scalars(
            select(_TABLE.c.id).where(_TABLE.c.id.in_(ids), reach_of_types(reach, types, _TABLE.c))
        ).all()
        for resource_id, each in ids.items():
            if resource_id not in seen and not (each.row is not None and each.row.deleted):
                raise ResourceNotFound(each.writing.resource_type, each.logical_id)


def _store(records: Records, session: Session, caller: Caller, planned: Sequence[_Planned]) -> None:
    now = records.clock.now()
    for each in planned:
        version, body = each.row.version + 1 if each.row else 1, ""
        if each.writing.document is not None:
            complete = with_meta(each.writing.document, each.logical_id, version, now)
            body, each.plain = document_text(complete), plain(complete)
            each.sealed = DOCUMENT.process_bind_param(body, session.connection().dialect) or ""
            each.index = index_rows(each.plain)
        each.stored = Stored(
            each.writing.resource_type, each.logical_id, version, now, body, each.verb == "create"
        )
    owner = caller.principal.institution or records.institution
    new = [each for each in planned if each.row is None]
    inserted = _insert_rows(records, session, new, owner, caller.principal.department)
    updated = _updated_rows([each for each in planned if each.row is not None])
    versions = [
        {
            "resource_id": each.resource_id, "type": each.writing.resource_type,
            "version": each.stored.version, "method": each.writing.method, "updated_at": now,
            "body": each.sealed,
        }
        for each in planned
        if each.stored
    ]  # fmt: skip
    replaced = [each.resource_id for each in planned if each.row is not None and not each.row.deleted]
    found = {each.resource_id: each.index for each in planned}
    changes = [
        (f"resource-{each.verb}d", each.name, {"version": each.stored.version})
        for each in planned
        if each.stored
    ]
    rows: list[Write] = [
        (_ADD, inserted), (_UPDATE, updated), (_ADD_VERSION, versions),
        written_changes(session, records.clock, changes),
    ]  # fmt: skip
    store_index(session, found, replaced, rows)
    _require_reach(session, caller, [each for each in planned if each.writing.document is not None])
    for each in planned:
        if each.writing.resource_type == "Consent":  # it holds from the commit on, for tokens out there too
            keep_consent(now, session, each.logical_id, each.plain)
        elif each.writing.resource_type == "Subscription" and records.keep_subscription is not None:
            records.keep_subscription(records, session, caller, each.logical_id, each.plain)
        elif each.writing.resource_type == "SearchParameter":
            follow_definition(records, session, each.logical_id, each.plain)
    note_all(session, records.clock, caller, [_noted(each) for each in planned])


def _noted(each: _Planned) -> Noted:
    """The entry of a change; where it is about one patient, with the patient."""
    patients = each.index.patients
    return Noted(
        f"{each.verb} {each.writing.resource_type}", each.name,
        patient_id=next(iter(patients)) if len(patients) == 1 else "",
    )  # fmt: skip


_NEXT_IDS = "SELECT nextval(pg_get_serial_sequence('resource', 'id')) FROM generate_series(1, %(count)s)"
_ADD = insert(_TABLE)


def _insert_rows(
    records: Records, session: Session, planned: Sequence[_Planned], owner: str, department: str
) -> list[dict[str, Any]]:
    """Give new documents their `resource.id`s. Returns the rows that are still to be written.

    Where the ids can be had beforehand, the rows go in one message with what refers to them.
    """
    if not planned:
        return []
    rows: list[dict[str, Any]] = [
        {
            "type": each.writing.resource_type,
            "logical_id": each.logical_id,
            "self_hash": hash_of(each.name),
            "version": 1,
            "deleted": each.writing.document is None,
            "institution": each.writing.institution or owner,
            "department": department,
            "updated_at": each.stored.updated_at,
            "body": each.sealed,
        }
        for each in planned
        if each.stored
    ]
    if not records.database.is_sqlite:
        ids = session.connection().exec_driver_sql(_NEXT_IDS, {"count": len(rows)}).scalars().all()
        for each, row, resource_id in zip(planned, rows, ids, strict=True):
            each.resource_id = row["id"] = resource_id
        return rows
    made = session.connection().execute(
        insert(_TABLE).returning(_TABLE.c.id, _TABLE.c.type, _TABLE.c.logical_id), rows
    )
    found = {(row.type, row.logical_id): row.id for row in made}
    for each in planned:
        each.resource_id = found[each.writing.resource_type, each.logical_id]
    return []


_UPDATE = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("of_row"))
    .values(
        version=bindparam("new_version"), deleted=bindparam("is_deleted"), updated_at=bindparam("at"),
        body=bindparam("new_body"),
    )
)  # fmt: skip


def _updated_rows(planned: Sequence[_Planned]) -> list[dict[str, Any]]:
    for each in planned:
        each.resource_id = each.row.id
    return [
        {
            "of_row": each.resource_id, "new_version": each.stored.version, "at": each.stored.updated_at,
            "is_deleted": each.writing.document is None, "new_body": each.sealed,
        }
        for each in planned
        if each.stored
    ]  # fmt: skip


def index_projected(
    records: Records,
    session: Session,
    document: dict[str, Any],
    *,
    institution: str,
    department: str,
    version: int,
    updated_at: datetime,
    keeps_version: bool = False,
) -> None:
    """Keep the search index of a document that is drawn from elsewhere; its body is drawn when it is read.

    keeps_version: the document as it is now is also a version of its history.
    """
    index_all_projected(
        records, session, [Projected(document, institution, department, version, updated_at, keeps_version)]
    )


@dataclass(frozen=True, slots=True)
class Projected:
    """A document that is drawn from elsewhere, as it is now."""

    document: dict[str, Any]
    institution: str
    department: str
    version: int
    updated_at: datetime
    keeps_version: bool = False  # it is also a version of its history

    @property
    def name(self) -> tuple[str, str]:
        """Type and id."""
        return str(self.document["resourceType"]), str(self.document["id"])


def index_all_projected(
    records: Records, session: Session, all_: Sequence[Projected], *, announced: bool = True
) -> None:
    """Keep the search index of documents that are drawn from elsewhere; tell the feed, if wanted."""
    know_custom_parameters(records.database, session)
    known = _locked(session, sorted(each.name for each in all_))
    new = [each for each in all_ if each.name not in known]
    ids = {name: row.id for name, row in known.items()}
    ids |= zip((each.name for each in new), reserve(session.connection(), _TABLE, len(new)), strict=True)
    rows: list[Write] = [
        (_ADD, [_begun(each, ids[each.name]) for each in new]),
        (_CHANGE_PROJECTED, [_changed(each, ids[each.name]) for each in all_ if each.name in known]),
    ]
    found = {ids[each.name]: index_rows(each.document) for each in all_}
    store_index(session, found, [row.id for row in known.values()], rows)
    _keep_projected(session, ids, [each for each in all_ if each.keeps_version])
    if not announced:
        return
    record_changes(
        session, records.clock,
        [(f"resource-{'updated' if each.name in known else 'created'}", "/".join(each.name),
          {"version": each.version}) for each in all_],
    )  # fmt: skip


def _begun(each: Projected, row_id: int) -> dict[str, Any]:
    type_, logical_id = each.name
    return {
        "id": row_id, "type": type_, "logical_id": logical_id, "self_hash": hash_of(f"{type_}/{logical_id}"),
        "version": each.version, "deleted": False, "institution": each.institution,
        "department": each.department, "updated_at": each.updated_at, "body": "",
    }  # fmt: skip


def _changed(each: Projected, row_id: int) -> dict[str, Any]:
    return {
        "row": row_id, "to_version": each.version, "of_institution": each.institution,
        "of_department": each.department, "since": each.updated_at,
    }  # fmt: skip


_CHANGE_PROJECTED = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("row"))
    .values(
        version=bindparam("to_version"), deleted=False, institution=bindparam("of_institution"),
        department=bindparam("of_department"), updated_at=bindparam("since"),
    )
)  # fmt: skip


def _keep_projected(session: Session, ids: dict[tuple[str, str], int], all_: Sequence[Projected]) -> None:
    for each in all_:
        resource_id = ids[each.name]
        last = session.scalar(
            select(func.max(_VERSIONS.c.version)).where(_VERSIONS.c.resource_id == resource_id)
        )
        if last is None or last < each.version:
            session.execute(
                insert(_VERSIONS).values(
                    resource_id=resource_id, type=each.name[0], version=each.version,
                    method="POST" if last is None else "PUT", updated_at=each.updated_at,
                    body=document_text(each.document),
                )
            )  # fmt: skip


def forget_projected(session: Session, resource_type: str, logical_id: str) -> None:
    """Remove the search index and history of a document whose home has lost it."""
    found = session.scalar(
        select(_TABLE.c.id).where(_TABLE.c.type == resource_type, _TABLE.c.logical_id == logical_id)
    )
    if found is not None:
        store_index(session, {}, [found])
        session.execute(_VERSIONS.delete().where(_VERSIONS.c.resource_id == found))
        session.execute(_TABLE.delete().where(_TABLE.c.id == found))


def patients_of(session: Session, resource_id: int) -> list[str]:
    """Logical ids of the patients in whose compartment a document is."""
    statement = select(IndexCompartment.c.patient).where(IndexCompartment.c.resource_id == resource_id)
    return list(session.scalars(statement))


def read_version(
    records: Records, caller: Caller, resource_type: str, logical_id: str, version: int
) -> Stored:
    """One version. Raises ResourceNotFound, ResourceGone or Forbidden."""
    require_type(resource_type)
    caller.require(Action(resource_type, "r"))
    with records.database.snapshot() as session:
        row = _row(Reading(records.database, session), caller, resource_type, logical_id)
        found = (
            session.connection()
            .execute(
                select(_VERSIONS.c.method, _VERSIONS.c.updated_at, _VERSIONS.c.body).where(
                    _VERSIONS.c.resource_id == row.id, _VERSIONS.c.version == version
                )
            )
            .first()
        )
        present = [] if found else bodies(records, session, [row])
    if found is None and present and present[0].version == version:  # drawn, and not yet at rest
        return present[0]
    if found is None:
        raise ResourceNotFound(resource_type, f"{logical_id}/_history/{version}")
    if found.method == "DELETE":
        raise ResourceGone(resource_type, logical_id)
    require_own(resource_type, logical_id, version, found.body)
    note_read(records, caller, resource_type, logical_id)
    return Stored(resource_type, logical_id, version, found.updated_at, found.body, method=found.method)
