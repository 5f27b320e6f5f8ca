"""Liveness, readiness and metrics: what a load balancer, an orchestrator and Prometheus ask.

Readiness tells the truth: the database answers, the schema is one that this code serves, storage takes data.
"""

import threading
import time
from collections.abc import Iterator
from datetime import datetime

from flask import Blueprint, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.changed_rows import alarmed as alarmed_rows
from access.mass_browsing import alarmed
from access.site import UNREVIEWED_GLASS
from archive.blobs.store import StorageUnavailable
from archive.copies import copy_study
from archive.model import Hold
from archive.room import Archive
from archive.scrub import DamagedObject
from archive.space import room_left
from cloudfilm.backup_model import BackupRun
from cloudfilm.certificates import ends_at, shown_certificates
from cloudfilm.migrate import expected_revision, is_usable, schema_revision
from cloudfilm.rooms import Rooms
from cloudfilm.subscribers import subscribers
from kernel.changes import unread_changes
from kernel.database import DatabaseUnavailable, NamesUnderWay
from kernel.http import room
from kernel.jobs import JobRow, declared
from kernel.metrics import HTTP_REQUESTS, HTTP_SECONDS, exposition
from kernel.traces import ROUTE, is_tracing

blp = Blueprint("health", __name__)


@blp.get("/healthz")
def healthz() -> Response:
    """Whether this process runs."""
    return Response("ok\n", mimetype="text/plain")


@blp.get("/readyz")
def readyz() -> Response:
    """Whether this process can serve now; 503 with the reasons when not."""
    reasons = room(Readiness).reasons_against()
    return Response(
        "ready\n" if not reasons else "\n".join(reasons) + "\n",
        503 if reasons else 200,
        mimetype="text/plain",
    )


CHECKED_FOR_S = 2.0  # however often balancers ask


