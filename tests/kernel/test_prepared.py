"""Reads of one row, prepared once: the same rows as a session gives, with every type and list."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import (
    Column,
    Dialect,
    Executable,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    insert,
    select,
    text,
)

from access.caller import Caller, Clause, Reach
from archive.model import Hold, Instance, Series, Study
from archive.reach import within
from archive.retrieve import COLUMNS
from cloudfilm.rooms import Rooms
from kernel.database import Database, DatabaseUnavailable
from kernel.prepared import Prepared
from tests.archive.test_ingest import store
from tests.builders import ROOT, ct_slice
from tests.conftest import schema_on_postgresql

OPEN = bindparam("uid", type_=String())


@pytest.mark.parametrize(
    ("reach", "is_found"),
    [
        (Reach.everywhere(), True),
        (Reach.everywhere().narrowed(Clause(institutions=frozenset({"A", "MAIN"}))), True),
        (Reach.everywhere().narrowed(Clause(institutions=frozenset({"A", "B"}))), False),
        (
            Reach.everywhere().narrowed(Clause(patients=frozenset()), Clause(modalities=frozenset({"CT"}))),
            True,
        ),
        (Reach.everywhere().narrowed(Clause(study_dates=(date(2026, 2, 28), date(2026, 2, 28)))), True),
        (Reach.everywhere().narrowed(Clause(study_dates=(None, date(2026, 2, 27)))), False),
        (
            Reach.everywhere().narrowed(
                Clause(except_patients=frozenset({"x", "y"}), persons=frozenset({0}))
            ),
            False,
        ),
        (Reach.nowhere(), False),
    ],
)
def test_a_row_is_what_a_session_finds(rooms: Rooms, operator, reach: Reach, is_found: bool) -> None:  # type: ignore[no-untyped-def]
    store(rooms.archive, operator, ct_slice())
    statement = within(
        select(*COLUMNS, Study.study_date, Study.created_at)
        .select_from(Instance)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.sop_instance_uid == OPEN),
        reach,
    )
    for uid in (f"{ROOT}.1.1.1", f"{ROOT}.9", f"{ROOT}.1.1.1"):
        with rooms.database.snapshot() as session:
            by_session = session.execute(statement, {"uid": uid}).first()
        found = rooms.database.row(statement, {"uid": uid})
        assert (found is not None) == (is_found and uid == f"{ROOT}.1.1.1")
        assert found == (None if by_session is None else tuple(by_session))


def test_moments_and_bytes_go_in_and_come_out_as_they_are(rooms: Rooms) -> None:
    at = datetime(2026, 3, 1, 8, 30, 0, 5, tzinfo=UTC)
    with rooms.database.transaction() as session:
        session.execute(
            insert(Hold).values(
                reason="x", study_instance_uid="1", sop_instance_uid="1", blob_key="k", seal=b"\x00\xff",
                sha256=bytes(32), received_at=at,
            )
        )  # fmt: skip
    statement = select(Hold.seal, Hold.received_at, Hold.resolved_at).where(
        Hold.sha256 == bindparam("digest", type_=Hold.sha256.type),
        Hold.received_at <= bindparam("now", type_=Hold.received_at.type),
    )

    assert rooms.database.row(statement, {"digest": bytes(32), "now": at}) == (b"\x00\xff", at, None)
    assert rooms.database.row(statement, {"digest": bytes(31), "now": at}) is None
    with pytest.raises(TypeError):
        rooms.database.row(statement, {"digest": bytes(32), "now": at.replace(tzinfo=None)})


def test_what_is_prepared_is_prepared_once(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Executable] = []
    prepare = Prepared.of

    def remember(statement: Executable, dialect: Dialect) -> Prepared:
        made.append(statement)
        return prepare(statement, dialect)

    monkeypatch.setattr(Prepared, "of", remember)
    statement = select(Study.id).where(Study.study_instance_uid == OPEN)
    for uid in ("1", "2", "3"):
        assert rooms.database.row(statement, {"uid": uid}) is None
    assert len(made) == 1


def test_a_database_that_is_away_is_said_to_be() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable):
        away.row(select(Study.id).where(Study.study_instance_uid == OPEN), {"uid": "1"})


@pytest.fixture
def server_of_our_own() -> Iterator[Database]:
    with schema_on_postgresql() as url:
        database = Database(url)
        with database.transaction() as session:
            session.execute(text("CREATE TABLE probe (id integer PRIMARY KEY, value integer)"))
            session.execute(text("INSERT INTO probe VALUES (1, 10), (2, 20)"))
        yield database
        database.close()


PROBE = Table("probe", MetaData(), Column("id", Integer), Column("value", Integer))
PROBED = select(PROBE.c.value).where(PROBE.c.id == bindparam("id"))


def test_a_restart_of_the_server_is_not_seen(server_of_our_own: Database) -> None:
    """All connections end, with what was prepared on them."""
    for _ in range(3):
        assert server_of_our_own.row(PROBED, {"id": 2}) == (20,)
    admin = Database(server_of_our_own.url.render_as_string(hide_password=False))
    with admin.transaction() as session:
        ended = session.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND query LIKE '%row_0%'"
            )
        ).scalar_one()
    admin.close()

    assert ended > 0
    assert server_of_our_own.row(PROBED, {"id": 1}) == (10,)


def test_a_column_that_became_another_is_read_as_it_is_now(server_of_our_own: Database) -> None:
    for _ in range(3):
        assert server_of_our_own.row(PROBED, {"id": 1}) == (10,)
    with server_of_our_own.transaction() as session:
        session.execute(text("ALTER TABLE probe ALTER COLUMN value TYPE text USING value || ' mm'"))

    assert server_of_our_own.row(PROBED, {"id": 1}) == ("10 mm",)


def test_what_the_server_cannot_prepare_is_asked_as_it_is(server_of_our_own: Database) -> None:
    """A parameter of no known type, and a statement with a percent sign."""
    asked = select(bindparam("said"), PROBE.c.value % 7).where(PROBE.c.id == bindparam("id"))
    for said in ("a", "b", "a"):
        assert server_of_our_own.row(asked, {"said": said, "id": 2}) == (said, 6)


def test_every_thread_finds_its_row(server_of_our_own: Database) -> None:
    with ThreadPoolExecutor(32) as threads:
        found = list(
            threads.map(lambda n: server_of_our_own.row(PROBED, {"id": n % 2 + 1}), range(2000), chunksize=10)
        )
    assert found == [(n % 2 * 10 + 10,) for n in range(2000)]


@pytest.mark.parametrize("uids", [[], ["2"], ["1", "2", "9"]])
def test_a_list_is_asked_for_at_each_use(rooms: Rooms, operator: Caller, uids: list[str]) -> None:
    for number in (1, 2, 3):
        store(rooms.archive, operator, ct_slice(study=number))
    listed = bindparam("uids", type_=String(), expanding=True)
    statement = select(Study.study_instance_uid, Study.created_at).order_by(Study.id)
    among = statement.where(Study.study_instance_uid.in_(listed))
    without = statement.where(Study.study_instance_uid.not_in(listed)).limit(bindparam("most"))
    wanted = {"uids": [f"{ROOT}.{uid}" for uid in uids], "most": 2}
    with rooms.database.transaction() as session:
        for asked in (among, without):
            for _ in range(2):
                found = rooms.database.rows(asked, wanted)
                assert found == [tuple(row) for row in session.execute(asked, wanted)]
                assert found == rooms.database.rows(asked, wanted, session)


def test_a_restart_is_not_seen_by_many_rows_either_and_a_session_comes_after_them(
    server_of_our_own: Database,
) -> None:
    probed = select(PROBE.c.value).order_by(PROBE.c.id)
    assert server_of_our_own.rows(probed, {}) == [(10,), (20,)]
    with server_of_our_own.transaction() as session:  # on the same connection
        session.execute(insert(PROBE).values(id=3, value=30))
        assert server_of_our_own.rows(probed, {}) == [(10,), (20,)]
        assert server_of_our_own.rows(probed, {}, session) == [(10,), (20,), (30,)]
        session.rollback()
    admin = Database(server_of_our_own.url.render_as_string(hide_password=False))
    with admin.transaction() as session:
        session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                 " WHERE pid <> pg_backend_pid() AND datname = current_database()")
        )  # fmt: skip
    admin.close()

    assert server_of_our_own.rows(probed, {}) == [(10,), (20,)]
