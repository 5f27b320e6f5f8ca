"""Time and identifiers, passed in so that tests can fix them."""

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a room takes the time from."""

    def now(self) -> datetime:
        """The present moment, aware and in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present moment, aware and in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is moved; for tests and for replaying."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        """The moment it was set to."""
        return self.at

    def advance(self, by: timedelta) -> None:
        """Move the clock forward, or back with a negative span."""
        self.at += by


def new_uid() -> str:
    """A DICOM UID derived from a UUID (PS3.5 B.2), unique without a registered root."""
    return f"2.25.{uuid.uuid4().int}"


def new_id() -> str:
    """A FHIR logical id (`[A-Za-z0-9\\-\\.]{1,64}`): a random UUID (RFC 9562 5.4).

    Written out here, for everything that is stored has several, and `uuid` takes twice as long to say one.
    """
    digits = secrets.token_hex(16)
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_secret(size_bytes: int = 32) -> str:
    """A secret for tokens and codes, URL-safe, with 8 x `size_bytes` bits of entropy."""
    return secrets.token_urlsafe(size_bytes)
