"""What became of messages: reports are kept, and what one gateway could not deliver goes by the next.

A code that was not delivered is asked for again by who waits for it: it was forgotten once it was sent.
"""

from collections.abc import Sequence

from sqlalchemy import select

from kernel.jobs import enqueue
from messaging.gateways import gateways_of
from messaging.model import OutboundMessage
from messaging.reports import Report
from messaging.room import Messaging
from messaging.send import USELESS_AFTER, deliver_message


def keep_reports(messaging: Messaging, gateways: Sequence[str], reports: Sequence[Report]) -> int:
    """Write reports to the messages they are about; returns how many there were."""
    now, kept = messaging.clock.now(), 0
    with messaging.database.transaction() as session:
        order = [each.name for each in gateways_of(messaging, session).sms]
        for report in reports:
            message = session.scalar(
                select(OutboundMessage)
                .where(
                    OutboundMessage.gateway.in_(gateways),
                    OutboundMessage.receipt == report.receipt,
                    OutboundMessage.state == "sent",
                )
                .with_for_update()
            )
            if message is None:
                continue
            kept += 1
            if report.delivered:
                message.state, message.delivered_at, message.error = "delivered", now, ""
                continue
            message.error = f"{message.gateway}: {report.error}"[:300]
            if message.template in USELESS_AFTER or order[-1:] == [message.gateway]:
                message.state = "failed"
            else:
                message.state = "queued"
                enqueue(session, messaging.clock, deliver_message, message.id)
    return kept