class Readiness:
    """Whether this host can serve, looked at anew every other second at most."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._checked_at = float("-inf")
        self._reasons: list[str] = []

    def reasons_against(self) -> list[str]:
        """Why it cannot: nothing when it can."""
        if time.monotonic() - self._checked_at > CHECKED_FOR_S:
            self._reasons = [reason for check in (_database, _storage) for reason in check(self._archive)]
            self._checked_at = time.monotonic()
        return self._reasons


def _database(archive: Archive) -> Iterator[str]:
    if not archive.database.is_alive():
        yield "the database does not answer"
        return
    found = schema_revision(archive.database)
    if not is_usable(found):
        yield f"the schema is at {found} and this code wants {expected_revision()}"
        return
    try:
        archive.database.veils_names()
    except NamesUnderWay as reason:
        yield str(reason)


def _storage(archive: Archive) -> Iterator[str]:
    try:
        archive.blobs.store.check()
    except StorageUnavailable as failure:
        yield str(failure)
    free = archive.blobs.store.free_bytes()
    if free is not None and free < archive.blobs.settings.free_bytes:
        yield "the storage is full"


@blp.get("/metrics")
def metrics() -> Response:
    """Figures of this host's processes, and of the archive, for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_ArchiveFigures(room(Rooms)))
    return Response(exposition() + generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _ArchiveFigures(Collector):
    """Counted when asked, at most every few seconds."""

    _held: tuple[float, list[Metric]] | None = None
    _lock = threading.Lock()

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            held = type(self)._held
            if held is None or time.monotonic() - held[0] > 5:
                held = (time.monotonic(), self._figures())
                type(self)._held = held
        yield from held[1]

    def _figures(self) -> list[Metric]:
        figures: list[Metric] = []
        up = GaugeMetricFamily("cloudfilm_database_up", "Whether the database answers", value=1)
        try:
            with self._rooms.database.snapshot() as session:
                for name, help_text, statement in COUNTED:
                    figures.append(GaugeMetricFamily(name, help_text, value=session.scalar(statement) or 0))
                figures += self._ages(session)
            unread = unread_changes(self._rooms.database, subscribers(self._rooms))
            figures.append(
                GaugeMetricFamily(
                    "cloudfilm_changes_unread", "Changes that wait for a follower", value=unread
                )
            )
        except DatabaseUnavailable:
            up = GaugeMetricFamily("cloudfilm_database_up", "Whether the database answers", value=0)
        left = GaugeMetricFamily("cloudfilm_storage_free_bytes", "Room left in a store", labels=["store"])
        for store, free in room_left(self._rooms.archive).items():
            left.add_metric([store], free)
        return [up, left, *figures, self._certificates(), *self._revocation_lists()]

    def _certificates(self) -> Metric:
        ends = GaugeMetricFamily(
            "cloudfilm_certificate_ends_timestamp_seconds",
            "When a certificate that this host shows ends; 0: it cannot be read",
            labels=["setting"],
        )
        for setting, path in shown_certificates(self._rooms.settings).items():
            try:
                ends.add_metric([setting], ends_at(path).timestamp())
            except (OSError, ValueError):
                ends.add_metric([setting], 0)
        return ends

    def _revocation_lists(self) -> Iterator[Metric]:
        revocations, now = self._rooms.access.revocations, self._rooms.clock.now()
        yield GaugeMetricFamily(
            "cloudfilm_revocation_list_complaints",
            "Lists of revoked certificates that are wanting, or soon will be",
            value=sum(1 for _ in revocations.complaints(now)),
        )
        ends = GaugeMetricFamily(
            "cloudfilm_revocation_list_ends_timestamp_seconds", "When an authority's list ends; 0: none",
            labels=["issuer"],
        )  # fmt: skip
        for state in revocations.states(now):
            ends.add_metric([state.issuer], state.ends_at.timestamp() if state.ends_at else 0)
        yield ends

    def _ages(self, session: Session) -> Iterator[Metric]:
        now = self._rooms.clock.now()
        yield GaugeMetricFamily(
            "cloudfilm_mass_browsing", "People and apps that read of unusually many patients within the hour",
            value=alarmed(session, now),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "cloudfilm_changed_rows", "Accounts, apps and nodes that were changed outside of cloudfilm",
            value=alarmed_rows(session, now),
        )  # fmt: skip
        due = session.scalar(select(func.min(JobRow.due)).where(~JobRow.dead, JobRow.due <= now))
        yield GaugeMetricFamily(
            "cloudfilm_oldest_job_seconds", "For how long the oldest due job waits", value=_age_s(now, due)
        )
        queued = session.scalar(
            select(func.min(JobRow.queued_at)).where(JobRow.name == declared(copy_study).name, ~JobRow.dead)
        )
        yield GaugeMetricFamily(
            "cloudfilm_copy_lag_seconds", "How far behind the copies are", value=_age_s(now, queued)
        )
        for kind in ("backup", "drill"):
            began = session.scalar(
                select(func.max(BackupRun.began_at)).where(BackupRun.kind == kind, BackupRun.good)
            )
            if began is not None:
                yield GaugeMetricFamily(
                    f"cloudfilm_last_{kind}_timestamp_seconds", f"When the last good {kind} began",
                    value=began.timestamp(),
                )  # fmt: skip


COUNTED = (
    (
        "cloudfilm_held",
        "Objects held for review",
        select(func.count(Hold.id)).where(Hold.resolved_at.is_(None)),
    ),
    ("cloudfilm_jobs_waiting", "Jobs that wait or run", select(func.count(JobRow.id)).where(~JobRow.dead)),
    ("cloudfilm_jobs_dead", "Jobs given up", select(func.count(JobRow.id)).where(JobRow.dead)),
    (
        "cloudfilm_damaged_objects",
        "Objects that no store has whole",
        select(func.count(DamagedObject.blob_key)),
    ),
    ("cloudfilm_glass_unreviewed", "Emergency accesses that wait for a review", UNREVIEWED_GLASS),
)


def _age_s(now: datetime, then: datetime | None) -> float:
    return max(0.0, (now - then).total_seconds()) if then is not None else 0.0


def before_request() -> None:
    """Note when a request began."""
    g.began = time.perf_counter()
    if is_tracing():
        request.environ[ROUTE] = str(request.url_rule or "")


def after_request(answer: Response) -> Response:
    """Count it, by door and status."""
    door = request.blueprint or "none"
    HTTP_REQUESTS.labels(door, str(answer.status_code)).inc()
    if "began" in g:
        HTTP_SECONDS.labels(door).observe(time.perf_counter() - g.began)
    return answer
