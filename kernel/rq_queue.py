"""Jobs through Redis and RQ, for many workers on many machines.

The table of jobs stays the truth: a row is written in the causing transaction, the relay claims rows that
are due and hands their numbers to RQ, and whoever takes one runs it as `kernel.jobs.Worker` does and deletes
the row. What Redis loses is claimed again when its lease has ended; what RQ delivers twice is run once, for
the second one finds its claim gone. Retries, dead letters and schedules are those of the table, the same on
both queues.

Only JSON goes through Redis, so nobody who reaches it can make a worker run what it likes: what comes back is
two numbers.
"""

import logging

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from kernel.jobs import Worker

log = logging.getLogger(__name__)

HANDED_OVER_AT_ONCE = 100
TAKEN_AT_ONCE = 20
QUEUE = "cloudfilm"


class RqQueue:
    """One worker process's share of the queue: the relay into it, and the taking out of it."""

    def __init__(self, worker: Worker, url: str) -> None:
        self._worker = worker
        self._redis = Redis.from_url(
            url, health_check_interval=30, socket_timeout=10, socket_connect_timeout=5, socket_keepalive=True
        )
        self._queue = Queue(QUEUE, connection=self._redis, serializer=JSONSerializer)
        self._taker: _Taker | None = None

    def run_some(self) -> bool:
        """Hand due jobs over, then run some. Returns whether there was anything to do.

        Without Redis nothing is lost and nothing runs: what was claimed is free again after its lease.
        """
        try:
            handed = self._hand_over()
            waiting = self._queue.count
            if waiting:
                self._take()
            return bool(handed or waiting)
        except RedisError as failure:
            log.warning("Redis does not answer (%s); jobs wait in the table", type(failure).__name__)
            self._taker = None
            return False

    def _hand_over(self) -> int:
        self._redis.ping()  # before anything is claimed
        claims = self._worker.claim(HANDED_OVER_AT_ONCE)
        for claim in claims:
            self._queue.enqueue_call(
                "kernel.rq_queue.perform",
                args=(claim.id, claim.tries),
                timeout=-1,  # the lease is what bounds a job
                result_ttl=0,
                failure_ttl=3600,
                description=claim.name,
            )
        return len(claims)

    def _take(self) -> None:
        if self._taker is None:
            self._taker = _Taker([self._queue], connection=self._redis, serializer=JSONSerializer)
        _RUNNING[:] = [self._worker]
        self._taker.work(burst=True, max_jobs=TAKEN_AT_ONCE, logging_level="WARNING")


class _Taker(SimpleWorker):
    """Runs jobs in this process, which has its rooms built already; the role minds the signals."""

    def _install_signal_handlers(self) -> None:
        """The role stops between two jobs; RQ need not."""


_RUNNING: list[Worker] = []  # RQ finds a job by its name only, so its worker stands here


def perform(row_id: int, tries: int) -> None:
    """What RQ runs: one claimed job of the table."""
    worker = _RUNNING[0]
    claim = worker.claimed(row_id, tries)
    if claim is not None:
        worker.perform(claim)
