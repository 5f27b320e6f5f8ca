"""The tables of removals: who took what out of the archive and why, and the objects until they are purged."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, deferred, mapped_column

from archive.model import BigKey, text_key
from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedText


class Removal(Base):
    """One act of removing a study, a series or an instance (IHE IOCM, PS3.3 C.17.2: rejection)."""

    __tablename__ = "removal"
    __table_args__ = (Index("ix_removal_open", "purge_at", "ended_at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(text_key(64), index=True)
    series_instance_uid: Mapped[str] = mapped_column(text_key(64), default="")  # empty: the whole study
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), default="")  # empty: the whole series
    patient_logical_id: Mapped[str] = mapped_column(String(64), default="")
    institution: Mapped[str] = mapped_column(String(32), default="")
    reason: Mapped[str] = mapped_column(String(16))  # a code of CID 7011
    comment: Mapped[str] = mapped_column(SealedText("removal.comment"), default="")
    instances: Mapped[int] = mapped_column(default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    removed_by: Mapped[str] = mapped_column(String(64))
    removed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    purge_at: Mapped[datetime] = mapped_column(UtcDateTime)  # when the bytes go for good
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)  # restored or purged
    end: Mapped[str] = mapped_column(String(16), default="")  # restored, purged


class RemovedInstance(Base):
    """An object that was removed and can still be brought back: everything else is made from its bytes."""

    __tablename__ = "removed_instance"
    __table_args__ = (
        Index("ix_removed_instance_removal", "removal_id"),
        Index("ix_removed_instance_blob", "blob_key"),
        Index("ix_removed_instance_uid", "sop_instance_uid"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    removal_id: Mapped[str] = mapped_column(String(64), ForeignKey("removal.id", ondelete="CASCADE"))
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    md5: Mapped[bytes | None] = deferred(mapped_column(LargeBinary(16)))  # as of Instance
    blob_key: Mapped[str] = mapped_column(String(160))
    seal: Mapped[bytes] = mapped_column(LargeBinary)
