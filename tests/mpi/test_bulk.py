"""Many records at once are placed as one by one."""

from collections import Counter
from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import func, select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from kernel.changes import ChangeRow
from mpi.bulk import identify_all
from mpi.demographics import Authority, Demographics
from mpi.model import BlockKey, Link, PatientRecord, ReviewItem
from mpi.resolve import State, identify

SURNAMES, GIVEN = "王李张刘陈", "明伟军建华文国志"


def register() -> list[Demographics]:
    """People at three hospitals, with twins and a number that comes twice."""
    records = []
    for at in range(40):
        name = f"={SURNAMES[at % 5]}{GIVEN[at % 8]}{GIVEN[at // 8]}"
        said = Demographics(
            "A", f"A{at}", "H1", name, date(1950 + at, 3, 4), "M", phone=f"1391234{at:04d}",
            address=f"四川省成都市锦江区学府路{at}号", authority=Authority.REGISTRATION,
        )  # fmt: skip
        records.append(said)
        if at % 2:
            records.append(replace(said, issuer="B", identifier=f"B{at}", address=""))
        if at % 10 == 0:
            records.append(replace(said, issuer="C", identifier=f"C{at}", name=said.name[:2] + "子轩"))
    return [*records, records[0], replace(records[0], identifier="")]


def grouped(rooms: Rooms) -> set[frozenset[str]]:
    """The records of each person."""
    with rooms.database.snapshot() as session:
        rows = session.execute(
            select(PatientRecord.person_id, PatientRecord.issuer, PatientRecord.identifier)
        ).all()
    return {
        frozenset(f"{row.issuer} {row.identifier}" for row in rows if row.person_id == person)
        for person in {row.person_id for row in rows}
    }


def counts(rooms: Rooms) -> list[int]:
    with rooms.database.snapshot() as session:
        return [
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (PatientRecord, BlockKey, Link, ReviewItem, ChangeRow)
        ]


@pytest.fixture
def one_by_one(rooms: Rooms, operator: Caller) -> tuple[Counter[State], set[frozenset[str]], list[int]]:
    """What single records come to, taken back afterwards."""
    states: Counter[State] = Counter()
    with rooms.database.transaction() as session:
        for said in register():
            states[identify(rooms.mpi, session, operator, said).state] += 1
    found = states, grouped(rooms), counts(rooms)
    with rooms.database.transaction() as session:
        for table in (ReviewItem, Link, BlockKey, ChangeRow, PatientRecord):
            session.query(table).delete()
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_register_in_batches_is_placed_as_one_by_one(
    rooms: Rooms,
    operator: Caller,
    one_by_one: tuple[Counter[State], set[frozenset[str]], list[int]],
    size: int,
) -> None:
    records, states = register(), Counter[State]()
    for start in range(0, len(records), size):
        with rooms.database.transaction() as session:
            states += identify_all(rooms.mpi, session, operator, records[start : start + size])
    assert (states, grouped(rooms), counts(rooms)) == one_by_one
    with rooms.database.transaction() as session:
        again = identify_all(rooms.mpi, session, operator, records)
    assert set(again) == {State.KNOWN}
