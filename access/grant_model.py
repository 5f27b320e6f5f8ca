"""The tables of sharing: grants, what they name, visits, openings under way, families, and counters.

A phone number is sealed, masked too; it is found again by a keyed hash (`phone_index`). Names and reasons are
sealed, and not looked for. Of secrets and codes only a keyed hash is kept.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_values import KeyedHash, SealedText


class ShareGrant(Base):
    """A share: what it opens, to whom, until when, how often, and who gave it."""

    __tablename__ = "share_grant"
    __table_args__ = (
        Index("ix_share_grant_accession", "accession_number", "institution"),
        Index("ix_share_grant_patient", "patient", "created_at"),
        Index("ix_share_grant_maker", "made_by", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))  # link, paper, health-link
    institution: Mapped[str] = mapped_column(String(32), default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="")  # of a paper code
    patient: Mapped[str] = mapped_column(String(64), default="")  # logical id; empty until it is known
    binding: Mapped[str] = mapped_column(String(16))  # access.share_policy.BINDINGS
    phone: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # sealed, of binding `phone`
    phone_index: Mapped[str] = mapped_column(String(64), default="", index=True)  # or of account, of openid
    passcode: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # keyed hash
    failures: Mapped[int] = mapped_column(default=0)  # wrong passcodes in its whole life
    recipient: Mapped[str] = mapped_column(
        SealedText("share_grant.recipient"), default=""
    )  # as its maker calls whom it is for
    reason: Mapped[str] = mapped_column(SealedText("share_grant.reason"), default="")
    may_download: Mapped[bool] = mapped_column(default=False)
    with_report: Mapped[bool] = mapped_column(default=True)
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    most_uses: Mapped[int] = mapped_column(default=0)  # 0: as often as one likes
    uses: Mapped[int] = mapped_column(default=0)
    made_by_kind: Mapped[str] = mapped_column(String(16))
    made_by: Mapped[str] = mapped_column(String(64))
    made_by_name: Mapped[str] = mapped_column(SealedText("share_grant.made_by_name"), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    first_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    revoked_by: Mapped[str] = mapped_column(String(64), default="")
    details: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # sealed: what a health link needs


class ShareItem(Base):
    """One study or report that a grant opens, and whose it was when it was added."""

    __tablename__ = "share_item"

    grant_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("share_grant.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)  # study, report, result
    identifier: Mapped[str] = mapped_column(String(64), primary_key=True)  # UID, or logical id of the report
    patient: Mapped[str] = mapped_column(String(64), index=True)


class ShareVisit(Base):
    """A visitor who was let in: the session behind the cookie. Only a keyed hash of it is kept."""

    __tablename__ = "share_visit"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    grant_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("share_grant.id", ondelete="CASCADE"), index=True
    )
    relation: Mapped[str] = mapped_column(String(16), default="")  # patient, family, recipient
    visitor: Mapped[str] = mapped_column(
        SealedText("share_visit.visitor"), default=""
    )  # masked phone, or a name; empty: not known
    visitor_index: Mapped[str] = mapped_column(
        KeyedHash("share_visit.visitor"), default="", server_default=""
    )
    phone: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # sealed
    address: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class PhoneChallenge(Base):
    """A code on its way to a phone, bound to the browser that asked and to what it is for."""

    __tablename__ = "phone_challenge"
    __table_args__ = (Index("ix_phone_challenge_expires", "expires_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)  # of the browser's secret
    subject: Mapped[str] = mapped_column(String(64), default="")  # grant id; empty: a patient's sign-in
    phone: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # sealed
    phone_index: Mapped[str] = mapped_column(String(64), default="")
    code: Mapped[bytes] = mapped_column(LargeBinary, default=b"")  # keyed hash; empty: none was sent
    tries: Mapped[int] = mapped_column(default=0)
    relation: Mapped[str] = mapped_column(String(16), default="")  # whose the phone is
    openid: Mapped[str] = mapped_column(String(64), default="")  # of WeChat, when it was asked
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    code_until: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    spent_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class AuthorizedPerson(Base):
    """Somebody who may open a patient's paper codes: family, a carer. Named by the patient or by staff."""

    __tablename__ = "authorized_person"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    patient: Mapped[str] = mapped_column(String(64), index=True)
    phone: Mapped[bytes] = mapped_column(LargeBinary)  # sealed
    phone_index: Mapped[str] = mapped_column(String(64), index=True)
    masked: Mapped[str] = mapped_column(SealedText("authorized_person.masked"), default="")
    name: Mapped[str] = mapped_column(SealedText("authorized_person.name"), default="")
    relation: Mapped[str] = mapped_column(String(32), default="")  # as in FHIR RelatedPerson, a word
    added_by: Mapped[str] = mapped_column(String(64))
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class AccountBinding(Base):
    """What else a patient's account is known by: phone, WeChat openid, e-mail address, as a keyed hash."""

    __tablename__ = "account_binding"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)  # phone, wechat, email
    value_index: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(36), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)  # the number or openid itself, for messages
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RateCounter(Base):
    """How often something happened within a window of time."""

    __tablename__ = "rate_counter"

    name: Mapped[str] = mapped_column(String(160), primary_key=True)
    window: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
