"""Reads of one row, prepared once: the same rows as a session gives, with every type and list."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Dialect, Executable, String, bindparam, insert, select

from access.caller import Clause, Reach
from archive.model import Hold, Instance, Series, Study
from archive.reach import within
from archive.retrieve import COLUMNS
from cloudfilm.rooms import Rooms
from kernel.database import Database, DatabaseUnavailable
from kernel.prepared import Prepared
from tests.archive.test_ingest import store
from tests.builders import ROOT, ct_slice

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

    def remember(statement: Executable, dialect: Dialect, parameters: dict[str, str]) -> Prepared:
        made.append(statement)
        return prepare(statement, dialect, parameters)

    monkeypatch.setattr(Prepared, "of", remember)
    statement = select(Study.id).where(Study.study_instance_uid == OPEN)
    for uid in ("1", "2", "3"):
        assert rooms.database.row(statement, {"uid": uid}) is None
    assert len(made) == 1


def test_a_database_that_is_away_is_said_to_be() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable):
        away.row(select(Study.id).where(Study.study_instance_uid == OPEN), {"uid": "1"})
