"""The tables of what is no patient's (PS3.18 12): instances by category, and the values they are found by."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, deferred, mapped_column

from archive.model import BigKey, text_key
from kernel.database import Base, UtcDateTime


class NonPatientInstance(Base):
    """A hanging protocol, color palette, implant template, protocol or inventory, and where its bytes are."""

    __tablename__ = "non_patient_instance"
    __table_args__ = (
        Index("ix_non_patient_category", "category", "id"),
        Index("ix_non_patient_blob", "blob_key"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    category: Mapped[str] = mapped_column(String(32))  # see archive.non_patient_keys
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), unique=True)
    sop_class_uid: Mapped[str] = mapped_column(text_key(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    md5: Mapped[bytes | None] = deferred(mapped_column(LargeBinary(16)))  # as of Instance
    blob_key: Mapped[str] = mapped_column(String(160))
    seal: Mapped[bytes] = mapped_column(LargeBinary)
    bulk: Mapped[str] = mapped_column(Text, default="{}")  # as of Instance
    attributes: Mapped[bytes] = mapped_column(LargeBinary)  # DICOM JSON of the default answer
    document: Mapped[bytes] = deferred(mapped_column(LargeBinary, nullable=False))  # as of Instance
    source: Mapped[str] = mapped_column(String(64), default="")
    door: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)  # purged in time


class NonPatientValue(Base):
    """A searched value of a non-patient instance, by path as in `archive.indexed_values`."""

    __tablename__ = "non_patient_value"
    __table_args__ = (
        Index("ix_non_patient_value", "path", "value"),
        Index("ix_non_patient_value_instance", "instance_id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    instance_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("non_patient_instance.id", ondelete="CASCADE")
    )
    path: Mapped[str] = mapped_column(String(64))
    value: Mapped[str] = mapped_column(text_key(200))  # folded
