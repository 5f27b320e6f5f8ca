"""SeaweedFS: a real S3-compatible object store, from its wheel, without being root."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import obstore
import requests
from obstore.store import S3Store as Bucket

WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin") or "weed"
ACCESS_KEY, SECRET_KEY = "cloudfilm-test", "cloudfilm-test-secret"
READY_WITHIN_S = 60.0


@dataclass
class ObjectStore:
    """A server that runs, and what its clients need."""

    folder: Path
    port: int
    others: tuple[int, ...]
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        """Where it answers S3."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> Path:
        """The file of credentials, as `blobs.url` takes it."""
        return self.folder / "credentials.json"

    def url(self, bucket: str, prefix: str = "") -> str:
        """A store below a prefix, as the setting `blobs.url` writes it."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&credentials={self.credentials}"

    def bucket(self, name: str) -> Bucket:
        """A client of one bucket, beside what is tested."""
        return Bucket(
            name,
            config={
                "endpoint": self.endpoint,
                "region": "us-east-1",
                "access_key_id": ACCESS_KEY,
                "secret_access_key": SECRET_KEY,
            },
            client_options={"allow_http": True},
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket: SeaweedFS makes it with the first object."""
        obstore.put(self.bucket(name), "begun", b"")
        obstore.delete(self.bucket(name), "begun")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again on its data and ports."""
        self.process = _start(self.folder, self.port, self.others)
        _wait(self)


@contextmanager
def object_store_in(folder: Path) -> Iterator[ObjectStore]:
    """A server with its data in this folder, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "cloudfilm",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "credentials.json").write_text(json.dumps({"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}))
    port, *others = _free_ports(4)
    store = ObjectStore(folder, port, tuple(others), _start(folder, port, tuple(others)))
    try:
        _wait(store)
        yield store
    finally:
        store.kill()


def _start(folder: Path, port: int, others: tuple[int, ...]) -> subprocess.Popen[bytes]:
    master, volume, filer = others
    (folder / "data").mkdir(exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            [
                WEED, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", f"-master.port={master}",
                f"-volume.port={volume}", "-volume.max=20", "-filer", f"-filer.port={filer}", "-s3",
                f"-s3.port={port}", f"-s3.config={folder / 'identities.json'}", "-s3.port.iceberg=0",
                "-s3.port.lance=0", "-master.volumeSizeLimitMB=64",
            ],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def _wait(store: ObjectStore) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if store.process.poll() is not None:
            raise AssertionError(
                f"the object store ended:\n{(store.folder / 'server.log').read_text()[-2000:]}"
            )
        with suppress(requests.RequestException, obstore.exceptions.BaseError):
            requests.get(store.endpoint, timeout=2)
            store.make_bucket("readiness")
            return
        time.sleep(0.2)
    raise AssertionError("the object store was not ready in time")


def _free_ports(count: int) -> list[int]:
    """Free ports, each with the one 10,000 above it, which SeaweedFS takes for its own talk."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port < 55535:
                with suppress(OSError):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + 10000))
                    found.append(port)
    return found
