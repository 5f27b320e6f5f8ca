"""Whether the archive stays as fast as it grows: `python -m benchmarks.growth --studies 20000 200000
1000000`.

An archive is filled to each size by the database itself, from one study that came in by the front door;
statistics are brought up to date, and each kind of question is asked, and studies are stored, at every size.
Prints a table in Markdown: median and 95th percentile in milliseconds, within one process, without HTTP.

    python -m benchmarks.growth --postgresql postgresql://user@host/empty_database
"""

import argparse
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import Integer, Table, cast, func, insert, literal, select, text
from sqlalchemy.sql.expression import ColumnElement, FromClause

from access.caller import operator
from archive.ingest import ingest
from archive.keys import KEY_BY_TAG, TAG_BY_KEYWORD, Level
from archive.model import Instance, Series, Study
from archive.query import Match, Query
from archive.search import search
from benchmarks.studies import part10, tiny_studies
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from kernel.database import table_of
from kernel.settings import BlobsSettings, DatabaseSettings, Settings

BASE = 1000  # ids that are left free for what is stored between
AT_ONCE = 50_000
TIMES = 100


def numbers(rooms: Rooms, first: int, last: int) -> FromClause:
    """The numbers first to last, as rows."""
    if rooms.database.is_sqlite:
        begun = select(literal(first).label("n")).cte("numbers", recursive=True)
        return begun.union_all(select(begun.c.n + 1).where(begun.c.n < last))
    return select(func.generate_series(first, last).label("n")).subquery("numbers")


def multiplied(rooms: Rooms, table: Table, row_id: int, free: int, first: int, last: int) -> None:
    """Fill a table with copies of one row that differ where rows must differ."""
    source = numbers(rooms, first, last)
    n = source.c.n
    days = cast(n % 3650, Integer)
    a_day: ColumnElement[date] = (
        func.date(literal("2016-01-01"), func.printf("+%d days", days))
        if rooms.database.is_sqlite
        else cast(literal(date(2016, 1, 1)), table_of(Study).c.study_date.type) + days
    )
    said = {
        "id": n + free,
        "study_id": n + free,
        "series_id": n + free,
        "study_instance_uid": literal("2.25.7.").concat(n),
        "series_instance_uid": literal("2.25.7.").concat(n).concat(".1"),
        "sop_instance_uid": literal("2.25.7.").concat(n).concat(".1.1"),
        "logical_id": literal("grown-").concat(n),
        "patient_id": literal("G").concat(n // 2),
        "name_alphabetic": literal("family").concat(n % 977).concat("^given").concat(n % 89),
        "accession_number": literal("GA").concat(n),
        "blob_key": literal("grown/").concat(n),
        "study_date": a_day,
    }
    names = [each.name for each in table.columns]
    if table is table_of(Study):
        del said["study_id"]  # an attribute there (0020,0010), not a key
    template = table.alias("template")
    chosen = [said.get(name, template.c[name]) for name in names]
    statement = (
        select(*chosen).select_from(template).join(source, literal(True)).where(template.c.id == row_id)
    )
    with rooms.database.transaction() as session:
        session.execute(insert(table).from_select(names, statement))


def grow(rooms: Rooms, ids: dict[Table, int], first: int, last: int) -> None:
    """Fill the archive with the studies first to last."""
    with rooms.database.snapshot() as session:
        free = max(session.scalar(select(func.max(table.c.id))) or 0 for table in ids) + BASE - first
    for start in range(first, last + 1, AT_ONCE):
        for table, row_id in ids.items():
            multiplied(rooms, table, row_id, free, start, min(last, start + AT_ONCE - 1))
    with rooms.database.transaction() as session:
        session.execute(text("ANALYZE"))


def template_rows(rooms: Rooms) -> dict[Table, int]:
    """The study that came in by the front door."""
    with rooms.database.snapshot() as session:
        return {
            table_of(model): session.scalar(select(func.min(model.id))) or 0
            for model in (Study, Series, Instance)
        }


def ask(rooms: Rooms, limit: int = 50, **keys: str) -> None:
    """One search for studies."""
    matches = tuple(Match(KEY_BY_TAG[TAG_BY_KEYWORD[keyword]], (value,)) for keyword, value in keys.items())
    search(rooms.archive, operator(), Query(Level.STUDY, matches, limit=limit))


def questions(rooms: Rooms, size: int) -> dict[str, Callable[[], None]]:
    """What is asked, each time of something else."""
    new = (part10(ds) for ds in tiny_studies(10**6))
    caller = operator()

    def day() -> str:
        at = date(2016, 1, 1) + timedelta(days=random.randrange(3650))
        return f"{at:%Y%m%d}"

    def name() -> str:
        return f"family{random.randrange(977)}^given{random.randrange(89)}"

    def store() -> None:
        data = next(new).replace(b"2.25.99120534.", b"2.25.99%06d." % random.randrange(10**6))
        ingest(rooms.archive, caller, io.BytesIO(data))

    return {
        "newest 50 studies": lambda: ask(rooms),
        "by Patient ID": lambda: ask(rooms, PatientID=f"G{random.randrange(size // 2)}"),
        "by accession number": lambda: ask(rooms, AccessionNumber=f"GA{random.randrange(size)}"),
        "by name prefix": lambda: ask(
            rooms, PatientName=f"family{random.randrange(977)}^given{random.randrange(89)}*"
        ),
        "by day": lambda: ask(rooms, StudyDate=day()),
        "by month, first 50": lambda: ask(rooms, StudyDate=f"{day()[:6]}01-{day()[:6]}28"),
        "by UID": lambda: ask(rooms, StudyInstanceUID=f"2.25.7.{random.randrange(1, size)}"),
        "store a new study": store,
    }


def measure(act: Callable[[], None]) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return statistics.median(taken), taken[int(TIMES * 0.95)]


def main() -> None:
    """Grow and measure."""
    arguments = argparse.ArgumentParser(description="Whether the archive stays as fast as it grows.")
    arguments.add_argument("--studies", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    arguments.add_argument("--postgresql", default="", help="URL of an empty database; without one, SQLite")
    asked = arguments.parse_args()
    table: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        url = asked.postgresql or f"sqlite:///{name}/cloudfilm.db"
        migrate(url)
        settings = Settings(
            data_dir=Path(name),
            database=DatabaseSettings(url=url),
            blobs=BlobsSettings(url=f"file://{name}/blobs"),
        )
        rooms = build_rooms(settings)
        ingest(rooms.archive, operator(), io.BytesIO(part10(next(tiny_studies(1)))))
        ids, had = template_rows(rooms), 0
        for size in asked.studies:
            grow(rooms, ids, had + 1, size)
            had = size
            for what, act in questions(rooms, size).items():
                table.setdefault(what, []).append(measure(act))
        rooms.close()
    print("| ms, median / p95 | " + " | ".join(f"{size:,} studies" for size in asked.studies) + " |")
    print("| --- |" + " --- |" * len(asked.studies))
    for what, figures in table.items():
        print(f"| {what} | " + " | ".join(f"{median:.1f} / {p95:.1f}" for median, p95 in figures) + " |")


if __name__ == "__main__":
    main()
