"""Figures of what all processes of a host do, for Prometheus.

Each process counts into files of its own below one folder of the host, and whoever is asked adds them up, so
it does not matter which of the processes answers. The folder is named in the environment before this module
is loaded, for the library decides then where its values live (`share_figures`); without one, as in tests and
commands, a process counts for itself alone.
"""

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SHORT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
LONG_S = (0.01, 0.1, 1, 10, 60, 600, 3600)

REGISTRY = CollectorRegistry()

HTTP_REQUESTS = Counter("cloudfilm_http_requests", "Answered requests", ["door", "status"], registry=REGISTRY)
HTTP_SECONDS = Histogram(
    "cloudfilm_http_seconds",
    "Time to the first byte of an answer",
    ["door"],
    registry=REGISTRY,
    buckets=SHORT_S,
)
INSTANCES_INGESTED = Counter(
    "cloudfilm_instances_ingested", "Instances received whole", ["door", "outcome"], registry=REGISTRY
)
BYTES_INGESTED = Counter("cloudfilm_bytes_ingested", "Bytes of those instances", ["door"], registry=REGISTRY)
ASSOCIATIONS = Counter("cloudfilm_associations", "DICOM associations", ["outcome"], registry=REGISTRY)
DIMSE_REQUESTS = Counter(
    "cloudfilm_dimse_requests", "Requests received on associations", ["operation"], registry=REGISTRY
)
JOBS = Counter("cloudfilm_jobs_run", "Jobs that ended", ["name", "outcome"], registry=REGISTRY)
JOB_SECONDS = Histogram(
    "cloudfilm_job_seconds", "Running time of jobs", ["name"], registry=REGISTRY, buckets=LONG_S
)


def share_figures(folder: Path) -> None:
    """Let the processes that are started from here count together.

    What processes that are gone left behind is removed, unless another supervisor's live ones are among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    for file in folder.glob("*.db"):
        if not Path(f"/proc/{file.stem.rpartition('_')[2]}").exists():
            with suppress(FileNotFoundError):
                file.unlink()


def process_ended(pid: int) -> None:
    """A process that counted is gone: its sums stay, its momentary values go."""
    if FOLDER in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def exposition() -> bytes:
    """All figures of this host's processes in Prometheus' text format."""
    return generate_latest(_of_all_processes())


def serve_figures(host: str, port: int) -> None:
    """Answer Prometheus on a port of its own, in a thread, for a host that runs no web role."""
    start_http_server(port, host, _of_all_processes())


def _of_all_processes() -> CollectorRegistry:
    if FOLDER not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together
