"""Liveness, readiness and metrics: what a load balancer, an orchestrator and Prometheus ask.

Readiness tells the truth: the database answers, the schema is the one this code knows, storage takes data.
"""

import threading
import time
from collections.abc import Iterator

from flask import Blueprint, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from archive.model import Hold, Instance, Study
from archive.room import Archive
from kernel.database import DatabaseUnavailable
from kernel.http import room
from kernel.jobs import JobRow

blp = Blueprint("health", __name__)

REGISTRY = CollectorRegistry()
REQUESTS = Counter("cloudfilm_http_requests", "Answered requests", ["door", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "cloudfilm_http_seconds",
    "Time to the first byte of an answer",
    ["door"],
    registry=REGISTRY,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)


@blp.get("/healthz")
def healthz() -> Response:
    """Whether this process runs."""
    return Response("ok\n", mimetype="text/plain")


@blp.get("/readyz")
def readyz() -> Response:
    """Whether this process can serve now; 503 with the reasons when not."""
    reasons = unready(room(Archive))
    return Response(
        "ready\n" if not reasons else "\n".join(reasons) + "\n",
        503 if reasons else 200,
        mimetype="text/plain",
    )


def unready(archive: Archive) -> list[str]:
    """Why this host cannot serve: nothing when it can."""
    reasons = []
    if not archive.database.is_alive():
        reasons.append("the database does not answer")
    free = archive.blobs.store.free_bytes()
    if free is not None and free < archive.blobs.settings.free_bytes:
        reasons.append("the storage is full")
    return reasons


@blp.get("/metrics")
def metrics() -> Response:
    """Figures of this process, and of the archive, for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_ArchiveFigures(room(Archive)))
    return Response(generate_latest(REGISTRY) + generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _ArchiveFigures(Collector):
    """Counted when asked, at most every few seconds."""

    _held: tuple[float, list[Metric]] | None = None
    _lock = threading.Lock()

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            held = type(self)._held
            if held is None or time.monotonic() - held[0] > 5:
                held = (time.monotonic(), self._figures())
                type(self)._held = held
        yield from held[1]

    def _figures(self) -> list[Metric]:
        counted = {
            "cloudfilm_studies": ("Studies in the archive", select(func.count(Study.id))),
            "cloudfilm_instances": ("Instances in the archive", select(func.count(Instance.id))),
            "cloudfilm_held": (
                "Objects held for review",
                select(func.count(Hold.id)).where(Hold.resolved_at.is_(None)),
            ),
            "cloudfilm_jobs_waiting": (
                "Jobs that wait or run",
                select(func.count(JobRow.id)).where(~JobRow.dead),
            ),
            "cloudfilm_jobs_dead": ("Jobs given up", select(func.count(JobRow.id)).where(JobRow.dead)),
        }
        figures: list[Metric] = []
        try:
            with self._archive.database.snapshot() as session:
                for name, (text, statement) in counted.items():
                    figures.append(GaugeMetricFamily(name, text, value=session.scalar(statement) or 0))
        except DatabaseUnavailable:
            figures.append(
                GaugeMetricFamily("cloudfilm_database_up", "Whether the database answers", value=0)
            )
        free = self._archive.blobs.store.free_bytes()
        if free is not None:
            figures.append(GaugeMetricFamily("cloudfilm_storage_free_bytes", "Room left", value=free))
        return figures


def before_request() -> None:
    """Note when a request began."""
    g.began = time.perf_counter()


def after_request(answer: Response) -> Response:
    """Count it, by door and status."""
    door = request.blueprint or "none"
    REQUESTS.labels(door, str(answer.status_code)).inc()
    if "began" in g:
        SECONDS.labels(door).observe(time.perf_counter() - g.began)
    return answer
