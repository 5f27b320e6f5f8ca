"""The message centre: what an account was told, and the ways by which it is told at once.

A notice is kept for the account, then pushed: to the browsers that subscribed, by WeChat where the account
is bound and the site has a template for it, by e-mail where an address was proven, to the hospital's own app
by webhook; by SMS when none of these is there. Notices carry no diagnosis and open nothing by themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from access.caller import Caller
from access.patient_accounts import EMAIL, PHONE, WECHAT, bound
from kernel.clock import new_id
from messaging.gateways import gateways_of
from messaging.model import Notice, PushSubscription
from messaging.room import Messaging
from messaging.send import queue_message
from messaging.web_push import endpoint_index, is_endpoint, is_receiver

MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class NoticeSeen:
    """A notice as the message centre shows it."""

    id: str
    topic: str
    values: Mapping[str, str]
    link: str
    at: datetime
    is_read: bool


def tell(
    messaging: Messaging,
    session: Session,
    account_id: str,
    topic: str,
    about: str,
    values: Mapping[str, str],
    link: str,
) -> bool:
    """Tell an account something within the caller's transaction; once about each thing. Returns whether
    it is new."""
    known = select(Notice.id).where(
        Notice.account_id == account_id, Notice.topic == topic, Notice.about == about
    )
    if session.scalar(known) is not None:
        return False
    notice_id = new_id()
    text = json.dumps(dict(values), ensure_ascii=False)
    session.execute(
        insert(Notice).values(
            id=notice_id,
            account_id=account_id,
            topic=topic,
            values=messaging.keys.seal_bytes(text.encode(), f"notice {notice_id}"),
            link=link,
            about=about,
            at=messaging.clock.now(),
        )
    )
    _push(messaging, session, account_id, topic, {**values, "link": link})
    return True


def _push(
    messaging: Messaging, session: Session, account_id: str, topic: str, values: dict[str, str]
) -> None:
    others = gateways_of(messaging, session).others
    wechat = others.get("wechat")
    reached = False
    browsers = select(PushSubscription.id).where(PushSubscription.account_id == account_id)
    for subscription in session.scalars(browsers).all():
        queue_message(messaging, session, "push", subscription, topic, values)
        reached = True
    if wechat is not None and topic in wechat.get("templates", {}):
        for openid in bound(messaging.access, session, account_id, WECHAT):
            queue_message(messaging, session, "wechat", openid, topic, values)
            reached = True
    if "email" in others:
        for address in bound(messaging.access, session, account_id, EMAIL):
            queue_message(messaging, session, "email", address, topic, values)
            reached = True
    if "webhook" in others:
        queue_message(messaging, session, "webhook", account_id, topic, values)
        reached = True
    if not reached:
        for phone in bound(messaging.access, session, account_id, PHONE):
            queue_message(messaging, session, "sms", phone, topic, values)


def notices_of(messaging: Messaging, caller: Caller) -> tuple[NoticeSeen, ...]:
    """The caller's own notices, the newest first."""
    with messaging.database.snapshot() as session:
        rows = session.scalars(
            select(Notice)
            .where(Notice.account_id == caller.principal.id)
            .order_by(Notice.at.desc(), Notice.id)
            .limit(MOST_SHOWN)
        ).all()
    return tuple(
        NoticeSeen(
            row.id, row.topic, json.loads(messaging.keys.open_bytes(row.values, f"notice {row.id}")),
            row.link, row.at, row.read_at is not None,
        )
        for row in rows
    )  # fmt: skip


def unread(messaging: Messaging, caller: Caller) -> int:
    """How many of the caller's notices it has not seen."""
    with messaging.database.snapshot() as session:
        counted = select(func.count()).where(
            Notice.account_id == caller.principal.id, Notice.read_at.is_(None)
        )
        return session.scalar(counted) or 0


def mark_read(messaging: Messaging, caller: Caller) -> None:
    """All of the caller's notices were seen."""
    with messaging.database.transaction() as session:
        session.execute(
            update(Notice)
            .where(Notice.account_id == caller.principal.id, Notice.read_at.is_(None))
            .values(read_at=messaging.clock.now())
        )


def subscribe(messaging: Messaging, caller: Caller, endpoint: str, p256dh: str, auth: str) -> bool:
    """Let a browser of the caller's be told by push. Returns whether we may call its push service, and can
    encrypt to it."""
    if not is_endpoint(endpoint) or not is_receiver(p256dh, auth):
        return False
    index, subscription_id = endpoint_index(messaging.keys, endpoint), new_id()
    text = json.dumps({"endpoint": endpoint, "p256dh": p256dh, "auth": auth})
    with messaging.database.transaction() as session:
        known = session.scalar(select(PushSubscription).where(PushSubscription.endpoint_index == index))
        if known is not None:
            session.delete(known)
            session.flush()
        session.add(
            PushSubscription(
                id=subscription_id,
                account_id=caller.principal.id,
                endpoint_index=index,
                sealed=messaging.keys.seal_bytes(text.encode(), f"push {subscription_id}"),
                created_at=messaging.clock.now(),
            )
        )
    return True
