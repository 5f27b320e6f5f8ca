"""The FHIR server under one client, with tokens, validation and audit as always, at several sizes:

    python -m benchmarks.fhir [--resources 1000 100000 1000000] [--seconds 2] [--postgresql URL] [--folder F]

For each size an installation is filled past the doors (`benchmarks.fhir_load`), unless it is filled already,
and every kind of request is timed. With --postgresql, a server on which databases may be created, each size
has a database of its own there (bench_fhir_1000 ...), beside the one on SQLite; they are kept for the next
run, and filled anew when runs have added a tenth to them. --load-only fills, and measures nothing.

Prints a table in Markdown: the median and the 95th percentile in milliseconds, client and server together on
this machine. Under it whether the targets are met, and whether a selective search becomes slower as the
installation grows (p95 at the largest size within 2 times of the smallest: no search cliff).
"""

import argparse
import json
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url, text

from benchmarks.fhir_documents import documents, other, patients_of, transaction
from benchmarks.fhir_load import is_worn, load
from benchmarks.servers import cloudfilm
from kernel.crypto import KeyRing
from kernel.settings import Settings

JSON = "application/fhir+json"
NOISE_MS = 1.0  # by so much more than twice a 95th percentile may differ from one run to the next


class Client:
    """An HTTP connection that is kept, and does as little as a client can: the server is what is measured."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        url = urlsplit(base)
        self._path = url.path
        fields = {"Host": url.netloc, **headers, "Accept": JSON, "Content-Type": JSON}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._socket = socket.create_connection((url.hostname or "", url.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, method: str, path: str, body: bytes = b"", more: str = "") -> tuple[int, str, bytes]:
        """One request: status, head and body of the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._head}{more}{length}\r\n"
        self._socket.sendall(head.encode() + body)
        lines = []
        while (line := self._file.readline()) not in (b"\r\n", b""):
            lines.append(line)
        told = b"".join(lines).decode("latin-1")
        size = re.search(r"^content-length: (\d+)", told, re.I | re.M)
        content = self._file.read(int(size[1])) if size else self._chunks(told)
        return int(told.split(" ", 2)[1]), told, content

    def _chunks(self, told: str) -> bytes:
        pieces = []
        if "chunked" in told.lower():
            while size := int(self._file.readline().split(b";")[0], 16):
                pieces.append(self._file.read(size))
                self._file.readline()
            self._file.readline()
        return b"".join(pieces)

    def get(self, path: str) -> bytes:
        """GET what is there."""
        status, _, body = self.send("GET", path)
        assert status == 200, (path, status, body[:300])
        return body

    def post(self, path: str, document: dict[str, Any]) -> bytes:
        """POST what is taken."""
        status, _, body = self.send("POST", path, json.dumps(document).encode())
        assert status in (200, 201), (path, status, body[:300])
        return body


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request."""

    act: Callable[[], object]
    target_ms: float = 0  # for the median; 0: none is set
    is_selective: bool = False  # a search that finds a few documents, however many there are


def searches(count: int) -> dict[str, tuple[str, bool]]:
    """Searches by their names: the path, and whether it is selective. {n}: a number; {at}: with 8 digits."""
    code, day = "code=http://loinc.org|718-7", "date=2015-06-06"
    return {
        "token": ("/Patient?identifier=urn:bench:mrn|{at}", True),
        "string": ("/Patient?given=given{n}", True),
        "string :exact": ("/Patient?given:exact=Given{n}", True),
        "uri": ("/Patient?_source=urn:bench:source:{n}", True),
        "_id": ("/Patient?_id=p{n}", True),
        "reference": ("/Observation?patient=p{n}", True),
        "reference, newest first": ("/Observation?patient=Patient/p{n}&_sort=-date", True),
        "reference and a span of dates": ("/Observation?patient=p{n}&date=ge2012&date=lt2020", True),
        "quantity of a patient": ("/Observation?patient=p{n}&value-quantity=gt70", True),
        "composite of a patient": ("/Observation?patient=p{n}&code-value-quantity=718-7$gt70", True),
        ":not of a patient": ("/Observation?patient=p{n}&status:not=amended", True),
        ":missing of a patient": ("/Observation?patient=p{n}&encounter:missing=true", True),
        "_filter": ("/Patient?_filter=identifier eq urn:bench:mrn|{at}".replace(" ", "%20"), True),
        "chain": ("/Observation?patient.identifier=urn:bench:mrn|{at}", True),
        "reverse chain": ("/Patient?_has:ServiceRequest:subject:identifier=A00000001", True),
        "_include": ("/Observation?patient=p{n}&_include=Observation:patient", True),
        "_revinclude": ("/Patient?_id=p{n}&_revinclude=Observation:patient", True),
        "compartment": ("/Patient/p{n}/Observation", True),
        "_content": ("/Patient?_content=given{n}", True),
        "near": (f"/Location?near=10|20|{10_000 if count < 10_000 else 300}|km&_count=5", True),
        "total of a patient's": ("/Observation?patient=p{n}&_total=accurate", True),
        "one day": (f"/DiagnosticReport?{day}&_count=10", False),
        "name and birth date, 20 of many": ("/Patient?family=zhang&birthdate=ge1950", False),
        "broad code, first page": (f"/Observation?{code}", False),
        "broad code, newest first": (f"/Observation?{code}&_sort=-date", False),
        "two broad codes": (f"/Observation?{code}&status=final", False),
        "chain through a broad code": (f"/Observation?patient.gender=male&{code}", False),
        "all, newest first": ("/Observation?_sort=-_lastUpdated", False),
        "by name in order": ("/Patient?_sort=family", False),
    }


def _of_others(document: dict[str, Any]) -> dict[str, Any]:
    """A document that is written, of patients that no search asks for: runs leave the answers as they are."""
    document["subject"]["reference"] = document["subject"]["reference"].replace("Patient/p", "Patient/w")
    return document


def requests_of(client: Client, count: int) -> dict[str, Request]:
    """Every kind of request; those that write come last."""
    chance, fresh, patients = random.Random(1), iter(range(10**9)), patients_of(count)
    few = [chance.randrange(patients) for _ in range(50)]

    def search(path: str) -> Callable[[], object]:
        def ask() -> None:
            number = chance.randrange(patients)
            body = client.get(path.format(n=number, at=f"{number:08d}"))
            assert b'"searchset"' in body, path

        return ask

    def create() -> object:
        document = _of_others(other(2 + 9 * next(fresh), patients))
        del document["id"]
        return client.post("/Observation", document)

    def fifty() -> object:
        written = [_of_others(other(10**7 + next(fresh), patients)) for _ in range(50)]
        return client.post("", transaction(written, under_their_ids=False))

    found = {
        "read": Request(lambda: client.get(f"/Patient/p{chance.choice(few)}"), 2),
        "read, the first of a document by this client": Request(
            lambda: client.get(f"/Patient/p{chance.randrange(patients)}")
        ),
        "vread": Request(lambda: client.get(f"/Patient/p{chance.choice(few)}/_history/1")),
        "history of a type": Request(lambda: client.get("/Observation/_history?_count=20")),
    }
    for name, (path, is_selective) in searches(count).items():
        found[f"search: {name}"] = Request(search(path), 4 if is_selective else 0, is_selective)
    found |= {
        "$everything": Request(
            lambda: client.get(f"/Patient/p{chance.randrange(patients)}/$everything"), is_selective=True
        ),
        "create": Request(create, 5),
        "transaction of 50 creations": Request(fifty, 50),
    }
    return found


def times_of(act: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Median and 95th percentile of an act in milliseconds, repeated for a while."""
    act()
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or (len(times) < 20 and time.monotonic() < until + 5 * seconds):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return statistics.median(times), times[int(len(times) * 0.95)]


