"""Every refusal has one Kind, and each door has one table that turns a Kind into its own protocol's answer.

    CloudfilmError
    ├── InvalidSetting          a host cannot start with this value
    ├── Forbidden               the caller is known and may not do this
    ├── Unauthenticated         the caller is not known, or no longer
    └── ...                     each room defines its own beside the function that raises it

Messages name the thing and what to do next, and never carry patient data: they travel into logs,
DIMSE error comments and HTTP bodies.
"""

from enum import Enum, auto
from typing import ClassVar


class Kind(Enum):
    """The closed handful of reasons for which a request is refused."""

    INVALID = auto()  # the input cannot be understood
    UNAUTHENTICATED = auto()  # who asks is not known
    FORBIDDEN = auto()  # known, and may not
    NOT_FOUND = auto()  # does not exist, or must not be known to exist
    NOT_ALLOWED = auto()  # this thing does not take this action
    NOT_ACCEPTABLE = auto()  # none of the forms asked for can be given
    CONFLICT = auto()  # contradicts what is already there
    GONE = auto()  # existed, and was deleted
    PRECONDITION = auto()  # the state the caller counted on has changed
    TOO_LARGE = auto()  # larger, or more, than a limit allows
    UNSUPPORTED = auto()  # understood, and not something that can be done with it
    UNPROCESSABLE = auto()  # well formed, and breaks a rule
    TOO_MANY = auto()  # too often; later it may work
    UNAVAILABLE = auto()  # a part that is needed does not answer; later it may work
    EXHAUSTED = auto()  # no room left to store it
    FAULT = auto()  # our own mistake


class CloudfilmError(Exception):
    """A refusal that a door answers in its own words. `kind` says why; the message, what to do next."""

    kind: ClassVar[Kind] = Kind.FAULT


class Forbidden(CloudfilmError):
    """The caller is known and lacks the right. `reason` is for the administrator who looks it up."""

    kind = Kind.FORBIDDEN

    def __init__(self, action: str, reason: str = "") -> None:
        super().__init__(f"You may not do this: {action}." + (f" {reason}" if reason else ""))
        self.action = action
        self.reason = reason


class Unauthenticated(CloudfilmError):
    """No credential, or one that is wrong, expired or revoked; the four look alike on purpose."""

    kind = Kind.UNAUTHENTICATED

    def __init__(self, message: str = "Sign in, or present a valid access token.") -> None:
        super().__init__(message)


class InvalidSetting(CloudfilmError):
    """A setting that stops the start. Names the field, its value and what would do."""

    kind = Kind.INVALID

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} is {value!r}: {remedy}")
        self.field = field
