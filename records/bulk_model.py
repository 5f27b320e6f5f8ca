"""The tables of bulk export and import: what was asked for, how far it is, and the files that it made."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedText
from records.model import BigKey, text_key


class BulkJob(Base):
    """One export or import."""

    __tablename__ = "bulk_job"
    __table_args__ = (Index("ix_bulk_job_made_at", "made_at"),)

    id: Mapped[str] = mapped_column(text_key(40), primary_key=True)
    kind: Mapped[str] = mapped_column(text_key(8))  # export or import
    owner: Mapped[str] = mapped_column(
        SealedText("bulk_job.owner")
    )  # the caller as kept text: nothing beyond their reach is exported
    principal: Mapped[str] = mapped_column(text_key(160))  # who may ask for it: kind and id
    request: Mapped[str] = mapped_column(SealedText("bulk_job.request"))  # URL of the kick-off
    asked: Mapped[str] = mapped_column(SealedText("bulk_job.asked"))  # its parameters, as JSON
    state: Mapped[str] = mapped_column(text_key(12), default="accepted")  # running, done, failed, cancelled
    progress: Mapped[str] = mapped_column(text_key(100), default="accepted")
    error: Mapped[str] = mapped_column(Text, default="")
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    done_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class BulkFile(Base):
    """One file of NDJSON that an export made, or that an import was given; sealed."""

    __tablename__ = "bulk_file"
    __table_args__ = (Index("ix_bulk_file_job", "job_id"), Index("ix_bulk_file_blob", "blob_key"))

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    job_id: Mapped[str] = mapped_column(text_key(40), ForeignKey("bulk_job.id", ondelete="CASCADE"))
    resource_type: Mapped[str] = mapped_column(text_key(40))
    what: Mapped[str] = mapped_column(text_key(8), default="output")  # output, input or error
    count: Mapped[int] = mapped_column(Integer, default=0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    blob_key: Mapped[str] = mapped_column(text_key(100))
    seal: Mapped[bytes] = mapped_column(LargeBinary)
