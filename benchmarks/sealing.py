"""What it costs that rows are sealed: a page of QIDO-RS, and storing an object.

    python -m benchmarks.sealing [--studies 300] [--rounds 100] [--suite commercial]

Two archives with the same studies, one with `database.seals` off, are asked in turns within one process: 100
studies, and 100 instances of all studies. On SQLite, and on PostgreSQL where CLOUDFILM_TEST_POSTGRESQL names
a server on which databases may be made. Medians of the time that the process itself computes, which a busy
machine changes least, and of the time that passes.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from access.caller import operator
from access.tokens import ACCESS, issue
from archive.ingest import ingest
from benchmarks.studies import part10, tiny_studies
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from tests.conftest import BACKENDS, POSTGRESQL, empty_database

PAGES = {"100 studies": "/dicomweb/studies?limit=100", "100 instances": "/dicomweb/instances?limit=100"}
Times = list[tuple[float, float]]  # computed and passed, in milliseconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--suite", default="international", choices=("international", "commercial"))
    arguments = parser.parse_args()
    for backend in BACKENDS:
        with ExitStack() as ends:
            archives = {seals: _archive(ends, backend, arguments.suite, seals) for seals in (True, False)}
            _measure(backend, archives, arguments.studies, arguments.rounds)


def _archive(ends: ExitStack, backend: str, suite: str, seals: bool) -> Rooms:
    folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
    like = "sqlite://" if backend == "sqlite" else POSTGRESQL
    url = ends.enter_context(empty_database(like, folder / "cloudfilm.db"))
    migrate(url)
    rooms = build_rooms(
        Settings(
            data_dir=folder,
            suite=suite,
            database=DatabaseSettings(url=url, seals=seals),
            blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
        )
    )
    ends.callback(rooms.close)
    return rooms


def _measure(backend: str, archives: dict[bool, Rooms], studies: int, rounds: int) -> None:
    taken: dict[str, dict[bool, Times]] = {name: {True: [], False: []} for name in ("an object", *PAGES)}
    for image in map(part10, tiny_studies(studies)):
        for seals, rooms in archives.items():
            taken["an object"][seals].append(
                _timed(lambda rooms=rooms, image=image: ingest(rooms.archive, operator(), io.BytesIO(image)))  # type: ignore[misc]
            )
    asked = {seals: _asking(rooms) for seals, rooms in archives.items()}
    for _ in range(rounds):
        for name, path in PAGES.items():
            for seals, ask in asked.items():
                taken[name][seals].append(_timed(lambda ask=ask, path=path: ask(path)))  # type: ignore[misc]
    print(f"{backend}, medians in ms: computed (passed)")
    for name, times in taken.items():
        clear, sealed = (_medians(times[seals][len(times[seals]) // 10 :]) for seals in (False, True))
        print(f"  {name:14} in clear {clear}   sealed {sealed}")


def _asking(rooms: Rooms) -> Callable[[str], None]:
    with rooms.database.transaction() as session:
        secret = issue(
            rooms.access, session, ACCESS, life_s=3600, role="operator", scope="system/ImagingStudy.rs"
        )
    client = create_app(rooms).test_client()
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/dicom+json"}

    def ask(path: str) -> None:
        assert client.get(path, headers=headers).status_code == 200

    return ask


def _medians(times: Times) -> str:
    computed, passed = (statistics.median(each[at] for each in times) for at in (0, 1))
    return f"{computed:6.2f} ({passed:6.2f})"


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    computed, began = time.thread_time(), time.perf_counter()
    act()
    return 1000 * (time.thread_time() - computed), 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
