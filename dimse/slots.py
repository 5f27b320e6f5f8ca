"""Slots: how many associations one node may have, or be sent over, at once, whatever process serves them.

A slot is a locked file; the system frees it when its process ends, however it ends. The limit holds for each
machine.
"""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Slot:
    """A place that is taken until it is given back."""

    descriptor: int = -1

    def free(self) -> None:
        """Give it back; once more does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of one machine, in a folder."""

    folder: Path

    def take(self, name: str, most: int) -> Slot | None:
        """One of `most` slots of this name, or None when all are taken. 0 is no limit."""
        if most <= 0:
            return Slot()
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = hashlib.sha256(name.encode()).hexdigest()[:24]  # an AE title may have characters of paths
        for number in range(most):
            descriptor = os.open(
                self.folder / f"{stem}.{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return Slot(descriptor)
        return None
