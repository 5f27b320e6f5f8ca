"""The tables of reconciliation: which order a study is of, and where studies and documents moved."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime

BigKey = BigInteger().with_variant(Integer(), "sqlite")


class StudyComparison(Base):
    """A study's header beside an order, or beside the registration of its patient."""

    __tablename__ = "study_comparison"
    __table_args__ = (
        UniqueConstraint("study_id", "source"),
        Index("ix_study_comparison_state", "state", "id"),
        Index("ix_study_comparison_source", "source"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(BigKey, ForeignKey("study.id", ondelete="CASCADE"))
    source: Mapped[str] = mapped_column(String(128))  # ServiceRequest/x or Patient/x
    patient_logical_id: Mapped[str] = mapped_column(String(64))  # whose the source says it is
    state: Mapped[str] = mapped_column(String(16))  # agrees, differs, conflict, confirmed, rejected
    sealed: Mapped[bytes] = mapped_column(LargeBinary)  # field -> [header, source, level]
    compared_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    decided_by: Mapped[str] = mapped_column(String(64), default="")


class PatientMove(Base):
    """A study or document that went from one Patient to another, and whether it went back."""

    __tablename__ = "patient_move"
    __table_args__ = (Index("ix_patient_move_cause", "cause"), Index("ix_patient_move_subject", "subject"))

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    subject: Mapped[str] = mapped_column(String(128))  # a Study Instance UID, or Type/id
    from_patient: Mapped[str] = mapped_column(String(64))  # logical ids
    to_patient: Mapped[str] = mapped_column(String(64))
    cause: Mapped[str] = mapped_column(String(128))  # merge Patient/x, or comparison n
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    undone_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
