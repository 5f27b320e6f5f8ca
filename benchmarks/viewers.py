"""Hundreds of people viewing at once: `python -m benchmarks.viewers`.

Each simulated viewer does what a viewer's program does: opens a study, sees its first image, scrolls in
bursts, switches the series, opens a prior study of the patient, thinks in between, and begins again.
cloudfilm runs as a region (PostgreSQL or SQLite, Redis, S3-compatible store, two web processes behind nginx
with TLS, every request authorized); Orthanc runs beside it, plain. One machine does everything, the viewers
too, so the figures are floors.

    python -m benchmarks.viewers --viewers 500 --seconds 60 --postgresql postgresql://user@host/postgres

With `--hurry` nobody thinks in between, so that the servers are the limit; with `--webs 1` there is one web
process: how throughput grows with processes is seen by the two of them together.

    python -m benchmarks.viewers --hurry --only cloudfilm --viewers 32 --seconds 20 --webs 1 2
"""

import argparse
import asyncio
import io
import random
import ssl
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests
from sqlalchemy import create_engine, make_url, text

from benchmarks.http_client import Connection
from benchmarks.servers import orthanc
from benchmarks.studies import ROOT, ct_series, part10
from tests.servers.region import region_in

JSON = "application/dicom+json"
STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
HTJ2K = 'multipart/related; type="image/jphc"; transfer-syntax=1.2.840.10008.1.2.4.201, ' + STORED
Studies = list[dict[str, list[str]]]

BURST = 10  # images of one scroll
SCROLL_S = 0.15  # from image to image


@dataclass(frozen=True)
class Target:
    """What is measured, and how a viewer asks it for pixels."""

    name: str
    dicomweb: str
    headers: dict[str, str]
    trust: ssl.SSLContext | None
    frames: str  # the Accept header
    first: str  # query of the first, rendered image
    pause_s: tuple[float, float] = (2, 6)  # from look to look
    scroll_s: float = SCROLL_S  # from image to image

    def hurried(self) -> "Target":
        """The same where nobody thinks between two looks."""
        return replace(self, pause_s=(0.0, 0.0), scroll_s=0.0)


