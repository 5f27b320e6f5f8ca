"""How long `identify` takes in a large index.

    python -m benchmarks.mpi_identify --persons 200000
    python -m benchmarks.mpi_identify --persons 200000 --url postgresql://user@host/empty_database
    python -m benchmarks.mpi_identify --persons 1000000 --keep FOLDER --fill-only
    python -m benchmarks.mpi_identify --persons 1000000 --keep FOLDER

Made-up people (names by frequency of surnames, phones, addresses, identity numbers) are put into an empty
database in bulk, by the same keys and seals as `identify` uses; then records of known and of new people are
identified, each in a transaction of its own, and the same again with nothing new to say; then more are loaded
with matching, two thousand in a transaction, as `cloudfilm mpi load` does. --keep keeps the keys (and the
SQLite file) in a folder, so that a filled database serves for several runs; each of them adds records.
"""

import argparse
import os
import random
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert, text

from access.caller import operator
from benchmarks.patient_index import patient_index
from cloudfilm.rooms import Rooms
from kernel.clock import new_id
from kernel.database import table_of
from mpi.bulk import identify_all, prepared_batches
from mpi.candidates import hashes_of
from mpi.crew import Crew
from mpi.demographics import Authority, Demographics
from mpi.features import features_of
from mpi.identity_number import check_digit
from mpi.model import PatientRecord, Person
from mpi.resolve import State, identify
from mpi.sealing import seal

SURNAMES = (
    "王李张刘陈杨黄吴赵周徐孙马朱胡林郭何高罗郑梁谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢"
)
GIVEN = (
    "明伟军建华文国志海峰强永东晓杰勇林龙辉涛斌俊波鹏新刚飞成小金亮忠玉超德荣庆生宇光"
    "立云红祥洪振民丽艳燕芳英梅娟玲静秀敏春莉慧兰琴丹雪娜凤"
)
BATCH, MOST_KEYS = 2000, 500_000
SEED = 1
Keys = tuple["array[int]", "array[int]"]


def people(count: int, seed: int) -> Iterator[Demographics]:
    """Made-up people."""
    dice = random.Random(seed)
    weights = [1 / (at + 1) for at in range(len(SURNAMES))]
    for number in range(count):
        born = date(1940, 1, 1) + timedelta(days=dice.randrange(30000))
        sex = dice.choice("MF")
        body = (
            f"51{dice.randrange(1, 20):02d}{dice.randrange(1, 30):02d}{born:%Y%m%d}{dice.randrange(1000):03d}"
        )
        name = dice.choices(SURNAMES, weights)[0] + "".join(dice.choices(GIVEN, k=dice.choice((1, 2, 2, 2))))
        yield Demographics(
            "HIS", str(number), "H1", f"={name}", born, sex,
            body + check_digit(body) if dice.random() < 0.8 else "",
            phone=f"13{dice.randrange(10**9):09d}" if dice.random() < 0.85 else "",
            address=f"四川省成都市第{dice.randrange(20)}区{dice.randrange(5000)}路{dice.randrange(400)}号",
            authority=Authority.REGISTRATION,
        )  # fmt: skip


