"""Many records at once are placed as one by one."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.caller import Caller
from cloudfilm.rooms import Rooms
from kernel.changes import ChangeRow
from mpi.bulk import identify_all, prepared_batches
from mpi.candidates import find_candidates, hashes_of
from mpi.crew import Comparison, Crew
from mpi.demographics import Authority, Demographics
from mpi.features import features_of
from mpi.model import BlockKey, Link, PatientRecord, ReviewItem
from mpi.neighbours import Found
from mpi.resolve import Identified, State, identify
from mpi.sealing import demographics_of

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


def names_of(rooms: Rooms, session: Session, found: list[Identified]) -> list[str]:
    """What the records that were found are called."""
    rows = [session.get_one(PatientRecord, each.patient_record_id) for each in found]
    assert [row.patient_id for row in rows] == [each.patient_id for each in found]
    return [demographics_of(rooms.mpi, row).name for row in rows]


def persons_of(session: Session, found: list[Identified]) -> list[int | None]:
    """Whose the records that were found are."""
    return [session.get_one(PatientRecord, each.patient_record_id).person_id for each in found]


def counts(rooms: Rooms) -> list[int]:
    with rooms.database.snapshot() as session:
        return [
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (PatientRecord, BlockKey, Link, ReviewItem, ChangeRow)
        ]


def updates() -> list[Demographics]:
    """What some of them say later: nothing new, a new phone, a name by which another record is found, and a
    header that contradicts the registration."""
    said = {each.identifier: each for each in register()}
    header = replace(said["A12"], name="=赵四", birth_date=date(2001, 1, 1), authority=Authority.IMAGE)
    return [
        said["A1"],
        replace(said["A2"], phone="13812345678"),
        replace(
            said["C20"], name=said["A22"].name, phone=said["A22"].phone, birth_date=said["A22"].birth_date
        ),
        replace(said["A4"], phone="13812345679", address="重庆市渝中区人民路1号"),
        replace(said["A6"], name="=欧阳雪", sex="F"),
        header,
        replace(said["B7"], insurance_number="510412345678"),
        replace(said["A4"], phone="13812345670"),
        Demographics("D", "D1", "H4", "=欧阳雪", said["A6"].birth_date, "F", phone=said["A6"].phone),
    ]


@pytest.fixture
def one_by_one(rooms: Rooms, operator: Caller) -> tuple[Counter[State], set[frozenset[str]], list[int]]:
    """What single records come to, taken back afterwards."""
    states: Counter[State] = Counter()
    with rooms.database.transaction() as session:
        for said in [*register(), *updates()]:
            states[identify(rooms.mpi, session, operator, said).state] += 1
    found = states, grouped(rooms), counts(rooms)
    with rooms.database.transaction() as session:
        for table in (ReviewItem, Link, BlockKey, ChangeRow, PatientRecord):
            session.query(table).delete()
    return found


@pytest.mark.parametrize(("size", "processes"), [(1, 0), (7, 0), (1000, 0), (50, 2)])
def test_a_register_in_batches_is_placed_as_one_by_one(
    rooms: Rooms,
    operator: Caller,
    one_by_one: tuple[Counter[State], set[frozenset[str]], list[int]],
    size: int,
    processes: int,
) -> None:
    states: Counter[State] = Counter()
    with Crew(rooms.keys, rooms.mpi.scorer, processes) as crew:
        for records in (register(), updates()):
            for batch in prepared_batches(crew, records, size):
                with rooms.database.transaction() as session:
                    found = identify_all(rooms.mpi, session, operator, crew, batch)
                    states += Counter(each.state for each in found)
                    assert [each.said.name for each in batch] == names_of(rooms, session, found)
                    assert persons_of(session, found) == [each.person_id for each in found]
        assert (states, grouped(rooms), counts(rooms)) == one_by_one
        with rooms.database.transaction() as session:
            again = identify_all(rooms.mpi, session, operator, crew, crew.prepare(register()[:3]).result())
    assert {(each.state, each.is_changed) for each in again} == {(State.KNOWN, False)}


def test_a_common_name_is_as_common_in_a_large_register(
    rooms: Rooms, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those who bear it no more than a block's worth are counted, by which its share must not shrink."""
    monkeypatch.setattr("mpi.candidates.ENOUGH_RECORDS", 100)
    monkeypatch.setattr("mpi.scoring.COMMONEST", -40.0)
    people = [
        Demographics("A", f"A{at}", "H1", "=张伟" if at % 3 else f"={SURNAMES[at % 5]}{GIVEN[at % 8]}",
                     date(1950, 1, 2) + timedelta(days=40 * at), "M")
        for at in range(600)
    ]  # fmt: skip
    told: list[float] = []

    def compare(crew: Crew, asked: Sequence[Comparison]) -> "Future[list[Found]]":
        told.extend(each.frequency for each in asked)
        return compared(crew, asked)

    compared = Crew.compare
    monkeypatch.setattr(Crew, "compare", compare)
    with Crew(rooms.keys, rooms.mpi.scorer) as crew:
        for batch in prepared_batches(crew, people, 300):
            with rooms.database.transaction() as session:
                identify_all(rooms.mpi, session, operator, crew, batch)
    assert people[-1].name == "=张伟"
    assert told[-1] == pytest.approx(2 / 3, rel=0.05)

    learnt = rooms.mpi.scorer.weights.populations[0]
    features = features_of(replace(people[1], identifier="B1"))
    with rooms.database.snapshot() as session:
        best, *_ = find_candidates(rooms.mpi, session, features, hashes_of(rooms.keys, features))
    assert best.scored.adjustment == pytest.approx(math.log2(learnt.same_name_u / (2 / 3)), abs=0.1)
