"""ConceptMap/$closure: a client's own table of which of its concepts lie above which (R4 4.7.12).

A table belongs to the principal who made it. Each call that adds concepts makes a new version of it and
answers what is new; a call with a version answers everything that came after that version.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.errors import CloudfilmError, Kind
from records.documents import instant
from terminology.catalogue import Catalogue, DefinitionNotFound, Document
from terminology.model import ClosureConcept

MOST_CONCEPTS = 10_000


class ClosureNotFound(CloudfilmError):
    """A table that was not made: call $closure with its name alone first."""

    kind = Kind.NOT_FOUND

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no closure table {name[:100]!r}; begin it by its name alone.")


class InvalidClosure(CloudfilmError):
    """A name, a version or a concept that cannot be used."""

    kind = Kind.INVALID


def closure(
    catalogue: Catalogue,
    caller: Caller,
    name: str,
    codings: Iterable[dict[str, Any]] | None,
    version: str,
    at: datetime,
) -> Document:
    """The ConceptMap that $closure answers, within the session's transaction.

    codings: None together with no version begins the table anew.
    Raises ClosureNotFound or InvalidClosure.
    """
    if not name or len(name) > 60:
        raise InvalidClosure("Give the table a name of 1 to 60 characters.")
    session = catalogue.session
    key = f"{caller.principal.kind.value}:{caller.principal.id}:{name}"[:100]
    if codings is None and not version:
        session.execute(delete(ClosureConcept).where(ClosureConcept.name == key))
        session.add(ClosureConcept(name=key, system="", code="", number=0))
        return _concept_map(name, 0, [], at)
    head = session.get(ClosureConcept, (key, "", ""), with_for_update=True)
    if head is None:
        raise ClosureNotFound(name)
    if version:
        if codings:
            raise InvalidClosure("Give concepts, or a version to catch up from, not both.")
        if not version.isdigit() or int(version) > head.number:
            raise InvalidClosure("The version is not one of this table.")
        return _concept_map(name, head.number, _rows_after(catalogue, key, int(version)), at)
    return _add(catalogue, session, key, name, head, list(codings or ()), at)


def _add(
    catalogue: Catalogue,
    session: Session,
    key: str,
    name: str,
    head: ClosureConcept,
    codings: list[dict[str, Any]],
    at: datetime,
) -> Document:
    known = _known(session, key)
    fresh = []
    for coding in codings:
        pair = (str(coding.get("system", "")), str(coding.get("code", "")))
        if not all(pair):
            raise InvalidClosure("A concept has a system and a code.")
        try:
            found = catalogue.code_system(pair[0]).find(pair[1])
        except DefinitionNotFound as missing:
            raise InvalidClosure(str(missing)) from None
        if found is None:
            raise InvalidClosure(f"Unknown code '{pair[1][:100]}' in the CodeSystem '{pair[0][:200]}'.")
        if pair not in known and pair not in fresh:
            fresh.append(pair)
    if len(known) + len(fresh) > MOST_CONCEPTS:
        raise InvalidClosure(f"A closure table has at most {MOST_CONCEPTS} concepts.")
    if fresh:
        head.number += 1
        session.add_all(
            ClosureConcept(name=key, system=system, code=code, number=head.number) for system, code in fresh
        )
        session.flush()
    return _concept_map(name, head.number, _relations(catalogue, {*known, *fresh}, set(fresh)), at)


def _known(session: Session, key: str) -> dict[tuple[str, str], int]:
    rows = session.scalars(
        select(ClosureConcept).where(ClosureConcept.name == key, ClosureConcept.system != "")
    )
    return {(row.system, row.code): row.number for row in rows}


def _rows_after(catalogue: Catalogue, key: str, version: int) -> list[tuple[str, str, str]]:
    known = _known(catalogue.session, key)
    return _relations(catalogue, set(known), {pair for pair, number in known.items() if number > version})


def _relations(
    catalogue: Catalogue, concepts: set[tuple[str, str]], fresh: set[tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """(system, narrower, broader) for each pair of which one at least is fresh."""
    found = []
    for system, code in sorted(concepts):
        above = catalogue.code_system(system).ancestors(code)
        for other in sorted(above):
            pair = (system, other)
            if pair in concepts and ((system, code) in fresh or pair in fresh):
                found.append((system, code, other))
    return found


def _concept_map(name: str, version: int, rows: list[tuple[str, str, str]], at: datetime) -> Document:
    groups: dict[str, dict[str, list[dict[str, str]]]] = {}
    for system, code, broader in rows:
        target = {"code": broader, "equivalence": "subsumes"}  # the target lies above the source (R4 4.7.12)
        groups.setdefault(system, {}).setdefault(code, []).append(target)
    return {
        "resourceType": "ConceptMap",
        "name": name,
        "title": name,
        "version": str(version),
        "status": "active",
        "experimental": True,
        "date": instant(at),
        **(
            {
                "group": [
                    {
                        "source": system,
                        "target": system,
                        "element": [{"code": code, "target": targets} for code, targets in elements.items()],
                    }
                    for system, elements in groups.items()
                ]
            }
            if groups
            else {}
        ),
    }
