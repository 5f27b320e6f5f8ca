"""Verification: C-ECHO (PS3.4 annex A, PS3.7 9.1.5)."""

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dimse.association import Association, Message
from dimse.command import Operation
from dimse.service import Dimse, Service
from dimse.statuses import SUCCESS


def on_echo(_dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-ECHO-RQ."""
    association.respond(request, SUCCESS)


VERIFICATION = Service("Verification", "PS3.4 A", (str(Verification),), {Operation.C_ECHO: on_echo})
