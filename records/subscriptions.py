"""Subscriptions: who is told of which changes (R4 Subscription; Subscriptions R5 Backport 1.1, topics).

A Subscription is checked and takes effect in the transaction of its write. Each change of a document is
matched against the subscriptions of its type by the search that they name, within the reach of who made them,
and what matches waits as a numbered event until the channel has delivered it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from access.caller import Action, Caller, PrincipalKind
from access.kept_caller import caller_from, caller_text
from kernel.changes import Change, record_change
from kernel.errors import CloudfilmError
from records.issues import InvalidResource, Issue
from records.parameters import resource_types
from records.query import Criterion, parse_search
from records.room import Records
from records.search import find_ids
from records.subscription_model import SubscriptionEvent, SubscriptionState

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
FILTER, PAYLOAD = f"{BACKPORT}/backport-filter-criteria", f"{BACKPORT}/backport-payload-content"
CHANNELS = ("rest-hook", "websocket")
KEPT_FOR = timedelta(days=7)
CHANGE = "subscription-event"


@dataclass(frozen=True, slots=True)
class Topic:
    """A row of the table of topics: what of a type's changes it is about."""

    url: str
    resource_type: str
    title: str
    verbs: frozenset[str] = frozenset({"resource-created", "resource-updated"})


ROOT = "urn:cloudfilm:subscription-topic:"
TOPICS = {
    topic.url: topic
    for topic in (
        Topic(f"{ROOT}imaging-study", "ImagingStudy", "A study arrived, or changed"),
        Topic(f"{ROOT}report", "DiagnosticReport", "A report was filed, or changed"),
        Topic(f"{ROOT}patient", "Patient", "A patient was registered, or changed"),
        Topic(f"{ROOT}order", "ServiceRequest", "An order was placed, or changed"),
        Topic(f"{ROOT}appointment", "Appointment", "An appointment was made, or changed"),
        Topic(f"{ROOT}document", "DocumentReference", "A document was filed, or changed"),
    )
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a Subscription document asks for."""

    resource_type: str
    criteria: str  # a search of the type, as its query
    topic: str
    channel: str
    active: bool
    ends_at: datetime | None


def read_subscription(document: dict[str, Any], caller: Caller) -> Wanted:
    """What a Subscription asks for. Raises InvalidResource, or Forbidden for a type that is not the
    caller's."""
    channel = document.get("channel") or {}
    kind = str(channel.get("type", ""))
    if kind not in CHANNELS:
        _refuse("Subscription.channel.type", f"Use {' or '.join(CHANNELS)}")
    if kind == "rest-hook" and not channel.get("endpoint"):
        _refuse("Subscription.channel.endpoint", "A rest-hook has an endpoint")
    criteria = str(document.get("criteria", ""))
    topic = TOPICS.get(criteria)
    if topic is not None:
        type_, query = topic.resource_type, ""
        filters = [
            str(each.get("valueString", ""))
            for each in (document.get("_criteria") or {}).get("extension") or ()
            if each.get("url") == FILTER
        ]
        for each in filters:
            named, question, given = each.partition("?")
            if not question or named != type_:
                _refuse("Subscription.criteria", f"Write the filter as {type_}?parameter=value")
            query += ("&" if query else "") + given
    else:
        type_, _, query = criteria.partition("?")
        if type_ not in resource_types():
            _refuse("Subscription.criteria", "Write it as Type?parameter=value, or as the URL of a topic")
    caller.require(Action(type_, "s"))
    caller.require(Action(type_, "r"))
    try:
        parse_search(type_, _arguments(query))
    except CloudfilmError as refused:
        _refuse("Subscription.criteria", str(refused))
    ends_at = _moment(document.get("end"))
    active = document.get("status") in ("requested", "active", "error")
    return Wanted(type_, query, topic.url if topic else "", kind, active, ends_at)


def _refuse(expression: str, reason: str) -> None:
    raise InvalidResource([Issue("error", "invalid", expression, reason)])


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def _arguments(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def keep_subscription(
    records: Records, session: Session, caller: Caller, logical_id: str, document: dict[str, Any] | None
) -> None:
    """Let a Subscription take effect, change, or end (None), within the transaction of its write."""
    row = session.get(SubscriptionState, logical_id)
    if document is None:
        if row is not None:
            session.execute(delete(SubscriptionEvent).where(SubscriptionEvent.logical_id == logical_id))
            session.delete(row)
        return
    wanted = read_subscription(document, caller)
    if row is None:
        row = SubscriptionState(logical_id=logical_id, events=0, delivered=0, tries=0, error="")
        session.add(row)
    row.resource_type, row.criteria, row.topic = wanted.resource_type, wanted.criteria, wanted.topic
    row.channel, row.active, row.ends_at = wanted.channel, wanted.active, wanted.ends_at
    if caller.principal.kind is not PrincipalKind.SYSTEM:  # who notes its state does not come to own it
        row.owner = caller_text(caller)
        row.tries, row.failing_since, row.error = 0, None, ""
    session.flush()


def follow_resources(records: Records, session: Session, change: Change) -> list[SubscriptionState]:
    """Match a change of a document; returns the subscriptions that have a new event."""
    type_, _, logical_id = change.subject.partition("/")
    waiting = session.scalars(
        select(SubscriptionState).where(SubscriptionState.resource_type == type_, SubscriptionState.active)
    ).all()
    told = []
    for row in waiting:
        if row.ends_at is not None and row.ends_at <= records.clock.now():
            row.active = False
            continue
        topic = TOPICS.get(row.topic)
        if topic is not None and change.kind not in topic.verbs:
            continue
        if not _matches(records, session, row, logical_id):
            continue
        row.events += 1
        version = int(change.data.get("version") or 1)
        session.add(
            SubscriptionEvent(
                logical_id=row.logical_id, number=row.events, focus=change.subject, version=version,
                at=records.clock.now(),
            )
        )  # fmt: skip
        record_change(session, records.clock, CHANGE, row.logical_id, number=row.events)
        told.append(row)
    session.flush()
    return told


def _matches(records: Records, session: Session, row: SubscriptionState, logical_id: str) -> bool:
    """Whether the document is found by the subscription's own search, as its owner would find it."""
    try:
        wanted = parse_search(row.resource_type, _arguments(row.criteria))
        with_id = (*wanted.criteria, Criterion("_id", (logical_id,)))
        asked = replace(wanted, criteria=with_id, count=1, includes=(), reverse_includes=())
        return bool(find_ids(records, session, caller_from(row.owner), asked, 1))
    except CloudfilmError as refused:  # a parameter that went meanwhile, a right that the owner never had
        row.error = str(refused)
        return False


def waiting_events(session: Session, row: SubscriptionState, most: int) -> list[SubscriptionEvent]:
    """The next events that were not delivered, in their order."""
    statement = (
        select(SubscriptionEvent)
        .where(SubscriptionEvent.logical_id == row.logical_id, SubscriptionEvent.number > row.delivered)
        .order_by(SubscriptionEvent.number)
        .limit(most)
    )
    return list(session.scalars(statement))


def events_between(
    session: Session, logical_id: str, first: int, last: int | None
) -> list[SubscriptionEvent]:
    """Events by their numbers, both ends included, as far as they are still kept."""
    statement = select(SubscriptionEvent).where(
        SubscriptionEvent.logical_id == logical_id, SubscriptionEvent.number >= first
    )
    if last is not None:
        statement = statement.where(SubscriptionEvent.number <= last)
    return list(session.scalars(statement.order_by(SubscriptionEvent.number).limit(1000)))


def delivered(session: Session, row: SubscriptionState, number: int) -> None:
    """The channel took everything up to a number."""
    row.delivered, row.tries, row.failing_since, row.error = number, 0, None, ""


def failed(session: Session, row: SubscriptionState, at: datetime, error: str) -> None:
    """The channel did not take it; it is tried again, later each time, without end."""
    row.tries += 1
    row.failing_since = row.failing_since or at
    row.error = error[:500]


def forget_old_events(session: Session, at: datetime) -> None:
    """Drop delivered events that are older than the time they are kept for."""
    delivered_to = (
        select(SubscriptionState.delivered)
        .where(SubscriptionState.logical_id == SubscriptionEvent.logical_id)
        .scalar_subquery()
    )
    session.execute(
        delete(SubscriptionEvent).where(
            SubscriptionEvent.at < at - KEPT_FOR, SubscriptionEvent.number <= func.coalesce(delivered_to, 0)
        )
    )
