"""Work that nobody waits for gives way to work that somebody does: it is done by a thread of low priority.

setpriority(2) is of a process by POSIX and of a thread on Linux, where anybody can lower it and nobody
raise it again: so a thread is kept for such work. It must hold nothing that others wait for, a transaction
least of all.
"""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

NICENESS = 5  # nice(2): a quarter of a core while others want it all, so that it gets done on a busy day too


def patiently(work: Iterator[T]) -> Iterator[T]:
    """What an iterator gives, made by a thread that gives way to others."""
    while (made := _PATIENT.submit(next, work, _END).result()) is not _END:
        yield made  # type: ignore[misc]


_END = object()


def _lower() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


_PATIENT = ThreadPoolExecutor(1, "patient", _lower)
