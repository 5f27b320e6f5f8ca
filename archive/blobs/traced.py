"""A blob store whose reads and writes are spans (`kernel.traces`); only made where there are traces."""

from collections.abc import Iterator

from archive.blobs.store import BlobInfo, BlobReader, BlobStore, BlobWriter
from kernel.traces import CLIENT, span


class TracedStore:
    """Another store, and how long it takes."""

    def __init__(self, inner: BlobStore) -> None:
        self._inner = inner

    def create(self, key: str) -> BlobWriter:
        """Begin a new blob."""
        with span("store create", CLIENT):
            return _TracedWriter(self._inner.create(key))

    def open(self, key: str) -> BlobReader:
        """Open a blob. Raises BlobNotFound."""
        with span("store open", CLIENT):
            return _TracedReader(self._inner.open(key))

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        with span("store delete", CLIENT):
            self._inner.delete(key)

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        return self._inner.list()

    def check(self) -> None:
        """Raise StorageUnavailable when it cannot take or give data now."""
        self._inner.check()

    def free_bytes(self) -> int | None:
        """Room that is left, or None where the store has no bound of its own."""
        return self._inner.free_bytes()


class _TracedWriter:
    def __init__(self, inner: BlobWriter) -> None:
        self._inner = inner
        self.key = inner.key

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def finish(self) -> None:
        self._inner.finish()

    def begin_commit(self) -> None:
        self._inner.begin_commit()

    def commit(self, synced: set[str]) -> None:
        with span("store commit", CLIENT):
            self._inner.commit(synced)

    def discard(self) -> None:
        self._inner.discard()

    def reader(self) -> BlobReader:
        return self._inner.reader()


class _TracedReader:
    def __init__(self, inner: BlobReader) -> None:
        self._inner = inner

    def pread(self, length: int, offset: int, /) -> bytes:
        with span("store read", CLIENT, read_bytes=length):
            return self._inner.pread(length, offset)

    def close(self) -> None:
        self._inner.close()
