"""The FHIR server under one client and under several, with tokens and audit as always:

    python -m benchmarks.fhir [--resources 1000 100000] [--seconds 5] [--postgresql URL] [--folder /tmp/bench]

For each size an installation is filled by transactions of 50 (a tenth are Patients, the others Observations,
reports and orders of theirs), statistics are brought up to date, and every kind of request is timed. Prints a
table in Markdown: the median and the 95th percentile in milliseconds of one client, or what is written.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from benchmarks.servers import cloudfilm

JSON = "application/fhir+json"
FAMILIES = ["Zhang", "Wang", "Li", "Zhao", "Chen", "Müller", "Smith", "Garcia", "Kim", "Sato"]
LOINC = ["8867-4", "8480-6", "8462-4", "29463-7", "718-7"]


class Client:
    """An HTTP connection with a token."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(headers | {"Content-Type": JSON, "Accept": JSON})

    def get(self, path: str) -> dict[str, Any]:
        """GET; the parsed answer."""
        answer = self.session.get(f"{self.base}{path}")
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        return dict(answer.json())

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """POST; the parsed answer."""
        answer = self.session.post(f"{self.base}{path}", data=json.dumps(document))
        assert answer.status_code in (200, 201), (path, answer.status_code, answer.text[:300])
        return dict(answer.json())


def patient(number: int) -> dict[str, Any]:
    """A Patient."""
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "urn:bench:mrn", "value": f"{number:08d}"}],
        "name": [{"family": f"{FAMILIES[number % 10]}{number % 977}", "given": [f"Given{number % 89}"]}],
        "gender": ["male", "female"][number % 2],
        "birthDate": f"{1930 + number % 90}-{1 + number % 12:02d}-{1 + number % 28:02d}",
    }


def other(number: int, patients: int) -> dict[str, Any]:
    """An Observation, a DiagnosticReport or a ServiceRequest of one of the patients."""
    subject = {"reference": f"Patient/p{number * 7919 % patients}"}
    day = f"20{10 + number % 15}-{1 + number % 12:02d}-{1 + number % 28:02d}T{number % 24:02d}:15:30+08:00"
    if number % 9 == 0:
        return {
            "resourceType": "DiagnosticReport", "id": f"r{number}", "status": "final", "subject": subject,
            "code": {"coding": [{"system": "urn:bench:exam", "code": f"E{number % 50}"}]},
            "effectiveDateTime": day, "conclusion": "未见异常",
        }  # fmt: skip
    if number % 9 == 1:
        return {
            "resourceType": "ServiceRequest", "id": f"s{number}", "status": "active", "intent": "order",
            "subject": subject, "authoredOn": day,
            "identifier": [{"system": "urn:bench:acc", "value": f"A{number:08d}"}],
        }  # fmt: skip
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final", "subject": subject,
        "code": {"coding": [{"system": "http://loinc.org", "code": LOINC[number % 5]}]},
        "effectiveDateTime": day,
        "valueQuantity": {"value": 60 + number % 80, "unit": "mg", "system": "http://unitsofmeasure.org",
                          "code": "mg"},
    }  # fmt: skip


