"""Sealed objects: what every blob is, read at any offset, hashed on the way in.

`Blobs` is what the rest of the archive knows: it writes an object as a stream in one pass (sealed, hashed,
bounded memory) and reads any range of it, whatever the store below.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from typing_extensions import Buffer

from archive.blobs.near import NearStore
from archive.blobs.store import (
    BlobNotFound,
    BlobStore,
    BlobWriter,
    Readable,
    StorageUnavailable,
    new_key,
)
from archive.blobs.tiers import PACKED_SUFFIX, key_in
from kernel.clock import Clock
from kernel.crypto import DamagedBlob, KeyRing, Seal, open_range
from kernel.errors import CloudfilmError
from kernel.settings import BlobsSettings

NEAR_BYTES = 4194304  # the longest range that is kept near: a frame, a preview, the tables of a series

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A stored object: where it is, how it opens, and the digest of its plain bytes."""

    key: str
    seal: Seal
    sha256: bytes

    @property
    def size_bytes(self) -> int:
        """Plain bytes."""
        return self.seal.size_bytes


@dataclass(frozen=True, slots=True)
class Blobs:
    """Sealed objects in a store."""

    store: BlobStore
    keys: KeyRing
    clock: Clock
    settings: BlobsSettings
    copies: Mapping[str, BlobStore] = field(
        default_factory=dict
    )  # stores that hold every object too, by name
    near: NearStore | None = None  # what was read lately of a distant store

    def writer(self, tier: str = "", packs: bool = False) -> "SealedWriter":
        """Begin a new object. packs: its chunks are made smaller, at the cost of a processor."""
        return SealedWriter(self, tier, packs)

    def write(self, data: bytes) -> Sealed:
        """Store bytes that are at hand; durable when this returns."""
        writer = self.writer()
        try:
            writer.write(data)
            sealed = writer.finish()
            writer.commit()
        except BaseException:
            writer.discard()
            raise
        return sealed

    def stream(self, key: str, seal: Seal, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Plain bytes from `offset`, chunk by chunk.

        What the store lost, damaged or cannot give now comes from a copy, from where it broke off. Raises
        BlobNotFound, DamagedBlob or StorageUnavailable when no copy helps.
        """
        end = seal.size_bytes if length is None else min(seal.size_bytes, offset + length)
        lost: CloudfilmError | None = None
        for store, stored_as in self._sources(key, end - offset):
            try:
                for piece in read_sealed(store, stored_as, self.keys, seal, offset, end):
                    yield piece
                    offset += len(piece)
                return
            except (BlobNotFound, DamagedBlob, StorageUnavailable) as failure:
                log.warning("object %s could not be read where it is: %s", key, type(failure).__name__)
                lost = lost or failure
        if lost is not None:
            raise lost

    def _sources(self, key: str, length: int) -> Iterator[tuple[Readable, str]]:
        """Where a range may be read, the nearest first. What is long is not looked at again and again."""
        if self.near is not None and length <= NEAR_BYTES:
            yield self.near, key
            self.near.delete(key)  # it did not help
        yield from self._places(key)

    def _places(self, key: str) -> Iterator[tuple[BlobStore, str]]:
        yield self.store, key
        for store in self.copies.values():
            yield store, key_in("", key)

    def read(self, key: str, seal: Seal, offset: int = 0, length: int | None = None) -> bytes:
        """Plain bytes at once; for ranges that are known to be small, such as a frame."""
        return b"".join(self.stream(key, seal, offset, length))

    def is_there(self, key: str) -> bool:
        """Whether an object is where it belongs, or a copy of it; its bytes are not read."""
        for store, stored_as in self._places(key):
            try:
                store.open(stored_as).close()
            except (BlobNotFound, StorageUnavailable):
                continue
            return True
        return False

    def open(self, key: str, seal: Seal) -> "SealedReader":
        """The object as a seekable binary file."""
        return SealedReader(lambda number: self._chunk(key, seal, number), seal)

    def _chunk(self, key: str, seal: Seal, number: int) -> bytes:
        return self.read(key, seal, number * seal.chunk_bytes, seal.chunk_bytes)

    def delete(self, key: str) -> None:
        """Remove an object and its copies."""
        if self.near is not None:
            self.near.delete(key)
        self.store.delete(key)
        for store in self.copies.values():
            store.delete(key_in("", key))


def read_sealed(
    store: Readable, key: str, keys: KeyRing, seal: Seal, offset: int, end: int
) -> Iterator[bytes]:
    """Plain bytes `offset` to `end` of an object in one store. Raises BlobNotFound, DamagedBlob or
    StorageUnavailable."""
    reader = store.open(key)
    try:
        yield from open_range(seal, keys.cipher(seal), reader.pread, offset, end - offset)
    finally:
        reader.close()


class Readinto(Protocol):
    """What is read into a buffer: a file, a body, a part of one."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Bytes that were read; 0 at the end."""
        ...


class SealedWriter(io.RawIOBase):
    """Seals what is written to it. `finish`, look at it with `reader`, then `commit` or `discard`."""

    def __init__(self, blobs: Blobs, tier: str = "", packs: bool = False) -> None:
        super().__init__()
        settings = blobs.settings
        self._seal, self._sealer = blobs.keys.new_seal(settings.suite, settings.chunk_bytes, packs)
        self._key = key_in(tier, new_key(blobs.clock.now())) + (PACKED_SUFFIX if packs else "")
        self._writer: BlobWriter = blobs.store.create(self._key)
        # One chunk and a byte: the last chunk is marked as such, so each waits for a byte of the next one.
        self._chunk = bytearray(self._sealer.chunk_bytes + 1)
        self._filled = 0  # bytes of it
        self._first: bytes | memoryview = b""
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._finished = False
        try:
            self._writer.write(self._sealer.header)
        except BaseException:  # nobody has this writer yet, to take it back
            self._writer.discard()
            raise

    @property
    def size_bytes(self) -> int:
        """Plain bytes written so far."""
        return self._size_bytes

    def writable(self) -> bool:
        """Whether it takes bytes: always."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Append plain bytes. Raises StorageFull or StorageUnavailable."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            taken = left[: len(self._chunk) - self._filled]
            self._chunk[self._filled : self._filled + len(taken)] = taken
            self._advance(len(taken))
            left = left[len(taken) :]
        return size

    def read_from(self, source: Readinto) -> None:
        """Append what a source has, to its end: it reads into the chunk that is sealed. Raises as `write`."""
        while size := source.readinto(memoryview(self._chunk)[self._filled :]):
            self._advance(size)

    def _advance(self, size: int) -> None:
        """So many bytes more stand in the chunk: seal it when it is known not to be the last."""
        self._filled += size
        self._size_bytes += size
        if self._filled == len(self._chunk):
            whole, after = memoryview(self._chunk)[:-1], self._chunk[-1:]
            self._put(whole, last=False)
            if not self._first:
                self._first, self._chunk = whole, bytearray(len(self._chunk))
            self._chunk[:1] = after
            self._filled = 1

    def _put(self, plain: memoryview, last: bool) -> None:
        self._sha256.update(plain)
        self._writer.write(self._sealer.chunk(plain, last))

    def finish(self) -> Sealed:
        """Seal the last chunk. The object can be read, and is not yet durable."""
        if not self._finished:
            last = memoryview(self._chunk)[: self._filled]
            self._put(last, last=True)
            self._first = self._first or bytes(last)
            self._chunk = bytearray()  # of many that wait for a commit, none holds its own
            table, packed_bytes = self._sealer.end(self._size_bytes)
            if table:
                self._writer.write(table)
            self._seal = replace(self._seal, size_bytes=self._size_bytes, packed_bytes=packed_bytes)
            self._writer.finish()
            self._finished = True
        return Sealed(self._key, self._seal, self._sha256.digest())

    def reader(self) -> "SealedReader":
        """Read back a finished object; its first chunk is still at hand and is not decrypted again."""
        seal, cipher, size = self._seal, self._sealer.aead, self._seal.chunk_bytes

        def read_chunk(number: int) -> bytes:
            below = self._writer.reader()
            try:
                return b"".join(open_range(seal, cipher, below.pread, number * size, size))
            finally:
                below.close()

        return SealedReader(read_chunk, seal, self._first)

    def begin_commit(self) -> None:
        """See `BlobWriter.begin_commit`."""
        self._writer.begin_commit()

    def commit(self, synced: set[str] | None = None) -> None:
        """Make it durable; see `BlobWriter.commit`."""
        self._writer.commit(set() if synced is None else synced)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.discard()


class SealedReader(io.RawIOBase):
    """A sealed object as a seekable binary file. Keeps the chunk it read last, and the first."""

    def __init__(
        self,
        read_chunk: Callable[[int], bytes],
        seal: Seal,
        first: bytes | memoryview = b"",
    ) -> None:
        super().__init__()
        self._read_chunk = read_chunk
        self._seal = seal
        self._chunks: dict[int, bytes | memoryview] = {0: first} if first else {}
        self._at = 0

    def readable(self) -> bool:
        """Whether it gives bytes: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read at any offset: always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._seal.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The present offset."""
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, or all that follow. Raises DamagedBlob."""
        left = self._seal.size_bytes - self._at
        size = max(0, left if size is None or size < 0 else min(size, left))
        pieces = []
        while size > 0:
            number, start = divmod(self._at, self._seal.chunk_bytes)
            piece = bytes(self._chunk(number)[start : start + size])
            pieces.append(piece)
            self._at += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _chunk(self, number: int) -> bytes | memoryview:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._read_chunk(number)
            self._chunks = {0: self._chunks[0], number: chunk} if 0 in self._chunks else {number: chunk}
        return chunk
