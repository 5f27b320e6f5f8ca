"""Notifications: what subscriptions are told, by rest-hook (R4 3.1.0, Subscription 7.2; Subscriptions
Backport 1.1).

Events of one subscription are delivered in their order. What is not taken is tried again, later each time,
without end: 5 s, then four times as long, at most an hour. Meanwhile the Subscription says `error` and why,
and `active` again once a delivery succeeds.
"""

import json
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from access.caller import system
from access.kept_caller import caller_from
from access.outbound_http import Unreachable, request
from fhir_server.room import Fhir
from kernel.changes import Change
from kernel.clock import new_id
from kernel.errors import CloudfilmError
from kernel.jobs import enqueue, job
from records.documents import instant, parse_document
from records.repository import Stored, read, write
from records.room import Records
from records.subscription_model import SubscriptionEvent, SubscriptionState
from records.subscriptions import (
    PAYLOAD,
    delivered,
    failed,
    follow_resources,
    forget_old_events,
    waiting_events,
)

STATUS_PROFILE = (
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4"
)
NOTIFICATION_PROFILE = (
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-notification-r4"
)
AT_ONCE = 20
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 3600.0
ALLOWED_HEADERS_LEFT_OUT = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def follow_for_subscriptions(records: Records, session: Session, change: Change) -> None:
    """What a change of a document means for subscriptions: their own state, and whom to tell."""
    type_, _, logical_id = change.subject.partition("/")
    if type_ == "Subscription":
        if change.kind != "resource-deleted":
            enqueue(
                session, records.clock, activate_subscription, logical_id, key=f"subscription {logical_id}"
            )
        return
    if change.kind == "resource-deleted":
        return
    for row in follow_resources(records, session, change):
        if row.channel == "rest-hook" and not row.tries:
            enqueue(
                session, records.clock, notify_subscriber, row.logical_id, key=f"deliver {row.logical_id}"
            )


@job(queue="notices", retries=8)
def activate_subscription(fhir: Fhir, logical_id: str) -> None:
    """Bring a requested subscription into force; one with a topic once its endpoint took the handshake."""
    document = _document(fhir, logical_id)
    if document is None or document.get("status") != "requested":
        return
    with fhir.records.database.snapshot() as session:
        row = session.get(SubscriptionState, logical_id)
    if row is None:
        return
    error = ""
    if row.topic and row.channel == "rest-hook":
        try:
            _send(fhir, document, _bundle(fhir, row, document, "handshake", []))
        except Unreachable as failure:
            error = str(failure)
    _show_state(fhir, logical_id, error)


@job(queue="notices", retries=8)
def notify_subscriber(fhir: Fhir, logical_id: str) -> None:
    """Tell a subscription what waits for it; when that fails, come again later."""
    records = fhir.records
    with records.database.snapshot() as session:
        row = session.get(SubscriptionState, logical_id)
        events = waiting_events(session, row, AT_ONCE) if row is not None else []
    if row is None or not row.active or not events:
        return
    document = _document(fhir, logical_id)
    if document is None:
        return
    error, last = "", row.delivered
    try:
        if row.topic:
            _send(fhir, document, _bundle(fhir, row, document, "event-notification", events))
            last = events[-1].number
        else:
            for event in events:
                _send_plain(fhir, row, document, event)
                last = event.number
    except Unreachable as failure:
        error = str(failure)
    was_failing = bool(row.tries)
    with records.database.transaction() as session:
        kept = session.get(SubscriptionState, logical_id, with_for_update=True)
        if kept is None:
            return
        if last > kept.delivered:
            delivered(session, kept, last)
        if error:
            failed(session, kept, records.clock.now(), error)
        delay_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 4 ** min(kept.tries - 1, 6)) if error else 0.0
        if error or kept.events > kept.delivered:
            enqueue(
                session, records.clock, notify_subscriber, logical_id, delay_s=delay_s,
                key=f"deliver {logical_id} {kept.delivered}/{kept.tries}",
            )  # fmt: skip
    if bool(error) != was_failing:
        _show_state(fhir, logical_id, error)


@job(queue="notices", retries=1, every=timedelta(days=1))
def forget_events(fhir: Fhir) -> None:
    """Drop old events of subscriptions."""
    with fhir.records.database.transaction() as session:
        forget_old_events(session, fhir.records.clock.now())


def _document(fhir: Fhir, logical_id: str) -> dict[str, Any] | None:
    try:
        return parse_document(read(fhir.records, system("subscriptions"), "Subscription", logical_id).body)
    except CloudfilmError:
        return None


def _show_state(fhir: Fhir, logical_id: str, error: str) -> None:
    """Write into the Subscription whether it works."""
    document = _document(fhir, logical_id)
    if document is None or document.get("status") == "off":
        return
    status = "error" if error else "active"
    if document.get("status") == status and document.get("error", "") == error:
        return
    document["status"] = status
    document.pop("error", None)
    if error:
        document["error"] = error
    with fhir.records.database.transaction() as session:
        write(fhir.records, session, system("subscriptions"), document, logical_id=logical_id)


