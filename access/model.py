"""The tables of access: institutions, accounts, tokens, nodes and the audit trail."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime


class Institution(Base):
    """A member of the consortium. Its code stands on every row that it owns."""

    __tablename__ = "institution"

    code: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    patient_id_issuer: Mapped[str] = mapped_column(String(64), default="")  # of Patient IDs that name none


class Account(Base):
    """A person who signs in."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    role: Mapped[str] = mapped_column(String(32))
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    password: Mapped[str] = mapped_column(String(256), default="")  # argon2id; empty: no sign-in by password
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Token(Base):
    """An opaque access token or browser session. Only a keyed hash of the secret is kept."""

    __tablename__ = "token"
    __table_args__ = (Index("ix_token_account", "account_id"), Index("ix_token_expires", "expires_at"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))  # access, session, setup
    account_id: Mapped[str] = mapped_column(String(36), default="")
    client_id: Mapped[str] = mapped_column(String(64), default="")
    role: Mapped[str] = mapped_column(String(32), default="")  # of a token without an account
    scope: Mapped[str] = mapped_column(
        Text, default=""
    )  # SMART scopes; empty on a session: all that the role has
    context: Mapped[str] = mapped_column(Text, default="{}")  # launch context: patient, ...
    label: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Node(Base):
    """A DIMSE or MLLP peer that may associate."""

    __tablename__ = "node"

    id: Mapped[int] = mapped_column(primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16), unique=True)
    host: Mapped[str] = mapped_column(
        String(255), default=""
    )  # where it is reached, for C-MOVE and forwarding
    port: Mapped[int] = mapped_column(default=0)
    addresses: Mapped[str] = mapped_column(
        Text, default=""
    )  # networks it may call from, comma-separated; empty: its host
    certificate: Mapped[str] = mapped_column(
        String(64), default=""
    )  # SHA-256 of its TLS certificate; empty: any
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    permissions: Mapped[str] = mapped_column(String(64), default="store,find,retrieve")
    transfer_syntaxes: Mapped[str] = mapped_column(Text, default="")  # preferred, comma-separated
    tls: Mapped[bool] = mapped_column(default=False)
    max_associations: Mapped[int] = mapped_column(default=0)  # 0: as the server's own limit
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AuditEntry(Base):
    """One thing that somebody did, or was refused. Each row carries the hash of the one before it."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index("ix_audit_entry_at", "at"), Index("ix_audit_entry_subject", "subject", "at"))

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    principal_kind: Mapped[str] = mapped_column(String(16))
    principal_id: Mapped[str] = mapped_column(String(64))
    principal_name: Mapped[str] = mapped_column(String(200), default="")
    door: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64), default="")
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))  # done, refused, failed
    subject: Mapped[str] = mapped_column(String(160), default="")
    patient_id: Mapped[str] = mapped_column(String(64), default="")
    grant: Mapped[str] = mapped_column("grant_id", String(64), default="")
    purpose: Mapped[str] = mapped_column(String(32), default="")
    detail: Mapped[str] = mapped_column(Text, default="")
    hash: Mapped[str] = mapped_column(String(64), default="")  # empty until chained


class AuditHead(Base):
    """Where the chain stands: the last entry chained, and its hash."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    hash: Mapped[str] = mapped_column(String(64), default="")
