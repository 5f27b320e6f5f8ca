"""Messages on their way: queued in the transaction that causes them, sent by a job, tried again, failed over.

A message goes to the first gateway of its channel that takes it, and to the next one when the provider
reports later that it was not delivered (`messaging.delivery`). When none takes it and one may recover, the
job comes again later; a code that is over by then is not sent any more. Recipient and values are sealed,
and the values of a code are forgotten once it was sent.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.phones import masked
from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job
from messaging import aliyun, generic, tencent
from messaging.gateways import Gateway, Gateways, gateways_of
from messaging.http import GatewayRefused
from messaging.model import OutboundMessage, PushSubscription
from messaging.room import Messaging
from messaging.web_push import Gone, push
from messaging.wechat import send_template

log = logging.getLogger(__name__)

USELESS_AFTER = {
    "sign-in-code": timedelta(minutes=5),
    "email-code": timedelta(minutes=15),
}  # the others are worth sending for a day
WORTH = timedelta(days=1)
TRIES = 4


class NotSent(CloudfilmError):
    """No gateway took the message; it is tried again."""

    kind = Kind.UNAVAILABLE

    def __init__(self, reasons: str) -> None:
        super().__init__(f"No gateway took the message: {reasons}")


def queue_message(
    messaging: Messaging,
    session: Session,
    channel: str,
    recipient: str,
    template: str,
    values: Mapping[str, str],
) -> str:
    """Queue a message within the caller's transaction; returns its id.

    channel: sms, email, wechat, push or webhook. recipient: E.164, address, openid, subscription, account.
    """
    message_id, now = new_id(), messaging.clock.now()
    session.add(
        OutboundMessage(
            id=message_id,
            channel=channel,
            recipient=messaging.keys.seal_bytes(recipient.encode(), f"message {message_id}"),
            masked=masked(recipient) if channel == "sms" else channel,
            template=template,
            values=_sealed(messaging, message_id, dict(values)),
            created_at=now,
            useless_after=now + USELESS_AFTER.get(template, WORTH),
        )
    )
    session.flush()
    enqueue(session, messaging.clock, deliver_message, message_id)
    return message_id


def _sealed(messaging: Messaging, message_id: str, values: dict[str, str]) -> bytes:
    text = json.dumps(values, ensure_ascii=False)
    return messaging.keys.seal_bytes(text.encode(), f"values {message_id}")


@job(queue="default", retries=TRIES)
def deliver_message(messaging: Messaging, message_id: str) -> None:
    """Send one message, once: one that was sent before is left alone. Raises NotSent to be tried again."""
    with messaging.database.snapshot() as session:
        message = session.get(OutboundMessage, message_id)
        if message is None or message.state != "queued":
            return
        gateways = gateways_of(messaging, session)
        recipient = messaging.keys.open_bytes(message.recipient, f"message {message_id}").decode()
        values = json.loads(messaging.keys.open_bytes(message.values, f"values {message_id}"))
    now = messaging.clock.now()
    if message.useless_after is not None and message.useless_after < now:
        _keep(messaging, message_id, "expired", error="not sent in time")
        return
    refusals = []
    for gateway in _gateways_for(gateways, message.channel, message.gateway):
        try:
            receipt = SENDERS[gateway.kind](messaging, gateway, recipient, message.template, values, now)
        except GatewayRefused as refusal:
            refusals.append((f"{gateway.name}: {refusal}", refusal.may_recover))
            log.warning("gateway %s did not take message %s: %s", gateway.name, message_id, refusal)
        else:
            _keep(messaging, message_id, "sent", gateway.name, receipt)
            return
    reasons = "; ".join(reason for reason, _ in refusals) or f"no gateway for {message.channel}"
    if any(may_recover for _, may_recover in refusals) and message.tries < TRIES:
        _keep(messaging, message_id, "queued", error=reasons)
        raise NotSent(reasons)
    _keep(messaging, message_id, "failed", error=reasons)


def _keep(
    messaging: Messaging, message_id: str, state: str, gateway: str = "", receipt: str = "", error: str = ""
) -> None:
    with messaging.database.transaction() as session:
        row = session.get_one(OutboundMessage, message_id)
        row.state, row.receipt, row.error = state, receipt[:128], error[:300]
        row.gateway = gateway or row.gateway
        row.tries += 1
        if state == "sent":
            row.sent_at = messaging.clock.now()
        if state != "queued" and row.template in USELESS_AFTER:
            row.values = _sealed(messaging, message_id, {})


def _gateways_for(gateways: Gateways, channel: str, failed: str = "") -> tuple[Gateway, ...]:
    """The gateways to try; of SMS, those behind the one that took the message and could not deliver it."""
    if channel == "sms":
        names = [each.name for each in gateways.sms]
        return gateways.sms[names.index(failed) + 1 if failed in names else 0 :]
    if channel == "push":
        return (gateways.others.get("push", Gateway("push", "push", {"contact": ""})),)
    return (gateways.others[channel],) if channel in gateways.others else ()


Sender = Callable[[Messaging, Gateway, str, str, dict[str, str], datetime], str]


def _aliyun(
    _: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], at: datetime
) -> str:
    return aliyun.send(gateway, to, template, values, at)


def _tencent(
    _: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], at: datetime
) -> str:
    return tencent.send(gateway, to, template, values, at)


def _http(
    m: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], at: datetime
) -> str:
    return generic.send_http(gateway, to, template, values, m.text(template, values), at)


def _console(m: Messaging, _: Gateway, to: str, template: str, values: dict[str, str], __: datetime) -> str:
    return generic.show_on_console(to, m.text(template, values))


def _email(
    m: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], _: datetime
) -> str:
    subject = m.texts(m.language)[f"message.{template}.subject"].format(**values)
    return generic.send_email(gateway, to, subject, m.text(template, values))


def _wechat(
    m: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], _: datetime
) -> str:
    return send_template(m, gateway, to, template, values)


def _webhook(
    _: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], at: datetime
) -> str:
    """For the hospital's own app: who (its account's id), what kind of message, and its values."""
    body = {"account": "{phone}", "topic": "{template}", "values": values}
    shaped = Gateway(gateway.name, "http", {**gateway.values, "body": body})
    return generic.send_http(shaped, to, template, {}, "", at)


def _push(
    m: Messaging, gateway: Gateway, to: str, template: str, values: dict[str, str], at: datetime
) -> str:
    with m.database.snapshot() as session:
        row = session.get(PushSubscription, to)
    if row is None:
        raise GatewayRefused("the browser is not subscribed any more", may_recover=False)
    subscription = json.loads(m.keys.open_bytes(row.sealed, f"push {row.id}"))
    title = m.texts(m.language)[f"message.{template}.subject"].format(**values)
    body = json.dumps({"title": title, "link": values.get("link", "")}, ensure_ascii=False)
    try:
        push(m.keys, subscription, body.encode(), str(gateway.get("contact")), at)
    except Gone:
        with m.database.transaction() as session:
            found = session.get(PushSubscription, to)
            if found is not None:
                session.delete(found)
        raise GatewayRefused("the browser is not subscribed any more", may_recover=False) from None
    return ""


SENDERS: Mapping[str, Sender] = {
    "aliyun": _aliyun,
    "tencent": _tencent,
    "http": _http,
    "console": _console,
    "email": _email,
    "wechat": _wechat,
    "webhook": _webhook,
    "push": _push,
}


class SmsSender:
    """`access.second_factor.SmsSender` by way of this room."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging

    def send(self, phone: str, template: str, values: dict[str, str]) -> None:
        """Queue one text message."""
        with self._messaging.database.transaction() as session:
            queue_message(self._messaging, session, "sms", phone, template, values)


def list_messages(messaging: Messaging, session: Session, most: int = 50) -> list[OutboundMessage]:
    """The newest messages; recipients masked, texts sealed."""
    return list(
        session.scalars(select(OutboundMessage).order_by(OutboundMessage.created_at.desc()).limit(most))
    )
