"""What was rendered once is kept: sealed files below the data directory, the least used removed first, and
sealed in the cache that the machines of a region share, where there is one.

A key is made of the content and all parameters, so an entry is never wrong, and may be lost at any time.
"""

import os
from pathlib import Path

from archive.bounded_folder import BoundedFolder
from kernel.crypto import DamagedBlob, KeyRing
from kernel.shared_cache import SharedCache

CONTEXT = "rendered"


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
        self._folder = BoundedFolder(root, most_bytes)
        self._shared = shared
        self._shared_for_s = shared_for_s
        self._keys = keys

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
        self._folder.put(self._path(key), self._keys.seal_bytes(data, CONTEXT))

    def prune(self) -> None:
        """Remove the least used until the rest is within the limit."""
        self._folder.prune()

    def _path(self, key: str) -> Path:
        return self._folder.root / key[:2] / key[2:]
