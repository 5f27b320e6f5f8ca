"""The tables of the archive: studies, series, instances, and what is held for review.

What is searched is a typed column with an index. Each row also carries its ready-made DICOM JSON for the
default answer (PS3.18 10.6.3), sealed, so that a search answer is a join of bytes. Columns carry the
attribute's keyword in snake case; `folded` ones are made from it (NFKC, case folded) so that matching is
neither case- nor width-sensitive, and can be rebuilt.
"""

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    bindparam,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, deferred, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedBytes
from kernel.veiled_text import VeiledText

BigKey = BigInteger().with_variant(Integer(), "sqlite")


def text_key(length: int) -> String:
    """A searched text: compared by code point on every database, so that a prefix is an index range."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Study(Base):
    """One imaging study: the unit that is searched, shared and reported (PS3.3 C.7.2.1)."""

    __tablename__ = "study"
    __table_args__ = (
        # In the order of an answer, studies without a date last; SQLite reads an index backwards for that.
        Index("ix_study_recent", "study_date", "study_time", "id").ddl_if(dialect="sqlite"),
        Index(
            "ix_study_newest", text("study_date DESC NULLS LAST"), text("study_time DESC"), text("id DESC")
        ).ddl_if(dialect="postgresql"),
        Index("ix_study_institution", "institution", "study_date"),
        Index("ix_study_changed", "changed_at"),
        Index("ix_study_tier", "tier", "created_at"),
        Index("ix_study_indexed", "indexed_version", "id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(text_key(64), unique=True)
    logical_id: Mapped[str] = mapped_column(String(64), unique=True)  # of the ImagingStudy drawn from this
    patient_record_id: Mapped[int] = mapped_column(BigKey, ForeignKey("patient_record.id"), index=True)
    patient_logical_id: Mapped[str] = mapped_column(
        String(64), index=True
    )  # copied from the record, for reach
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    patient_id: Mapped[str] = mapped_column(text_key(64), index=True)
    issuer_of_patient_id: Mapped[str] = mapped_column(text_key(64), default="")
    name_alphabetic: Mapped[str] = mapped_column(
        VeiledText(200, inner=True), index=True, default=""
    )  # folded, as those that follow
    name_ideographic: Mapped[str] = mapped_column(VeiledText(200, inner=True), index=True, default="")
    name_phonetic: Mapped[str] = mapped_column(VeiledText(200, inner=True), index=True, default="")
    name_pinyin: Mapped[str] = mapped_column(
        VeiledText(400), index=True, default=""
    )  # of the ideographic group
    patient_birth_date: Mapped[date | None] = mapped_column(index=True, default=None)
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    study_date: Mapped[date | None] = mapped_column(default=None)
    study_time: Mapped[str] = mapped_column(text_key(16), default="")  # HHMMSS.FFFFFF
    accession_number: Mapped[str] = mapped_column(text_key(64), index=True, default="")
    study_id: Mapped[str] = mapped_column(text_key(64), default="")
    study_description: Mapped[str] = mapped_column(text_key(200), default="")  # folded
    referring_physician_name: Mapped[str] = mapped_column(
        VeiledText(200, inner=True), default=""
    )  # folded, all groups
    number_of_series: Mapped[int] = mapped_column(default=0)
    number_of_instances: Mapped[int] = mapped_column(default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    tier: Mapped[str] = mapped_column(String(16), default="", server_default="")  # see archive.storage_policy
    attributes: Mapped[bytes] = mapped_column(
        SealedBytes("study.attributes")
    )  # DICOM JSON of the default answer; \x01 is the base URL
    revision: Mapped[int] = mapped_column(default=0)  # counts what was stored into it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    rested_revision: Mapped[int] = mapped_column(default=-1)  # equal to revision: at rest
    indexed_version: Mapped[int] = mapped_column(
        default=0, server_default="0"
    )  # of the paths that its searched values were made for: see archive.reindex


class Series(Base):
    """One series of a study (PS3.3 C.7.3.1)."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("study_id", "series_instance_uid"),
        Index("ix_series_modality", "study_id", "modality"),
        Index("ix_series_uid", "series_instance_uid"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(BigKey, ForeignKey("study.id", ondelete="CASCADE"))
    series_instance_uid: Mapped[str] = mapped_column(text_key(64))
    modality: Mapped[str] = mapped_column(text_key(16), default="")
    series_number: Mapped[int | None] = mapped_column(default=None)
    series_description: Mapped[str] = mapped_column(text_key(200), default="")  # folded
    body_part_examined: Mapped[str] = mapped_column(text_key(64), default="")
    series_date: Mapped[date | None] = mapped_column(default=None)
    station_name: Mapped[str] = mapped_column(text_key(64), default="")
    manufacturer: Mapped[str] = mapped_column(text_key(64), default="")
    performed_procedure_step_start_date: Mapped[date | None] = mapped_column(default=None)
    performed_procedure_step_start_time: Mapped[str] = mapped_column(text_key(16), default="")
    number_of_instances: Mapped[int] = mapped_column(default=0)
    attributes: Mapped[bytes] = mapped_column(SealedBytes("series.attributes"))  # as of Study
    revision: Mapped[int] = mapped_column(default=0)
    bundle: Mapped[bytes | None] = deferred(
        mapped_column(LargeBinary, default=None)
    )  # sealed: see archive.bundles
    bundle_revision: Mapped[int] = mapped_column(default=-1)


class Instance(Base):
    """One SOP instance, where its bytes are, and where the frames lie in them (PS3.3 C.12.1)."""

    __tablename__ = "instance"
    __table_args__ = (
        Index("ix_instance_series", "series_id", "instance_number", "id"),
        Index("ix_instance_study", "study_id"),
        Index("ix_instance_blob", "blob_key"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(BigKey, ForeignKey("study.id", ondelete="CASCADE"))
    series_id: Mapped[int] = mapped_column(BigKey, ForeignKey("series.id", ondelete="CASCADE"))
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), unique=True)
    sop_class_uid: Mapped[str] = mapped_column(text_key(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    instance_number: Mapped[int | None] = mapped_column(default=None)
    number_of_frames: Mapped[int] = mapped_column(default=0)  # 0: no pixel data
    content_date: Mapped[date | None] = mapped_column(default=None)
    rows: Mapped[int] = mapped_column(default=0)
    columns: Mapped[int] = mapped_column(default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger)  # of the Part 10 object as received
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    md5: Mapped[bytes | None] = deferred(
        mapped_column(LargeBinary(16))
    )  # older code fills it, this asks for it nowhere: a later release drops it
    blob_key: Mapped[str] = mapped_column(String(160))
    seal: Mapped[bytes] = mapped_column(LargeBinary)  # kernel.crypto.Seal, packed
    frames: Mapped[bytes] = mapped_column(LargeBinary)  # archive.frame_index, packed
    bulk: Mapped[str] = mapped_column(Text, default="{}")  # bulk data path -> [offset, length, VR]
    attributes: Mapped[bytes] = mapped_column(SealedBytes("instance.attributes"))  # as of Study
    document: Mapped[bytes] = deferred(
        mapped_column(LargeBinary)
    )  # sealed deflated DICOM JSON, without bulk data
    repairs: Mapped[str] = mapped_column(
        Text, default=""
    )  # what was mended in reading the header, for people
    source: Mapped[str] = mapped_column(String(64), default="")  # the principal who brought it
    door: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Hold(Base):
    """An object that was received and kept, and that nobody sees until it is reviewed."""

    __tablename__ = "hold"
    __table_args__ = (Index("ix_hold_open", "resolved_at", "received_at"), Index("ix_hold_blob", "blob_key"))

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    reason: Mapped[str] = mapped_column(String(32))  # different-bytes, patient-conflict, rejected
    study_instance_uid: Mapped[str] = mapped_column(text_key(64), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), index=True)
    institution: Mapped[str] = mapped_column(String(32), default="")
    blob_key: Mapped[str] = mapped_column(String(160))
    seal: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    detail: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(String(64), default="")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    resolved_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    resolution: Mapped[str] = mapped_column(String(32), default="")


_STUDY = select(Study).where(Study.study_instance_uid == bindparam("uid"))  # built once: every change asks


def study_of(session: Session, study_instance_uid: str) -> Study | None:
    """The study of a UID; None when there is none (any more)."""
    return session.scalar(_STUDY, {"uid": study_instance_uid})
