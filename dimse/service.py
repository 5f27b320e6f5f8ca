"""What a service class is made of: its SOP classes, transfer syntaxes, and a handler for each command.

The tuple of services in `dimse.server` is read by the negotiation, by the dispatch of messages, and by the
conformance statement, so what is stated is what is done.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from access.audit import note, note_refusal
from access.tokens import Access
from archive.room import Archive
from dimse.association import Association, Message, operation_name
from dimse.command import Operation
from dimse.slots import Slots
from dimse.statuses import PROCESSING_FAILURE, Refusal, status_of
from dimse.upper_layer import AssociationEnded
from kernel.clock import Clock
from kernel.errors import CloudfilmError, Kind
from kernel.settings import DimseSettings

log = logging.getLogger(__name__)

PLAIN_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True, slots=True)
class Dimse:
    """The door: what its handlers need. Made once, in `dimse.server.run`."""

    access: Access
    archive: Archive
    clock: Clock
    settings: DimseSettings
    slots: Slots


Handler = Callable[[Dimse, Association, Message], None]


@dataclass(frozen=True, slots=True)
class Service:
    """A service class in the role of SCP."""

    name: str
    standard: str  # where it is defined
    sop_classes: tuple[str, ...]
    handlers: Mapping[Operation, Handler]
    transfer_syntaxes: tuple[str, ...] = PLAIN_SYNTAXES
    roles_reversed: bool = False  # the requestor may also be the SCP, as for the sub-operations of C-GET
    extended: bytes = b""  # extended negotiation: the application information we agree to, byte by byte
    extended_is_told: bool = False  # it is told as it is, whatever is proposed, and not agreed byte by byte


@dataclass(frozen=True, slots=True)
class AskedService:
    """A service class over associations that we open, mostly in the role of SCU."""

    name: str
    standard: str
    sop_classes: tuple[str, ...]
    operations: tuple[Operation, ...]
    transfer_syntaxes: tuple[str, ...] = PLAIN_SYNTAXES
    as_scp: bool = False  # what we are the SCP of and tell by N-EVENT-REPORT: the SCP role is proposed

    def proposals(self, *sop_classes: str) -> list[tuple[str, tuple[str, ...]]]:
        """Contexts for some of the SOP classes, or for all."""
        return [(sop_class, self.transfer_syntaxes) for sop_class in sop_classes or self.sop_classes]


def note_association(dimse: Dimse, association: Association) -> None:
    """Say in the audit trail what was done over an association that has ended, in a shared transaction.

    What was stored, found or sent is there already, once for each study; this counts every operation.
    """
    with_whom = association.node.ae_title or association.calling
    try:
        dimse.archive.commits.run(
            lambda session: note(
                session, dimse.clock, association.caller, "end association", with_whom,
                detail=association.account(),
            )
        )  # fmt: skip
    except CloudfilmError as failure:
        log.warning("the end of an association with %s is not in the trail: %s", with_whom, failure)


def perform(dimse: Dimse, association: Association, request: Message, handler: Handler) -> None:
    """Let a handler answer a request; what it refuses, and what fails in it, becomes a status."""
    try:
        handler(dimse, association, request)
    except AssociationEnded:
        raise
    except Refusal as refusal:
        _refuse(association, request, refusal.status, str(refusal))
    except CloudfilmError as refusal:
        if refusal.kind is Kind.FORBIDDEN:
            note_refusal(
                dimse.archive.database, dimse.archive.recently, dimse.clock, association.caller,
                operation_name(request.operation), str(refusal),
            )  # fmt: skip
        _refuse(association, request, status_of(request.operation, refusal.kind), str(refusal))
    except Exception:
        log.exception("operation %#06x failed", request.operation)
        _refuse(association, request, PROCESSING_FAILURE, "Internal error; see the server's log")


def _refuse(association: Association, request: Message, status: int, comment: str) -> None:
    for _ in request.fragments():
        continue
    association.respond(request, status, ErrorComment=comment)
