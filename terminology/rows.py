"""A code system whose concepts are rows of the database: as large as ICD-10, LOINC or RadLex."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, literal, select
from sqlalchemy.orm import Session

from terminology.code_system import CodeSystem
from terminology.concept import Concept, Designation, Property
from terminology.model import ConceptRow, Definition, ParentRow, PropertyRow

PAGE = 500


class RowCodeSystem(CodeSystem):
    """A loaded code system, read through one session."""

    def __init__(self, session: Session, definition: Definition) -> None:
        self.header = json.loads(definition.body)
        self._session = session
        self._id = definition.id

    def _select(self) -> Select[ConceptRow]:
        return select(ConceptRow).where(ConceptRow.definition_id == self._id)

    def find(self, code: str) -> Concept | None:
        """The concept of a code, or None."""
        row = self._session.scalar(self._select().where(ConceptRow.code == code))
        if row is None and not self.is_case_sensitive:
            row = self._session.scalars(self._select().where(ConceptRow.folded_code == code.lower())).first()
        return None if row is None else _concept(row)

    def parents(self, code: str) -> tuple[str, ...]:
        """The codes right above."""
        statement = select(ParentRow.parent).where(
            ParentRow.definition_id == self._id, ParentRow.child == code
        )
        return tuple(self._session.scalars(statement))

    def children(self, code: str) -> tuple[str, ...]:
        """The codes right below, in their order."""
        statement = (
            select(ParentRow.child)
            .join(
                ConceptRow,
                (ConceptRow.definition_id == ParentRow.definition_id) & (ConceptRow.code == ParentRow.child),
            )
            .where(ParentRow.definition_id == self._id, ParentRow.parent == code)
            .order_by(ConceptRow.place)
        )
        return tuple(self._session.scalars(statement))

    def roots(self) -> tuple[str, ...]:
        """The codes that lie below no other."""
        below = select(ParentRow.child).where(ParentRow.definition_id == self._id)
        statement = self._select().where(ConceptRow.code.not_in(below)).order_by(ConceptRow.place)
        return tuple(row.code for row in self._session.scalars(statement))

    def descendants(self, code: str) -> set[str]:
        """Every code below, by one recursive statement."""
        return self._closure(code, ParentRow.parent, ParentRow.child)

    def ancestors(self, code: str) -> set[str]:
        """Every code above, by one recursive statement."""
        return self._closure(code, ParentRow.child, ParentRow.parent)

    def _closure(self, code: str, here: Any, there: Any) -> set[str]:
        found = (
            select(there.label("code"))
            .where(ParentRow.definition_id == self._id, here == code)
            .cte("found", recursive=True)
        )
        found = found.union(
            select(there.label("code")).where(ParentRow.definition_id == self._id, here == found.c.code)
        )
        return set(self._session.scalars(select(found.c.code))) - {code}

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Every concept in the order of the source; with folded words, those that have every one."""
        last = -1
        statement = self._select().order_by(ConceptRow.place).limit(PAGE)
        for word in words:
            escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            statement = statement.where(ConceptRow.search.like(f"%{escaped}%", escape="\\"))
        while rows := self._session.scalars(statement.where(ConceptRow.place > literal(last))).all():
            for row in rows:
                yield _concept(row)
            last = rows[-1].place
            if len(rows) < PAGE:
                return

    def with_property(self, code: str, value: str) -> set[str]:
        """The codes that have a property with a value."""
        statement = select(PropertyRow.code).where(
            PropertyRow.definition_id == self._id, PropertyRow.property == code, PropertyRow.value == value
        )
        return set(self._session.scalars(statement))


def _concept(row: ConceptRow) -> Concept:
    more = json.loads(row.more)
    return Concept(
        row.code,
        row.display,
        more.get("definition", ""),
        tuple(
            Designation(value, language, tuple((key, each) for key, each in use))
            for value, language, use in more.get("designations", ())
        ),
        tuple(Property(code, type_, value) for code, type_, value in more.get("properties", ())),
        bool(more.get("abstract")),
        row.inactive,
        more.get("status", ""),
    )


def more_of(concept: Concept) -> str:
    """What a row keeps of a concept beside its columns."""
    more: dict[str, Any] = {}
    if concept.definition:
        more["definition"] = concept.definition
    if concept.designations:
        more["designations"] = [[each.value, each.language, each.use] for each in concept.designations]
    if concept.properties:
        more["properties"] = [[each.code, each.type, each.value] for each in concept.properties]
    if concept.abstract:
        more["abstract"] = True
    if concept.status:
        more["status"] = concept.status
    return json.dumps(more, ensure_ascii=False, separators=(",", ":"))
