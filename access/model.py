"""The tables of access: institutions, accounts, apps, tokens, nodes, policies and the audit trail."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.row_codes import Coded
from kernel.sealed_values import KeyedHash, SealedText


class Institution(Base):
    """A member of the consortium. Its code stands on every row that it owns."""

    __tablename__ = "institution"

    code: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    patient_id_issuer: Mapped[str] = mapped_column(String(64), default="")  # of Patient IDs that name none


class Account(Coded, Base):
    """A person who signs in."""

    __tablename__ = "account"
    COVERED = (
        "login", "id", "role", "institution", "department", "password", "disabled", "password_changed_at",
        "must_change", "certificate", "federated", "fhir_user", "patients", "created_at",
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(SealedText("account.name"), default="")
    role: Mapped[str] = mapped_column(String(32))
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    password: Mapped[str] = mapped_column(String(256), default="")  # argon2id; empty: no sign-in by password
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    disabled: Mapped[bool] = mapped_column(default=False)
    password_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    must_change: Mapped[bool] = mapped_column(default=False)  # somebody else chose the password
    phone: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # sealed; for codes by SMS
    certificate: Mapped[str] = mapped_column(String(64), default="", index=True)  # SHA-256 of its own one
    federated: Mapped[str] = mapped_column(
        SealedText("account.federated"), default=""
    )  # `issuer subject` elsewhere
    federated_index: Mapped[str] = mapped_column(
        KeyedHash("account.federated"), default="", server_default="", index=True
    )
    fhir_user: Mapped[str] = mapped_column(String(128), default="")  # reference: Practitioner/x, Patient/x
    patients: Mapped[str] = mapped_column(Text, default="")  # of a patient or proxy: Patient ids, by commas
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PasswordHistory(Base):
    """A password that an account had; it may not come back soon."""

    __tablename__ = "password_history"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36), index=True)
    password: Mapped[str] = mapped_column(String(256))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class SecondFactor(Base):
    """What an account shows beside its password: a TOTP secret or a WebAuthn credential."""

    __tablename__ = "second_factor"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36), index=True)
    kind: Mapped[str] = mapped_column(String(16))  # totp, webauthn
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # sealed: TOTP secret, or WebAuthn public key
    credential: Mapped[str] = mapped_column(String(512), default="", index=True)  # WebAuthn credential id
    counter: Mapped[int] = mapped_column(BigInteger, default=0)  # last TOTP step or signature count seen
    label: Mapped[str] = mapped_column(String(100), default="")
    confirmed: Mapped[bool] = mapped_column(default=False)  # it was shown to work once
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Client(Coded, Base):
    """An app or service that is registered (RFC 7591, SMART App Launch 2.2)."""

    __tablename__ = "client"
    COVERED = (
        "id", "auth_method", "secret", "jwks", "jwks_uri", "redirect_uris", "launch_uri", "grant_types",
        "scope", "role", "institution", "disabled",
    )  # fmt: skip

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), default="")
    auth_method: Mapped[str] = mapped_column(String(32), default="none")
    secret: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # keyed hash
    jwks: Mapped[str] = mapped_column(Text, default="")  # inline key set
    jwks_uri: Mapped[str] = mapped_column(Text, default="")
    redirect_uris: Mapped[str] = mapped_column(Text, default="")  # one a line, compared whole
    launch_uri: Mapped[str] = mapped_column(Text, default="")
    grant_types: Mapped[str] = mapped_column(Text, default="authorization_code")  # separated by spaces
    scope: Mapped[str] = mapped_column(Text, default="")  # the most it may be granted; empty: all we support
    role: Mapped[str] = mapped_column(String(32), default="integration")  # as a service without a user
    institution: Mapped[str] = mapped_column(String(32), default="")
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AuthorizationCode(Base):
    """A code that an app exchanges for tokens, once. Only a keyed hash of it is kept."""

    __tablename__ = "authorization_code"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(64))
    account_id: Mapped[str] = mapped_column(String(36))
    session_id: Mapped[str] = mapped_column(String(36))  # the browser session that approved
    family: Mapped[str] = mapped_column(String(36))  # of the tokens that come from it
    redirect_uri: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    context: Mapped[str] = mapped_column(Text, default="{}")
    nonce: Mapped[str] = mapped_column(String(256), default="")
    code_challenge: Mapped[str] = mapped_column(String(128))
    auth_time: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Launch(Base):
    """An EHR launch that was begun: a handle for one app, one session, one use."""

    __tablename__ = "launch"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(64))
    session_id: Mapped[str] = mapped_column(String(36))
    context: Mapped[str] = mapped_column(Text, default="{}")
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class SigningKey(Base):
    """A private key that signs ID tokens, sealed; the newest signs, older ones still verify."""

    __tablename__ = "signing_key"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    pem: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SpentAssertion(Base):
    """A client assertion's `jti` that was shown once already (SMART 2.2, 4.1.5)."""

    __tablename__ = "spent_assertion"

    issuer: Mapped[str] = mapped_column(String(64), primary_key=True)
    jti: Mapped[str] = mapped_column(String(128), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SiteDocument(Base):
    """A named document of the site as it was from a moment on; the newest holds. Rows are never changed."""

    __tablename__ = "site_document"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    by: Mapped[str] = mapped_column(String(64))
    comment: Mapped[str] = mapped_column(String(200), default="")
    document: Mapped[str] = mapped_column(Text)


class ConsentVersion(Base):
    """What one FHIR Consent permits or denies, from a moment on; the newest row of a Consent holds."""

    __tablename__ = "consent_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    consent: Mapped[str] = mapped_column(String(64), index=True)  # logical id of the Consent document
    patient: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    document: Mapped[str] = mapped_column(Text)  # provisions as access.consents reads them; empty: withdrawn


class BreakGlass(Base):
    """A physician exceeds policy for one patient, with a stated reason and for a while."""

    __tablename__ = "break_glass"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36), index=True)
    patient: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(SealedText("break_glass.reason"))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    reviewed_by: Mapped[str] = mapped_column(String(36), default="")
    reviewed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    verdict: Mapped[str] = mapped_column(SealedText("break_glass.verdict"), default="")


