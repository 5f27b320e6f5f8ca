"""Profiles, tags and security labels that are in use, in documents of some types (R4 $meta).

The index knows which there are, by their hashes; one document of each tells what they are called.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Table, exists, func, select
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import Action, Caller
from kernel.database import table_of
from records.aliases import fresh, give_back
from records.hashing import hash_of
from records.model import IndexToken, IndexUri, Resource
from records.parameters import parameter_number, resource_types
from records.reach import reach_of_types
from records.repository import rows_by_id
from records.room import Records

MOST_LABELS = 1000  # of each kind


def labels_in_use(records: Records, caller: Caller, resource_type: str = "") -> dict[str, Any]:
    """A Meta with everything in use, of a type or of every type.

    Raises Forbidden.
    """
    if resource_type:
        caller.require(Action(resource_type, "s"))
        types: Sequence[str] = (resource_type,)
    else:
        caller.require(Action("*", "s"))
        types = tuple(sorted(resource_types()))
    found: dict[str, Any] = {}
    with records.database.snapshot() as session:
        give_back()
        if profiles := sorted(
            str(value) for value, _ in _values(session, caller, types, IndexUri, "_profile")
        ):
            found["profile"] = profiles
        for name in ("security", "tag"):
            if codings := _codings(session, _values(session, caller, types, IndexToken, f"_{name}"), name):
                found[name] = codings
    what = f"read labels of {resource_type or 'every type'}"
    note_once(records.database, records.recently, records.clock, caller, what, "")
    return found


def _values(
    session: Session, caller: Caller, types: Sequence[str], table: Table, code: str
) -> Sequence[tuple[Any, int]]:
    """The values of a parameter, each with the id of a document that has it."""
    rows, own = fresh(table), fresh(table_of(Resource))
    numbers = [parameter_number(type_, code) for type_ in types]
    statement = select(rows.c.value, func.min(rows.c.resource_id)).where(rows.c.parameter.in_(numbers))
    reach = caller.reach_for("s")
    if not reach.is_everywhere:
        is_reached = reach_of_types(reach, types, own.c)
        statement = statement.where(exists().where(own.c.id == rows.c.resource_id, is_reached))
    found = session.execute(statement.group_by(rows.c.value).limit(MOST_LABELS)).all()
    return [(value, resource_id) for value, resource_id in found]


def _codings(session: Session, values: Sequence[tuple[Any, int]], name: str) -> list[dict[str, Any]]:
    documents = {row.id: row.body for row in rows_by_id(session, [resource_id for _, resource_id in values])}
    found = []
    for value, resource_id in values:
        body = documents.get(resource_id)
        for coding in orjson.loads(body).get("meta", {}).get(name, ()) if body else ():
            if hash_of(str(coding.get("system", "")), str(coding.get("code", ""))) == value:
                found.append(coding)
                break
    return sorted(found, key=lambda each: (str(each.get("system", "")), str(each.get("code", ""))))
