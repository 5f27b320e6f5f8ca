"""Statuses: how each service says that something went well, halfway or wrong.

One table for each group of services turns the Kind of a refusal into its status. PS3.7 C (general),
PS3.4 B.2.3 (Storage), C.4.1.1.4 (C-FIND), C.4.2.1.5 (C-MOVE), C.4.3.1.4 (C-GET).
"""

from collections.abc import Mapping

from kernel.errors import CloudfilmError, Kind

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01  # some keys of the identifier were not supported
CANCELLED = 0xFE00

ATTRIBUTE_LIST_WARNING = 0x0107
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
NO_SUCH_ARGUMENT = 0x0114
INVALID_ATTRIBUTE_VALUE = 0x0106
INVALID_SOP_INSTANCE = 0x0117
NO_SUCH_SOP_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
MISSING_ATTRIBUTE = 0x0120
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

OUT_OF_RESOURCES = 0xA700
OUT_OF_RESOURCES_MATCHES = 0xA701
OUT_OF_RESOURCES_SUBOPERATIONS = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
SUBOPERATIONS_WARNING = 0xB000  # complete, and some sub-operations failed or warned

NO_SUCH_FRAMES = 0xAA00  # PS3.4 Y.4.1.1.4: none of the frames was found
CANNOT_MAKE_OBJECT = 0xAA01
CANNOT_EXTRACT_FRAMES = 0xAA02
NOT_TIME_BASED = 0xAA03
INVALID_FRAME_REQUEST = 0xAA04

STORE: Mapping[Kind, int] = {
    Kind.INVALID: CANNOT_UNDERSTAND,
    Kind.UNPROCESSABLE: CANNOT_UNDERSTAND,
    Kind.UNSUPPORTED: CANNOT_UNDERSTAND,
    Kind.FORBIDDEN: NOT_AUTHORIZED,
    Kind.UNAUTHENTICATED: NOT_AUTHORIZED,
    Kind.CONFLICT: DUPLICATE_SOP_INSTANCE,
    Kind.TOO_LARGE: OUT_OF_RESOURCES,
    Kind.TOO_MANY: OUT_OF_RESOURCES,
    Kind.EXHAUSTED: OUT_OF_RESOURCES,
    Kind.UNAVAILABLE: OUT_OF_RESOURCES,
}

QUERY: Mapping[Kind, int] = {
    Kind.INVALID: DOES_NOT_MATCH_SOP_CLASS,
    Kind.UNPROCESSABLE: CANNOT_UNDERSTAND,
    Kind.UNSUPPORTED: CANNOT_UNDERSTAND,
    Kind.FORBIDDEN: NOT_AUTHORIZED,
    Kind.UNAUTHENTICATED: NOT_AUTHORIZED,
    Kind.TOO_MANY: OUT_OF_RESOURCES,
    Kind.EXHAUSTED: OUT_OF_RESOURCES,
    Kind.UNAVAILABLE: OUT_OF_RESOURCES,
}

RETRIEVE: Mapping[Kind, int] = {
    **QUERY,
    Kind.EXHAUSTED: OUT_OF_RESOURCES_SUBOPERATIONS,
    Kind.UNAVAILABLE: OUT_OF_RESOURCES_SUBOPERATIONS,
}

NORMALIZED: Mapping[Kind, int] = {  # the N- services (PS3.7 C)
    Kind.INVALID: INVALID_ATTRIBUTE_VALUE,
    Kind.UNPROCESSABLE: PROCESSING_FAILURE,
    Kind.UNSUPPORTED: NO_SUCH_ACTION,
    Kind.FORBIDDEN: NOT_AUTHORIZED,
    Kind.UNAUTHENTICATED: NOT_AUTHORIZED,
    Kind.NOT_FOUND: NO_SUCH_SOP_INSTANCE,
    Kind.CONFLICT: DUPLICATE_SOP_INSTANCE,
    Kind.NOT_ALLOWED: PROCESSING_FAILURE,
    Kind.TOO_MANY: RESOURCE_LIMITATION,
    Kind.EXHAUSTED: RESOURCE_LIMITATION,
    Kind.UNAVAILABLE: RESOURCE_LIMITATION,
}

BY_OPERATION: Mapping[int, Mapping[Kind, int]] = {
    0x0001: STORE,
    0x0010: RETRIEVE,
    0x0020: QUERY,
    0x0021: RETRIEVE,
}


class Refusal(CloudfilmError):
    """A refusal for which its service has a status of its own, beyond what its kind says."""

    kind = Kind.INVALID

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def is_pending(status: int) -> bool:
    """Whether more responses follow."""
    return status in (PENDING, PENDING_WITHOUT_OPTIONAL_KEYS)


def status_of(operation: int, kind: Kind) -> int:
    """The status with which an operation is refused for this reason."""
    return BY_OPERATION.get(operation, NORMALIZED).get(kind, PROCESSING_FAILURE)
