"""How fast a register is loaded with matching, and how well its records were put together.

    python -m benchmarks.mpi_load REGISTER.csv.gz [--url postgresql://user@host/empty_database]
    python -m benchmarks.mpi_load REGISTER.csv.gz --keep FOLDER [--url ...] --count-only

The file is one that `cloudfilm mpi load` takes, with labels (`cluster_id`). They are looked at when all is
loaded, to count the pairs of records that were rightly and wrongly put together. Each tenth is told with its
rate and the memory of the process. --keep names the folder with the keys (and the SQLite file); --count-only
counts in a database that was loaded before.
"""

import argparse
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from access.caller import operator
from benchmarks.patient_index import patient_index
from cloudfilm.rooms import Rooms
from mpi.bulk import identify_all, prepared_batches
from mpi.crew import Crew
from mpi.csv_records import read_records
from mpi.demographics import Authority, Demographics
from mpi.evaluation import quality_of_groups
from mpi.model import PatientRecord
from mpi.resolve import State


def load(rooms: Rooms, file: Path, batch: int, processes: int) -> None:
    """Load the file into the database, and tell of each tenth."""
    count = sum(1 for _ in read_records(file))
    states: Counter[State] = Counter()
    told, begun = 0, time.perf_counter()
    with Crew(rooms.keys, rooms.mpi.scorer, processes) as crew:
        since = time.perf_counter()
        for part in prepared_batches(crew, _said(file), batch):
            with rooms.database.transaction() as session:
                found = identify_all(rooms.mpi, session, operator(), crew, part)
            states += Counter(each.state for each in found)
            done = states.total()
            if done - told >= count // 10:
                rate = (done - told) / (time.perf_counter() - since)
                largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                print(f"{done} records: {rate:.0f} records/s, at most {largest} MB of memory", flush=True)
                told, since = done, time.perf_counter()
    rate = count / (time.perf_counter() - begun)
    print(f"in all: {rate:.0f} records/s, { {state.value: n for state, n in states.items()} }", flush=True)


def _said(file: Path) -> Iterator[Demographics]:
    return (replace(each.said, authority=Authority.REGISTRATION) for each in read_records(file))


def count_pairs(rooms: Rooms, file: Path) -> None:
    """Precision and recall over pairs of patient records: a number that came several times is one of them."""
    people = {(each.said.issuer, each.said.identifier): each.person for each in read_records(file)}
    persons: dict[int | None, list[str]] = {}
    with rooms.database.transaction() as session:
        rows = session.execute(
            select(PatientRecord.issuer, PatientRecord.identifier, PatientRecord.person_id),
            execution_options={"yield_per": 10_000},
        )
        for issuer, identifier, person_id in rows:
            if (issuer, identifier) in people:
                persons.setdefault(person_id, []).append(people[issuer, identifier])
    loaded = [person for group in persons.values() for person in group]
    found = quality_of_groups(loaded, persons.values())
    print(
        f"{len(loaded)} patient records, {found.true_pairs} true pairs: precision {found.precision:.4f} "
        f"recall {found.recall:.4f} F1 {found.f1:.4f}"
    )


def main() -> None:
    """Load, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="")
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for keys and the SQLite file")
    parser.add_argument("--count-only", action="store_true")
    arguments = parser.parse_args()
    with patient_index(arguments.url, arguments.keep, "cloudfilm.db") as rooms:
        if not arguments.count_only:
            load(rooms, arguments.file, arguments.batch, arguments.processes)
        count_pairs(rooms, arguments.file)


if __name__ == "__main__":
    main()
