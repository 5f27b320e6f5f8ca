"""Unified Procedure Step: the Push, Watch, Pull, Event and Query SOP classes over the workitems (PS3.4 CC).

All requests name the UPS Push SOP class and the workitem's own UID, whichever class their presentation
context is for; what is allowed goes by the context. Event reports are sent over an association of ours, as
SCP, by the worker, again until the receiver has taken them.
"""

from collections.abc import Callable, Mapping

from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from access.model import Node
from archive.attributes import Document, tag_of, text
from archive.workitem_events import WELL_KNOWN, NotAWorklist, UnknownWorkitem, subscribe, suspend, unsubscribe
from archive.workitem_search import search_workitems
from archive.workitems import (
    AlreadyCompleted,
    AlreadyInProgress,
    FinalStateNotMet,
    MissingAttribute,
    MissingTransactionUid,
    NoLongerUpdatable,
    NoSuchWorkitem,
    NotInProgress,
    NotScheduled,
    OnlyAtCreation,
    PerformerUnreachable,
    Remark,
    WrongTransactionUid,
    change_state,
    create_workitem,
    read_workitem,
    request_cancellation,
    update_workitem,
)
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.data_sets import data_of, encode_document, read_document
from dimse.peers import PeerRefused, associated, known_peer
from dimse.service import AskedService, Dimse, Handler, Service
from dimse.statuses import MISSING_ATTRIBUTE, NO_SUCH_ACTION, SUCCESS, Refusal
from dimse.worklist import answer_all
from kernel.changes import Change
from kernel.errors import CloudfilmError
from kernel.jobs import enqueue, job

PUSH, WATCH, PULL, EVENT, QUERY = (
    str(uid)
    for uid in (
        UnifiedProcedureStepPush, UnifiedProcedureStepWatch, UnifiedProcedureStepPull,
        UnifiedProcedureStepEvent, UnifiedProcedureStepQuery,
    )
)  # fmt: skip

REQUESTED_OPTIONAL_NOT_SUPPORTED = 0x0001
STATUSES: Mapping[type[CloudfilmError], int] = {  # PS3.4 tables CC.2.1-2 to CC.2.6-1
    NoLongerUpdatable: 0xC300,
    WrongTransactionUid: 0xC301,
    MissingTransactionUid: 0xC301,
    AlreadyInProgress: 0xC302,
    OnlyAtCreation: 0xC303,
    FinalStateNotMet: 0xC304,
    NoSuchWorkitem: 0xC307,
    UnknownWorkitem: 0xC307,
    NotScheduled: 0xC309,
    NotInProgress: 0xC310,
    AlreadyCompleted: 0xC311,
    PerformerUnreachable: 0xC312,
    NotAWorklist: 0xC314,
    MissingAttribute: MISSING_ATTRIBUTE,
}
REMARKS = {
    None: SUCCESS,
    Remark.CREATED_WITH_MODIFICATIONS: 0xB300,
    Remark.ALREADY_CANCELED: 0xB304,
    Remark.ALREADY_COMPLETED: 0xB306,
}


def _with_statuses(handler: Handler) -> Handler:
    """A handler whose refusals have the statuses of this service."""

    def handle(dimse: Dimse, association: Association, request: Message) -> None:
        try:
            handler(dimse, association, request)
        except CloudfilmError as refusal:
            status = STATUSES.get(type(refusal))
            if status is None:
                raise
            raise Refusal(status, str(refusal)) from refusal

    return handle


@_with_statuses
def on_create(dimse: Dimse, association: Association, request: Message) -> None:
    """Create a UPS (CC.2.5)."""
    uid = request.text("AffectedSOPInstanceUID")
    created = create_workitem(dimse.archive, association.caller, data_of(request), uid)
    association.respond(
        request, REMARKS[created.remark], AffectedSOPInstanceUID=created.sop_instance_uid
    )  # fmt: skip


@_with_statuses
def on_get(dimse: Dimse, association: Association, request: Message) -> None:
    """Get attributes of a UPS (CC.2.7); all of them when none is named."""
    found = read_workitem(dimse.archive, association.caller, request.text("RequestedSOPInstanceUID"))
    status, kept = chosen(found, request.tags("AttributeIdentifierList"))
    association.respond(request, status, encode_document(kept, request.context.transfer_syntax))


def chosen(found: Document, tags: tuple[int, ...]) -> tuple[int, Document]:
    """The attributes that an N-GET names, and the status that tells whether there are others among them."""
    wanted = {f"{tag:08X}" for tag in tags}
    if not wanted:
        return SUCCESS, found
    kept = {tag: value for tag, value in found.items() if tag in wanted}
    return SUCCESS if len(kept) == len(wanted) else REQUESTED_OPTIONAL_NOT_SUPPORTED, kept


@_with_statuses
def on_set(dimse: Dimse, association: Association, request: Message) -> None:
    """Set attributes of a UPS (CC.2.6); its performer says the Transaction UID among them."""
    said = data_of(request)
    uid, transaction = request.text("RequestedSOPInstanceUID"), text(said, "TransactionUID")
    update_workitem(dimse.archive, association.caller, uid, said, transaction)
    association.respond(request, SUCCESS)


@_with_statuses
def on_find(dimse: Dimse, association: Association, request: Message) -> None:
    """Search for UPS (CC.2.8)."""
    keys = read_document(request.data_set(), request.context.transfer_syntax)
    answer_all(association, request, keys, search_workitems(dimse.archive, association.caller, keys))


