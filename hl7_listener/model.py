"""The tables of the HL7 v2 door: every message as it came, and what waits to be sent."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, deferred, mapped_column

from kernel.database import Base, UtcDateTime

BigKey = BigInteger().with_variant(Integer(), "sqlite")


class Hl7Message(Base):
    """One message that was received, kept sealed as it came, and what became of it."""

    __tablename__ = "hl7_message"
    __table_args__ = (
        UniqueConstraint("sender", "control_id", "digest"),
        Index("ix_hl7_message_state", "state", "id"),
        Index("ix_hl7_message_received", "received_at"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    sender: Mapped[str] = mapped_column(String(200))  # MSH-3|MSH-4
    node: Mapped[str] = mapped_column(String(64))  # the principal that sent it
    institution: Mapped[str] = mapped_column(String(32), default="")
    control_id: Mapped[str] = mapped_column(String(199))  # MSH-10
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of the bytes
    message_type: Mapped[str] = mapped_column(String(16), index=True)  # ADT^A01
    version: Mapped[str] = mapped_column(String(16), default="")
    charset: Mapped[str] = mapped_column(String(16), default="")
    repairs: Mapped[str] = mapped_column(Text, default="")
    sealed: Mapped[bytes] = deferred(mapped_column(LargeBinary))
    size_bytes: Mapped[int] = mapped_column(default=0)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    processed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    state: Mapped[str] = mapped_column(String(16))  # received, done, kept, failed, set-aside
    error: Mapped[str] = mapped_column(Text, default="")  # why it failed, without patient data
    answer: Mapped[bytes] = deferred(
        mapped_column(LargeBinary, default=b"")
    )  # sealed; given again to a repeat
    documents: Mapped[str] = mapped_column(Text, default="")  # what was made of it: Type/id, space-separated


class Hl7Outbound(Base):
    """One message to a node, and whether it has acknowledged it."""

    __tablename__ = "hl7_outbound"
    __table_args__ = (Index("ix_hl7_outbound_state", "state", "node", "id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    node: Mapped[str] = mapped_column(String(64))
    message_type: Mapped[str] = mapped_column(String(16))
    control_id: Mapped[str] = mapped_column(String(199), unique=True)
    sealed: Mapped[bytes] = deferred(mapped_column(LargeBinary))
    state: Mapped[str] = mapped_column(String(16))  # waiting, sent, refused
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Hl7Subscription(Base):
    """What a node asked to be told of."""

    __tablename__ = "hl7_subscription"

    node: Mapped[str] = mapped_column(String(64), primary_key=True)
    topic: Mapped[str] = mapped_column(String(16), primary_key=True)  # hl7_listener.outbound.TOPICS
