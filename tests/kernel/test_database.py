"""Transactions, snapshots and shared commits, on every database."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from kernel.changes import ChangeRow, record_change
from kernel.clock import FixedClock
from kernel.database import Database, DatabaseUnavailable, GroupCommit, NoSchema, UtcDateTime
from kernel.errors import InvalidSetting
from tests.conftest import empty_database


def count(database: Database) -> int:
    with database.snapshot() as session:
        return session.scalar(select(func.count()).select_from(ChangeRow)) or 0


def test_what_raises_is_rolled_back(database: Database, clock: FixedClock) -> None:
    def fail() -> None:
        with database.transaction() as session:
            record_change(session, clock, "made", "x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert count(database) == 0


def test_a_transaction_within_another_is_part_of_it(database: Database, clock: FixedClock) -> None:
    def fail() -> None:
        with database.transaction() as session:
            record_change(session, clock, "made", "undone")
            raise RuntimeError

    with database.transaction() as session:
        record_change(session, clock, "made", "outer")
        with database.transaction() as inner:
            record_change(inner, clock, "made", "inner")
        with pytest.raises(RuntimeError):
            fail()
    with database.snapshot() as session:
        assert session.scalars(select(ChangeRow.subject).order_by(ChangeRow.seq)).all() == ["outer", "inner"]
    with pytest.raises(RuntimeError):
        fail()
    assert count(database) == 2


def test_writers_of_many_threads_all_get_through(database: Database, clock: FixedClock) -> None:
    def write() -> None:
        for _ in range(10):
            with database.transaction() as session:
                record_change(session, clock, "made", "x")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count(database) == 80


def test_a_group_commit_keeps_what_succeeds_and_undoes_only_what_raises(
    database: Database, clock: FixedClock
) -> None:
    group = GroupCommit(database)
    refused = []

    def write(number: int) -> None:
        def act(session):  # type: ignore[no-untyped-def]
            record_change(session, clock, "made", str(number))
            if number % 5 == 0:
                raise ValueError(number)
            return number

        try:
            assert group.run(act) == number
        except ValueError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(refused) == list(range(0, 100, 5))
    assert count(database) == 80


def test_a_reader_sees_one_state_while_a_writer_writes(database: Database, clock: FixedClock) -> None:
    with database.snapshot() as session:
        before = session.scalar(select(func.count()).select_from(ChangeRow))
        with database.transaction() as writer:
            record_change(writer, clock, "made", "x")
    assert before == 0
    assert count(database) == 1


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "nonsense"])
def test_a_database_that_is_not_supported_stops_the_start(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"use sqlite|name a file"):
        Database(url)


def test_a_database_that_is_closed_keeps_no_file_open_and_may_be_used_again(
    database: Database, clock: FixedClock
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with database.transaction() as session:
        record_change(session, clock, "made", "x")
    with database.snapshot() as session:
        session.execute(select(ChangeRow)).all()
    assert len(os.listdir("/proc/self/fd")) > before

    database.close()

    assert len(os.listdir("/proc/self/fd")) == before
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(ChangeRow)) == 1


def test_a_database_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:9/none")

    assert not database.is_alive()
    with pytest.raises(DatabaseUnavailable), database.transaction() as session:
        session.execute(text("SELECT 1"))


def test_a_database_without_the_tables_of_this_release_says_what_makes_them(
    database_url: str, tmp_path: Path
) -> None:
    with empty_database(database_url, tmp_path / "empty.db") as url:
        database = Database(url)
        with pytest.raises(NoSchema, match="cloudfilm migrate"), database.snapshot() as session:
            session.scalar(select(func.count()).select_from(ChangeRow))
        with pytest.raises(NoSchema):
            database.rows(select(ChangeRow.seq), {})
        with pytest.raises(NoSchema):
            database.row(select(ChangeRow.seq), {})
        with pytest.raises(NoSchema), database.transaction() as session:
            session.execute(text("SELECT missing FROM (SELECT 1 AS one) AS rows"))
        database.close()


def test_connections_that_the_server_ended_are_made_anew(postgresql_database: str) -> None:
    database = Database(postgresql_database)
    own = text("SELECT pg_backend_pid()")
    with database.snapshot() as one, database.snapshot() as other:
        before = {one.scalar(own), other.scalar(own)}
    with database.snapshot() as session:
        (ended,) = before - {session.scalar(own)}
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": ended})

    with database.snapshot() as one, database.snapshot() as other:
        assert ended not in {one.scalar(own), other.scalar(own)}
    database.close()


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), None)  # type: ignore[arg-type]  # noqa: DTZ001
    assert UtcDateTime().process_result_value(datetime(2026, 1, 1), None) == datetime(  # type: ignore[arg-type]  # noqa: DTZ001
        2026, 1, 1, tzinfo=UTC
    )