def fill(rooms: Rooms, count: int) -> float:
    """Put people into an empty index, without matching them. Returns records a second."""
    start = time.perf_counter()
    keys: Keys = (array("q"), array("q"))  # hashes, and whose they are
    said = people(count, SEED)
    for first in range(1, count + 1, BATCH):
        _insert(rooms, list(islice(said, BATCH)), first, keys)
    hashes, owners = np.array(keys[0]), np.array(keys[1])
    order = np.lexsort((owners, hashes))  # in the order of the index, which then grows at its end only
    for part in np.array_split(order, len(order) // MOST_KEYS + 1):
        _insert_keys(rooms, hashes[part].tolist(), owners[part].tolist())
    if not rooms.database.is_sqlite:
        with rooms.database.transaction() as session:
            for table in ("person", "patient_record"):
                number = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
                session.execute(text(number))
        with rooms.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return count / (time.perf_counter() - start)


def _insert(rooms: Rooms, batch: list[Demographics], first: int, keys: Keys) -> None:
    now, persons, records = rooms.clock.now(), [], []
    for at, said in enumerate(batch, first):
        persons.append({"id": at, "logical_id": new_id(), "created_at": now})
        records.append(
            {
                "id": at, "issuer": said.issuer, "identifier": said.identifier,
                "institution": said.institution, "patient_id": new_id(), "person_id": at,
                "authority": int(said.authority), "sealed": seal(rooms.mpi.keys, said), "created_at": now,
                "changed_at": now, "replaced_by": None,
            }
        )  # fmt: skip
        hashes = hashes_of(rooms.mpi.keys, features_of(said))
        keys[0].extend(hashes)
        keys[1].extend([at] * len(hashes))
    with rooms.database.transaction() as session:
        session.connection().execute(insert(table_of(Person)), persons)
        session.connection().execute(insert(table_of(PatientRecord)), records)


def _insert_keys(rooms: Rooms, hashes: list[int], owners: list[int]) -> None:
    with rooms.database.transaction() as session:
        cursor: Any = session.connection().connection.cursor()
        if rooms.database.is_sqlite:
            cursor.executemany("INSERT INTO block_key VALUES (?, ?)", zip(hashes, owners, strict=True))
        else:
            rows = "\n".join(f"{value}\t{owner}" for value, owner in zip(hashes, owners, strict=True))
            cursor.copy_expert("COPY block_key (hash, patient_record_id) FROM STDIN", StringIO(rows))


def measure(rooms: Rooms, asked: list[Demographics]) -> tuple[list[float], dict[str, int]]:
    """Milliseconds of each call, and what became of it."""
    times: list[float] = []
    states: dict[str, int] = {}
    caller = operator()
    for said in asked:
        with rooms.database.transaction() as session:
            start = time.perf_counter()
            state = identify(rooms.mpi, session, caller, said).state.value
            session.flush()
            times.append((time.perf_counter() - start) * 1000)
        states[state] = states.get(state, 0) + 1
    return times, states


def report(name: str, times: list[float], states: dict[str, int]) -> None:
    """One line."""
    cuts = statistics.quantiles(times, n=100)
    print(f"{name}: p50 {cuts[49]:.2f} ms, p95 {cuts[94]:.2f} ms, p99 {cuts[98]:.2f} ms, {states}")


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--persons", type=int, default=100_000)
    parser.add_argument("--asked", type=int, default=1000)
    parser.add_argument("--loaded", type=int, default=10_000, help="records that are loaded with matching")
    parser.add_argument("--url", default="")
    parser.add_argument("--keep", type=Path, help="folder for keys and the SQLite file, kept for other runs")
    parser.add_argument("--fill-only", action="store_true")
    arguments = parser.parse_args()
    with patient_index(arguments.url, arguments.keep, "mpi.db") as rooms:
        with rooms.database.snapshot() as session:
            there = session.scalar(text("SELECT coalesce(max(id), 0) FROM patient_record")) or 0
        if not there:
            rate = fill(rooms, arguments.persons)
            print(f"filled without matching: {rate:.0f} records/s, {arguments.persons} in all", flush=True)
        if not arguments.fill_only:
            ask(rooms, arguments.asked)
            load(rooms, arguments.loaded)


def ask(rooms: Rooms, asked: int) -> None:
    """The three cases."""
    known = list(islice(people(asked, SEED), asked))
    run = new_id()[:8]
    elsewhere = [
        replace(said, issuer=f"EMR {run}", phone="" if at % 3 else said.phone, address="")
        for at, said in enumerate(known)
    ]
    unknown = [replace(said, issuer=f"EMR2 {run}") for said in people(asked, hash(run))]
    report("known number, nothing new", *measure(rooms, known))
    report("known person, new number", *measure(rooms, elsewhere))
    report("new person", *measure(rooms, unknown))


def load(rooms: Rooms, count: int) -> None:
    """Half of them people who are known under another number, half new ones."""
    run = new_id()[:8]
    known = (replace(said, issuer=f"BULK {run}") for said in people(count // 2, SEED))
    new = (replace(said, issuer=f"BULK2 {run}") for said in people(count // 2, hash(run)))
    records = (said for pair in zip(known, new, strict=True) for said in pair)
    with Crew(rooms.keys, rooms.mpi.scorer, os.cpu_count() or 1) as crew:
        crew.prepare([]).result()  # it is there
        start, states = time.perf_counter(), Counter[State]()
        for part in prepared_batches(crew, records, 2000):
            with rooms.database.transaction() as session:
                found = identify_all(rooms.mpi, session, operator(), crew, part)
            states += Counter(each.state for each in found)
    rate = count / (time.perf_counter() - start)
    print(f"loaded with matching: {rate:.0f} records/s, { {state.value: n for state, n in states.items()} }")


if __name__ == "__main__":
    main()
