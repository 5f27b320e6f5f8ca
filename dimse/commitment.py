"""Storage commitment: the request by N-ACTION, its result by N-EVENT-REPORT (PS3.4 J.3).

A node that has an address gets the result over a new association of ours, in which we are the SCP; any other
one over the association that it asked on, for as long as it stays. The result is queued in the transaction
that keeps the request, and tried again until it was taken.
"""

import logging

from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from access.nodes import find_node
from archive.attributes import Document, document, items, text
from archive.commitments import (
    Reference,
    Result,
    commitment_result,
    delivered,
    not_delivered,
    request_commitment,
)
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.data_sets import data_of, encode_document
from dimse.service import AskedService, Dimse, Service
from dimse.statuses import NO_SUCH_ACTION, NO_SUCH_SOP_INSTANCE, SUCCESS, Refusal
from dimse.ups import send_event
from kernel.errors import CloudfilmError
from kernel.jobs import enqueue, job

SOP_CLASS, INSTANCE = str(StorageCommitmentPushModel), str(StorageCommitmentPushModelInstance)
REQUEST = 1  # Action Type ID
COMPLETE, WITH_FAILURES = 1, 2  # Event Type ID
AFTER_S = 30.0  # an asker without an address keeps its association this long, or is called in vain

log = logging.getLogger(__name__)


def on_action(dimse: Dimse, association: Association, request: Message) -> None:
    """Keep a request for commitment, acknowledge it, and tell the result (J.3.2, J.3.3)."""
    if request.number("ActionTypeID") != REQUEST:
        raise Refusal(NO_SUCH_ACTION, "Storage commitment is requested by action type 1.")
    if request.text("RequestedSOPInstanceUID") != INSTANCE:
        raise Refusal(NO_SUCH_SOP_INSTANCE, "Storage commitment has one well-known SOP instance.")
    said = data_of(request)
    transaction = text(said, "TransactionUID")
    references = [
        Reference(text(each, "ReferencedSOPClassUID"), text(each, "ReferencedSOPInstanceUID"))
        for each in items(said, "ReferencedSOPSequence")
    ]
    node = find_node(dimse.access, association.calling)
    is_called = node is not None and bool(node.endpoints)
    with dimse.archive.database.transaction() as session:
        request_commitment(
            dimse.archive, session, association.caller, association.calling, transaction, references
        )
        enqueue(
            session, dimse.clock, deliver_result, association.calling, transaction,
            delay_s=0 if is_called else AFTER_S,
        )  # fmt: skip
    association.respond(request, SUCCESS, ActionTypeID=REQUEST)
    if not is_called:
        _tell_over(dimse, association, request, transaction)


def _tell_over(dimse: Dimse, association: Association, request: Message, transaction_uid: str) -> None:
    """Tell the result over the association that it was asked for on."""
    result = commitment_result(dimse.archive, association.calling, transaction_uid)
    if result is None:
        return
    data = encode_document(_report(dimse, result), request.context.transfer_syntax)
    association.tell(
        request.context,
        {
            "CommandField": Operation.N_EVENT_REPORT,
            "AffectedSOPClassUID": SOP_CLASS,
            "AffectedSOPInstanceUID": INSTANCE,
            "EventTypeID": _event(result),
        },
        (data,),
        lambda answer: _taken(dimse, result, answer),
    )


def _taken(dimse: Dimse, result: Result, answer: Message) -> None:
    if answer.status == SUCCESS:
        delivered(dimse.archive, result)
    else:
        log.warning("%s refuses a commitment result: %#06x", result.ae_title, answer.status)


@job(queue="dimse", retries=40)
def deliver_result(dimse: Dimse, ae_title: str, transaction_uid: str) -> None:
    """Tell the result over an association of our own, unless it was taken already."""
    result = commitment_result(dimse.archive, ae_title, transaction_uid)
    if result is None:
        return
    try:
        send_event(dimse, ae_title, REPORTING, INSTANCE, _event(result), _report(dimse, result), SOP_CLASS)
    except CloudfilmError as failure:
        not_delivered(dimse.archive, ae_title, transaction_uid, str(failure))
        raise
    delivered(dimse.archive, result)


def _event(result: Result) -> int:
    return WITH_FAILURES if result.failed else COMPLETE


def _report(dimse: Dimse, result: Result) -> Document:
    """The result as an event report says it (table J.3-2)."""
    report = document(TransactionUID=result.transaction_uid, RetrieveAETitle=dimse.settings.ae_title)
    if result.committed:
        report |= document(ReferencedSOPSequence=[_item(each) for each in result.committed])
    if result.failed:
        failed = [_item(each) | document(FailureReason=each.failure) for each in result.failed]
        report |= document(FailedSOPSequence=failed)
    return report


def _item(reference: Reference) -> Document:
    return document(
        ReferencedSOPClassUID=reference.sop_class_uid, ReferencedSOPInstanceUID=reference.sop_instance_uid
    )


COMMITMENT = Service(
    "Storage Commitment Push Model", "PS3.4 J", (SOP_CLASS,), {Operation.N_ACTION: on_action}
)
REPORTING = AskedService(
    COMMITMENT.name, COMMITMENT.standard, (SOP_CLASS,), (Operation.N_EVENT_REPORT,), as_scp=True
)
