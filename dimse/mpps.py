"""Modality Performed Procedure Step: N-CREATE, N-SET, and N-GET of the Retrieve SOP class (PS3.4 F)."""

from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
)

from archive.performed_steps import (
    IncompleteStep,
    StepHasEnded,
    create_performed_step,
    read_performed_step,
    update_performed_step,
)
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.data_sets import data_of, encode_document
from dimse.service import Dimse, Service
from dimse.statuses import MISSING_ATTRIBUTE, PROCESSING_FAILURE, SUCCESS, Refusal
from dimse.ups import chosen

MAY_NO_LONGER_BE_UPDATED = 0xA710  # Error ID (PS3.4 table F.7.2-2)


def on_create(dimse: Dimse, association: Association, request: Message) -> None:
    """A step begins (F.7.2.1)."""
    try:
        uid = create_performed_step(
            dimse.archive, association.caller, data_of(request), request.text("AffectedSOPInstanceUID")
        )
    except IncompleteStep as refusal:
        raise Refusal(MISSING_ATTRIBUTE, str(refusal)) from refusal
    association.respond(request, SUCCESS, AffectedSOPInstanceUID=uid)


def on_set(dimse: Dimse, association: Association, request: Message) -> None:
    """A step goes on or ends (F.7.2.2)."""
    uid = request.text("RequestedSOPInstanceUID")
    try:
        update_performed_step(dimse.archive, association.caller, uid, data_of(request))
    except IncompleteStep as refusal:
        raise Refusal(MISSING_ATTRIBUTE, str(refusal)) from refusal
    except StepHasEnded as refusal:
        association.respond(
            request, PROCESSING_FAILURE, ErrorComment=str(refusal), ErrorID=MAY_NO_LONGER_BE_UPDATED
        )
        return
    association.respond(request, SUCCESS)


def on_get(dimse: Dimse, association: Association, request: Message) -> None:
    """What a step says (F.8.2)."""
    found = read_performed_step(dimse.archive, association.caller, request.text("RequestedSOPInstanceUID"))
    status, kept = chosen(found, request.tags("AttributeIdentifierList"))
    association.respond(request, status, encode_document(kept, request.context.transfer_syntax))


MPPS_SERVICES = (
    Service(
        "Modality Performed Procedure Step",
        "PS3.4 F.7",
        (str(ModalityPerformedProcedureStep),),
        {Operation.N_CREATE: on_create, Operation.N_SET: on_set},
    ),
    Service(
        "Modality Performed Procedure Step Retrieve",
        "PS3.4 F.8",
        (str(ModalityPerformedProcedureStepRetrieve),),
        {Operation.N_GET: on_get},
    ),
)
