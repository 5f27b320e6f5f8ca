"""Subscriptions by WebSocket (R4 Subscription 7.2.4): `bind <id>` is answered `bound <id>`, each event
`ping <id>`.

The socket is `/ws/fhir/subscriptions`. Who binds has to be able to read the Subscription.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from access.caller import Action, Caller, Door
from kernel.changes import Change
from kernel.errors import CloudfilmError
from kernel.websocket import Listener, Opening
from records.repository import read
from records.room import Records
from records.subscription_model import SubscriptionState
from records.subscriptions import CHANGE

MOST_BOUND = 100
BIND = re.compile(r"bind\s+(?:Subscription/)?([A-Za-z0-9.\-]{1,64})\s*")


@dataclass(frozen=True, slots=True, eq=False)
class SubscriptionSocket:
    """The channel."""

    records: Records
    path: re.Pattern[str] = field(default=re.compile(r"(?:/ws)?/fhir/subscriptions/?"))
    kinds: frozenset[str] = frozenset({CHANGE})

    def open(self, who: Any, _found: re.Match[str], _opening: Opening) -> set[str]:
        """The ids that are bound: none yet. Raises Forbidden."""
        caller: Caller = who
        caller.require(Action("Subscription", "r"))
        return set()

    def route(
        self, _session: Session, change: Change, listeners: Sequence[Listener]
    ) -> Iterable[tuple[Listener, str]]:
        """A ping for those who are bound to the subscription."""
        for listener in listeners:
            if change.subject in listener.kept:
                yield listener, f"ping {change.subject}"

    def receive(self, listener: Listener, text: str) -> Iterable[str]:
        """Bind a subscription to the socket."""
        match = BIND.fullmatch(text.strip()[:200])
        if match is None:
            return ("error write: bind <id of a Subscription>",)
        logical_id, caller = match[1], listener.who.through(Door.FHIR)
        try:
            read(self.records, caller, "Subscription", logical_id)
        except CloudfilmError:
            return (f"error {logical_id} is not a Subscription that can be bound",)
        with self.records.database.snapshot() as session:
            row = session.get(SubscriptionState, logical_id)
        if row is None or row.channel != "websocket" or len(listener.kept) >= MOST_BOUND:
            return (f"error {logical_id} is not a Subscription of the channel websocket",)
        listener.kept.add(logical_id)
        return (f"bound {logical_id}",)
