"""How long `identify` takes in a large index.

    python benchmarks/mpi_identify.py --persons 200000 --url sqlite:////tmp/mpi.db
    python benchmarks/mpi_identify.py --persons 200000 --url postgresql://user@host/empty_database

Made-up people (names by frequency of surnames, phones, addresses, identity numbers) are put into an empty
database in bulk, by the same keys and seals as `identify` uses; then records of known and of new people are
identified, each in a transaction of its own, and the same again with nothing new to say.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import insert, text

import cloudfilm.models
from access.caller import operator
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import new_id
from kernel.database import Base
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from mpi.blocking import block_keys
from mpi.candidates import hash_of
from mpi.demographics import Authority, Demographics
from mpi.features import features_of
from mpi.identity_number import check_digit
from mpi.model import BlockKey, PatientRecord, Person
from mpi.resolve import identify
from mpi.sealing import seal

SURNAMES = (
    "王李张刘陈杨黄吴赵周徐孙马朱胡林郭何高罗郑梁谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢"
)
GIVEN = (
    "明伟军建华文国志海峰强永东晓杰勇林龙辉涛斌俊波鹏新刚飞成小金亮忠玉超德荣庆生宇光"
    "立云红祥洪振民丽艳燕芳英梅娟玲静秀敏春莉慧兰琴丹雪娜凤"
)
BATCH = 2000


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


def fill(rooms: Rooms, count: int, seed: int) -> float:
    """Put people into the index in bulk. Returns records a second."""
    start = time.perf_counter()
    batch: list[Demographics] = []
    done = 0
    for said in people(count, seed):
        batch.append(said)
        if len(batch) == BATCH:
            done = _insert(rooms, batch, done)
            batch = []
    if batch:
        _insert(rooms, batch, done)
    if not rooms.database.is_sqlite:
        with rooms.database.transaction() as session:
            for table in ("person", "patient_record"):
                number = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
                session.execute(text(number))
    return count / (time.perf_counter() - start)


def _insert(rooms: Rooms, batch: list[Demographics], done: int) -> int:
    now = rooms.clock.now()
    numbers = range(done + 1, done + len(batch) + 1)
    records = [
        {
            "id": at, "issuer": said.issuer, "identifier": said.identifier, "institution": said.institution,
            "patient_id": new_id(), "person_id": at, "authority": int(said.authority),
            "sealed": seal(rooms.mpi, said), "created_at": now, "changed_at": now,
        }
        for at, said in zip(numbers, batch, strict=True)
    ]  # fmt: skip
    keys = [
        {"hash": hash_of(rooms.mpi, key), "patient_record_id": at}
        for at, said in zip(numbers, batch, strict=True)
        for key in block_keys(features_of(said))
    ]
    with rooms.database.transaction() as session:
        session.execute(
            insert(Person), [{"id": at, "logical_id": new_id(), "created_at": now} for at in numbers]
        )
        session.execute(insert(PatientRecord), records)
        session.execute(insert(BlockKey), keys)
    return done + len(batch)


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
    parser.add_argument("--url", default="")
    arguments = parser.parse_args()
    assert cloudfilm.models.MODULES
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{folder}/mpi.db"
        blobs = BlobsSettings(url=f"file://{folder}/blobs")
        settings = Settings(data_dir=Path(folder), database=DatabaseSettings(url=url), blobs=blobs)
        rooms = build_rooms(settings)
        Base.metadata.create_all(rooms.database.engine)
        print(f"bulk load: {fill(rooms, arguments.persons, 1):.0f} records/s, {arguments.persons} in all")
        known = list(people(arguments.asked, 1))
        elsewhere = [
            replace(said, issuer="EMR", phone="" if at % 3 else said.phone, address="")
            for at, said in enumerate(known)
        ]
        unknown = [replace(said, issuer="EMR2") for said in people(arguments.asked, 2)]
        report("known number, nothing new", *measure(rooms, known))
        report("known person, new number", *measure(rooms, elsewhere))
        report("new person", *measure(rooms, unknown))
        rooms.close()


if __name__ == "__main__":
    main()
