"""Storage: C-STORE, from the receive buffer to the sealed blob (PS3.4 annex B, PS3.7 9.1.1).

The data set is kept bit for bit, in the transfer syntax it came in; preamble and file meta information
are put before it once. Success is answered when the instance is durable and indexed.
"""

import struct

from pynetdicom import ALL_TRANSFER_SYNTAXES
from pynetdicom.presentation import AllStoragePresentationContexts

from archive.ingest import Incoming
from archive.placing import Outcome
from dimse.associate import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.service import Dimse, Service
from dimse.statuses import SUCCESS

STORAGE_SOP_CLASSES = tuple(
    str(context.abstract_syntax) for context in AllStoragePresentationContexts if context.abstract_syntax
)
STORAGE_SYNTAXES = tuple(str(uid) for uid in ALL_TRANSFER_SYNTAXES)


def on_store(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-STORE-RQ. A refusal leaves nothing behind and names its reason in the error comment."""
    with Incoming(dimse.archive, association.caller) as incoming:
        incoming.write(
            file_meta(
                request.text("AffectedSOPClassUID"),
                request.text("AffectedSOPInstanceUID"),
                request.context.transfer_syntax,
                association.calling,
            )
        )
        for fragment in request.fragments():
            incoming.write(fragment)
        receipt = incoming.store()
    if receipt.outcome is Outcome.HELD:
        association.respond(request, SUCCESS, ErrorComment="Held for review")
    else:
        association.respond(request, SUCCESS)


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str, source: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1), in Explicit VR Little Endian."""
    elements = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _element(0x0002, b"UI", sop_class),
            _element(0x0003, b"UI", sop_instance),
            _element(0x0010, b"UI", transfer_syntax),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", source),
        )
    )
    return bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(elements)) + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def storage(private_sop_classes: tuple[str, ...]) -> Service:
    """The service, with what a site accepts beyond the standard."""
    return Service(
        "Storage",
        "PS3.4 B",
        (*STORAGE_SOP_CLASSES, *private_sop_classes),
        {Operation.C_STORE: on_store},
        STORAGE_SYNTAXES,
        roles_reversed=True,
        extended=b"\x02\0\x03\0\0\0",  # level 2, bit for bit with signatures, no coercion (PS3.4 B.3.1)
        extended_is_told=True,
    )
