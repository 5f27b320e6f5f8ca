"""Studies that have to be kept: what a removal leaves of them, and until when."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from access.caller import Caller
from access.site_documents import put_document
from archive.ingest import ingest
from archive.model import Study
from archive.removal import RetentionNotOver, purge_removed, removals, remove, restore
from archive.retention import RETENTION, InvalidRetention, kept_until, parse_retention
from cloudfilm.rooms import Rooms
from kernel.clock import FixedClock
from tests.builders import ROOT, ct_slice

WRONG, EXPIRED = "113038", "113039"


def keep(rooms: Rooms, operator: Caller, *rules: dict[str, Any]) -> None:
    put_document(rooms.access, operator, RETENTION, json.dumps({"rules": rules}))


@pytest.fixture
def study(rooms: Rooms, operator: Caller) -> str:
    """A CT of a leap day."""
    ingest(rooms.archive, operator, io.BytesIO(ct_slice(study=1, StudyDate="20240229")))
    return f"{ROOT}.1"


@pytest.mark.parametrize(
    ("rules", "until"),
    [
        ([], None),
        ([{"keep_years": 15}], datetime(2039, 3, 1, tzinfo=UTC)),
        ([{"keep_years": 4}], datetime(2028, 3, 1, tzinfo=UTC)),
        ([{"keep_years": 15}, {"keep_years": 30, "modalities": ["CT"]}], datetime(2054, 3, 1, tzinfo=UTC)),
        ([{"keep_years": 30, "modalities": ["MG"]}], None),
        ([{"keep_years": 30, "institutions": ["ELSEWHERE"]}], None),
    ],
)
def test_the_longest_rule_that_fits_counts_from_the_day_of_the_examination(
    rooms: Rooms, operator: Caller, study: str, rules: list[dict[str, Any]], until: datetime | None
) -> None:
    keep(rooms, operator, *rules)

    with rooms.database.snapshot() as session:
        assert kept_until(session, session.scalars(select(Study)).one()) == until


def test_what_has_to_be_kept_leaves_every_view_and_stays_until_its_time_is_over(
    rooms: Rooms, operator: Caller, study: str, clock: FixedClock
) -> None:
    keep(rooms, operator, {"keep_years": 15})
    removed = remove(rooms.archive, operator, WRONG, study)
    clock.advance(timedelta(days=3650))
    purge_removed(rooms.archive)

    assert removed.purge_at == datetime(2039, 3, 1, tzinfo=UTC)
    assert restore(rooms.archive, operator, removed.id).end == "restored"
    again = remove(rooms.archive, operator, WRONG, study)
    clock.advance(datetime(2039, 3, 2, tzinfo=UTC) - clock.now())
    purge_removed(rooms.archive)
    assert {each.id: each.end for each in removals(rooms.archive, operator)}[again.id] == "purged"


def test_a_study_of_the_last_day_that_there_is_is_removed_and_kept_for_good(
    rooms: Rooms, operator: Caller
) -> None:
    ingest(rooms.archive, operator, io.BytesIO(ct_slice(study=2, StudyDate="99991231")))
    keep(rooms, operator, {"keep_years": 15})

    removed = remove(rooms.archive, operator, WRONG, f"{ROOT}.2")

    assert removed.purge_at.year == 9999
    assert [each.id for each in removals(rooms.archive, operator)] == [removed.id]


def test_nobody_removes_as_expired_what_has_to_be_kept(
    rooms: Rooms, operator: Caller, study: str, clock: FixedClock
) -> None:
    keep(rooms, operator, {"keep_years": 15})

    with pytest.raises(RetentionNotOver, match="2039-03-01"):
        remove(rooms.archive, operator, EXPIRED, study)
    with rooms.database.snapshot() as session:
        assert session.scalar(select(Study.id)) is not None
    clock.advance(datetime(2039, 3, 2, tzinfo=UTC) - clock.now())
    assert remove(rooms.archive, operator, EXPIRED, study).reason == EXPIRED


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"rules": [{}]}', '{"rules": [{"keep_years": 0}]}', '{"rules": [{"keep_years": true}]}',
        '{"rules": [{"keep_years": 15, "modalities": "CT"}]}', '{"rules": [{"keep_years": 15, "tier": "x"}]}',
    ],
)  # fmt: skip
def test_a_retention_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidRetention):
        parse_retention(text)
