"""What the machines of a region keep together in Redis and may lose at any moment: a cache and counters.

A Redis of its own (`cache.url`), for it forgets the least used when it is full, which a queue must not. One
that is away is not asked again for a while, and whoever asked does without: nothing waits for it, nothing
depends on it. Values are sealed by who puts them there.
"""

import time
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from kernel.errors import InvalidSetting

ANSWERS_WITHIN_S = 0.25
AWAY_FOR_S = 5.0
MOST_BYTES = 4194304  # of one value


class SharedCache:
    """The cache of a region, as one process sees it."""

    def __init__(self, url: str) -> None:
        try:
            self._redis = Redis.from_url(
                url, socket_timeout=ANSWERS_WITHIN_S, socket_connect_timeout=ANSWERS_WITHIN_S
            )
        except ValueError:
            raise InvalidSetting("cache.url", url, "use redis://host:port/n, or rediss:// for TLS") from None
        self._away_until = 0.0

    def get(self, key: str) -> bytes | None:
        """What is kept under a key, or None."""
        if self._is_away():
            return None
        try:
            return cast("bytes | None", self._redis.get(f"cloudfilm:{key}"))
        except RedisError:
            self._leave_alone()
            return None

    def put(self, key: str, value: bytes, for_s: int) -> None:
        """Keep something for a while, if it is not too large."""
        if len(value) > MOST_BYTES or self._is_away():
            return
        try:
            self._redis.set(f"cloudfilm:{key}", value, ex=for_s)
        except RedisError:
            self._leave_alone()

    def count(self, name: str, for_s: int) -> int | None:
        """Count one more; the count, or None where nobody counts. It ends after a while."""
        if self._is_away():
            return None
        try:
            both = self._redis.pipeline(transaction=False)
            both.incr(f"cloudfilm:{name}")
            both.expire(f"cloudfilm:{name}", for_s)
            return int(both.execute()[0])
        except RedisError:
            self._leave_alone()
            return None

    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    def _leave_alone(self) -> None:
        self._away_until = time.monotonic() + AWAY_FOR_S
