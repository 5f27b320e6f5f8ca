"""Roles: what one process of cloudfilm can be, and the supervisor that runs all of them on one machine.

Roles talk only through the database, the blobs and the queue, so the same roles run on many machines. Each is
`run(rooms, stop)` and returns when `stop` is set, having finished what it had begun.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from types import FrameType
from typing import Any

from gunicorn.app.base import BaseApplication
from sqlalchemy.orm import configure_mappers

import dimse.server
import hl7_listener.mllp
from access.certificate import server_tls, speaks_tls, web_certificate
from cloudfilm import __version__, push
from cloudfilm.jobs import JOBS, bundle_for
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.subscribers import STORING, subscribers
from cloudfilm.web import create_app
from cloudfilm.web_worker import NOBODY, Connections, WebWorker
from kernel.changes import GivingWay, follow_changes
from kernel.database import DatabaseUnavailable
from kernel.errors import InvalidSetting
from kernel.jobs import Worker, enqueue_scheduled
from kernel.logs import set_up_logs
from kernel.metrics import process_ended, serve_figures, share_figures
from kernel.rq_queue import RqQueue
from kernel.settings import Settings
from kernel.traces import set_up_traces, shut_down_traces

log = logging.getLogger(__name__)

configure_mappers()  # once, before processes are forked, and not in the first request of each

STOP_WITHIN_S = 20.0
RESTART_AFTER_S = 1.0
PR_SET_PDEATHSIG = 1  # prctl(2)
# Of the C library, mallopt(3): frames are read into buffers that are freed at once. Given back to the kernel
# each time, every page of every frame would be a page fault, which costs more than to decrypt it.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}


@dataclass(frozen=True, slots=True)
class Role:
    """A row of the table of roles."""

    name: str
    run: Callable[[Rooms, threading.Event], None]
    processes: Callable[[Settings], int]


def run_web(rooms: Rooms, stop: threading.Event) -> None:
    """Serve HTTP with gunicorn, whose arbiter restarts a worker that dies."""
    settings = rooms.settings
    rooms.close()  # every worker builds its own, after the fork
    connections = Connections()
    options: dict[str, Any] = {
        "bind": f"{settings.web.host}:{settings.web.port}",
        "workers": settings.web.processes,
        "threads": settings.web.threads,
        "worker_class": WebWorker,
        "worker_connections": 2000,
        "backlog": 2048,
        "keepalive": 75,
        "timeout": 300,
        "graceful_timeout": int(STOP_WITHIN_S) - 5,
        "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,  # noqa: S108 - a heartbeat file
        "loglevel": "warning",
        "preload_app": False,
        "worker_exit": lambda _server, _worker: shut_down_traces(),
        "pre_fork": connections.seat,
        "child_exit": lambda _server, worker: _ended(connections, worker),
        "when_ready": lambda arbiter: _limit(arbiter.LISTENERS, settings.web.client_timeout_s),
    }
    if speaks_tls(settings.web):
        paths = web_certificate(settings.web, settings.data_dir)
        authority = settings.web.tls_client_ca
        options |= {
            "certfile": str(paths.certificate),
            "keyfile": str(paths.key),
            "ssl_context": lambda _config, _default: server_tls(paths, authority),
        }
    _Gunicorn(settings, options).run()


def _ended(connections: Connections, worker: WebWorker) -> None:
    connections.tell(worker.seat, NOBODY)
    process_ended(worker.pid)


def _limit(listeners: Iterable[socket.socket], seconds: float) -> None:
    """No client holds a thread by saying or taking nothing: connections have the limits of their listener."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    for listener in listeners:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.setsockopt(socket.SOL_SOCKET, option, limit)


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> Any:
        set_up_traces(
            self._settings.traces, "web", __version__
        )  # after the fork: its thread does not survive it
        app = create_app(build_rooms(self._settings))
        gc.freeze()
        return app


def run_worker(rooms: Rooms, stop: threading.Event) -> None:
    """Run due jobs and let subscribers follow the change feed."""
    following, giving_way = subscribers(rooms), GivingWay(to=STORING)
    worker = Worker(
        rooms.database, rooms.clock, JOBS, lambda job: bundle_for(rooms, job),
        is_still=lambda: giving_way.may_follow(rooms.database),
    )  # fmt: skip
    url = rooms.settings.queue.url
    run_jobs = worker.run_one if url == "table:" else RqQueue(worker, url).run_some
    while not stop.is_set():
        try:
            enqueue_scheduled(rooms.database, rooms.clock, JOBS.values())
            busy = follow_changes(rooms.database, following, giving_way=giving_way) > 0
            busy = run_jobs() or busy
        except DatabaseUnavailable:  # it comes back, or somebody is told by readiness
            busy = False
            stop.wait(2)
        if not busy:
            stop.wait(0.25)


