"""From a modality to a screen, cloudfilm and Orthanc in turn on the same machine:

    python -m benchmarks.spine [--studies 20000] [--seconds 5] [--only cloudfilm|orthanc] [--tiny]
                               [--folder /tmp/bench]

Needs dcmtk's storescu and wrk; Orthanc with its DICOMweb plugin (apt-get install dcmtk wrk orthanc
orthanc-dicomweb). Prints a table in Markdown.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from benchmarks.servers import SERVERS, Server
from benchmarks.studies import ROOT, part10, tiny_studies, write_series

Figures = dict[str, str]
JSON = "application/dicom+json"
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
SLICES = 300
BOUNDARY = "0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1"  # as long as clients make theirs
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(SERVERS))
    parser.add_argument("--tiny", action="store_true", help="store the tiny studies, and nothing else")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-bench-"))
    series = [] if asked.tiny else [write_series(folder / "data", study) for study in range(1, 5)]
    results: dict[str, Figures] = {}
    for name, start in SERVERS.items():
        if asked.only in (None, name):
            with start(folder / f"{name}-{int(time.time())}") as server:
                if asked.tiny:
                    results[server.name] = store_tiny(server, asked.studies)
                else:
                    results[server.name] = measure(server, series, asked.studies, asked.seconds)
    print_table(results)


def measure(server: Server, series: list[Path], studies: int, seconds: int) -> Figures:
    """All figures of one server, which begins empty."""
    figures: Figures = {}
    figures["C-STORE, 1 association"] = rate(c_store(server, [sorted(series[0].iterdir())]))
    files = sorted(series[1].iterdir())
    figures["C-STORE, 4 associations"] = rate(c_store(server, [files[at::4] for at in range(4)]))
    figures["STOW-RS, 1 client, 10 a request"] = rate(stow(server, [sorted(series[2].iterdir())]))
    files = sorted(series[3].iterdir())
    figures["STOW-RS, 4 clients, 10 a request"] = rate(stow(server, [files[at::4] for at in range(4)]))
    time.sleep(15)  # studies come to rest
    figures |= read(server, seconds)
    figures |= store_tiny(server, studies)
    figures |= query(server, seconds)
    return figures


def rate(seconds: float) -> str:
    """Instances a second, of a series."""
    return f"{SLICES / seconds:.0f}/s"


def c_store(server: Server, parts: list[list[Path]]) -> float:
    """Seconds to send the files over as many associations as there are parts."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    began = time.monotonic()
    running = [
        subprocess.Popen(
            ["/usr/bin/storescu", "-aec", server.ae_title, "-aet", "BENCH", "127.0.0.1",
             str(server.dicom_port), *map(str, part)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for part in parts
    ]  # fmt: skip
    assert all(process.wait() == 0 for process in running), "storescu failed"
    return time.monotonic() - began


def stow(server: Server, parts: list[list[Path]]) -> float:
    """Seconds to store the files, ten in a request, by as many clients as there are parts."""
    bodies = [
        [multipart([path.read_bytes() for path in part[at : at + 10]]) for at in range(0, len(part), 10)]
        for part in parts
    ]
    return send(server, bodies)


def multipart(objects: list[bytes]) -> bytes:
    """A STOW-RS body."""
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + each for each in objects) + f"\r\n--{BOUNDARY}--\r\n".encode()


def send(server: Server, bodies: list[list[bytes]]) -> float:
    """Seconds to post every body, one client for each list."""
    failures: list[str] = []

    def work(mine: list[bytes]) -> None:
        with requests.Session() as client:
            client.trust_env = False
            client.headers.update(server.headers)
            for body in mine:
                answer = client.post(
                    f"{server.dicomweb}/studies", data=body,
                    headers={"Content-Type": MULTIPART, "Accept": JSON},
                )  # fmt: skip
                if answer.status_code != 200:
                    failures.append(f"{answer.status_code} {answer.text[:200]}")

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(mine,)) for mine in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return time.monotonic() - began


def store_tiny(server: Server, studies: int) -> Figures:
    """The row of tiny studies."""
    return {f"STOW-RS of {studies} tiny studies, 4 clients": f"{studies / fill(server, studies):.0f}/s"}


