"""The change feed: everything is seen, in order, by every subscriber, whatever fails."""

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kernel.changes import (
    LATEST_S,
    PATIENCE_S,
    STILL_S,
    TURN_S,
    Change,
    ChangeRow,
    GivingWay,
    Subscriber,
    feed_end,
    follow_changes,
    record_change,
    record_changes,
    unread_changes,
)
from kernel.clock import FixedClock
from kernel.database import Database


def has_settled(database: Database) -> bool:
    """Whether the feed shows all that was written: on PostgreSQL, no older transaction runs anywhere."""
    with database.snapshot() as session:
        newest = session.scalar(select(func.max(ChangeRow.seq))) or 0
        return feed_end(session)[1] >= newest


def store(database: Database, clock: FixedClock, subject: str) -> None:
    record(database, clock, "stored", subject)


def record(database: Database, clock: FixedClock, kind: str, subject: str) -> None:
    """Record a change, and wait until a subscriber may see it."""
    with database.transaction() as session:
        record_change(session, clock, kind, subject)
    while not has_settled(database):
        time.sleep(0.01)


def test_a_subscriber_sees_its_kinds_in_order_and_once(database: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    subscriber = Subscriber(
        "reader", frozenset({"made"}), lambda _session, change: seen.append(change.subject)
    )
    with database.transaction() as session:
        for number in range(5):
            record_change(session, clock, "made", str(number), size=number)
            record_change(session, clock, "other", str(number))

    while unread_changes(database, [subscriber]):
        follow_changes(database, [subscriber], most=4)
    assert seen == ["0", "1", "2", "3", "4"]


def test_a_subscriber_that_takes_long_goes_on_in_another_transaction(
    database: Database, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel.changes.LONGEST_S", 0.0)
    seen: list[str] = []
    subscriber = Subscriber("slow", frozenset({"made"}), lambda _session, change: seen.append(change.subject))
    follow_changes(database, [subscriber])
    with database.transaction() as session:
        record_changes(session, clock, [("made", str(number), {}) for number in range(3)])

    rounds = []
    while unread_changes(database, [subscriber]):
        rounds.append(follow_changes(database, [subscriber]))
    assert seen == ["0", "1", "2"]
    assert [count for count in rounds if count] == [1, 1, 1]


def test_a_burst_of_storing_is_let_by_before_it_is_followed(database: Database, clock: FixedClock) -> None:
    now = [100.0]
    seen: list[str] = []
    stored = Subscriber("index", frozenset({"stored"}), lambda _session, change: seen.append(change.subject))
    giving_way = GivingWay(frozenset({"stored"}), lambda: now[0])

    def follow_after(seconds: float) -> list[str]:
        now[0] += seconds
        while follow_changes(database, [stored], giving_way=giving_way):
            pass
        return seen

    store(database, clock, "1")
    assert follow_after(STILL_S) == []  # seen for the first time
    store(database, clock, "2")
    assert follow_after(STILL_S) == []
    assert follow_after(STILL_S) == ["1", "2"]
    for number in range(3, 13):  # a burst without end
        store(database, clock, str(number))
        follow_after(STILL_S * 0.9)
    assert seen == ["1", "2"]
    store(database, clock, "13")
    assert follow_after(PATIENCE_S)[-1] == "13"
    store(database, clock, "14")
    assert follow_after(0) == seen[:13]  # and the next one is let by again


def test_a_burst_without_end_is_followed_now_and_then_and_at_last_wholly(
    database: Database, clock: FixedClock
) -> None:
    now, seen = [100.0], dict[str, list[float]]()

    def follow(name: str, seconds: float) -> Subscriber:
        def take(_session: Session, _change: Change) -> None:
            now[0] += seconds
            seen.setdefault(name, []).append(now[0])

        return Subscriber(name, frozenset({"stored"}), take)

    following = [follow("slow", TURN_S), follow("quick", 0)]  # one change takes a whole turn
    giving_way = GivingWay(frozenset({"stored"}), lambda: now[0])

    def store_and_follow() -> None:
        store(database, clock, str(now[0]))
        follow_changes(database, following, most=1, giving_way=giving_way)

    began = now[0]
    while now[0] < began + LATEST_S:
        store_and_follow()
        now[0] += STILL_S / 2
    turns = [at for name in seen for at in seen[name]]
    assert min(turns) >= began + PATIENCE_S
    assert 2 * len(seen["slow"]) * TURN_S < LATEST_S  # those who store have most of the time
    assert len(seen["quick"]) >= len(seen["slow"]) - 1  # who is furthest behind has the next turn
    followed = len(seen["slow"])
    for _ in range(5):
        store_and_follow()
    assert len(seen["slow"]) == followed + 5


def test_what_follows_does_not_wait_for_what_it_writes_itself(database: Database, clock: FixedClock) -> None:
    now, seen = [100.0], list[str]()

    def write(session: Session, change: Change) -> None:
        if change.subject != "document":
            record_change(session, clock, "stored", "document")

    following = [
        Subscriber("writes", frozenset({"stored"}), write),
        Subscriber("reads", frozenset({"stored"}), lambda _session, change: seen.append(change.subject)),
    ]
    giving_way = GivingWay(frozenset({"stored"}), lambda: now[0])
    store(database, clock, "object")
    follow_changes(database, following, giving_way=giving_way)
    assert seen == []

    now[0] += STILL_S
    while follow_changes(database, following, giving_way=giving_way) or not has_settled(database):
        pass
    assert seen == ["object", "document"]


def test_where_nobody_stores_nothing_waits(database: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    read = Subscriber("reader", frozenset({"made"}), lambda _session, change: seen.append(change.subject))
    record(database, clock, "made", "1")

    follow_changes(database, [read], giving_way=GivingWay(frozenset({"stored"}), lambda: 0.0))

    assert seen == ["1"]


def test_what_a_worker_does_between_is_no_end_of_a_burst(database: Database, clock: FixedClock) -> None:
    now = [100.0]
    giving_way = GivingWay(frozenset({"stored"}), lambda: now[0])
    for number in range(5):
        store(database, clock, str(number))
        record(database, clock, "rested", str(number))
        assert not giving_way.may_follow(database)
        now[0] += STILL_S * 0.9

    now[0] += STILL_S
    assert giving_way.may_follow(database)


def test_a_turn_ends_also_when_objects_come_during_it(database: Database, clock: FixedClock) -> None:
    now = [100.0]
    giving_way = GivingWay(frozenset({"stored"}), lambda: now[0])
    began = now[0]
    while now[0] < began + PATIENCE_S:
        store(database, clock, str(now[0]))
        assert not giving_way.may_follow(database)
        now[0] += STILL_S * 0.9
    store(database, clock, "turn")
    assert giving_way.may_follow(database)

    for number in range(12):
        now[0] += TURN_S / 10
        store(database, clock, str(number))
        giving_way.pass_over(database, Counter())
    assert not giving_way.may_follow(database)


def test_a_subscriber_that_raises_keeps_its_place_and_holds_up_nobody(
    database: Database, clock: FixedClock
) -> None:
    seen: list[str] = []
    broken = [True]

    def fail(_session: Session, change: Change) -> None:
        if broken[0]:
            raise RuntimeError
        seen.append("late " + change.subject)

    subscribers = [
        Subscriber("failing", frozenset({"made"}), fail),
        Subscriber("working", frozenset({"made"}), lambda _session, change: seen.append(change.subject)),
    ]
    with database.transaction() as session:
        record_change(session, clock, "made", "a")

    while "a" not in seen:
        follow_changes(database, subscribers)
    broken[0] = False
    while unread_changes(database, subscribers):
        follow_changes(database, subscribers)
    assert seen == ["a", "late a"]


def test_who_is_not_concerned_is_moved_past_what_happened(database: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    others = [
        Subscriber(name, frozenset({"else"}), lambda _session, change: seen.append(change.subject))
        for name in ("one", "two")
    ]
    follow_changes(database, others)
    with database.transaction() as session:
        record_change(session, clock, "made", "passed by")

    while unread_changes(database, others):
        follow_changes(database, others)
    assert seen == []
    with database.transaction() as session:
        record_change(session, clock, "else", "concerns")
    while unread_changes(database, others):
        follow_changes(database, others)
    assert seen == ["concerns", "concerns"]


def test_what_a_rolled_back_transaction_recorded_is_never_seen(database: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    subscriber = Subscriber(
        "reader", frozenset({"made"}), lambda _session, change: seen.append(change.subject)
    )
    try:
        with database.transaction() as session:
            record_change(session, clock, "made", "undone")
            raise RuntimeError
    except RuntimeError:
        pass
    with database.transaction() as session:
        record_change(session, clock, "made", "done")

    while unread_changes(database, [subscriber]):
        follow_changes(database, [subscriber])
    assert seen == ["done"]


def test_no_change_is_missed_while_many_write(database: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    subscriber = Subscriber(
        "reader", frozenset({"made"}), lambda _session, change: seen.append(change.subject)
    )

    def write(writer: int) -> None:
        for number in range(20):
            with database.transaction() as session:
                record_change(session, clock, "made", f"{writer}.{number}")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        follow_changes(database, [subscriber], most=7)
    while unread_changes(database, [subscriber]):
        follow_changes(database, [subscriber])

    assert len(seen) == len(set(seen)) == 80
