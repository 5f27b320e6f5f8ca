"""Conditional interactions: the one document that a search finds, for whoever is going to change it (or the
few, for whoever is going to delete them).

Two clients that make the same conditional request at once take turns, so that the second sees what the first
made: on SQLite there is one writer, on PostgreSQL they wait at a lock on the criteria. R4 3.1.0.8.1,
3.1.0.4.3.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.errors import CloudfilmError, Kind
from records.hashing import hash_of
from records.query import InvalidSearch, parse_search
from records.references import conditional_references, rewrite_references
from records.room import Records
from records.search import find_ids


class SeveralMatch(CloudfilmError):
    """Criteria that more than one resource meets."""

    kind = Kind.PRECONDITION

    def __init__(self, resource_type: str) -> None:
        super().__init__(f"More than one {resource_type} meets the criteria; make them more selective.")


def criteria_of(text: str) -> list[tuple[str, str]]:
    """The parameters of a query string, with or without a type and `?` in front."""
    return parse_qsl(text.rpartition("?")[2], keep_blank_values=True)


def lock_criteria(records: Records, session: Session, criteria: Iterable[str]) -> None:
    """Take turns with everybody who goes by the same criteria, until the transaction ends."""
    if not records.database.is_sqlite:
        for each in sorted({hash_of("criteria", text) for text in criteria}):
            session.execute(select(func.pg_advisory_xact_lock(each)))


class TooManyMatch(CloudfilmError):
    """Criteria that more resources meet than one request may delete."""

    kind = Kind.PRECONDITION

    def __init__(self, resource_type: str, most: int) -> None:
        super().__init__(f"More than {most} {resource_type} meet the criteria; delete them in parts.")


class NothingReferred(CloudfilmError):
    """A reference by criteria that nothing meets."""

    kind = Kind.INVALID

    def __init__(self, resource_type: str) -> None:
        super().__init__(f"No {resource_type} meets the criteria of a reference.")


def resolve_references(
    records: Records, session: Session, caller: Caller, document: dict[str, Any], known: dict[str, str]
) -> None:
    """Add to `known` what each reference by criteria refers to (R4 3.1.0.11.2), each asked once.

    Raises NothingReferred, SeveralMatch or InvalidSearch.
    """
    for text in conditional_references(document):
        if text not in known:
            resource_type = text.partition("?")[0]
            logical_id = find_one(records, session, caller, resource_type, criteria_of(text))
            if logical_id is None:
                raise NothingReferred(resource_type)
            known[text] = f"{resource_type}/{logical_id}"


def with_references(
    records: Records, session: Session, caller: Caller, document: dict[str, Any]
) -> dict[str, Any]:
    """The document with each reference by criteria as what it refers to. Raises as resolve_references."""
    known: dict[str, str] = {}
    resolve_references(records, session, caller, document, known)
    return rewrite_references(document, {}, known)


def find_all(
    records: Records,
    session: Session,
    caller: Caller,
    resource_type: str,
    criteria: list[tuple[str, str]],
    most: int,
) -> list[str]:
    """The logical ids of everything that meets the criteria.

    Raises TooManyMatch, or InvalidSearch for criteria that do not select anything.
    """
    found = _find(records, session, caller, resource_type, criteria, most + 1)
    if len(found) > most:
        raise TooManyMatch(resource_type, most)
    return found


def find_one(
    records: Records,
    session: Session,
    caller: Caller,
    resource_type: str,
    criteria: list[tuple[str, str]],
) -> str | None:
    """The logical id of what meets the criteria; None for nothing.

    Raises SeveralMatch, or InvalidSearch for criteria that do not select anything.
    """
    found = _find(records, session, caller, resource_type, criteria, 2)
    if len(found) > 1:
        raise SeveralMatch(resource_type)
    return found[0] if found else None


def _find(
    records: Records,
    session: Session,
    caller: Caller,
    resource_type: str,
    criteria: list[tuple[str, str]],
    most: int,
) -> list[str]:
    wanted = parse_search(resource_type, criteria)
    if not wanted.criteria:
        raise InvalidSearch("?", "a condition needs at least one search parameter")
    return [logical_id for _, logical_id in find_ids(records, session, caller, wanted, most)]