def fill(server: Server, studies: int) -> float:
    """Seconds to store many tiny studies, fifty in a request, by four clients; they are made before."""
    lists: list[list[bytes]] = [[], [], [], []]
    batch: list[bytes] = []
    for number, ds in enumerate(tiny_studies(studies), 1):
        batch.append(part10(ds))
        if len(batch) == 50 or number == studies:
            lists[number // 50 % 4].append(multipart(batch))
            batch = []
    return send(server, lists)


def read(server: Server, seconds: int) -> Figures:
    """Metadata, frames and the first image of a series."""
    study = f"{server.dicomweb}/studies/{ROOT}.1"
    series = f"{study}/series/{ROOT}.1.1"
    client = requests.Session()
    client.trust_env = False
    client.headers.update(server.headers)

    def metadata() -> None:
        answer = client.get(
            f"{series}/metadata", headers={"Accept": JSON, "Accept-Encoding": "gzip"}, stream=True
        )
        assert answer.status_code == 200, answer.status_code
        answer.raw.read(decode_content=False)

    frames = [f"{series}/instances/{ROOT}.1.1.{number}/frames/1" for number in range(1, SLICES + 1)]
    figures = {f"series metadata, {SLICES} instances, p50": milliseconds(metadata)}
    figures["series metadata, 16 connections"] = wrk(
        server, [f"{series}/metadata"], 16, seconds, JSON, gzip=True
    )
    for connections in (1, 16, 64, 500):
        figures[f"frames of 512 KiB, {connections} connections"] = wrk(
            server, frames, connections, seconds, FRAMES
        )

    def first_image() -> None:
        with requests.Session() as visitor:
            visitor.trust_env = False
            visitor.headers.update(server.headers)
            visitor.get(
                f"{server.dicomweb}/studies",
                params={"StudyInstanceUID": f"{ROOT}.1"},
                headers={"Accept": JSON},
            )
            visitor.get(f"{study}/series", headers={"Accept": JSON})
            answer = visitor.get(f"{series}/metadata", headers={"Accept": JSON}, stream=True)
            answer.raw.read(decode_content=False)
            assert visitor.get(frames[0], headers={"Accept": FRAMES}).status_code == 200

    figures["first image from nothing, p50"] = milliseconds(first_image)
    return figures


def query(server: Server, seconds: int) -> Figures:
    """QIDO-RS on the full index."""
    cases = {
        "recent, page of 50": "limit=50",
        "name prefix": "PatientName=Zhang*&limit=50",
        "date range": "StudyDate=20240101-20240331&limit=50",
        "patient id": "PatientID=P00500001",
    }
    client = requests.Session()
    client.trust_env = False
    client.headers.update(server.headers | {"Accept": JSON})
    figures = {}
    for name, asked in cases.items():
        url = f"{server.dicomweb}/studies?{asked}"

        def ask(url: str = url) -> None:
            assert client.get(url).status_code in (200, 204), url

        figures[f"QIDO-RS, {name}, p50"] = milliseconds(ask)
    urls = [f"{server.dicomweb}/studies?{asked}" for asked in cases.values()]
    figures["QIDO-RS mix, 16 connections"] = wrk(server, urls, 16, seconds, JSON)
    return figures


def milliseconds(act: Callable[[], None], repeats: int = 15) -> str:
    """The median time of an act, after one that is not counted."""
    act()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return f"{statistics.median(times) * 1000:.1f} ms"


SCRIPT = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
local at = 0
request = function() at = at %% #paths + 1; return wrk.format("GET", paths[at]) end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT {\\"n\\": %%d, \\"us\\": %%d, \\"p95\\": %%d, \\"bad\\": %%d}\\n",
  summary.requests, summary.duration,
    latency:percentile(95), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk(
    server: Server, urls: list[str], connections: int, seconds: int, accept: str, gzip: bool = False
) -> str:
    """Requests a second over some connections, with errors where there are any."""
    host = "/".join(server.dicomweb.split("/")[:3])
    with tempfile.TemporaryDirectory() as scratch:
        paths, script = Path(scratch, "paths"), Path(scratch, "script.lua")
        paths.write_text("\n".join(url.removeprefix(host) for url in urls))
        script.write_text(SCRIPT % paths)
        headers = server.headers | {"Accept": accept} | ({"Accept-Encoding": "gzip"} if gzip else {})
        options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        done = subprocess.run(
            ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s",
             str(script), *options, host],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    match = re.search(r"RESULT (\{.*\})", done.stdout)
    if match is None:
        return "failed"
    result = json.loads(match[1])
    errors = f", {result['bad']} errors" if result["bad"] else ""
    return f"{result['n'] / result['us'] * 1e6:.0f}/s (p95 {result['p95'] / 1000:.0f} ms{errors})"


def print_table(results: dict[str, Figures]) -> None:
    """The figures side by side."""
    names = list(results)
    print(f"| task | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for task in next(iter(results.values())):
        print(f"| {task} | {' | '.join(results[name].get(task, '-') for name in names)} |")


if __name__ == "__main__":
    main()
