"""Delivery reports: what a provider tells later of a message that it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import update

from messaging.model import OutboundMessage
from messaging.room import Messaging


@dataclass(frozen=True, slots=True)
class Report:
    """One message's fate, by the provider's own number."""

    receipt: str
    delivered: bool
    error: str = ""


def keep_reports(messaging: Messaging, gateways: Sequence[str], reports: Sequence[Report]) -> int:
    """Write reports to the messages they are about; returns how many there were."""
    now, kept = messaging.clock.now(), 0
    with messaging.database.transaction() as session:
        for report in reports:
            changed = session.execute(
                update(OutboundMessage)
                .where(
                    OutboundMessage.gateway.in_(gateways),
                    OutboundMessage.receipt == report.receipt,
                    OutboundMessage.state == "sent",
                )
                .values(
                    state="delivered" if report.delivered else "failed",
                    delivered_at=now if report.delivered else None,
                    error="" if report.delivered else report.error,
                )
            )
            kept += changed.rowcount  # type: ignore[attr-defined]
    return kept
