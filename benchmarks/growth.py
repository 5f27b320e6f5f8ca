"""Whether the archive stays as fast as it grows: `python -m benchmarks.growth --postgresql URL`.

The URL names a PostgreSQL server on which databases may be created. For each size there is one,
`growth_20000` and so on; it is filled when it is not there (`--fill` does only that, to be done the day
before), and kept with its key ring in `--folder`. What is asked about is read into memory first (pg_prewarm,
by a role that may make extensions). Then every kind of question is asked, and studies are stored, at every
size in turn. Prints a table in Markdown: median and 95th percentile in milliseconds, within one process,
without HTTP, and how much the largest archive's 95th percentile is of the smallest's; then what the tables
and their indexes take, which the plan in docs/performance.md stands on.

    python -m benchmarks.growth --postgresql postgresql://user@host/postgres --studies 20000 200000 1000000
"""

import argparse
import io
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from access.caller import operator
from archive.attributes import Document, document
from archive.ingest import ingest
from archive.keys import KEY_BY_TAG, TAG_BY_KEYWORD, Level
from archive.modality_worklist import worklist_item
from archive.query import Match, Query
from archive.search import search
from archive.workitem_search import search_workitems
from benchmarks.grown import GIVEN, OPEN, born, day_of, family, fill, patient_id
from benchmarks.studies import part10, tiny_studies
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from records.search import parse_search
from records.search import search as search_records

TIMES = 100
SIZES = [20_000, 200_000, 1_000_000]


