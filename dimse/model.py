"""The table of the DIMSE door: studies that are to be sent to other nodes."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime


class Forwarding(Base):
    """One study on its way to one node, and how far it has come."""

    __tablename__ = "forwarding"
    __table_args__ = (
        UniqueConstraint("study_instance_uid", "node"),
        Index("ix_forwarding_waiting", "node", "state", "due"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    node: Mapped[str] = mapped_column(String(16))
    rule: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16), default="waiting")  # waiting, sent, failed
    due: Mapped[datetime] = mapped_column(UtcDateTime)
    until_instance: Mapped[int] = mapped_column(BigInteger, default=0)  # the last row that had its turn
    sent: Mapped[int] = mapped_column(default=0)
    failed: Mapped[str] = mapped_column(Text, default="")  # SOP Instance UIDs to be tried again, by commas
    tries: Mapped[int] = mapped_column(default=0)  # since something went well
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