class AuditSeal(Base):
    """The end of the audit chain on one day, sealed with a key that the database does not hold."""

    __tablename__ = "audit_seal"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str] = mapped_column(String(64))  # keyed hash over day, number and hash
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Token(Base):
    """An opaque access token or browser session. Only a keyed hash of the secret is kept."""

    __tablename__ = "token"
    __table_args__ = (Index("ix_token_account", "account_id"), Index("ix_token_expires", "expires_at"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))  # access, refresh, session, half, setup, registration
    account_id: Mapped[str] = mapped_column(String(36), default="")
    client_id: Mapped[str] = mapped_column(String(64), default="")
    role: Mapped[str] = mapped_column(String(32), default="")  # of a token without an account
    scope: Mapped[str] = mapped_column(
        Text, default=""
    )  # SMART scopes; empty on a session: all that the role has
    context: Mapped[str] = mapped_column(Text, default="{}")  # launch context: patient, ...
    label: Mapped[str] = mapped_column(String(200), default="")
    family: Mapped[str] = mapped_column(String(36), default="", index=True)  # tokens of one approval
    session_id: Mapped[str] = mapped_column(String(36), default="")  # ends with this session; empty: does not
    factors: Mapped[str] = mapped_column(String(64), default="")  # how its holder signed in (RFC 8176)
    certificate: Mapped[str] = mapped_column(
        String(128), default="", server_default=""
    )  # that a session began with: issuer and number, as lists of revoked ones have it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class Node(Coded, Base):
    """A DIMSE or MLLP peer that may associate, and that we may associate with."""

    __tablename__ = "node"
    COVERED = (
        "ae_title", "host", "port", "alternates", "addresses", "certificate", "tls", "institution",
        "department", "permissions",
    )  # fmt: skip

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
    alternates: Mapped[str] = mapped_column(Text, default="")  # host:port where it is reached if not at host
    max_sending: Mapped[int] = mapped_column(default=0)  # associations we open to it at once; 0: no limit
    max_bytes_per_s: Mapped[int] = mapped_column(BigInteger, default=0)  # sent to it or pulled; 0: no limit
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AuditEntry(Base):
    """One thing that somebody did, or was refused. Each row carries the hash of the one before it.

    Hashed is what was said, not what stands in the row: to seal it anew under another key changes nothing.
    """

    __tablename__ = "audit_entry"
    __table_args__ = (Index("ix_audit_entry_at", "at"), Index("ix_audit_entry_subject", "subject", "at"))

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    principal_kind: Mapped[str] = mapped_column(String(16))
    principal_id: Mapped[str] = mapped_column(String(64))
    principal_name: Mapped[str] = mapped_column(SealedText("audit_entry.principal_name"), default="")
    principal_index: Mapped[str] = mapped_column(
        KeyedHash("audit_entry.principal_name"), default="", server_default=""
    )  # not of what is hashed: it follows from the name
    door: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64), default="")
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))  # done, refused, failed
    subject: Mapped[str] = mapped_column(String(160), default="")
    patient_id: Mapped[str] = mapped_column(String(64), default="")
    grant: Mapped[str] = mapped_column("grant_id", String(64), default="")
    purpose: Mapped[str] = mapped_column(String(32), default="")
    detail: Mapped[str] = mapped_column(SealedText("audit_entry.detail"), default="")
    hash: Mapped[str] = mapped_column(String(64), default="")  # empty until chained


class AuditHead(Base):
    """Where the chain stands: the last entry chained, and its hash."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    hash: Mapped[str] = mapped_column(String(64), default="")
    algorithm: Mapped[str] = mapped_column(String(16), default="sha256")  # that chains all entries
