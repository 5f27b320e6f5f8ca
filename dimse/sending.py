"""Sending instances: which presentation context one goes over, in which transfer syntax, and how it went.

C-GET answers over the association of the asker, C-MOVE, forwarding and commands over one of our own; the
rest is the same. An instance goes as it is stored when the peer takes that; otherwise in a syntax that it
takes and that the instance can be given in. Standards: PS3.4 annex B and C.4.2.2, PS3.7 9.1.1.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from archive.retrieve import StoredInstance, data_set_bytes
from archive.room import Archive
from dimse.association import Association, Context
from dimse.command import Operation, Value
from dimse.conversion import converted, targets
from dimse.statuses import SUCCESS

DataSet = Iterable[bytes | memoryview]
MEDIUM = 0  # priority (PS3.7 9.1.1.1.5)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance that is to be sent, and the data set that it has in each syntax."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str  # in which it costs nothing
    others: tuple[str, ...]  # in which it can be given too, the best first
    data_set: Callable[[str], DataSet]
    size_bytes: int


@dataclass(slots=True)
class Counts:
    """Sub-operations of a retrieval (PS3.7 9.1.3): how they went, and which failed."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warnings: int = 0
    failed_uids: list[str] | None = None

    def count(self, sop_instance: str, status: int) -> None:
        """One more has ended with this status."""
        self.remaining = max(0, self.remaining - 1)
        if status == SUCCESS:
            self.completed += 1
        elif is_warning(status):
            self.warnings += 1
        else:
            self.failed += 1
            self.failed_uids = [*(self.failed_uids or ()), sop_instance]

    def elements(self, remaining: bool) -> dict[str, Value]:
        """As elements of a response; the last one of all has none that remain."""
        most = 0xFFFF
        counted: dict[str, Value] = {
            "NumberOfCompletedSuboperations": min(self.completed, most),
            "NumberOfFailedSuboperations": min(self.failed, most),
            "NumberOfWarningSuboperations": min(self.warnings, most),
        }
        if remaining:
            counted["NumberOfRemainingSuboperations"] = min(self.remaining, most)
        return counted


def is_warning(status: int) -> bool:
    """Whether a C-STORE status says that the instance was stored, if with a complaint (PS3.4 B.2.3)."""
    return status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF


def as_stored(archive: Archive, stored: StoredInstance) -> Outgoing:
    """An instance of the archive."""

    def data_set(transfer_syntax: str) -> DataSet:
        if transfer_syntax == stored.transfer_syntax_uid:
            return data_set_bytes(archive, stored)
        return converted(archive, stored, transfer_syntax)

    return Outgoing(
        stored.sop_class_uid,
        stored.sop_instance_uid,
        stored.transfer_syntax_uid,
        targets(stored.transfer_syntax_uid),
        data_set,
        stored.size_bytes,
    )


def choose_context(association: Association, outgoing: Outgoing) -> Context | None:
    """The accepted context to send an instance over, or None when there is none that fits.

    The transfer syntaxes that the node prefers come first, as far as the instance can be given in them.
    """
    accepted = {
        context.transfer_syntax: context
        for context in association.contexts.values()
        if context.as_scu and context.sop_class == outgoing.sop_class
    }
    able = (outgoing.transfer_syntax, *outgoing.others)
    preferred = [syntax for syntax in association.node.transfer_syntaxes if syntax in able]
    return next((accepted[syntax] for syntax in (*preferred, *able) if syntax in accepted), None)


def send_instance(association: Association, context: Context, outgoing: Outgoing, **originator: Value) -> int:
    """Send one instance and return the peer's status. Raises AssociationEnded, and what the archive refuses
    when nothing has been sent.

    originator: MoveOriginatorApplicationEntityTitle and MoveOriginatorMessageID of a C-MOVE.
    """
    command = {
        "CommandField": Operation.C_STORE,
        "AffectedSOPClassUID": outgoing.sop_class,
        "AffectedSOPInstanceUID": outgoing.sop_instance,
        "Priority": MEDIUM,
        **originator,
    }
    return association.invoke(context, command, outgoing.data_set(context.transfer_syntax)).status
