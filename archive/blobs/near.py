"""What is read of a distant store is kept near: sealed as it lies there, in blocks, on this machine's disk.

A viewer reads the frames of a series one after the other, and each would be a round trip to the object store.
A blob never changes, so a block is never wrong; what a crash left of one does not open, and the blob is then
read from where it lies (`Blobs.stream`). Nothing is opened or decrypted here.
"""

import hashlib
import os
import shutil
from pathlib import Path

from archive.blobs.store import BlobReader, BlobStore
from archive.bounded_folder import BoundedFolder

BLOCK_BYTES = 524288  # two sealed chunks and a little: what is read ahead is the next frame of a series


class NearStore:
    """A store to read from, with what was read lately in a folder of this machine."""

    def __init__(self, distant: BlobStore, folder: BoundedFolder) -> None:
        self._distant = distant
        self._folder = folder

    def open(self, key: str) -> "NearReader":
        """A blob to read; whether it is there shows at the first read."""
        return NearReader(self._distant, key, self._folder, self._place(key))

    def delete(self, key: str) -> None:
        """Forget what is kept of a blob."""
        shutil.rmtree(self._place(key), ignore_errors=True)

    def _place(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self._folder.root / name[:2] / name[2:]


class NearReader:
    """Reads one blob block by block."""

    def __init__(self, distant: BlobStore, key: str, folder: BoundedFolder, place: Path) -> None:
        self._distant = distant
        self._key = key
        self._folder = folder
        self._place = place
        self._reader: BlobReader | None = None

    def pread(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`, fewer only at the end. Raises BlobNotFound or StorageUnavailable."""
        pieces: list[bytes | memoryview] = []
        at, end = offset, offset + length
        while at < end:
            number, start = divmod(at, BLOCK_BYTES)
            wanted = min(end - at, BLOCK_BYTES - start)
            kept = self._kept(number, wanted, start)
            if len(kept) < wanted:
                pieces.append(self._fetch(number, end)[start : end - number * BLOCK_BYTES])
                break
            pieces.append(kept)
            at += wanted
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _kept(self, number: int, length: int, start: int) -> bytes:
        """A part of a block; less than asked for where it is not kept whole."""
        path = self._place / str(number)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            os.utime(descriptor)
            return os.pread(descriptor, length, start)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def _fetch(self, first: int, end: int) -> memoryview:
        """From where block `first` begins to the end of the block that holds `end - 1`, in one read."""
        if self._reader is None:
            self._reader = self._distant.open(self._key)
        begin, stop = first * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES
        read = memoryview(self._reader.pread(stop - begin, begin))
        for at in range(0, len(read), BLOCK_BYTES):
            block = read[at : at + BLOCK_BYTES]
            self._folder.put(self._place / str(first + at // BLOCK_BYTES), block)
        return read

    def close(self) -> None:
        """Give back what it holds."""
        if self._reader is not None:
            self._reader.close()
