"""Jobs: queued with their cause, run at least once, put off when they fail, kept when they are given up."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from kernel.clock import FixedClock
from kernel.database import Database
from kernel.jobs import LEASE, JobRow, Worker, declared, enqueue, job


@dataclass
class Bundle:
    ran: list[str] = field(default_factory=list)
    fails: int = 0


@job(retries=2)
def remember(bundle: Bundle, name: str) -> None:
    if bundle.fails:
        bundle.fails -= 1
        raise RuntimeError(name)
    bundle.ran.append(name)


@job(together=3, gives_way=True)
def remember_all(bundle: Bundle, *names: str) -> None:
    if "bad" in names:
        raise RuntimeError
    bundle.ran.append("+".join(names))


def worker(database: Database, clock: FixedClock, bundle: Bundle) -> Worker:
    found = declared(remember)
    return Worker(database, clock, {found.name: found}, lambda _job: bundle)


def rows(database: Database) -> list[JobRow]:
    with database.snapshot() as session:
        return list(session.scalars(select(JobRow)))


def test_a_job_runs_when_it_is_due_and_is_gone(database: Database, clock: FixedClock) -> None:
    bundle = Bundle()
    runner = worker(database, clock, bundle)
    with database.transaction() as session:
        enqueue(session, clock, remember, "later", delay_s=60)

    assert not runner.run_one()
    clock.advance(timedelta(seconds=61))
    assert runner.run_one()
    assert bundle.ran == ["later"]
    assert rows(database) == []


def test_a_job_of_a_rolled_back_transaction_never_runs(database: Database, clock: FixedClock) -> None:
    def fail() -> None:
        with database.transaction() as session:
            enqueue(session, clock, remember, "never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert not worker(database, clock, Bundle()).run_one()


def test_a_job_with_a_key_waits_once_and_is_put_off(database: Database, clock: FixedClock) -> None:
    bundle = Bundle()
    for _ in range(3):
        with database.transaction() as session:
            enqueue(session, clock, remember, "once", delay_s=10, key="k")
        clock.advance(timedelta(seconds=6))

    assert not worker(database, clock, bundle).run_one()
    clock.advance(timedelta(seconds=6))
    assert worker(database, clock, bundle).run_one()
    assert bundle.ran == ["once"]


def test_a_failing_job_is_tried_again_later_and_at_last_kept_as_dead(
    database: Database, clock: FixedClock
) -> None:
    bundle = Bundle(fails=99)
    runner = worker(database, clock, bundle)
    with database.transaction() as session:
        enqueue(session, clock, remember, "hard")

    for _ in range(3):
        assert runner.run_one()
        assert not runner.run_one()
        clock.advance(timedelta(hours=1))
    (row,) = rows(database)
    assert row.dead
    assert "RuntimeError" in row.error
    assert not runner.run_one()


def test_a_job_whose_worker_died_is_run_again(database: Database, clock: FixedClock) -> None:
    bundle = Bundle()
    runner = worker(database, clock, bundle)
    with database.transaction() as session:
        enqueue(session, clock, remember, "again")
    assert runner.claim(1)  # and the worker dies here

    assert not runner.run_one()
    clock.advance(LEASE + timedelta(seconds=1))
    assert runner.run_one()
    assert bundle.ran == ["again"]


def of_both(database: Database, clock: FixedClock, bundle: Bundle, is_still: bool = True) -> Worker:
    found = {each.name: each for each in (declared(remember), declared(remember_all))}
    return Worker(database, clock, found, lambda _job: bundle, is_still=lambda: is_still)


def test_calls_that_can_be_made_together_are_made_as_one(database: Database, clock: FixedClock) -> None:
    bundle = Bundle()
    runner = of_both(database, clock, bundle)
    with database.transaction() as session:
        for name in "abcd":
            enqueue(session, clock, remember_all, name)
        enqueue(session, clock, remember, "other")
        enqueue(session, clock, remember_all, "later", delay_s=60)

    while runner.run_one():
        pass

    assert sorted(bundle.ran) == ["a+b+c", "d", "other"]
    assert [row.arguments for row in rows(database)] == ['["later"]']


def test_of_calls_made_together_one_that_fails_fails_alone(database: Database, clock: FixedClock) -> None:
    bundle = Bundle()
    runner = of_both(database, clock, bundle)
    with database.transaction() as session:
        for name in ("good", "bad", "fine"):
            enqueue(session, clock, remember_all, name)

    while runner.run_one():
        pass

    assert bundle.ran == ["good", "fine"]
    (left,) = rows(database)
    assert (left.arguments, left.tries, left.dead) == ('["bad"]', 1, False)


def test_a_call_that_was_put_off_while_it_was_made_with_others_is_made_again(
    database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    runner = of_both(database, clock, bundle)

    def put_off(_job: object) -> Bundle:
        with database.transaction() as session:
            enqueue(session, clock, remember_all, "b", key="b", delay_s=10)
        return bundle

    with database.transaction() as session:
        for name in "ab":
            enqueue(session, clock, remember_all, name, key=name)

    assert replace(runner, bind=put_off).run_one()
    assert [row.key for row in rows(database)] == ["b"]
    clock.advance(timedelta(seconds=11))
    assert runner.run_one()
    assert bundle.ran == ["a+b", "b"]


def test_a_job_that_gives_way_waits_for_those_who_store_and_others_do_not(
    database: Database, clock: FixedClock
) -> None:
    bundle = Bundle()
    with database.transaction() as session:
        enqueue(session, clock, remember_all, "waits")
        enqueue(session, clock, remember, "runs", delay_s=1)
    clock.advance(timedelta(seconds=2))

    while of_both(database, clock, bundle, is_still=False).run_one():
        pass
    assert bundle.ran == ["runs"]
    while of_both(database, clock, bundle).run_one():
        pass
    assert bundle.ran == ["runs", "waits"]