@dataclass
class Figures:
    """What the viewers saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    requests: int = 0
    bytes: int = 0


class Viewer:
    """One person."""

    def __init__(self, target: Target, studies: Studies, figures: Figures, until: float) -> None:
        self._target = target
        self._studies = studies
        self._figures = figures
        self._until = until
        self._line = Connection(target.dicomweb, target.headers, target.trust)

    async def watch(self, begin_after_s: float) -> None:
        """Look at studies until the time is over."""
        await asyncio.sleep(begin_after_s)
        while time.monotonic() < self._until:
            study = random.choice(self._studies)
            for what, act in (
                ("first image", self._open),
                ("series switch", self._switch),
                ("prior", self._open),
            ):
                if what == "prior":
                    study = random.choice(self._studies)
                began = time.monotonic()
                series = await act(study)
                if series is None:
                    await asyncio.sleep(1)
                    continue
                self._figures.seconds[what].append(time.monotonic() - began)
                await self._scroll(study, series)
                await asyncio.sleep(random.uniform(*self._target.pause_s))
                if time.monotonic() > self._until:
                    break
        self._line.close()

    async def _open(self, study: dict[str, list[str]]) -> int | None:
        uid = study["uid"][0]
        if not await self._get(f"/studies?StudyInstanceUID={uid}", JSON):
            return None
        if not await self._get(f"/studies/{uid}/series", JSON):
            return None
        return await self._switch(study, 0)

    async def _switch(self, study: dict[str, list[str]], series: int = 1) -> int | None:
        path = f"/studies/{study['uid'][0]}/series/{study['series'][series]}"
        if not await self._get(f"{path}/metadata", JSON):
            return None
        first = f"{path}/instances/{study['series'][series]}.1/rendered{self._target.first}"
        return series if await self._get(first, "image/jpeg") else None

    async def _scroll(self, study: dict[str, list[str]], series: int) -> None:
        uid = study["series"][series]
        begin = random.randrange(1, max(2, len(study["numbers"]) - BURST))
        for number in range(begin, begin + BURST):
            began = time.monotonic()
            path = f"/studies/{study['uid'][0]}/series/{uid}/instances/{uid}.{number}/frames/1"
            if await self._get(path, self._target.frames):
                self._figures.seconds["image while scrolling"].append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, self._target.scroll_s - (time.monotonic() - began)))

    async def _get(self, path: str, accept: str) -> bool:
        self._figures.requests += 1
        try:
            answer = await asyncio.wait_for(self._line.get(path, accept), 60)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as failure:
            self._figures.errors.append(f"{type(failure).__name__} at {path.rsplit('/', 1)[-1][:30]}")
            self._line.close()
            return False
        self._figures.bytes += len(answer.body)
        if answer.status != 200:
            self._figures.errors.append(f"{answer.status} at {path.rsplit('/', 1)[-1][:30]}")
            return False
        return True


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """The URL of a new database on a server, until the block ends."""
    name = f"viewers_{uuid.uuid4().hex[:8]}"
    admin = create_engine(
        make_url(server).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def load(target: Target, studies: int, slices: int, verify: str | bool) -> Studies:
    """Store the studies, each of two series; returns their UIDs."""
    made = []
    client = requests.Session()
    client.trust_env = False
    for study in range(studies):
        uids = {
            "uid": [f"{ROOT}.{7000 + study}"],
            "series": [],
            "numbers": [str(n) for n in range(1, slices + 1)],
        }
        for series in (1, 2):
            series_uid = f"{ROOT}.{7000 + study}.{series}"
            uids["series"].append(series_uid)
            for ds in ct_series(7000 + study, slices):
                ds.SeriesInstanceUID, ds.SeriesNumber = series_uid, series
                ds.SOPInstanceUID = f"{series_uid}.{ds.InstanceNumber}"
                data = part10(ds)
                boundary = "b0undary"
                body = io.BytesIO()
                body.write(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode())
                body.write(data + f"\r\n--{boundary}--\r\n".encode())
                content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
                headers = {**target.headers, "Accept": JSON, "Content-Type": content_type}
                client.post(
                    f"{target.dicomweb}/studies",
                    data=body.getvalue(),
                    verify=verify,
                    timeout=120,
                    headers=headers,
                ).raise_for_status()
        made.append(uids)
        print(f"  study {study + 1} of {studies} is stored", file=sys.stderr, flush=True)
    return made


async def run(target: Target, studies: Studies, viewers: int, seconds: float, ramp_s: float) -> Figures:
    """Let them all look."""
    figures, until = Figures(), time.monotonic() + ramp_s + seconds
    everybody = [Viewer(target, studies, figures, until) for _ in range(viewers)]
    await asyncio.gather(*(each.watch(ramp_s * at / viewers) for at, each in enumerate(everybody)))
    return figures


def report(target: Target, viewers: int, seconds: float, figures: Figures) -> None:
    """Say what was seen."""
    print(f"\n{target.name}: {viewers} viewers, {seconds:.0f} s")
    a_second, megabytes = figures.requests / seconds, figures.bytes / seconds / 1e6
    print(f"  {figures.requests} requests, {a_second:.0f}/s, {megabytes:.0f} MB/s")
    examples = f", as {sorted(set(figures.errors))[:3]}" if figures.errors else ""
    print(f"  {len(figures.errors)} errors{examples}")
    for what, taken in sorted(figures.seconds.items()):
        taken.sort()
        print(
            f"  {what:<22} n={len(taken):<7} p50 {statistics.median(taken):7.3f} s"
            f"   p95 {taken[int(len(taken) * 0.95)]:7.3f} s   worst {taken[-1]:7.3f} s"
        )


@contextmanager
def cloudfilm_region(folder: Path, database_url: str, webs: int) -> Iterator[tuple[Target, str]]:
    """The region, as a target."""
    with region_in(folder, database_url, webs=webs) as region:
        client = region.client("system/*.cruds user/*.cruds")
        trust = ssl.create_default_context(cafile=str(region.certificate))
        headers = {"Authorization": str(client.headers["Authorization"])}
        name, first = f"cloudfilm, as a region of {webs} web processes", "?viewport=512,512"
        target = Target(name, f"{region.url}/dicomweb", headers, trust, HTJ2K, first)
        yield target, str(region.certificate)


def main() -> None:
    """Measure one after the other."""
    arguments = argparse.ArgumentParser(description="Hundreds of people viewing at once.")
    arguments.add_argument("--viewers", type=int, default=500)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--ramp", type=float, default=10, help="seconds until all have begun")
    arguments.add_argument("--studies", type=int, default=10)
    arguments.add_argument("--slices", type=int, default=60, help="of each of a study's two series")
    arguments.add_argument("--postgresql", default="", help="URL of a server where databases may be made")
    arguments.add_argument("--settle", type=float, default=30, help="seconds that renditions are waited for")
    arguments.add_argument("--webs", type=int, nargs="+", default=[2], choices=(1, 2), help="web processes")
    arguments.add_argument("--hurry", action="store_true", help="nobody thinks between two looks")
    arguments.add_argument("--only", choices=("cloudfilm", "orthanc"), default="")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewers-") as name:
        folder = Path(name)
        for at, webs in enumerate(asked.webs if asked.only != "orthanc" else ()):
            with ExitStack() as stack:
                url = f"sqlite:///{folder}/cloudfilm{at}.db"
                if asked.postgresql:
                    url = stack.enter_context(empty_database(asked.postgresql))
                target, certificate = stack.enter_context(cloudfilm_region(folder / f"region{at}", url, webs))
                studies = load(target, asked.studies, asked.slices, certificate)
                time.sleep(asked.settle)
                target = target.hurried() if asked.hurry else target
                figures = asyncio.run(run(target, studies, asked.viewers, asked.seconds, asked.ramp))
                report(target, asked.viewers, asked.seconds + asked.ramp, figures)
        if asked.only != "cloudfilm":
            with orthanc(folder / "orthanc") as server:
                target = Target("Orthanc", server.dicomweb, {}, None, STORED, "")
                target = target.hurried() if asked.hurry else target
                studies = load(target, asked.studies, asked.slices, False)
                time.sleep(asked.settle)
                figures = asyncio.run(run(target, studies, asked.viewers, asked.seconds, asked.ramp))
                report(target, asked.viewers, asked.seconds + asked.ramp, figures)


if __name__ == "__main__":
    main()
