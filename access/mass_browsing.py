"""The alarm for somebody who looks at unusually many patients.

Every read is in the audit trail; a job counts there how many different patients each person and each app has
read of within the last hour, and notes whoever exceeds what the site's document `mass-browsing` allows. The
entry stands in the trail like any other, the audit page says so, and Prometheus has a figure of it. Nothing
is refused: a night shift in an emergency department is no crime.

    {"patients_an_hour": 200}

Nodes and jobs are not counted, for a PACS may read everything.
"""

import json
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.audit import DONE, Noted, note_all
from access.caller import PrincipalKind, system
from access.document_kind import DocumentKind, current_document
from access.model import AuditEntry
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job

ALARM = "alarm MassBrowsing"
WITHIN = timedelta(hours=1)
DEFAULT_MOST = 200  # a busy reporting room reads some dozens an hour
COUNTED = (PrincipalKind.ACCOUNT.value, PrincipalKind.CLIENT.value)


class InvalidThreshold(CloudfilmError):
    """A document that names no number of patients."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__('Write {"patients_an_hour": 200}, with a number from 1 to 1000000.')


def parse_threshold(document: str) -> int:
    """How many patients an hour are usual. Raises InvalidThreshold."""
    try:
        said = json.loads(document)
    except (ValueError, RecursionError):
        raise InvalidThreshold from None
    if not isinstance(said, dict) or set(said) - {"patients_an_hour"}:
        raise InvalidThreshold
    most = said.get("patients_an_hour", DEFAULT_MOST)
    if type(most) is not int or not 1 <= most <= 1_000_000:
        raise InvalidThreshold
    return most


MASS_BROWSING = DocumentKind(
    "mass-browsing",
    "How many different patients one person may look at within an hour before an alarm is raised.",
    parse_threshold,
    resource="Policy",
)


def alarmed(session: Session, now: datetime) -> int:
    """How many people and apps an alarm was raised about within the last hour."""
    counted = select(func.count(AuditEntry.subject.distinct())).where(
        AuditEntry.at > now - WITHIN, AuditEntry.action == ALARM
    )
    return session.scalar(counted) or 0


@job(queue="default", every=timedelta(minutes=5))
def watch_browsing(access: Access) -> None:
    """Note who has read of more patients within the last hour than is usual, once an hour."""
    now = access.clock.now()
    patients = func.count(AuditEntry.patient_id.distinct())
    with access.database.transaction() as session:
        most = parse_threshold(current_document(session, MASS_BROWSING))
        told = set(
            session.scalars(
                select(AuditEntry.subject).where(AuditEntry.at > now - WITHIN, AuditEntry.action == ALARM)
            )
        )
        found = session.execute(
            select(AuditEntry.principal_kind, AuditEntry.principal_id, patients)
            .where(
                AuditEntry.at > now - WITHIN,
                AuditEntry.action.like("read %"),
                AuditEntry.outcome == DONE,
                AuditEntry.patient_id != "",
                AuditEntry.principal_kind.in_(COUNTED),
            )
            .group_by(AuditEntry.principal_kind, AuditEntry.principal_id)
            .having(patients > most)
        ).all()
        alarms = [
            Noted(ALARM, f"{kind}/{who}", detail=f"{count} patients within an hour; usual are at most {most}")
            for kind, who, count in found
            if f"{kind}/{who}" not in told
        ]
        note_all(session, access.clock, system("watch browsing"), alarms)
