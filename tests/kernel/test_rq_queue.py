"""Jobs through a real Redis: run once, lost by nobody, and nothing but numbers goes through it."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import select

from kernel.clock import FixedClock
from kernel.database import Database
from kernel.jobs import LEASE, JobRow, Worker, declared, enqueue, enqueue_scheduled, job
from kernel.rq_queue import QUEUE, RqQueue
from tests.servers.redis import RedisServer, redis_in


@dataclass
class Bundle:
    ran: list[str] = field(default_factory=list)
    fails: int = 0


@job(retries=1, every=timedelta(minutes=5))
def record(bundle: Bundle, name: str = "by itself") -> None:
    if bundle.fails:
        bundle.fails -= 1
        raise RuntimeError(name)
    bundle.ran.append(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_in(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """An empty server; one that a test has killed is started again."""
    if server.process.poll() is not None:
        server.start()
    server.client().flushall()
    return server


def worker(database: Database, clock: FixedClock, bundle: Bundle) -> Worker:
    found = declared(record)
    return Worker(database, clock, {found.name: found}, lambda _job: bundle)


def rows(database: Database) -> list[JobRow]:
    with database.snapshot() as session:
        return list(session.scalars(select(JobRow)))


def queue_up(database: Database, clock: FixedClock, *names: str) -> None:
    with database.transaction() as session:
        for name in names:
            enqueue(session, clock, record, name)


def test_each_job_runs_once_whoever_takes_it(
    redis: RedisServer, database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    queues = [RqQueue(worker(database, clock, bundle), redis.url) for _ in range(2)]
    names = [f"job {number}" for number in range(50)]
    queue_up(database, clock, *names)

    while rows(database):
        for queue in queues:
            queue.run_some()

    assert sorted(bundle.ran) == sorted(names)
    assert rows(database) == []


def test_what_redis_loses_runs_when_its_lease_has_ended(
    redis: RedisServer, database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    queue = RqQueue(worker(database, clock, bundle), redis.url)
    queue_up(database, clock, "lost")
    assert queue._hand_over() == 1
    redis.kill()
    queue_up(database, clock, "not handed over")

    assert not queue.run_some()  # Redis is away: nothing runs, nothing is claimed
    assert [row.tries for row in rows(database)] == [1, 0]
    redis.start()
    queue.run_some()
    assert bundle.ran == ["not handed over"]
    clock.advance(LEASE + timedelta(seconds=1))
    queue.run_some()
    assert bundle.ran == ["not handed over", "lost"]


def test_what_is_delivered_again_is_not_run_again(
    redis: RedisServer, database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    queue = RqQueue(worker(database, clock, bundle), redis.url)
    queue_up(database, clock, "once")
    again = Queue(QUEUE, connection=redis.client(), serializer=JSONSerializer)
    row_id = rows(database)[0].id
    again.enqueue_call("kernel.rq_queue.perform", args=(row_id, 1))

    while queue.run_some():
        continue

    assert bundle.ran == ["once"]


def test_a_job_that_fails_waits_in_the_table_and_is_kept_when_given_up(
    redis: RedisServer, database: Database, clock: FixedClock
) -> None:
    bundle = Bundle(fails=2)
    queue = RqQueue(worker(database, clock, bundle), redis.url)
    queue_up(database, clock, "broken")
    queue.run_some()
    (waiting,) = rows(database)
    assert (waiting.dead, waiting.tries) == (False, 1)
    clock.advance(timedelta(minutes=1))
    queue.run_some()

    (given_up,) = rows(database)
    assert given_up.dead
    assert "RuntimeError: broken" in given_up.error


def test_a_pickle_put_into_redis_is_not_opened(
    redis: RedisServer, database: Database, clock: FixedClock, tmp_path: Path
) -> None:
    mark = tmp_path / "opened"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (mark,)

    bundle = Bundle()
    queue = RqQueue(worker(database, clock, bundle), redis.url)
    planted = Queue(QUEUE, connection=redis.client(), serializer=JSONSerializer).enqueue_call(
        "kernel.rq_queue.perform", args=(1, 1)
    )
    redis.client().hset(planted.key, "data", pickle.dumps(Hostile()))
    queue_up(database, clock, "still runs")
    for _ in range(4):
        queue.run_some()

    assert not mark.exists()
    assert bundle.ran == ["still runs"]


def test_a_periodic_job_is_queued_once_a_period_whatever_the_number_of_workers(
    database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    runner = worker(database, clock, bundle)
    for _ in range(3):
        enqueue_scheduled(database, clock, [declared(record)])
        while runner.run_one():
            continue
    assert bundle.ran == ["by itself"]
    clock.advance(timedelta(minutes=5))
    for _ in range(3):
        enqueue_scheduled(database, clock, [declared(record)])
        while runner.run_one():
            continue

    assert bundle.ran == ["by itself"] * 2
