"""Event reports of workitems by WebSocket (PS3.18 8.10 and 11.13): one text message for each, as DICOM JSON.

An AE that has subscribed opens `/ws/dicomweb/subscribers/{AE title}`. It is told of the workitems that it has
subscribed to and that who opened the socket may know of.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import Action, Caller, Reach
from archive.room import Archive
from archive.workitem_events import CHANGE, require_title
from archive.workitem_model import Workitem
from archive.workitem_reach import workitems_within
from kernel.changes import Change
from kernel.websocket import Listener, Opening

UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"


@dataclass(frozen=True, slots=True, eq=False)
class EventReports:
    """The channel."""

    archive: Archive
    path: re.Pattern[str] = field(
        default=re.compile(r"(?:/ws)?/dicomweb/(?:ws/)?subscribers/(?P<ae_title>[^/]+)/?")
    )
    kinds: frozenset[str] = frozenset({CHANGE})

    def open(self, who: Any, found: re.Match[str], _opening: Opening) -> str:
        """The AE title that is listened for. Raises Forbidden or InvalidSubscriber."""
        caller: Caller = who
        caller.require(Action("Workitem", "r"))
        ae_title, archive = require_title(found["ae_title"]), self.archive
        note_once(archive.database, archive.recently, archive.clock, caller, "listen Workitem", ae_title)
        return ae_title

    def route(
        self, session: Session, change: Change, listeners: Sequence[Listener]
    ) -> Iterable[tuple[Listener, str]]:
        """The report, for those whose AE has subscribed and who may know of the workitem."""
        receivers = set(change.data["receivers"])
        report = ""
        known: dict[Reach, bool] = {}
        for listener in listeners:
            if listener.kept not in receivers:
                continue
            reach = listener.who.reach_for("r")  # asked once of those who reach the same
            if reach not in known:
                known[reach] = _may_know(session, listener.who, change.subject)
            if known[reach]:
                report = report or event_report(change)
                yield listener, report

    def receive(self, _listener: Listener, _text: str) -> Iterable[str]:
        """Nothing is said to us here."""
        return ()


def _may_know(session: Session, caller: Caller, uid: str) -> bool:
    statement = workitems_within(
        select(Workitem.id).where(Workitem.sop_instance_uid == uid), caller.reach_for("r")
    )
    return session.scalar(statement) is not None


def event_report(change: Change) -> str:
    """The message: the command elements of an N-EVENT-REPORT and what it reports (PS3.18 11.13.1)."""
    command = {
        "00000002": {"vr": "UI", "Value": [UPS_EVENT]},
        "00000110": {"vr": "US", "Value": [change.seq % 65535 + 1]},
        "00001000": {"vr": "UI", "Value": [change.subject]},
        "00001002": {"vr": "US", "Value": [change.data["event"]]},
    }
    return json.dumps(command | change.data["report"], ensure_ascii=False)
