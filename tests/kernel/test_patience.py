"""Work that nobody waits for: done in its order, all of it, and behind everything else."""

import os
import threading
from collections.abc import Iterator

import pytest

from kernel.patience import NICENESS, patiently


def test_what_is_done_patiently_is_done_in_order_by_a_thread_that_gives_way() -> None:
    def work() -> Iterator[tuple[int, int]]:
        for number in range(3):
            yield number, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, here)

    done = list(patiently(work()))
    assert [number for number, _ in done] == [0, 1, 2]
    assert all(niceness >= NICENESS for _, niceness in done)
    assert os.getpriority(os.PRIO_PROCESS, here) == before


def test_what_fails_there_fails_here() -> None:
    def work() -> Iterator[int]:
        yield 1
        raise LookupError("lost")

    done = patiently(work())
    assert next(done) == 1
    with pytest.raises(LookupError):
        next(done)
