"""Command sets: the part of a DIMSE message that says what is wanted or how it ended.

A command set is a mapping of keywords to values, encoded as Implicit VR Little Endian, in ascending order of
tags, with the group length first. Standards: PS3.7 6.3.1 (encoding), E.1 (registry of command elements).
"""

import struct
from collections.abc import Mapping
from enum import IntEnum

from kernel.errors import CloudfilmError, Kind

Value = int | str | tuple[int, ...]
Command = Mapping[str, Value]

NO_DATA_SET = 0x0101  # Command Data Set Type of a message without one; any other value means that one follows
HAS_DATA_SET = 0x0001

RESPONSE = 0x8000  # this bit makes a command field that of its response


class Operation(IntEnum):
    """Command Field (0000,0100) of the requests."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


class InvalidCommand(CloudfilmError):
    """A command set that cannot be read."""

    kind = Kind.INVALID


ELEMENTS = {  # keyword -> element number of group 0000 and VR (PS3.7 E.1)
    "AffectedSOPClassUID": (0x0002, "UI"),
    "RequestedSOPClassUID": (0x0003, "UI"),
    "CommandField": (0x0100, "US"),
    "MessageID": (0x0110, "US"),
    "MessageIDBeingRespondedTo": (0x0120, "US"),
    "MoveDestination": (0x0600, "AE"),
    "Priority": (0x0700, "US"),
    "CommandDataSetType": (0x0800, "US"),
    "Status": (0x0900, "US"),
    "OffendingElement": (0x0901, "AT"),
    "ErrorComment": (0x0902, "LO"),
    "ErrorID": (0x0903, "US"),
    "AffectedSOPInstanceUID": (0x1000, "UI"),
    "RequestedSOPInstanceUID": (0x1001, "UI"),
    "EventTypeID": (0x1002, "US"),
    "AttributeIdentifierList": (0x1005, "AT"),
    "ActionTypeID": (0x1008, "US"),
    "NumberOfRemainingSuboperations": (0x1020, "US"),
    "NumberOfCompletedSuboperations": (0x1021, "US"),
    "NumberOfFailedSuboperations": (0x1022, "US"),
    "NumberOfWarningSuboperations": (0x1023, "US"),
    "MoveOriginatorApplicationEntityTitle": (0x1030, "AE"),
    "MoveOriginatorMessageID": (0x1031, "US"),
}
KEYWORDS = {number: (keyword, vr) for keyword, (number, vr) in ELEMENTS.items()}
PADDING = {"UI": b"\0", "AE": b" ", "LO": b" "}

ELEMENT_HEADER = struct.Struct("<HHI")


def encode_command(command: Command) -> bytes:
    """The bytes of a command set, group length included. Texts are ASCII; other characters become `?`."""
    body = b"".join(
        _element(number, vr, command[keyword])
        for keyword, (number, vr) in ELEMENTS.items()
        if keyword in command
    )
    return ELEMENT_HEADER.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def _element(number: int, vr: str, value: Value) -> bytes:
    if isinstance(value, str):
        text = value.encode("ascii", "replace")
        data = text + PADDING[vr] * (len(text) % 2)
    elif isinstance(value, tuple):  # AT: tags
        data = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    else:
        data = struct.pack("<H", value)
    return ELEMENT_HEADER.pack(0, number, len(data)) + data


def decode_command(data: bytes) -> dict[str, Value]:
    """Read a command set; elements that the standard retired or that we do not know are left out, and so are
    those of other groups: Orthanc 1.10 tells here, and not in the data set, which instances failed.

    Raises InvalidCommand when it is cut off or has values of a wrong length.
    """
    command: dict[str, Value] = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise InvalidCommand("The command set is cut off.")
        group, number, length = ELEMENT_HEADER.unpack_from(data, at)
        at += 8
        if at + length > len(data):
            raise InvalidCommand("The command set is damaged.")
        if group == 0 and number in KEYWORDS:
            keyword, vr = KEYWORDS[number]
            command[keyword] = _value(keyword, vr, data[at : at + length])
        at += length
    return command


def _value(keyword: str, vr: str, data: bytes) -> Value:
    try:
        if vr == "US":
            return int(struct.unpack("<H", data)[0])
        if vr == "AT":
            return tuple(group << 16 | element for group, element in struct.iter_unpack("<HH", data))
    except struct.error:
        raise InvalidCommand(f"The length of {keyword} in the command set is wrong.") from None
    return data.decode("ascii", "replace").strip(" \0")
