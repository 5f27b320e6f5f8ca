"""A folder of things that may be lost at any time, kept within a limit: the least used go first."""

import os
import threading
from pathlib import Path

from kernel.clock import new_id

PRUNE_SHARE = 16  # look through the folder each time a process has written this part of the limit


class BoundedFolder:
    """Files of this machine's processes, all of which may read, add and prune."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        self.root = root
        self.most_bytes = most_bytes
        self._written_bytes = 0
        self._lock = threading.Lock()

    def put(self, path: Path, data: bytes | memoryview) -> None:
        """Keep a file whole or not at all; where there is no room for it, it is simply not kept."""
        if len(data) > self.most_bytes // 8:
            return
        partial = path.with_name(f".{new_id()}")
        try:
            try:
                partial.write_bytes(data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            return
        with self._lock:
            self._written_bytes += len(data)
            due = self._written_bytes > self.most_bytes // PRUNE_SHARE
            if due:
                self._written_bytes = 0
        if due:
            self.prune()

    def prune(self) -> None:
        """Remove the least used until the rest is within the limit."""
        found = []
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                except OSError:
                    continue
                found.append((status.st_mtime, status.st_size, path))
        size = sum(entry[1] for entry in found)
        for _, entry_bytes, path in sorted(found, key=lambda entry: entry[0]):
            if size <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            size -= entry_bytes
