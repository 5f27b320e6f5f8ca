"""Who hears of workitems, and what they are told: subscriptions and event reports.

An AE subscribes to one workitem, to all (the global worklist), or to those that meet a filter; the last two
become subscriptions to each workitem when it comes. An event is a change in the feed that names its
receivers, written in the transaction of what happened; the DIMSE worker and the WebSocket role deliver it.

Standards: PS3.4 CC.2.3 (subscriptions), CC.2.4 (event reports), PS3.18 11.10 to 11.13.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import orjson
from sqlalchemy import delete, insert, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from archive.attributes import Document, element, item, tag_of, values
from archive.matching import matches
from archive.room import Archive
from archive.workitem_model import FINAL, State, Workitem, WorkitemSubscriber, WorkitemSubscription
from archive.workitem_reach import parse_reach, reach_text, workitems_within
from kernel.changes import record_change
from kernel.database import table_of
from kernel.errors import CloudfilmError, Kind

GLOBAL_WORKLIST = "1.2.840.10008.5.1.4.34.5"
FILTERED_WORKLIST = "1.2.840.10008.5.1.4.34.5.1"
WELL_KNOWN = (GLOBAL_WORKLIST, FILTERED_WORKLIST)
CHANGE = "workitem-event"


class Event(IntEnum):
    """Event Type ID of a report (PS3.4 table CC.2.4-1)."""

    STATE = 1
    CANCEL_REQUESTED = 2
    PROGRESS = 3
    SCP_STATUS = 4
    ASSIGNED = 5


class NotAWorklist(CloudfilmError):
    """An action on a worklist, asked of a single workitem, or a filter where none can be (C314)."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("This is done with the global or the filtered worklist only.")


class InvalidSubscriber(CloudfilmError):
    """A receiving AE title that is none."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The subscriber is an AE title of 1 to 16 characters.")


class UnknownWorkitem(CloudfilmError):
    """A subscription to a workitem that does not exist, or that the caller may not know of."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("The workitem was not found.")


