"""Continuation: the rest of a long answer to a query, kept until it is asked for (chapter 5.6.3; DSC)."""

import json
from datetime import datetime, timedelta

from sqlalchemy import Index, String, Text, delete
from sqlalchemy.orm import Mapped, Session, mapped_column

from hl7_listener.room import Work
from kernel.clock import new_id
from kernel.database import Base, UtcDateTime

KEPT = timedelta(hours=1)


class Hl7Continuation(Base):
    """The Patients that are still to be told, by their logical ids."""

    __tablename__ = "hl7_continuation"
    __table_args__ = (Index("ix_hl7_continuation_at", "at"),)

    pointer: Mapped[str] = mapped_column(String(64), primary_key=True)
    node: Mapped[str] = mapped_column(String(64))
    tag: Mapped[str] = mapped_column(String(64), default="")  # QPD-2, by which the query is cancelled
    patients: Mapped[str] = mapped_column(Text)
    total: Mapped[int] = mapped_column(default=0)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


def keep_rest(work: Work, tag: str, patients: list[str], total: int) -> str:
    """Keep what is still to be told; returns the pointer to it."""
    now = work.hl7.clock.now()
    work.session.execute(delete(Hl7Continuation).where(Hl7Continuation.at < now - KEPT))
    row = Hl7Continuation(
        pointer=new_id(), node=work.caller.principal.id[:64], tag=tag[:64],
        patients=json.dumps(patients), total=total, at=now,
    )  # fmt: skip
    work.session.add(row)
    return row.pointer


def take_rest(work: Work, pointer: str) -> tuple[list[str], int] | None:
    """What was still to be told, once, to the one who asked; and how many there were in all."""
    row = work.session.get(Hl7Continuation, pointer[:64], with_for_update=True)
    if row is None or row.node != work.caller.principal.id[:64]:
        return None
    work.session.delete(row)
    return json.loads(row.patients), row.total


def forget(session: Session, node: str, tag: str) -> None:
    """A query is cancelled (QCN^J01)."""
    session.execute(
        delete(Hl7Continuation).where(Hl7Continuation.node == node[:64], Hl7Continuation.tag == tag[:64])
    )
