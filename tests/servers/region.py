"""A region on one machine: the processes that docker/compose.yaml starts as containers, started without any.

PostgreSQL, Redis, an S3-compatible store, two web processes behind nginx with TLS and HTTP/2, DIMSE, MLLP and
two workers, each a server of its own with nothing in common but what many machines would have in common.
"""

import os
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests
from sqlalchemy import make_url

from access.certificate import ensure_certificate
from tests.servers.network import Apart, machine_apart
from tests.servers.redis import RedisServer, redis_in
from tests.servers.seaweedfs import ObjectStore, object_store_in

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "docker" / "nginx.conf.template"
READY_WITHIN_S = 300.0


@dataclass
class Part:
    """One server of the region: `cloudfilm serve ROLES` with settings of its own."""

    name: str
    roles: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    prefix: tuple[str, ...] = ()  # of the command: where it runs
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "cloudfilm", "serve", "--no-sample", *self.roles],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End all of its processes at once, as a machine that loses power."""
        if self.process is None:
            return
        for each in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(each.pid) == self.process.pid:
                    each.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to stop, as an upgrade does, and wait until it has."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)
            self.kill()


@dataclass
class Region:
    """All of it, running."""

    folder: Path
    https_port: int
    web_urls: tuple[str, ...]
    dicom_port: int
    mllp_port: int
    certificate: Path
    environment: dict[str, str]
    redis: RedisServer
    objects: ObjectStore
    nginx: subprocess.Popen[bytes]
    apart: Apart | None = None  # the machine of web2 and worker2, where it is a machine of its own
    parts: dict[str, Part] = field(default_factory=dict)

    def set_clock(self, minutes: int) -> None:
        """Let the clock of the machine apart be wrong by so many minutes."""
        partial = self.folder / "clock.new"
        partial.write_text(str(minutes))
        partial.replace(self.folder / "clock")

    @property
    def url(self) -> str:
        """Where nginx answers."""
        return f"https://localhost:{self.https_port}"

    def command(self, *arguments: str) -> str:
        """Run one `cloudfilm` command with the region's settings."""
        done = subprocess.run(
            [sys.executable, "-m", "cloudfilm", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def client(self, scope: str = "system/*.cruds") -> requests.Session:
        """An HTTP client with a token, that trusts the region's certificate."""
        client = requests.Session()
        client.trust_env = False
        client.verify = str(self.certificate)
        client.headers["Authorization"] = f"Bearer {self.command('token', '--scope', scope).split()[-1]}"
        return client

    def wait_until_ready(self) -> None:
        """Until every web process says that it is ready, and nginx passes it on."""
        urls = [f"{url}/readyz" for url in self.web_urls] + [f"{self.url}/readyz"]
        deadline = time.monotonic() + READY_WITHIN_S
        while urls:
            if time.monotonic() > deadline:
                raise AssertionError(f"{urls} not ready:\n" + self.logs())
            with suppress(requests.RequestException):
                if requests.get(urls[0], timeout=5, verify=str(self.certificate)).ok:
                    urls.pop(0)
                    continue
            time.sleep(0.2)
        for port in (self.dicom_port, self.mllp_port):
            while not _listens(port):
                if time.monotonic() > deadline:
                    raise AssertionError(f"nobody listens at {port}:\n" + self.logs())
                time.sleep(0.2)

    def logs(self) -> str:
        """What all of it has said."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text('utf-8', errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


@contextmanager
def region_in(
    folder: Path, database_url: str, *, is_apart: bool = False, webs: int = 2, **settings: str
) -> Iterator[Region]:
    """A region with its data below this folder, until the block ends.

    is_apart: web2 and worker2 run on a machine of their own, with a cable and a clock of its own. Needs root.
    webs: how many web processes, one or two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_in(folder / "redis"))
        objects = stack.enter_context(object_store_in(folder / "objects"))
        objects.make_bucket("cloudfilm")
        https_port, http_port, web1, web2, dicom_port, mllp_port, push_port = _free_ports(7)
        certificate = ensure_certificate(folder / "tls", "localhost")
        shared = folder / "secrets"  # the key ring, which every machine is given
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLOUDFILM_")},
            "PYTHONPATH": str(ROOT),
            "CLOUDFILM_DATABASE__URL": database_url,
            "CLOUDFILM_BLOBS__URL": objects.url("cloudfilm"),
            "CLOUDFILM_QUEUE__URL": redis.url,
            "CLOUDFILM_CACHE__URL": redis.url.removesuffix("0") + "1",
            "CLOUDFILM_WEB__PUBLIC_URL": f"https://localhost:{https_port}",
            "CLOUDFILM_WEB__TRUSTED_PROXIES": "127.0.0.0/8",
            "CLOUDFILM_WEB__HAND_OVER_FILES": "true",
            "CLOUDFILM_WEB__PROCESSES": "1",
            "CLOUDFILM_DIMSE__PORT": str(dicom_port),
            "CLOUDFILM_MLLP__PORT": str(mllp_port),
            **settings,
        }

        database_port = make_url(database_url).port or 5432
        ports = (redis.port, objects.port, database_port)
        apart = stack.enter_context(machine_apart(ports)) if is_apart else None
        second = apart.there if apart else "127.0.0.1"
        elsewhere = _seen_from(apart, environment, folder / "clock") if apart else {}

        def on_machine(name: str, **more: str) -> dict[str, str]:
            data_dir = folder / name
            data_dir.mkdir(exist_ok=True)
            if not (data_dir / "keys").exists():
                (data_dir / "keys").symlink_to(shared)
            return {**environment, "CLOUDFILM_DATA_DIR": str(data_dir), **more}

        shared.mkdir(exist_ok=True)
        admin = on_machine("admin")
        nginx = _start_nginx(
            folder,
            {
                "WEB_SERVERS": " ".join(
                    (f"server 127.0.0.1:{web1} max_fails=0;", f"server {second}:{web2} max_fails=0;")[:webs]
                ),
                "PUSH_SERVERS": f"server 127.0.0.1:{push_port};",
                "SERVER_NAME": "localhost",
                "CERTIFICATE": str(certificate.certificate),
                "CERTIFICATE_KEY": str(certificate.key),
                "STATIC": str(ROOT / "portal" / "static"),
                "LISTEN_HTTPS": str(https_port),
                "LISTEN_HTTP": str(http_port),
            },
        )
        stack.callback(_end, nginx)
        region = Region(
            folder,
            https_port,
            (f"http://127.0.0.1:{web1}", f"http://{second}:{web2}")[:webs],
            dicom_port,
            mllp_port,
            certificate.certificate,
            admin,
            redis,
            objects,
            nginx,
            apart,
        )
        region.command("migrate")
        machines = {
            "web1": (("web",), {"CLOUDFILM_WEB__PORT": str(web1)}),
            "web2": (("web",), {"CLOUDFILM_WEB__PORT": str(web2), **elsewhere}),
            "push": (("push",), {"CLOUDFILM_PUSH__PORT": str(push_port)}),
            "doors": (("dimse", "mllp"), {}),
            "worker1": (("worker",), {}),
            "worker2": (("worker",), elsewhere),
        }
        if webs < 2:
            del machines["web2"]
        for name, (roles, more) in machines.items():
            prefix = tuple(apart.command) if apart and more.items() >= elsewhere.items() else ()
            region.parts[name] = Part(name, roles, on_machine(name, **more), folder, prefix)
            region.parts[name].start()
            stack.callback(region.parts[name].kill)
        region.wait_until_ready()
        yield region


