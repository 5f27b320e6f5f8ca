"""The interface of a blob store: opaque keys, bytes that never change, reads at any offset.

A store does not know what it keeps. Keys are made here and hold nothing that came from outside, so no input
can name a path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kernel.clock import new_id
from kernel.errors import CloudfilmError, Kind


class BlobNotFound(CloudfilmError):
    """The store has no such blob: it was lost, or the store was changed behind our back."""

    kind = Kind.FAULT

    def __init__(self, key: str) -> None:
        super().__init__(f"The stored object {key} is missing; run: cloudfilm doctor.")


class StorageFull(CloudfilmError):
    """There is no room left for another object. Nothing of it was kept."""

    kind = Kind.EXHAUSTED

    def __init__(self) -> None:
        super().__init__("The storage is full; nothing was kept. Send again when there is room.")


class StorageUnavailable(CloudfilmError):
    """The store does not answer or refuses to be written to."""

    kind = Kind.UNAVAILABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"The storage does not take or give data ({reason}); try again.")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob as a listing has it."""

    key: str
    size_bytes: int
    changed_at: datetime


class BlobWriter(Protocol):
    """Takes the bytes of a new blob. Until `commit` returns nothing of it counts; `discard` takes it back."""

    key: str

    def write(self, data: bytes) -> None:
        """Append bytes. Raises StorageFull or StorageUnavailable."""
        ...

    def finish(self) -> None:
        """No more bytes come; what can be begun ahead of `commit` is begun."""
        ...

    def begin_commit(self) -> None:
        """Of several: have them all begin what `commit` then waits for, where they can wait together."""
        ...

    def commit(self, synced: set[str]) -> None:
        """Make it durable: when this returns, a power loss leaves it whole.

        synced: what was done already for other blobs of the same batch, all begun before the first commit;
        added to.
        """
        ...

    def discard(self) -> None:
        """Leave nothing behind."""
        ...

    def reader(self) -> "BlobReader":
        """Read back what was written so far, before it is committed."""
        ...


class BlobReader(Protocol):
    """Reads one blob at any offset."""

    def pread(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`, fewer only at the end."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Readable(Protocol):
    """Where blobs are read."""

    def open(self, key: str) -> BlobReader:
        """Open a blob. Raises BlobNotFound."""
        ...


class BlobStore(Readable, Protocol):
    """A place for blobs."""

    def create(self, key: str) -> BlobWriter:
        """Begin a new blob."""
        ...

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        ...

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        ...

    def check(self) -> None:
        """Raise StorageUnavailable when it cannot take or give data now."""
        ...

    def free_bytes(self) -> int | None:
        """Room that is left, or None where the store has no bound of its own."""
        ...


def new_key(now: datetime) -> str:
    """A key for a new blob: by hour of arrival, so that a directory stays small and old ones stay as
    they are."""
    return f"{now.year:04}/{now.month:02}/{now.day:02}/{now.hour:02}/{new_id()}"
