"""References that have to lead somewhere, where a site asks for it (`fhir.references_must_exist`): what a
document names is there, and what others name is not deleted (R4 2.3.0.6, 3.1.0.7)."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.database import table_of
from kernel.errors import CloudfilmError, Kind
from records.hashing import hash_of
from records.model import IndexReference, Resource
from records.reach import reach_of_types

_TABLE = table_of(Resource)


class NothingThere(CloudfilmError):
    """A reference to what is not there, or to what this caller may not know of; the two look alike."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no {name}, which a reference names.")


class StillNamed(CloudfilmError):
    """The deletion of what others refer to."""

    kind = Kind.CONFLICT

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is referred to by others; delete or change those first.")


def require_targets(session: Session, caller: Caller, names: Iterable[str]) -> None:
    """Raise NothingThere unless each `Type/id` is there. It stays until the transaction ends."""
    wanted = {hash_of(name): name for name in names}
    if not wanted:
        return
    types = {name.partition("/")[0] for name in wanted.values()}
    there = select(_TABLE.c.self_hash).where(
        _TABLE.c.self_hash.in_(wanted),
        ~_TABLE.c.deleted,
        reach_of_types(caller.reach_for("r"), types, _TABLE.c),
    )
    found = set(session.connection().scalars(there.with_for_update(read=True)))
    for hashed in sorted(wanted.keys() - found):
        raise NothingThere(wanted[hashed])


def require_unnamed(session: Session, names: Iterable[str]) -> None:
    """Raise StillNamed when a `Type/id` that was deleted is referred to; the audit trail names everything."""
    for name in names:
        rows = IndexReference.c
        named = (
            select(rows.resource_id)
            .join(_TABLE, _TABLE.c.id == rows.resource_id)
            .where(rows.target == hash_of(name), _TABLE.c.type != "AuditEvent")
            .limit(1)
        )
        if session.connection().scalar(named) is not None:
            raise StillNamed(name)
