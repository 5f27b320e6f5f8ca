"""The tables of the edge: pulls of history, their slices of days, and the studies in them."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime

BigKey = BigInteger().with_variant(Integer(), "sqlite")


class Pull(Base):
    """One migration: what a node has from one day until another."""

    __tablename__ = "pull"

    id: Mapped[int] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(String(16))
    method: Mapped[str] = mapped_column(String(8))  # move, get
    hours: Mapped[str] = mapped_column(String(16), default="")  # in which it runs; empty: always
    modality: Mapped[str] = mapped_column(String(16), default="")  # only studies with it
    state: Mapped[str] = mapped_column(String(16), default="running")  # running, paused, done
    error: Mapped[str] = mapped_column(Text, default="")  # why it waits at present
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class PullSlice(Base):
    """A few days of it, asked for together."""

    __tablename__ = "pull_slice"
    __table_args__ = (Index("ix_pull_slice_state", "pull_id", "state"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id", ondelete="CASCADE"))
    first: Mapped[date] = mapped_column()
    last: Mapped[date] = mapped_column()
    state: Mapped[str] = mapped_column(String(16), default="waiting")  # waiting, asked
    studies: Mapped[int] = mapped_column(default=0)  # that the node says it has


class PullStudy(Base):
    """A study of the node, and how it compares with ours."""

    __tablename__ = "pull_study"
    __table_args__ = (
        UniqueConstraint("pull_id", "study_instance_uid"),
        Index("ix_pull_study_state", "pull_id", "state"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id", ondelete="CASCADE"))
    slice_id: Mapped[int] = mapped_column(BigKey, ForeignKey("pull_slice.id", ondelete="CASCADE"))
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default="waiting")  # waiting, whole, incomplete
    theirs: Mapped[int] = mapped_column(default=0)  # instances
    ours: Mapped[int] = mapped_column(default=0)  # of them that are here, stored or held for review
    series: Mapped[str] = mapped_column(Text, default="[]")  # [Series Instance UID, theirs, ours] of each
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
