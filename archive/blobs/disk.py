"""Blobs on the local disk: one file each, written at its final place.

A file that no row names is a stray that the sweeper removes, so there is no rename; what must hold before
an acknowledgement is that the file and its directory entry are on the disk, and `commit` waits for both.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from archive.blobs.store import BlobInfo, BlobNotFound, StorageFull, StorageUnavailable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SYNC_FILE_RANGE_WRITE = 2
SYNCED_AT_ONCE = 8  # files of a batch: the disk writes its cache once for those that wait for it together

_sync_file_range: Callable[..., int] | None = getattr(ctypes.CDLL(None), "sync_file_range", None)  # of Linux
if _sync_file_range is not None:
    _sync_file_range.argtypes = (  # type: ignore[attr-defined]
        ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint,
    )  # fmt: skip


class DiskStore:
    """A folder of blobs."""

    def __init__(self, root: Path, durable: bool = True, reserve_bytes: int = 0) -> None:
        self.root = root
        self._prefix = os.path.join(root, "")  # as text: a Path takes longer than to open a file
        self._durable = durable
        self._reserve_bytes = reserve_bytes
        root.mkdir(parents=True, exist_ok=True)
        self._folder = lru_cache(maxsize=64)(self._make_folder)
        self._syncs = ThreadPoolExecutor(SYNCED_AT_ONCE, "sync")

    def create(self, key: str) -> "DiskWriter":
        """Begin a new blob. Raises StorageFull when the reserve would be touched."""
        free = self.free_bytes()
        if free is not None and free < self._reserve_bytes:
            raise StorageFull
        folder = self._folder(key.rpartition("/")[0])
        try:
            return DiskWriter(key, folder, self._durable, self._syncs)
        except OSError as failure:
            raise refusal(failure) from failure

    def open(self, key: str) -> "DiskReader":
        """Open a blob. Raises BlobNotFound."""
        try:
            return DiskReader(os.open(self._prefix + key, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise BlobNotFound(key) from None
        except OSError as failure:
            raise refusal(failure) from failure

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when there is none. Raises StorageUnavailable."""
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as failure:
            raise refusal(failure) from failure

    def list(self) -> Iterator[BlobInfo]:
        """All blobs, in no order."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                changed_at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield BlobInfo(path.relative_to(self.root).as_posix(), status.st_size, changed_at)

    def check(self) -> None:
        """Raise StorageUnavailable when the folder is gone or the file system only reads."""
        try:
            status = os.statvfs(self.root)
        except OSError as failure:
            raise refusal(failure) from failure
        if status.f_flag & os.ST_RDONLY:
            raise StorageUnavailable(os.strerror(errno.EROFS))

    def free_bytes(self) -> int | None:
        """Room that is left on the file system."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def _make_folder(self, name: str) -> str:
        folder = self.root / name
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            if self._durable:
                for parent in list(folder.parents)[: name.count("/") + 1]:
                    sync_folder(parent)
        return str(folder)


class DiskWriter:
    """A new file. Appends are unbuffered: they come in sealed chunks."""

    def __init__(self, key: str, folder: str, durable: bool, syncs: Executor) -> None:
        self.key = key
        self._folder = folder  # a text, for a `Path` of each object is slow to make
        self._path = f"{folder}/{key.rpartition('/')[2]}"
        self._durable = durable
        self._syncs = syncs
        self._syncing: Future[None] | None = None
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """Append bytes. Raises StorageFull or StorageUnavailable."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as failure:
            raise refusal(failure) from failure

    def finish(self) -> None:
        """No more bytes come: let the disk begin. What a batch wrote is on its way before the first of it is
        waited for, so the file system's journal is written once for all of it."""
        if self._durable and _sync_file_range is not None:
            _sync_file_range(self._descriptor, 0, 0, SYNC_FILE_RANGE_WRITE)

    def begin_commit(self) -> None:
        """Let a thread wait for the disk, as others do for others of the batch."""
        if self._durable:
            self._syncing = self._syncs.submit(os.fdatasync, self._descriptor)

    def commit(self, synced: set[str]) -> None:
        """Wait until the file and its directory entry are on the disk; a folder is synced once in a batch."""
        try:
            if self._durable:
                if self._syncing is None:
                    os.fdatasync(self._descriptor)
                else:
                    self._syncing.result()
                if self._folder not in synced:
                    sync_folder(self._folder)
                    synced.add(self._folder)
        except OSError as failure:
            raise refusal(failure) from failure
        finally:
            self._close()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._close()
        Path(self._path).unlink(missing_ok=True)

    def reader(self) -> "DiskReader":
        """Read back what was written so far."""
        return DiskReader(os.dup(self._descriptor))

    def _close(self) -> None:
        if self._syncing is not None and not self._syncing.cancel():
            wait([self._syncing])  # the number of a closed descriptor may be another file's at once
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DiskReader:
    """An open file, read at any offset."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`, fewer only at the end."""
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_folder(folder: Path | str) -> None:
    """Wait until the entries of a directory are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal(failure: OSError) -> StorageFull | StorageUnavailable:
    """What an error of the file system means to who wants to store."""
    return StorageFull() if failure.errno in NO_ROOM else StorageUnavailable(os.strerror(failure.errno or 0))
