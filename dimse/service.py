"""What a service class is made of: its SOP classes, transfer syntaxes, and a handler for each command.

The tuple of services in `dimse.server` is read by the negotiation, by the dispatch of messages, and by the
conformance statement, so what is stated is what is done.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from access.tokens import Access
from archive.room import Archive
from dimse.association import Association, Message
from dimse.command import Operation
from kernel.clock import Clock
from kernel.settings import DimseSettings

PLAIN_SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True, slots=True)
class Dimse:
    """The door: what its handlers need. Made once, in `dimse.server.run`."""

    access: Access
    archive: Archive
    clock: Clock
    settings: DimseSettings


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
