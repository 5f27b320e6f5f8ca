"""C-STORE, C-GET and C-FIND, cloudfilm and Orthanc in turn on the same machine, by dcmtk's own programs:

    python -m benchmarks.dimse [--studies 20000] [--slices 300] [--only cloudfilm|orthanc] [--folder X]

Needs dcmtk, and Orthanc (apt-get install dcmtk orthanc orthanc-dicomweb). Prints a table in Markdown.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.servers import SERVERS, Server
from benchmarks.spine import Figures, fill, print_table
from benchmarks.studies import ROOT, write_series

DCMTK = "/usr/bin/"  # pynetdicom installs scripts of the same names elsewhere
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20000)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--only", choices=sorted(SERVERS))
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-bench-"))
    series = [write_series(folder / "data", study, asked.slices) for study in range(1, 4)]
    results: dict[str, Figures] = {}
    for name, start in SERVERS.items():
        if asked.only in (None, name):
            with start(folder / f"{name}-{int(time.time())}") as server:
                results[server.name] = measure(server, series, asked.studies, folder)
    print_table(results)


def measure(server: Server, series: list[Path], studies: int, folder: Path) -> Figures:
    """All figures of one server, which begins empty."""
    figures: Figures = {}
    for files, associations in zip(series, (1, 4, 16), strict=True):
        paths = sorted(files.iterdir())
        parts = [paths[at::associations] for at in range(associations)]
        seconds = together([["storescu", *at(server), *map(str, part)] for part in parts if part])
        figures[f"C-STORE, {associations} associations"] = f"{len(paths) / seconds:.0f}/s"
    slices = len(list(series[0].iterdir()))
    size = sum(path.stat().st_size for path in series[0].iterdir()) / 1e6
    target = Path(tempfile.mkdtemp(prefix="received-", dir=folder))
    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={ROOT}.1"]
    get = ["getscu", "-S", *at(server), *keys, "-k", f"SeriesInstanceUID={ROOT}.1.1"]
    for name, options in (
        ("written by getscu", ["+B", "-od", str(target)]),
        ("not written", ["--ignore"]),
        ("PDUs of 128 KiB, not written", ["--ignore", "-pdu", "131072"]),
    ):
        seconds = median([[*get, *options]], 3)
        figures[f"C-GET, {slices} slices, {name}"] = f"{slices / seconds:.0f}/s, {size / seconds:.0f} MB/s"
    fill(server, studies)
    cases = {
        "one patient": ("PatientID=P00500001",),
        "name prefix": ("PatientName=Zhang^Wei1*",),
        "date range of a month": ("StudyDate=20240101-20240131",),
        "all": (),
    }
    for name, case in cases.items():
        asked = ["QueryRetrieveLevel=STUDY", *RETURNED, *case]
        options = [part for key in asked for part in ("-k", key)]
        seconds = median([["findscu", "-S", *at(server), *options]], 3)
        figures[f"C-FIND of {studies} studies, {name}"] = f"{seconds * 1000:.0f} ms"
    return figures


RETURNED = (
    "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime",
    "AccessionNumber", "StudyDescription", "ModalitiesInStudy",
)  # fmt: skip


def at(server: Server) -> list[str]:
    """The arguments that name a server."""
    return ["-aet", "BENCH", "-aec", server.ae_title, "127.0.0.1", str(server.dicom_port)]


def median(commands: list[list[str]], repeats: int) -> float:
    """The median of some runs."""
    return statistics.median(together(commands) for _ in range(repeats))


def together(commands: list[list[str]]) -> float:
    """Seconds until all of dcmtk's programs that were started at once have ended well."""
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [DCMTK + command[0], *command[1:]],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    failed = [process.args for process in running if process.wait() != 0]
    assert not failed, f"failed: {failed[0]!r}"
    return time.monotonic() - began


if __name__ == "__main__":
    main()
