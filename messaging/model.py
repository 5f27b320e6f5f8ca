"""The tables of messaging: what goes out, inboxes, where browsers listen, borrowed tickets."""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedText


class OutboundMessage(Base):
    """One message to one recipient by one channel, and how far it got."""

    __tablename__ = "outbound_message"
    __table_args__ = (Index("ix_outbound_message_receipt", "gateway", "receipt"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    channel: Mapped[str] = mapped_column(String(16))  # sms, email, wechat, push, webhook
    recipient: Mapped[bytes] = mapped_column(LargeBinary)  # sealed: phone, address, openid, subscription id
    masked: Mapped[str] = mapped_column(SealedText("outbound_message.masked"), default="")
    template: Mapped[str] = mapped_column(String(64))
    values: Mapped[bytes] = mapped_column(LargeBinary)  # sealed JSON, emptied when it is a code and was sent
    state: Mapped[str] = mapped_column(String(16), default="queued")  # sent, delivered, failed, expired
    gateway: Mapped[str] = mapped_column(String(64), default="")  # name of the gateway that took it
    receipt: Mapped[str] = mapped_column(String(128), default="")  # the provider's number
    error: Mapped[str] = mapped_column(String(300), default="")
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    useless_after: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Notice(Base):
    """One entry of a person's message centre."""

    __tablename__ = "notice"
    __table_args__ = (Index("ix_notice_account", "account_id", "at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36))
    topic: Mapped[str] = mapped_column(String(32))  # key of its text: report-ready, share-opened
    values: Mapped[bytes] = mapped_column(LargeBinary)  # sealed JSON
    link: Mapped[str] = mapped_column(String(200), default="")  # path on this site
    about: Mapped[str] = mapped_column(String(64), default="")  # report or grant; one notice for each
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    read_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class PushSubscription(Base):
    """A browser that asked for push messages (RFC 8030, RFC 8291)."""

    __tablename__ = "push_subscription"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36), index=True)
    endpoint_index: Mapped[str] = mapped_column(String(64), unique=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)  # JSON: endpoint, p256dh, auth
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BorrowedTicket(Base):
    """A token that a provider lends for a while, shared by all processes: WeChat's two tickets."""

    __tablename__ = "borrowed_ticket"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
