"""How many requests a minute one caller may make: so that a client run wild does not take all from the rest.

Counted by the region where there is a shared cache, else by each process for itself; where Redis is away,
too. A count that is lost lets a few more through, no more than that: limits that guard something (sign-ins,
codes by SMS, openings of shares) are counted in the database, in the transaction of what they guard
(`access.rates`).
"""

import threading
import time
from collections import Counter

from kernel.errors import CloudfilmError, Kind
from kernel.shared_cache import SharedCache

WINDOW_S = 60


class TooManyRequests(CloudfilmError):
    """The caller has made more requests within a minute than `web.requests_per_minute` allows."""

    kind = Kind.TOO_MANY

    def __init__(self) -> None:
        super().__init__("Too many requests within a minute. Wait a while and go on.")


class Throttle:
    """The counts of one process, or of all."""

    def __init__(self, most: int, shared: SharedCache | None = None) -> None:
        self._most = most
        self._shared = shared
        self._window = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def require(self, who: str) -> None:
        """Count a request of somebody. Raises TooManyRequests."""
        if not self._most:
            return
        window = int(time.time()) // WINDOW_S
        count = self._shared.count(f"requests:{who}:{window}", 2 * WINDOW_S) if self._shared else None
        if (self._count(who, window) if count is None else count) > self._most:
            raise TooManyRequests

    def _count(self, who: str, window: int) -> int:
        with self._lock:
            if window != self._window:
                self._window = window
                self._counts.clear()
            self._counts[who] += 1
            return self._counts[who]
