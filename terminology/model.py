"""The tables of the terminology room: code systems and concept maps too large to be kept as one document.

Small ones are ordinary documents of `records`, and the standard's own come with the program; what a site
loads from files (ICD-10, LOINC, RadLex, FHIR packages, its own lists) is kept here, each version beside the
others. A load fills rows under a definition that is not yet `ready`, so a half-loaded one is never asked.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from records.model import BigKey, text_key


class Definition(Base):
    """A loaded CodeSystem, ValueSet or ConceptMap: one version of one canonical URL."""

    __tablename__ = "terminology_definition"
    __table_args__ = (Index("ix_terminology_definition_url", "kind", "url", "version"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    kind: Mapped[str] = mapped_column(text_key(16))  # CodeSystem, ValueSet or ConceptMap
    url: Mapped[str] = mapped_column(text_key(500))
    version: Mapped[str] = mapped_column(text_key(64), default="")
    name: Mapped[str] = mapped_column(text_key(200), default="")
    source: Mapped[str] = mapped_column(text_key(200), default="")  # the file or package that it came from
    ready: Mapped[bool] = mapped_column(default=False)
    concepts: Mapped[int] = mapped_column(Integer, default=0)
    loaded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    body: Mapped[str] = mapped_column(Text, default="{}")  # the document, less what stands in rows


class ConceptRow(Base):
    """One concept of a loaded code system."""

    __tablename__ = "terminology_concept"
    __table_args__ = (
        Index("ix_terminology_concept_code", "definition_id", "code"),
        Index("ix_terminology_concept_folded", "definition_id", "folded_code"),
        Index("ix_terminology_concept_place", "definition_id", "place"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    definition_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("terminology_definition.id", ondelete="CASCADE")
    )
    place: Mapped[int] = mapped_column(BigInteger)  # its place in the order of the source
    code: Mapped[str] = mapped_column(text_key(200))
    folded_code: Mapped[str] = mapped_column(text_key(200))
    display: Mapped[str] = mapped_column(Text, default="")
    search: Mapped[str] = mapped_column(Text, default="")  # every name of it, folded, and how they sound
    inactive: Mapped[bool] = mapped_column(default=False)
    more: Mapped[str] = mapped_column(Text, default="{}")  # definition, designations and properties


class ParentRow(Base):
    """A concept lies below another one (subsumption); a concept may have several parents."""

    __tablename__ = "terminology_parent"
    __table_args__ = (Index("ix_terminology_parent_child", "definition_id", "child"),)

    definition_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("terminology_definition.id", ondelete="CASCADE"), primary_key=True
    )
    parent: Mapped[str] = mapped_column(text_key(200), primary_key=True)
    child: Mapped[str] = mapped_column(text_key(200), primary_key=True)


class PropertyRow(Base):
    """A property of a concept, for filters."""

    __tablename__ = "terminology_property"
    __table_args__ = (Index("ix_terminology_property_value", "definition_id", "property", "value", "code"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    definition_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("terminology_definition.id", ondelete="CASCADE")
    )
    property: Mapped[str] = mapped_column(text_key(100))
    value: Mapped[str] = mapped_column(text_key(200))
    code: Mapped[str] = mapped_column(text_key(200))


class MappingRow(Base):
    """One row of a loaded concept map."""

    __tablename__ = "terminology_mapping"
    __table_args__ = (
        Index("ix_terminology_mapping_source", "source_code", "definition_id"),
        Index("ix_terminology_mapping_target", "target_code", "definition_id"),
        Index("ix_terminology_mapping_definition", "definition_id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    definition_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("terminology_definition.id", ondelete="CASCADE")
    )
    source_system: Mapped[str] = mapped_column(text_key(500))
    source_code: Mapped[str] = mapped_column(text_key(200))
    target_system: Mapped[str] = mapped_column(text_key(500))
    target_code: Mapped[str] = mapped_column(text_key(200), default="")
    target_display: Mapped[str] = mapped_column(Text, default="")
    equivalence: Mapped[str] = mapped_column(text_key(20))
    comment: Mapped[str] = mapped_column(Text, default="")


class ClosureConcept(Base):
    """A concept that a client keeps in one of its closure tables (R4 ConceptMap $closure)."""

    __tablename__ = "terminology_closure"

    name: Mapped[str] = mapped_column(text_key(100), primary_key=True)
    system: Mapped[str] = mapped_column(text_key(300), primary_key=True)
    code: Mapped[str] = mapped_column(text_key(200), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)  # the version of the table that it came with; the row
    # with an empty system and code stands for the table itself, and its number is the present version
