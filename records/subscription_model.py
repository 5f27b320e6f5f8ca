"""The tables of subscriptions: who is told of what, how far they were told, and what waits to be told."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedText
from records.model import BigKey, text_key


class SubscriptionState(Base):
    """A Subscription document with the state that its deliveries are in."""

    __tablename__ = "subscription_state"
    __table_args__ = (Index("ix_subscription_state_type", "resource_type"),)

    logical_id: Mapped[str] = mapped_column(text_key(64), primary_key=True)
    resource_type: Mapped[str] = mapped_column(text_key(40))  # that it is about
    criteria: Mapped[str] = mapped_column(SealedText("subscription_state.criteria"))
    topic: Mapped[str] = mapped_column(text_key(200), default="")  # empty: R4 without topics
    channel: Mapped[str] = mapped_column(text_key(16))
    owner: Mapped[str] = mapped_column(
        SealedText("subscription_state.owner")
    )  # the caller as kept text: what is told obeys their reach
    active: Mapped[bool] = mapped_column(default=True)
    ends_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    events: Mapped[int] = mapped_column(BigInteger, default=0)  # how many there were
    delivered: Mapped[int] = mapped_column(BigInteger, default=0)  # the number of the last one that arrived
    tries: Mapped[int] = mapped_column(Integer, default=0)  # that failed since
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    error: Mapped[str] = mapped_column(Text, default="")


class SubscriptionEvent(Base):
    """One change that a subscription is to be told of; kept a while after it was."""

    __tablename__ = "subscription_event"
    __table_args__ = (Index("ix_subscription_event_at", "at"),)

    logical_id: Mapped[str] = mapped_column(
        text_key(64), ForeignKey("subscription_state.logical_id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(BigKey, primary_key=True)
    focus: Mapped[str] = mapped_column(text_key(110))  # Type/id
    version: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
