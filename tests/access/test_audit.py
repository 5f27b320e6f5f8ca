"""The audit trail: whatever is done to it afterwards shows."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Text, delete, type_coerce, update

from access.audit import note, verify
from access.caller import Caller
from access.model import AuditEntry, AuditHead
from kernel.clock import FixedClock
from kernel.database import Database


@pytest.fixture
def trail(database: Database, clock: FixedClock, operator: Caller) -> Database:
    for number in range(1, 6):
        with database.transaction() as session:
            note(session, clock, operator, "read ImagingStudy", f"1.2.{number}")
    return database


def fault(database: Database) -> str:
    with database.snapshot() as session:
        return verify(session).fault


def test_an_untouched_trail_is_sound(trail: Database) -> None:
    with trail.snapshot() as session:
        assert verify(session).entries == 5
    assert fault(trail) == ""


def test_who_comes_to_the_first_entry_at_once_writes_one_after_the_other(
    database: Database, clock: FixedClock, operator: Caller
) -> None:
    together = threading.Barrier(8)

    def write(number: int) -> None:
        together.wait()
        with database.transaction() as session:
            note(session, clock, operator, "read ImagingStudy", f"1.2.{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    with database.snapshot() as session:
        assert verify(session).entries == 8
    assert fault(database) == ""


@pytest.mark.parametrize(
    "column", ["principal_id", "principal_name", "action", "subject", "address", "detail", "outcome"]
)
def test_a_changed_entry_shows(trail: Database, column: str) -> None:
    with trail.transaction() as session:
        session.execute(update(AuditEntry).where(AuditEntry.seq == 3).values({column: "other"}))

    assert "entry 3 was changed" in fault(trail)


@pytest.mark.parametrize("column", ["principal_name", "detail"])
def test_what_is_sealed_in_an_entry_and_does_not_open_shows(trail: Database, column: str) -> None:
    with trail.transaction() as session:
        damaged = type_coerce("\x7fk1.AAAA", Text)
        session.execute(update(AuditEntry).where(AuditEntry.seq == 3).values({column: damaged}))

    assert "entry 3 was changed" in fault(trail)


def test_a_missing_entry_shows(trail: Database) -> None:
    with trail.transaction() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.seq == 2))

    assert "entry 2 is missing" in fault(trail)


def test_a_cut_end_shows(trail: Database) -> None:
    with trail.transaction() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.seq == 5))

    assert "missing at the end" in fault(trail)


def test_two_entries_that_changed_places_show(trail: Database) -> None:
    with trail.transaction() as session:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            session.execute(update(AuditEntry).where(AuditEntry.seq == old).values(seq=new))

    assert "was changed" in fault(trail)


def test_a_trail_without_its_head_shows(trail: Database) -> None:
    with trail.transaction() as session:
        session.execute(update(AuditHead).values(seq=4))

    assert fault(trail)


def test_an_entry_goes_with_the_transaction_that_it_is_about(
    database: Database, clock: FixedClock, operator: Caller
) -> None:
    def fails() -> None:
        with database.transaction() as session:
            note(session, clock, operator, "delete ImagingStudy", "1.2.3")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()

    with database.snapshot() as session:
        assert verify(session).entries == 0