def _change(dimse: Dimse, association: Association, uid: str, said: Document) -> Remark | None:
    state, transaction = text(said, "ProcedureStepState"), text(said, "TransactionUID")
    return change_state(dimse.archive, association.caller, uid, state, transaction)


def _cancel(dimse: Dimse, association: Association, uid: str, said: Document) -> Remark | None:
    return request_cancellation(dimse.archive, association.caller, uid, association.calling, said)


def _subscribe(dimse: Dimse, association: Association, uid: str, said: Document) -> None:
    lock = text(said, "DeletionLock") == "TRUE"
    keys = {tag: value for tag, value in said.items() if tag not in OF_SUBSCRIPTION}
    subscribe(
        dimse.archive, association.caller, _receiver(association, said), uid, lock,
        keys if uid == WELL_KNOWN[1] else None,
    )  # fmt: skip


def _unsubscribe(dimse: Dimse, association: Association, uid: str, said: Document) -> None:
    unsubscribe(dimse.archive, association.caller, _receiver(association, said), uid)


def _suspend(dimse: Dimse, association: Association, uid: str, said: Document) -> None:
    suspend(dimse.archive, association.caller, _receiver(association, said), uid)


OF_SUBSCRIPTION = frozenset({tag_of("ReceivingAE"), tag_of("DeletionLock"), "00080005"})


def _receiver(association: Association, said: Document) -> str:
    return text(said, "ReceivingAE") or association.calling


Act = Callable[[Dimse, Association, str, Document], Remark | None]
CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5
ACTIONS: Mapping[int, Act] = {  # Action Type ID (table CC.2-1)
    CHANGE_STATE: _change,
    REQUEST_CANCEL: _cancel,
    SUBSCRIBE: _subscribe,
    UNSUBSCRIBE: _unsubscribe,
    SUSPEND: _suspend,
}
ACTIONS_OF = {  # which of them a SOP class has
    PUSH: {REQUEST_CANCEL},
    WATCH: {REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND},
    PULL: {CHANGE_STATE},
}


@_with_statuses
def on_action(dimse: Dimse, association: Association, request: Message) -> None:
    """Change the state, ask for cancellation, subscribe, unsubscribe, suspend (CC.2.1 to CC.2.3)."""
    type_ = request.number("ActionTypeID")
    if type_ not in ACTIONS_OF.get(request.context.sop_class, ()):
        raise Refusal(NO_SUCH_ACTION, f"Action type {type_} is not of this SOP class.")
    remark = ACTIONS[type_](dimse, association, request.text("RequestedSOPInstanceUID"), data_of(request))
    association.respond(request, REMARKS[remark], ActionTypeID=type_)


UPS_SERVICES = (
    Service(
        "Unified Procedure Step - Push",
        "PS3.4 CC",
        (PUSH,),
        {Operation.N_CREATE: on_create, Operation.N_GET: on_get, Operation.N_ACTION: on_action},
    ),
    Service(
        "Unified Procedure Step - Watch",
        "PS3.4 CC",
        (WATCH,),
        {Operation.C_FIND: on_find, Operation.N_GET: on_get, Operation.N_ACTION: on_action},
    ),
    Service(
        "Unified Procedure Step - Pull",
        "PS3.4 CC",
        (PULL,),
        {
            Operation.C_FIND: on_find,
            Operation.N_GET: on_get,
            Operation.N_SET: on_set,
            Operation.N_ACTION: on_action,
        },
    ),
    Service("Unified Procedure Step - Event", "PS3.4 CC", (EVENT,), {}),
    Service("Unified Procedure Step - Query", "PS3.4 CC", (QUERY,), {Operation.C_FIND: on_find}),
)
REPORTING = AskedService(
    "Unified Procedure Step - Event", "PS3.4 CC", (EVENT,), (Operation.N_EVENT_REPORT,), as_scp=True
)


def follow_events(dimse: Dimse, session: Session, change: Change) -> None:
    """Queue a report for each receiver that is a DIMSE node; others listen by WebSocket."""
    receivers = change.data["receivers"]
    nodes = select(Node.ae_title).where(Node.ae_title.in_(receivers), Node.host != "")
    for ae_title in session.scalars(nodes) if receivers else ():
        enqueue(
            session, dimse.clock, report_event, ae_title, change.subject, change.data["event"],
            change.data["report"],
        )  # fmt: skip


@job(queue="dimse", retries=20)
def report_event(dimse: Dimse, ae_title: str, uid: str, event: int, report: Document) -> None:
    """Tell one receiver of one event (CC.2.4)."""
    send_event(dimse, ae_title, REPORTING, uid, event, report, PUSH)


def send_event(
    dimse: Dimse, ae_title: str, service: AskedService, uid: str, event: int, report: Document, sop_class: str
) -> None:
    """Send an N-EVENT-REPORT over an association of ours, as SCP of the class. Raises PeerRefused and what
    `associated` raises."""
    node = known_peer(dimse, ae_title)
    with associated(dimse, node, service.proposals(), roles=service.sop_classes) as association:
        (context,) = association.contexts.values()
        answer = association.invoke(
            context,
            {
                "CommandField": Operation.N_EVENT_REPORT,
                "AffectedSOPClassUID": sop_class,
                "AffectedSOPInstanceUID": uid,
                "EventTypeID": event,
            },
            (encode_document(report, context.transfer_syntax),),
        )
        if answer.status != SUCCESS:
            raise PeerRefused(ae_title, answer.status, answer.text("ErrorComment"))