def report_event(
    archive: Archive, session: Session, row: Workitem, event: Event, report: Mapping[str, Document],
    receivers: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Tell the subscribers of a workitem, or the given receivers, within the caller's transaction."""
    if receivers is None:
        receivers = session.scalars(
            select(WorkitemSubscription.ae_title)
            .where(WorkitemSubscription.workitem_id == row.id)
            .order_by(WorkitemSubscription.ae_title)
        ).all()
    record_change(
        session, archive.clock, CHANGE, row.sop_instance_uid,
        event=int(event), report=dict(report), receivers=list(receivers), state=row.state,
        institution=row.institution,
    )  # fmt: skip


def report_state(
    archive: Archive,
    session: Session,
    row: Workitem,
    attributes: Mapping[str, Document],
    receivers: Sequence[str] | None = None,
) -> None:
    """A UPS State Report: its state, whether its input is ready, and why it was cancelled."""
    readiness = tag_of("InputReadinessState")
    report: Document = {
        readiness: attributes.get(readiness) or element("InputReadinessState", "READY"),
        tag_of("ProcedureStepState"): element("ProcedureStepState", row.state),
    }
    if row.state == State.CANCELED:
        progress = item(attributes, "ProcedureStepProgressInformationSequence")
        for keyword in ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence"):
            if values(progress, keyword):
                report[tag_of(keyword)] = progress[tag_of(keyword)]
    report_event(archive, session, row, Event.STATE, dict(sorted(report.items())), receivers)


def subscribe(
    archive: Archive,
    caller: Caller,
    ae_title: str,
    uid: str,
    deletion_lock: bool = False,
    keys: Mapping[str, Document] | None = None,
) -> None:
    """Let an AE hear of a workitem, of all, or of those that meet the keys; the present state is told too.

    uid: of the workitem, or GLOBAL_WORKLIST or FILTERED_WORKLIST. Raises UnknownWorkitem, InvalidSubscriber,
    NotAWorklist, InvalidMatch or Forbidden.
    """
    caller.require(Action("Workitem", "r"))
    ae_title = require_title(ae_title)
    if (uid == FILTERED_WORKLIST) != bool(keys):
        raise NotAWorklist
    with archive.database.transaction() as session:
        if uid in WELL_KNOWN:
            matches(keys or {}, {})  # refuses keys that cannot be matched
            _add_subscriber(archive, session, caller, ae_title, uid, deletion_lock, keys or {})
        else:
            row = session.scalar(
                workitems_within(
                    select(Workitem).where(Workitem.sop_instance_uid == uid), caller.reach_for("r")
                )
            )
            if row is None:
                raise UnknownWorkitem
            _add_subscription(archive, session, row.id, ae_title, deletion_lock)
            report_state(archive, session, row, orjson.loads(row.attributes), [ae_title])
        note(session, archive.clock, caller, "subscribe Workitem", uid, detail=ae_title)


def require_title(ae_title: str) -> str:
    """A receiving AE title. Raises InvalidSubscriber."""
    ae_title = ae_title.strip()
    if not 0 < len(ae_title) <= 16 or not ae_title.isascii() or not ae_title.isprintable():
        raise InvalidSubscriber
    return ae_title


def _add_subscriber(
    archive: Archive, session: Session, caller: Caller, ae_title: str, uid: str, deletion_lock: bool,
    keys: Mapping[str, Document],
) -> None:  # fmt: skip
    session.execute(
        delete(WorkitemSubscriber).where(
            WorkitemSubscriber.ae_title == ae_title, WorkitemSubscriber.well_known_uid == uid
        )
    )
    session.add(
        WorkitemSubscriber(
            ae_title=ae_title,
            well_known_uid=uid,
            filter=orjson.dumps(keys).decode(),
            deletion_lock=deletion_lock,
            reach=reach_text(caller.reach_for("r")),
            created_at=archive.clock.now(),
        )
    )
    statement = workitems_within(select(Workitem.id, Workitem.attributes), caller.reach_for("r")).where(
        Workitem.state.not_in(FINAL)
    )
    for row_id, attributes in session.execute(statement.execution_options(yield_per=500)):
        if not keys or matches(keys, orjson.loads(attributes)):
            _add_subscription(archive, session, row_id, ae_title, deletion_lock)


def _add_subscription(
    archive: Archive, session: Session, workitem_id: int, ae_title: str, deletion_lock: bool
) -> None:
    """Add one, or say anew whether it locks."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    added = dialect.insert(table_of(WorkitemSubscription)).values(
        workitem_id=workitem_id,
        ae_title=ae_title,
        deletion_lock=deletion_lock,
        created_at=archive.clock.now(),
    )
    session.execute(
        added.on_conflict_do_update(
            index_elements=["workitem_id", "ae_title"], set_={"deletion_lock": deletion_lock}
        )
    )


def subscribe_globals(archive: Archive, session: Session, row: Workitem, attributes: Document) -> None:
    """Let those who want to hear of all such workitems hear of this one, within the caller's transaction."""
    subscribers = session.scalars(select(WorkitemSubscriber)).all()
    if not subscribers:
        return
    known = set(
        session.scalars(
            select(WorkitemSubscription.ae_title).where(WorkitemSubscription.workitem_id == row.id)
        )
    )
    for subscriber in subscribers:
        keys = orjson.loads(subscriber.filter)
        within = workitems_within(
            select(literal(1)).where(Workitem.id == row.id), parse_reach(subscriber.reach)
        )
        if subscriber.ae_title in known or (keys and not matches(keys, attributes)):
            continue
        if session.scalar(within) is None:
            continue
        known.add(subscriber.ae_title)
        session.execute(
            insert(WorkitemSubscription).values(
                workitem_id=row.id,
                ae_title=subscriber.ae_title,
                deletion_lock=subscriber.deletion_lock,
                created_at=archive.clock.now(),
            )
        )


def unsubscribe(archive: Archive, caller: Caller, ae_title: str, uid: str) -> None:
    """Let an AE hear no more of a workitem; of a worklist: of nothing that it would hear of by it.

    Raises UnknownWorkitem, InvalidSubscriber or Forbidden.
    """
    caller.require(Action("Workitem", "r"))
    ae_title = require_title(ae_title)
    with archive.database.transaction() as session:
        if uid in WELL_KNOWN:
            _forget(session, ae_title, uid)
            session.execute(delete(WorkitemSubscription).where(WorkitemSubscription.ae_title == ae_title))
        else:
            row_id = session.scalar(
                workitems_within(
                    select(Workitem.id).where(Workitem.sop_instance_uid == uid), caller.reach_for("r")
                )
            )
            if row_id is None:
                raise UnknownWorkitem
            session.execute(
                delete(WorkitemSubscription).where(
                    WorkitemSubscription.workitem_id == row_id, WorkitemSubscription.ae_title == ae_title
                )
            )
        note(session, archive.clock, caller, "unsubscribe Workitem", uid, detail=ae_title)


def suspend(archive: Archive, caller: Caller, ae_title: str, uid: str) -> None:
    """Subscribe an AE to no further workitems; it goes on to hear of those that it hears of now (CC.2.3.1).

    Raises NotAWorklist, InvalidSubscriber or Forbidden.
    """
    caller.require(Action("Workitem", "r"))
    ae_title = require_title(ae_title)
    if uid not in WELL_KNOWN:
        raise NotAWorklist
    with archive.database.transaction() as session:
        _forget(session, ae_title, uid)
        note(session, archive.clock, caller, "suspend Workitem", uid, detail=ae_title)


def _forget(session: Session, ae_title: str, uid: str) -> None:
    session.execute(
        delete(WorkitemSubscriber).where(
            WorkitemSubscriber.ae_title == ae_title, WorkitemSubscriber.well_known_uid == uid
        )
    )


def hears_of(session: Session, ae_title: str) -> bool:
    """Whether an AE has subscribed to anything."""
    one = select(WorkitemSubscription.workitem_id).where(WorkitemSubscription.ae_title == ae_title).limit(1)
    other = select(WorkitemSubscriber.id).where(WorkitemSubscriber.ae_title == ae_title).limit(1)
    return session.scalar(one) is not None or session.scalar(other) is not None