ROLES = {
    role.name: role
    for role in (
        Role("web", run_web, lambda settings: 1),
        Role("dimse", dimse.server.run, lambda settings: settings.dimse.processes),
        Role("mllp", hl7_listener.mllp.run, lambda settings: settings.mllp.processes * settings.mllp.enabled),
        Role("push", push.run, lambda settings: int(settings.push.enabled)),
        Role("worker", run_worker, lambda settings: settings.queue.workers),
    )
}


def run_role(name: str, settings: Settings) -> None:
    """Be one role until told to stop by SIGTERM or SIGINT."""
    set_up_logs(settings.log.level, settings.log.format == "json")
    _allow_open_files()
    stop = threading.Event()
    if name != "web":  # gunicorn sets its own
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        set_up_traces(settings.traces, name, __version__)
    rooms = build_rooms(settings)
    gc.freeze()  # what is there now stays: each full collection would walk it again, for a tenth of a second
    try:
        ROLES[name].run(rooms, stop)
    finally:
        rooms.close()
        shut_down_traces()


def _allow_open_files() -> None:
    """As many as this process may have: a shell allows 1024 at first, and connections and objects that are
    being received are more on a busy day."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def require_free_ports(settings: Settings, roles: tuple[str, ...]) -> None:
    """Raise InvalidSetting for a port that another program listens on, before anything is begun."""
    doors = (  # role, name of the setting, address, port
        ("web", "web.port", settings.web.host, settings.web.port),
        ("push", "push.port", settings.push.host, settings.push.port if settings.push.enabled else 0),
        ("dimse", "dimse.port", settings.dimse.host, settings.dimse.port),
        ("dimse", "dimse.tls_port", settings.dimse.host, settings.dimse.tls_port),
        ("mllp", "mllp.port", settings.mllp.host, settings.mllp.port if settings.mllp.enabled else 0),
    )
    for role, name, host, port in doors:
        if role not in roles or not port:
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as failure:
                remedy = f"{failure.strerror}; stop what listens there, or choose another with CLOUDFILM_"
                raise InvalidSetting(name, port, remedy + name.upper().replace(".", "__")) from None


class Supervisor:
    """Runs every role as child processes, starts again what dies, and stops all in order."""

    def __init__(self, settings: Settings, names: tuple[str, ...] = tuple(ROLES)) -> None:
        self._settings = settings
        # One clean process reads all the code, and every role is a fork of it: a start costs two readings in
        # place of one for each role, and the roles share the memory. It begins with the first role, when
        # the environment (share_figures) is set.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._wanted = [name for name in names for _ in range(ROLES[name].processes(settings))]
        self._children: list[ForkServerProcess | None] = [None] * len(self._wanted)
        self._stop = threading.Event()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` once they run, and return when a signal stopped them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        share_figures(self._settings.data_dir / "run" / "figures")
        for name, value in KEPT_MEMORY.items():
            os.environ.setdefault(name, value)
        if self._settings.metrics.port:
            serve_figures(self._settings.metrics.host, self._settings.metrics.port)
        self._start_missing()
        on_ready()
        while not self._stop.wait(RESTART_AFTER_S):
            self._start_missing()
        self._stop_all()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _start_missing(self) -> None:
        for at, name in enumerate(self._wanted):
            child = self._children[at]
            if child is None or not child.is_alive():
                if child is not None:
                    process_ended(child.pid or 0)
                    log.error("role %s ended with code %s; starting it again", name, child.exitcode)
                child = self._context.Process(
                    target=_child, args=(name, self._settings), name=f"cloudfilm {name}"
                )
                child.start()
                self._children[at] = child

    def _stop_all(self) -> None:
        alive = [child for child in self._children if child is not None and child.is_alive()]
        for child in alive:
            child.terminate()
        deadline = time.monotonic() + STOP_WITHIN_S
        for child in alive:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                log.error("%s did not stop in time and is killed", child.name)
                child.kill()
                child.join()


def _child(name: str, settings: Settings) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which stops its children in order
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # nor does it outlive the fork server
    try:
        run_role(name, settings)
    except KeyboardInterrupt:
        sys.exit(0)


def _end_with_supervisor() -> None:
    """Ask this process to stop when the supervisor is gone, however it went."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
