"""The tables of the master patient index.

A PatientRecord is what one source knows; a Person is who several of them are; Links say since when, by whom
and why, and are only ever added. What is said of a patient is sealed (kernel.crypto); it is found again by
keyed hashes, so the index itself holds no identity number, phone or name in the clear.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime

BigKey = BigInteger().with_variant(Integer(), "sqlite")


class Person(Base):
    """One human being, as far as we know: the golden record is drawn from the records linked to it."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    logical_id: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PatientRecord(Base):
    """A patient as one source knows it: one row for each issuer and identifier."""

    __tablename__ = "patient_record"
    __table_args__ = (UniqueConstraint("issuer", "identifier"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    issuer: Mapped[str] = mapped_column(String(64))
    identifier: Mapped[str] = mapped_column(String(80))  # ~ and a hash where the source gave none
    institution: Mapped[str] = mapped_column(String(32), index=True)
    patient_id: Mapped[str] = mapped_column(String(64), unique=True)  # logical id of the Patient document
    person_id: Mapped[int | None] = mapped_column(BigKey, ForeignKey("person.id"), index=True, default=None)
    replaced_by: Mapped[int | None] = mapped_column(BigKey, index=True, default=None)  # the survivor
    authority: Mapped[int] = mapped_column(default=1)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)  # what is said: mpi.demographics.to_plain
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Link(Base):
    """A record came to a person, or left one. Rows are only added."""

    __tablename__ = "patient_link"
    __table_args__ = (Index("ix_patient_link_person", "person_id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    patient_record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"), index=True)
    person_id: Mapped[int] = mapped_column(BigKey, ForeignKey("person.id"))
    previous_person_id: Mapped[int | None] = mapped_column(BigKey, default=None)
    reason: Mapped[str] = mapped_column(String(32))  # new, rule, score, review, merge, unmerge, manual
    weight: Mapped[float] = mapped_column(default=0.0)  # log2 of the likelihood ratio
    scores: Mapped[str] = mapped_column(Text, default="{}")  # field -> [level, weight]
    weights_version: Mapped[str] = mapped_column(String(32), default="")
    actor: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ReviewItem(Base):
    """Two records of which a person has to say whether they are one, and what was decided."""

    __tablename__ = "patient_review"
    __table_args__ = (
        UniqueConstraint("kind", "patient_record_id", "other_record_id"),
        Index("ix_patient_review_open", "state", "weight"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))  # possible-match, conflict
    patient_record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"))
    other_record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"))
    weight: Mapped[float] = mapped_column(default=0.0)
    scores: Mapped[str] = mapped_column(Text, default="{}")
    rules: Mapped[str] = mapped_column(String(200), default="")  # what kept them from being linked
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary, default=None)  # what a conflict said
    state: Mapped[str] = mapped_column(String(16), default="open")  # open, accepted, rejected
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    decided_by: Mapped[str] = mapped_column(String(64), default="")


class MergeEvent(Base):
    """A source joined two of its own numbers (HL7 v2 A40, A47), or a reviewer did; and when it was undone."""

    __tablename__ = "patient_merge"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"), index=True)
    surviving_record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"), index=True)
    previous_person_id: Mapped[int | None] = mapped_column(BigKey, default=None)
    source: Mapped[str] = mapped_column(String(128), default="")  # the message or the person that asked
    actor: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    undone_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class IdentifierDomain(Base):
    """What an issuer is called in FHIR and HL7 v2, where its code alone does not say it."""

    __tablename__ = "identifier_domain"

    issuer: Mapped[str] = mapped_column(String(64), primary_key=True)
    system: Mapped[str] = mapped_column(String(200), unique=True)  # URI for FHIR
    oid: Mapped[str] = mapped_column(String(64), default="")
    name: Mapped[str] = mapped_column(String(200), default="")


class BlockKey(Base):
    """A keyed hash of something two records of one person probably share: candidates are found by it."""

    __tablename__ = "block_key"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - half the size on SQLite

    hash: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    patient_record_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("patient_record.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