def exported(client: Client) -> str:
    """How fast everything of one type is exported."""
    began = time.monotonic()
    status, head, body = client.send("GET", "/$export?_type=Patient", more="Prefer: respond-async\r\n")
    assert status == 202, body[:300]
    place = urlsplit(next(line for line in head.split("\r\n") if line.lower().startswith("content-location"))
                     .split(": ", 1)[1]).path.removeprefix("/fhir")  # fmt: skip
    while (answer := client.send("GET", place))[0] == 202:
        time.sleep(0.05)
    assert answer[0] == 200, answer[2][:300]
    count = sum(each["count"] for each in json.loads(answer[2])["output"])
    return f"{count / (time.monotonic() - began):.0f} resources/s"


Figures = dict[str, tuple[float, float] | str]


def into_memory(file: Path) -> None:
    """Read the file of a SQLite database, where it is one, as a server at work has."""
    if file.exists():
        with file.open("rb") as opened:
            while opened.read(1 << 20):
                pass


def measure(count: int, seconds: float, folder: Path, only: str) -> tuple[Figures, dict[str, Request]]:
    """All figures at one size."""
    figures: Figures = {}
    into_memory(folder / "cloudfilm.db")
    with cloudfilm(folder) as server:
        client = Client(server.dicomweb.replace("/dicomweb", "/fhir"), server.headers)
        kinds = requests_of(client, count)
        for name, kind in kinds.items():
            if only in name:
                figures[name] = median, worst = times_of(kind.act, seconds)
                print(f"  {count:,} {name}: {median:.1f} / {worst:.1f}", file=sys.stderr, flush=True)
        if only in "$export":
            figures["$export of the Patients"] = exported(client)
    return figures, kinds


