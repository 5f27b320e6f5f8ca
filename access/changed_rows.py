"""Accounts, apps and nodes whose rows somebody changed behind cloudfilm's back decide nothing any more.

Their rows carry codes (`kernel.row_codes`). Whoever signs in by such a row, or goes on by one, is refused;
that raises an alarm in the trail, once an hour for each row, and Prometheus has a figure of it. Rows from
before there were codes count until a job has been through all of them, once (`access.row_care`); that it has
stands in the trail, which is chained, so that nobody lets it come again unseen.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.audit import REFUSED, note
from access.caller import system
from access.model import AuditEntry
from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database
from kernel.row_codes import Coded, RowChanged, is_intact

ALARM = "alarm ChangedRow"
WITHIN = timedelta(hours=1)
MADE, CODES = "make RowCodes", "row codes"  # action and subject of the entry that the pass leaves


def codes_were_made(session: Session) -> bool:
    """Whether every row that counts has a code."""
    made = select(AuditEntry.seq).where(AuditEntry.subject == CODES, AuditEntry.action == MADE).limit(1)
    return session.scalar(made) is not None


def does_count(session: Session, keys: KeyRing, row: Coded) -> bool:
    """Whether a row is as cloudfilm left it, as far as one can tell."""
    return is_intact(row, keys) or (not row.integrity and not codes_were_made(session))


def require_intact(database: Database, keys: KeyRing, clock: Clock, row: Coded) -> None:
    """Raise RowChanged for a row that does not count, and the alarm with it.

    The alarm has a transaction of its own, so call it outside of any other.
    """
    if not database.seals or is_intact(row, keys):
        return
    with database.snapshot() as session:
        if does_count(session, keys, row):
            return
    raise_alarm(database, clock, row)
    raise RowChanged(row.row_name)


def raise_alarm(database: Database, clock: Clock, row: Coded) -> None:
    """Note a row that does not count, unless that was done within the hour."""
    with database.transaction() as session:
        told = select(AuditEntry.seq).where(
            AuditEntry.subject == row.row_name,
            AuditEntry.at > clock.now() - WITHIN,
            AuditEntry.action == ALARM,
        )
        if session.scalar(told.limit(1)) is None:
            said = "changed outside of cloudfilm" if row.integrity else "without a code"
            note(session, clock, system("check rows"), ALARM, row.row_name, outcome=REFUSED, detail=said)


def alarmed(session: Session, now: datetime) -> int:
    """About how many rows an alarm was raised lately."""
    counted = select(func.count(AuditEntry.subject.distinct())).where(
        AuditEntry.at > now - 2 * WITHIN, AuditEntry.action == ALARM
    )
    return session.scalar(counted) or 0