def _headers(document: dict[str, Any], media_type: str) -> dict[str, str]:
    found = {"Content-Type": media_type} if media_type else {}
    for line in document["channel"].get("header") or ():
        name, colon, value = str(line).partition(":")
        if colon and name.strip().lower() not in ALLOWED_HEADERS_LEFT_OUT and value.isprintable():
            found[name.strip()] = value.strip()
    return found


def _send(fhir: Fhir, document: dict[str, Any], bundle: dict[str, Any]) -> None:
    body = json.dumps(bundle, ensure_ascii=False).encode()
    _call(
        fhir, "POST", str(document["channel"]["endpoint"]), _headers(document, "application/fhir+json"), body
    )


def _send_plain(
    fhir: Fhir, row: SubscriptionState, document: dict[str, Any], event: SubscriptionEvent
) -> None:
    """R4: an empty POST, or the document as an update when the channel names a payload."""
    endpoint, payload = str(document["channel"]["endpoint"]), str(document["channel"].get("payload", ""))
    stored = _focus(fhir, row, event) if payload else None
    if stored is None:
        _call(fhir, "POST", endpoint, _headers(document, ""), b"")
        return
    url = f"{endpoint.rstrip('/')}/{event.focus}"
    _call(fhir, "PUT", url, _headers(document, "application/fhir+json"), stored.body.encode())


def _call(fhir: Fhir, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
    with request(method, url, fhir.trusted_hosts, headers, body) as answer:
        answer.read(65536)
        if not 200 <= answer.status < 300:
            raise Unreachable(f"it answered {answer.status}")


def _focus(fhir: Fhir, row: SubscriptionState, event: SubscriptionEvent) -> Stored | None:
    """The document that an event is about, as the subscription's owner may read it."""
    type_, _, logical_id = event.focus.partition("/")
    try:
        return read(fhir.records, caller_from(row.owner), type_, logical_id)
    except CloudfilmError:
        return None


def content_of(document: dict[str, Any]) -> str:
    """How much a notification carries: empty, id-only or full-resource."""
    for each in (document["channel"].get("_payload") or {}).get("extension") or ():
        if each.get("url") == PAYLOAD:
            return str(each.get("valueCode", "id-only"))
    return "id-only"


def _bundle(
    fhir: Fhir, row: SubscriptionState, document: dict[str, Any], type_: str, events: list[SubscriptionEvent]
) -> dict[str, Any]:
    """A notification of the backport: a Bundle of which the first entry is the state of the subscription."""
    content = content_of(document)
    entries: list[dict[str, Any]] = []
    for event in events:
        entry: dict[str, Any] = {"fullUrl": f"{fhir.base}/{event.focus}"}
        stored = _focus(fhir, row, event) if content == "full-resource" else None
        if stored is not None:
            entry["resource"] = json.loads(stored.body)
        entry["request"] = {"method": "PUT", "url": event.focus}
        entry["response"] = {"status": "200"}
        if content != "empty":
            entries.append(entry)
    status = status_parameters(fhir.base, row, type_, events, content)
    first = {
        "fullUrl": f"urn:uuid:{new_id()}",
        "resource": status,
        "request": {"method": "GET", "url": f"{fhir.base}/Subscription/{row.logical_id}/$status"},
        "response": {"status": "200"},
    }
    return {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"profile": [NOTIFICATION_PROFILE]},
        "type": "history",
        "timestamp": instant(fhir.records.clock.now()),
        "entry": [first, *entries],
    }


def status_parameters(
    base: str, row: SubscriptionState, type_: str, events: list[SubscriptionEvent], content: str = "id-only"
) -> dict[str, Any]:
    """The state of a subscription as the backport's Parameters."""
    state = "error" if row.tries else "active" if row.active else "off"
    parts: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": f"{base}/Subscription/{row.logical_id}"}},
        {"name": "status", "valueCode": state},
        {"name": "type", "valueCode": type_},
        {"name": "events-since-subscription-start", "valueString": str(row.events)},
    ]
    if row.topic:
        parts.insert(1, {"name": "topic", "valueCanonical": row.topic})
    for event in events:
        told: list[dict[str, Any]] = [
            {"name": "event-number", "valueString": str(event.number)},
            {"name": "timestamp", "valueInstant": instant(event.at)},
        ]
        if content != "empty":
            told.append({"name": "focus", "valueReference": {"reference": f"{base}/{event.focus}"}})
        parts.append({"name": "notification-event", "part": told})
    if row.error:
        parts.append({"name": "error", "valueCodeableConcept": {"text": row.error}})
    return {"resourceType": "Parameters", "meta": {"profile": [STATUS_PROFILE]}, "parameter": parts}