@contextmanager
def database_of(count: int, folder: Path, postgresql: str) -> Iterator[str]:
    """The URL of a size's database, for whoever is started meanwhile too; a worn one is taken away."""
    url = f"sqlite:///{folder}/cloudfilm.db"
    if not postgresql and is_worn(url, count):
        for name in ("cloudfilm.db", "cloudfilm.db-wal", "cloudfilm.db-shm"):
            (folder / name).unlink(missing_ok=True)
    if postgresql:
        name = f"bench_fhir_{count}"
        engine = create_engine(
            make_url(postgresql).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}):
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
            url = make_url(postgresql).set(database=name).render_as_string(hide_password=False)
            if is_worn(url, count):
                connection.execute(text(f"DROP DATABASE {name}"))
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        engine.dispose()
    os.environ["CLOUDFILM_DATABASE__URL"] = url
    try:
        yield url
    finally:
        del os.environ["CLOUDFILM_DATABASE__URL"]


def report(results: dict[str, dict[int, Figures]], kinds: dict[str, Request]) -> None:
    """The table, and what is to be said of it."""
    columns = [(database, count) for database, sizes in results.items() for count in sizes]
    print(f"| median / p95 in ms | {' | '.join(f'{name} {count:,}' for name, count in columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    names = next(iter(next(iter(results.values())).values()))
    for name in names:
        cells = [results[database][count][name] for database, count in columns]
        texts = [cell if isinstance(cell, str) else f"{cell[0]:.1f} / {cell[1]:.1f}" for cell in cells]
        print(f"| {name} | {' | '.join(texts)} |")
    missed = [
        f"{name} on {database} at {count:,}: {cell[0]:.1f} ms, not {kinds[name].target_ms:.0f}"
        for database, count in columns
        for name, cell in results[database][count].items()
        if not isinstance(cell, str) and 0 < kinds[name].target_ms < cell[0]
    ]
    cliffs = []
    for database, sizes in results.items():
        least, most = sizes[min(sizes)], sizes[max(sizes)]
        for name, cell in most.items():
            at_least = least[name]
            if isinstance(cell, str) or isinstance(at_least, str) or not kinds[name].is_selective:
                continue
            if cell[1] > 2 * at_least[1] + NOISE_MS:
                cliffs.append(f"{name} on {database}: p95 {at_least[1]:.1f} ms, then {cell[1]:.1f} ms")
    print("\nTargets missed: " + ("; ".join(missed) or "none"))
    print("Search cliffs: " + ("; ".join(cliffs) or "none"))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resources", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--postgresql", default="", help="a server: postgresql://user@host:port/postgres")
    parser.add_argument("--no-sqlite", action="store_true", help="measure on PostgreSQL alone")
    parser.add_argument("--folder", type=Path, help="where the installations are kept; else a temporary one")
    parser.add_argument("--only", default="", help="kinds of requests whose name holds this")
    parser.add_argument("--load-only", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-fhir-"))
    databases = {} if asked.no_sqlite else {"SQLite": ""}
    if asked.postgresql:
        databases["PostgreSQL"] = asked.postgresql
    results: dict[str, dict[int, Figures]] = {}
    kinds: dict[str, Request] = {}
    for database, server in databases.items():
        for count in asked.resources:
            place = folder / f"{database.lower()}-{count}"
            place.mkdir(parents=True, exist_ok=True)
            with database_of(count, place, server) as url:
                began = time.monotonic()
                keys = KeyRing.load(place / "keys" / "ring.json")
                there = load(url, documents(count), count, Settings().access.institution, keys)
                print(
                    f"{database} {count:,}: {there} documents in {time.monotonic() - began:.0f} s", flush=True
                )
                if not asked.load_only:
                    results.setdefault(database, {})[count], kinds = measure(
                        count, asked.seconds, place, asked.only
                    )
    if results:
        report(results, kinds)


if __name__ == "__main__":
    main()