def _seen_from(apart: Apart, environment: Mapping[str, str], clock: Path) -> dict[str, str]:
    """The settings of the machine apart: this one's loopback is behind its cable there."""
    clock.write_text("0")
    shared = (
        "CLOUDFILM_DATABASE__URL",
        "CLOUDFILM_BLOBS__URL",
        "CLOUDFILM_QUEUE__URL",
        "CLOUDFILM_CACHE__URL",
    )
    return {name: environment[name].replace("127.0.0.1", apart.here) for name in shared} | {
        "CLOUDFILM_WEB__HOST": apart.there,
        "CLOUDFILM_WEB__TLS": "off",
        "CLOUDFILM_WEB__TRUSTED_PROXIES": f"{apart.here}/32",
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent / 'jumping_clock'}",
        "JUMPING_CLOCK": str(clock),
    }


def _start_nginx(folder: Path, values: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # As envsubst: only the names that are given are places, so that nginx's own variables stay.
    server = TEMPLATE.read_text()
    for name, value in values.items():
        server = server.replace("${" + name + "}", value)
    main = string.Template(
        "daemon off; worker_processes 1; pid $folder/nginx.pid; error_log $folder/nginx.log warn;\n"
        "events { worker_connections 4096; }\n"
        "http { include /etc/nginx/mime.types; client_body_temp_path $folder/b; proxy_temp_path $folder/p;\n"
        "fastcgi_temp_path $folder/f; uwsgi_temp_path $folder/u; scgi_temp_path $folder/s;\n$server\n}"
    )
    server = server.replace("/var/log/nginx/access.log", str(folder / "access.log"))
    path = folder / "nginx.conf"
    path.write_text(main.substitute(folder=folder, server=server))
    return subprocess.Popen(
        ["nginx", "-e", str(folder / "nginx.log"), "-c", str(path)], stdin=subprocess.DEVNULL
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    process.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