def opened(server: str, folder: Path, size: int) -> Rooms:
    """The rooms of the archive of a size; it is filled first when it is not there."""
    name = f"growth_{size}"
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    admin = create_engine(
        make_url(server).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    data = folder / name
    with admin.connect() as connection:
        found = connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
        is_new = not (found and (data / "filled").exists())
        if is_new:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    admin.dispose()
    migrate(url)
    settings = Settings(
        data_dir=data, database=DatabaseSettings(url=url), blobs=BlobsSettings(url=f"file://{data}/blobs")
    )
    rooms = build_rooms(settings)
    if is_new:
        began = time.monotonic()
        fill(rooms, size, datetime.now(UTC).date())
        (data / "filled").touch()
        print(f"{size:,} studies filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rooms


def warm(rooms: Rooms) -> None:
    """Read what the questions are about into memory, where a server at work has it; takes pg_prewarm."""
    with rooms.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_prewarm"))
        connection.execute(WARMED)
        connection.execute(text("DROP EXTENSION pg_prewarm"))


WARMED = text("""
    SELECT pg_prewarm(each.oid::regclass, 'read')
    FROM pg_class each LEFT JOIN pg_index ON indexrelid = each.oid
    WHERE coalesce(indrelid, each.oid) IN (SELECT oid FROM pg_class WHERE relkind = 'r' AND relname IN
      ('study', 'series', 'resource', 'index_string', 'index_date', 'index_token', 'index_reference'))
""")


def ask(rooms: Rooms, least: int = 1, most: int = 50, **keys: str) -> None:
    """One search for studies (QIDO-RS, C-FIND), its answer as long at every size."""
    matches = tuple(Match(KEY_BY_TAG[TAG_BY_KEYWORD[keyword]], (value,)) for keyword, value in keys.items())
    found = search(rooms.archive, operator(), Query(Level.STUDY, matches, limit=most)).rows
    assert len(found) >= least, keys


def ask_fhir(rooms: Rooms, resource_type: str, count: int = 20, **parameters: str) -> None:
    """One FHIR search, its page drawn."""
    wanted = parse_search(resource_type, [("_count", str(count)), *parameters.items()])
    assert search_records(rooms.records, operator(), wanted).matches, parameters


def ask_worklist(rooms: Rooms, least: int, keys: Document) -> None:
    """One modality worklist query (C-FIND)."""
    found = search_workitems(
        rooms.archive, operator(), keys, view=worklist_item, worklist_only=True, limit=50
    )
    assert len(list(found)) >= least, keys


def questions(rooms: Rooms, size: int) -> dict[str, Callable[[], None]]:
    """What is asked, each time of something else."""
    new = (part10(ds) for ds in tiny_studies(10**6))
    caller, today = operator(), f"{datetime.now(UTC):%Y%m%d}"

    def study() -> int:
        return random.randrange(1, size)

    def store() -> None:
        data = next(new).replace(b"2.25.99120534.", b"2.25.99%06d." % random.randrange(10**6))
        data = data.replace(b"P00500", b"Q%05d" % random.randrange(10**5))
        ingest(rooms.archive, caller, io.BytesIO(data))

    def name() -> str:
        patient = study() // 2
        return f"{family(patient)}^Given{patient % GIVEN}"

    def month() -> str:
        at = day_of(study(), size)
        return f"{at:%Y%m}01-{at:%Y%m}28"

    def step(**keys: str) -> Document:
        return document(ScheduledProcedureStepSequence=[document(**keys)])

    return {
        "QIDO: newest 50 studies": lambda: ask(rooms, 50),
        "QIDO: Patient ID": lambda: ask(rooms, PatientID=patient_id(study() // 2)),
        "QIDO: accession number": lambda: ask(rooms, AccessionNumber=f"GA{study()}"),
        "QIDO: name prefix": lambda: ask(rooms, PatientName=f"{name()}*"),
        "QIDO: a day, first 5": lambda: ask(rooms, most=5, StudyDate=f"{day_of(study(), size):%Y%m%d}"),
        "QIDO: a month, first 50": lambda: ask(rooms, StudyDate=month()),
        "QIDO: Study Instance UID": lambda: ask(rooms, StudyInstanceUID=f"2.25.7.{study()}"),
        "FHIR: Patient by identifier": lambda: ask_fhir(
            rooms, "Patient", identifier=patient_id(study() // 2)
        ),
        "FHIR: Patient by family name, first 8": lambda: ask_fhir(
            rooms, "Patient", 8, family=family(study() // 2)
        ),
        "FHIR: Patient by name and birth date": lambda: ask_born(rooms, study() // 2),
        "FHIR: ImagingStudy of a patient": lambda: ask_fhir(
            rooms, "ImagingStudy", patient=f"Patient/patient-{study() // 2}"
        ),
        "FHIR: ImagingStudy by accession number": lambda: ask_fhir(
            rooms, "ImagingStudy", identifier=f"GA{study()}"
        ),
        "FHIR: ImagingStudy of a day, first 5": lambda: ask_fhir(
            rooms, "ImagingStudy", 5, started=f"{day_of(study(), size)}", _sort="-started"
        ),
        "worklist: a station's day": lambda: ask_worklist(
            rooms, 50,
            step(Modality="CT", ScheduledStationAETitle="CT_ROOM1", ScheduledProcedureStepStartDate=today),
        ),
        "worklist: accession number": lambda: ask_worklist(
            rooms, 1, document(AccessionNumber=f"GA{size - random.randrange(OPEN)}")
        ),
        "worklist: Patient ID": lambda: ask_worklist(
            rooms, 1, document(PatientID=patient_id((size - random.randrange(OPEN)) // 2))
        ),
        "store a new study of a new patient": store,
    }  # fmt: skip


def ask_born(rooms: Rooms, patient: int) -> None:
    """A patient as people ask for one."""
    ask_fhir(rooms, "Patient", name=family(patient), birthdate=born(patient).isoformat())


def measure(act: Callable[[], None], times: int) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    for _ in range(5):
        act()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return statistics.median(taken), taken[int(times * 0.95)]


SPACE = """
SELECT relname, reltuples::bigint, pg_table_size(oid), pg_indexes_size(oid)
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 1000
ORDER BY pg_total_relation_size(oid) DESC LIMIT 14
"""


def print_space(rooms: Rooms, size: int) -> None:
    """What the tables take, a study."""
    print(f"\n| table, at {size:,} studies | rows | table, MB | indexes, MB | bytes a study |")
    print("| --- | --- | --- | --- | --- |")
    with rooms.database.snapshot() as session:
        for name, rows, table, indexes in session.execute(text(SPACE)):
            figures = f"{table / 1e6:,.0f} | {indexes / 1e6:,.0f} | {(table + indexes) / size:,.0f}"
            print(f"| {name} | {rows:,} | {figures} |")
        whole = session.scalar(text("SELECT pg_database_size(current_database())")) or 0
        print(f"| all | | | | {whole / size:,.0f} |")


def main() -> None:
    """Fill what is not there, and measure."""
    arguments = argparse.ArgumentParser(description="Whether the archive stays as fast as it grows.")
    arguments.add_argument("--studies", type=int, nargs="+", default=SIZES)
    arguments.add_argument("--postgresql", required=True, help="URL on a server where databases may be made")
    arguments.add_argument("--folder", type=Path, default=Path("/var/tmp/growth"), help="of the key rings")
    arguments.add_argument("--times", type=int, default=TIMES, help="how often each question is asked")
    arguments.add_argument("--fill", action="store_true", help="fill what is not there, and do no more")
    asked = arguments.parse_args()
    archives = {size: opened(asked.postgresql, asked.folder, size) for size in asked.studies}
    if asked.fill:
        return
    for rooms in archives.values():
        warm(rooms)
    acts = {size: questions(rooms, size) for size, rooms in archives.items()}
    print("| ms, median / p95 | " + " | ".join(f"{size:,} studies" for size in archives) + " | p95, times |")
    print("| --- |" + " --- |" * (len(archives) + 1))
    for what in next(iter(acts.values())):
        figures = [measure(acts[size][what], asked.times) for size in archives]
        shown = " | ".join(f"{median:.1f} / {p95:.1f}" for median, p95 in figures)
        print(f"| {what} | {shown} | {figures[-1][1] / figures[0][1]:.1f} |", flush=True)
    for size, rooms in archives.items():
        if size == max(archives):
            print_space(rooms, size)
        rooms.close()


if __name__ == "__main__":
    main()
