"""What was rendered once is kept: sealed files below the data directory, the least used removed first, and
sealed in the cache that the machines of a region share, where there is one.

A key is made of the content and all parameters, so an entry is never wrong, and may be lost at any time.
"""

import os
import threading
from pathlib import Path

from kernel.clock import new_id
from kernel.crypto import DamagedBlob, KeyRing
from kernel.shared_cache import SharedCache

CONTEXT = "rendered"
PRUNE_SHARE = 16  # look through the folder each time a process has written this part of the limit


class RenderCache:
    """Rendered answers by key, shared by the processes of one machine."""

    def __init__(
        self,
        root: Path,
        keys: KeyRing,
        most_bytes: int,
        shared: SharedCache | None = None,
        shared_for_s: int = 0,
    ) -> None:
        self._root = root
        self._shared = shared
        self._shared_for_s = shared_for_s
        self._keys = keys
        self._most_bytes = most_bytes
        self._written_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """What is kept under a key (hexadecimal digits), or None."""
        kept = self._from_disk(key)
        if kept is None and self._shared is not None:
            kept = self._from_others(self._shared, key)
        return kept

    def _from_others(self, shared: SharedCache, key: str) -> bytes | None:
        sealed = shared.get(f"{CONTEXT}:{key}")
        if sealed is None:
            return None
        try:
            data = self._keys.open_bytes(sealed, CONTEXT + key)
        except DamagedBlob:  # somebody else's, or changed: as if it were not there
            return None
        self._to_disk(key, data)
        return data

    def _from_disk(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            sealed = path.read_bytes()
            os.utime(path)
            return self._keys.open_bytes(sealed, CONTEXT)
        except (OSError, DamagedBlob):
            return None

    def put(self, key: str, data: bytes) -> None:
        """Keep something; where there is no room for it, it is simply not kept."""
        if self._shared is not None:
            self._shared.put(
                f"{CONTEXT}:{key}", self._keys.seal_bytes(data, CONTEXT + key), self._shared_for_s
            )
        self._to_disk(key, data)

    def _to_disk(self, key: str, data: bytes) -> None:
        if len(data) > self._most_bytes // 8:
            return
        path = self._path(key)
        partial = path.with_name(f".{new_id()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(self._keys.seal_bytes(data, CONTEXT))
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            return
        with self._lock:
            self._written_bytes += len(data)
            due = self._written_bytes > self._most_bytes // PRUNE_SHARE
            if due:
                self._written_bytes = 0
        if due:
            self.prune()

    def prune(self) -> None:
        """Remove the least used until the rest is within the limit."""
        found = []
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((status.st_mtime, status.st_size, path))
        size = sum(entry[1] for entry in found)
        for _, entry_bytes, path in sorted(found, key=lambda entry: entry[0]):
            if size <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            size -= entry_bytes

    def _path(self, key: str) -> Path:
        return self._root / key[:2] / key[2:]