def transaction(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """A transaction that writes documents under their ids."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
            for each in documents
        ],
    }


def fill(base: str, headers: dict[str, str], count: int) -> float:
    """Write so many resources by four clients; resources a second."""
    patients = max(1, count // 10)
    documents = [patient(number) for number in range(patients)]
    documents += [other(number, patients) for number in range(count - patients)]
    chunks = [documents[at : at + 50] for at in range(0, len(documents), 50)]
    failures: list[BaseException] = []

    def work(mine: list[list[dict[str, Any]]]) -> None:
        client = Client(base, headers)
        try:
            for chunk in mine:
                client.post("", transaction(chunk))
        except BaseException as failure:
            failures.append(failure)

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(chunks[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return count / (time.monotonic() - began)


def timed(act: Callable[[], object], seconds: float) -> str:
    """Median and 95th percentile of an act, repeated for a while."""
    for _ in range(5):
        act()
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times) < 20:
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    times.sort()
    return f"{statistics.median(times) * 1000:.1f} / {times[int(len(times) * 0.95)] * 1000:.1f}"


def kinds(client: Client, count: int) -> dict[str, Callable[[], object]]:
    """Every kind of request."""
    chance = random.Random(1)
    patients = max(1, count // 10)
    fresh = iter(range(10**9))

    def number() -> int:
        return chance.randrange(patients)

    def search(path: str, least: int = 1) -> Callable[[], object]:
        def ask() -> None:
            bundle = client.get(path.format(n=number(), at=f"{number():08d}"))
            assert len(bundle.get("entry", ())) >= least, path

        return ask

    def create() -> object:
        document = other(2 + 9 * next(fresh), patients)
        del document["id"]
        return client.post("/Observation", document)

    def fifty() -> object:
        documents = []
        for _ in range(50):
            document = other(10**7 + next(fresh), patients)
            documents.append(document)
        bundle = transaction(documents)
        for entry in bundle["entry"]:
            entry["request"] = {"method": "POST", "url": entry["resource"]["resourceType"]}
            del entry["resource"]["id"]
        return client.post("", bundle)

    return {
        "read": lambda: client.get(f"/Patient/p{number()}"),
        "vread": lambda: client.get(f"/Patient/p{number()}/_history/1"),
        "search: identifier": search("/Patient?identifier=urn:bench:mrn|{at}"),
        "search: name and birth date": search("/Patient?family=zhang&birthdate=ge1950&_count=20", 0),
        "search: of a patient": search("/Observation?patient=p{n}", 0),
        "search: of a patient, by date, newest first": search(
            "/Observation?patient=Patient/p{n}&date=ge2012&date=lt2020&_sort=-date", 0
        ),
        "search: code and value of a patient": search(
            "/Observation?patient=p{n}&code-value-quantity=http://loinc.org|718-7$gt70", 0
        ),
        "search: chain": search("/Observation?patient.identifier=urn:bench:mrn|{at}", 0),
        "search: reverse chain": search("/Patient?_has:ServiceRequest:subject:identifier=A00000001"),
        "search: with include": search("/Observation?patient=p{n}&_include=Observation:patient", 0),
        "search: broad code, first page": search("/Observation?code=http://loinc.org|718-7"),
        "search: broad code, newest first": search("/Observation?code=http://loinc.org|718-7&_sort=-date"),
        "search: all, newest first": search("/Observation?_sort=-_lastUpdated"),
        "search: by name in order": search("/Patient?_sort=family"),
        "search: two broad codes": search("/Observation?code=718-7&status=final"),
        "search: chain through a broad code": search("/Observation?patient.gender=male&code=718-7"),
        "search: one day": search("/DiagnosticReport?date=2015-06-06", 0),
        "history of a type": search("/Observation/_history?_count=20"),
        "create": create,
        "transaction of 50 creations": fifty,
        "everything of a patient": search("/Patient/p{n}/$everything", 1),
    }


def measure(count: int, seconds: float, folder: Path, only: str = "") -> dict[str, str]:
    """All figures at one size."""
    figures: dict[str, str] = {}
    with cloudfilm(folder) as server:
        base = server.dicomweb.replace("/dicomweb", "/fhir")
        figures["filling, 4 clients"] = f"{fill(base, server.headers, count):.0f} resources/s"
        analyze(folder)
        client = Client(base, server.headers)
        for name, act in kinds(client, count).items():
            if only in name:
                try:
                    figures[name] = timed(act, seconds)
                except AssertionError as failure:
                    figures[name] = f"failed: {str(failure)[:80]}"
    return figures


def analyze(folder: Path) -> None:
    """Bring the planner's statistics up to date, as PostgreSQL does by itself in time."""
    import sqlite3

    url = os.environ.get("CLOUDFILM_DATABASE__URL", "")
    if url.startswith("postgresql"):
        from sqlalchemy import create_engine, make_url, text

        engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text("ANALYZE"))
        engine.dispose()
        return
    with sqlite3.connect(folder / "cloudfilm.db", timeout=60) as connection:
        connection.execute("PRAGMA analysis_limit=1000")
        connection.execute("ANALYZE")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resources", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument(
        "--postgresql", help="an empty database for each size: postgresql://user@host/name{n}"
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default="", help="kinds of requests whose name holds this")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-fhir-"))
    results = {}
    for count in asked.resources:
        if asked.postgresql:
            os.environ["CLOUDFILM_DATABASE__URL"] = asked.postgresql.replace("{n}", str(count))
        results[f"{count:,}"] = measure(count, asked.seconds, folder / str(count), asked.only)
    print(f"| p50 / p95 ms | {' | '.join(results)} |\n| --- |{' --- |' * len(results)}")
    for name in next(iter(results.values())):
        print(f"| {name} | {' | '.join(figures.get(name, '-') for figures in results.values())} |")


if __name__ == "__main__":
    main()
