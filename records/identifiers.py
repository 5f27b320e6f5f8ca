"""Finding a document by its business identifier, within a transaction that is going to change it."""

import json
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from records.hashing import either
from records.model import IndexToken, Resource
from records.parameters import parameter_number


def find_by_identifier(
    session: Session, resource_type: str, system: str, value: str, institution: str = ""
) -> str | None:
    """The logical id of the oldest document with this identifier; None when there is none.

    institution: look among its documents only, for numbers that are unique in one house.
    """
    found = find_all_by_identifier(session, resource_type, system, value, institution, most=1)
    return found[0] if found else None


def find_all_by_identifier(
    session: Session, resource_type: str, system: str, value: str, institution: str = "", most: int = 50
) -> list[str]:
    """The logical ids of documents with this identifier, the oldest first."""
    asked = {
        "parameter": parameter_number(resource_type, "identifier"), "hashes": either(system, value),
        "of_type": resource_type, "most": most,
    }  # fmt: skip
    if institution:
        found = session.scalars(_ALL_OF_HOUSE, asked | {"house": institution})
    else:
        found = session.scalars(_ALL, asked)
    return [str(each) for each in found]


# Built once: whatever follows a change asks, and building a statement costs more than running it.
_ALL = (
    select(Resource.logical_id)
    .join(IndexToken, IndexToken.c.resource_id == Resource.id)
    .where(
        IndexToken.c.parameter == bindparam("parameter"),
        IndexToken.c.value.in_(bindparam("hashes", expanding=True)),
        Resource.type == bindparam("of_type"),
        ~Resource.deleted,
    )
    .order_by(Resource.id)
    .limit(bindparam("most"))
)
_ALL_OF_HOUSE = _ALL.where(Resource.institution == bindparam("house"))


def present_document(session: Session, resource_type: str, logical_id: str) -> dict[str, Any] | None:
    """The present version of a stored document; None when there is none, or it was deleted."""
    body = session.scalar(
        select(Resource.body).where(
            Resource.type == resource_type, Resource.logical_id == logical_id, ~Resource.deleted
        )
    )
    return dict(json.loads(body)) if body else None
