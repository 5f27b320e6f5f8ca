"""The tables of work: what is scheduled, what modalities say they did, and who wants to hear of it.

A workitem is one row however it came (an order, UPS-RS, N-CREATE, the command line); the modality worklist,
the Unified Procedure Step services and the order's own state are views of it. Its document is DICOM JSON in
the form of the UPS IOD (PS3.3 B.26) with what only a modality worklist says in a Scheduled Procedure Step
Sequence, and sealed; columns are drawn from it for searching.
"""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from archive.model import BigKey, text_key
from kernel.database import Base, UtcDateTime
from kernel.sealed_values import SealedBytes, SealedText


class State(StrEnum):
    """Procedure Step State (PS3.4 CC.1.1)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL = (State.COMPLETED, State.CANCELED)


class Workitem(Base):
    """One unit of work (PS3.3 C.30): a scheduled procedure step, an interpretation, a transfer."""

    __tablename__ = "workitem"
    __table_args__ = (Index("ix_workitem_open", "state", "on_worklist", "scheduled_date", "id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    transaction_uid: Mapped[str] = mapped_column(String(64), default="")  # of who performs it; never told
    on_worklist: Mapped[bool] = mapped_column(default=False)  # modalities see it
    service_request_id: Mapped[str | None] = mapped_column(String(64), unique=True, default=None)
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    patient_logical_id: Mapped[str] = mapped_column(String(64), index=True, default="")
    patient_id: Mapped[str] = mapped_column(text_key(64), index=True, default="")
    accession_number: Mapped[str] = mapped_column(text_key(64), index=True, default="")
    study_instance_uid: Mapped[str] = mapped_column(text_key(64), index=True, default="")
    step_id: Mapped[str] = mapped_column(text_key(64), index=True, default="")
    modality: Mapped[str] = mapped_column(text_key(16), default="")
    stations: Mapped[str] = mapped_column(Text, default="")  # AE titles, each between backslashes
    scheduled_date: Mapped[date | None] = mapped_column(
        default=None
    )  # local to the site, as modalities say it
    attributes: Mapped[bytes] = mapped_column(SealedBytes("workitem.attributes"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True, default=None)


class PerformedStep(Base):
    """What a modality says that it does or did: a Modality Performed Procedure Step (PS3.3 B.17.2)."""

    __tablename__ = "performed_step"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(text_key(64), unique=True)
    state: Mapped[str] = mapped_column(String(16))  # IN PROGRESS, COMPLETED, DISCONTINUED
    institution: Mapped[str] = mapped_column(String(32), default="")
    attributes: Mapped[bytes] = mapped_column(
        SealedBytes("performed_step.attributes")
    )  # DICOM JSON, as the modality said it
    source: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PerformedStepStudy(Base):
    """A study that a performed step is of, and the workitem it fulfils, when it was scheduled here."""

    __tablename__ = "performed_step_study"
    __table_args__ = (UniqueConstraint("performed_step_id", "study_instance_uid", "workitem_id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    performed_step_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("performed_step.id", ondelete="CASCADE")
    )
    study_instance_uid: Mapped[str] = mapped_column(text_key(64), index=True)
    workitem_id: Mapped[int | None] = mapped_column(
        BigKey, ForeignKey("workitem.id", ondelete="SET NULL"), index=True, default=None
    )


class WorkitemSubscriber(Base):
    """An AE that wants to hear of every workitem, or of those that meet a filter (PS3.4 CC.2.3)."""

    __tablename__ = "workitem_subscriber"
    __table_args__ = (UniqueConstraint("ae_title", "well_known_uid"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16))
    well_known_uid: Mapped[str] = mapped_column(String(64))  # of the global or of the filtered worklist
    filter: Mapped[str] = mapped_column(
        SealedText("workitem_subscriber.filter"), default="{}"
    )  # matching keys, DICOM JSON
    deletion_lock: Mapped[bool] = mapped_column(default=False)
    reach: Mapped[str] = mapped_column(Text)  # what it might know of when it subscribed
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WorkitemSubscription(Base):
    """An AE that hears of one workitem."""

    __tablename__ = "workitem_subscription"

    workitem_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("workitem.id", ondelete="CASCADE"), primary_key=True
    )
    ae_title: Mapped[str] = mapped_column(String(16), primary_key=True, index=True)
    deletion_lock: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Commitment(Base):
    """A request for storage commitment, until its result was delivered (PS3.4 J)."""

    __tablename__ = "commitment"
    __table_args__ = (UniqueConstraint("ae_title", "transaction_uid"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16))  # who asked
    transaction_uid: Mapped[str] = mapped_column(text_key(64))
    institution: Mapped[str] = mapped_column(String(32), default="")
    references: Mapped[str] = mapped_column("referenced", Text)  # JSON: [SOP class, SOP instance] of each
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")  # why it could not be delivered the last time
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
