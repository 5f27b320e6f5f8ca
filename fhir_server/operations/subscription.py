"""Subscription/$status and $events: how a subscription fares, and what it was told (Subscriptions Backport
1.1)."""

from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.negotiate import document_answer, fhir_base
from fhir_server.notifications import status_parameters
from fhir_server.operations.given import given
from kernel.clock import new_id
from kernel.http import room
from records.documents import document_text, instant
from records.repository import ResourceNotFound, read
from records.room import Records
from records.subscription_model import SubscriptionState
from records.subscriptions import events_between


def subscription_status(logical_id: str) -> Response:
    """The state of one subscription, in a Bundle."""
    return _answer(logical_id, "query-status", with_events=False)


def subscription_events(logical_id: str) -> Response:
    """Events by their numbers, for a client that missed some; those of a week are kept."""
    return _answer(logical_id, "query-event", with_events=True)


def _answer(logical_id: str, type_: str, with_events: bool) -> Response:
    caller, records = current_caller(Door.FHIR), room(Records)
    read(records, caller, "Subscription", logical_id)
    said = given()
    with records.database.snapshot() as session:
        row = session.get(SubscriptionState, logical_id)
        if row is None:
            raise ResourceNotFound("Subscription", logical_id)
        events = []
        if with_events:
            first, last = said.integer("eventsSinceNumber") or 1, said.integer("eventsUntilNumber")
            events = events_between(session, logical_id, first, last)
    base = fhir_base()
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": new_id(),
        "type": "searchset" if not with_events else "history",
        "timestamp": instant(records.clock.now()),
        "entry": [
            {
                "fullUrl": f"urn:uuid:{new_id()}",
                "resource": status_parameters(base, row, type_, events),
                **(
                    {"search": {"mode": "match"}}
                    if not with_events
                    else {
                        "request": {"method": "GET", "url": f"Subscription/{logical_id}/$status"},
                        "response": {"status": "200"},
                    }
                ),
            }
        ],
    }
    return document_answer(document_text(bundle))
