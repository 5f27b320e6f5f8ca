"""Work of concurrent threads that is done together, because doing it costs much whatever the amount."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")


class Together(Generic[W, R]):
    """Does what several threads bring at once.

    A thread that finds nobody at it leads: it does all that waits, and then lets the first who came meanwhile
    lead. Alone, a thing costs what it costs; under load, the cost is shared, the more the heavier the load.
    """

    def __init__(self, do_all: Callable[[Sequence[W]], Sequence[R | Exception]], most: int = 64) -> None:
        """do_all: gives of each thing what became of it, or why it failed; what it raises is of all of them.

        most: things that are done at once, unless one thread brings more.
        """
        self._do_all = do_all
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[_Turn[W, R]] = deque()
        self._is_led = False

    def run(self, work: W) -> R:
        """Do one thing; returns what became of it, or raises."""
        (outcome,) = self.run_all([work])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run_all(self, works: Sequence[W]) -> list[R | Exception]:
        """Do the things of one thread. Returns what became of each, or why it failed."""
        if not works:
            return []
        mine: _Turn[W, R] = _Turn(works)
        with self._lock:
            self._waiting.append(mine)
            leads, self._is_led = not self._is_led, True
        if not leads:
            mine.wait()
        if mine.outcomes is None:
            self._lead(mine)
        return mine.outcomes or []

    def _lead(self, mine: "_Turn[W, R]") -> None:
        """Do what waits, which begins with one's own."""
        with self._lock:
            batch, size = [self._waiting.popleft()], len(mine.works)
            while self._waiting and size + len(self._waiting[0].works) <= self._most:
                size += len(self._waiting[0].works)
                batch.append(self._waiting.popleft())
        try:
            left = iter(self._do_all([work for turn in batch for work in turn.works]))
            for turn in batch:
                turn.outcomes = list(islice(left, len(turn.works)))
        except Exception as failure:
            for turn in batch:
                turn.outcomes = [failure] * len(turn.works)
        finally:
            for turn in batch:
                if turn.outcomes is None:
                    turn.outcomes = [RuntimeError("who did it was stopped")] * len(turn.works)
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._is_led = heir is not None
            if heir is not None:
                heir.go_on()
            for turn in batch:
                if turn is not mine:
                    turn.go_on()


@dataclass(slots=True)
class _Turn(Generic[W, R]):
    """What one thread brings. It waits until that is done, or until it is to lead."""

    works: Sequence[W]
    outcomes: list[R | Exception] | None = None
    _gate: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._gate.acquire()

    def wait(self) -> None:
        """Until `go_on`."""
        self._gate.acquire()

    def go_on(self) -> None:
        """Let the thread go on; once."""
        self._gate.release()
