"""What authorization adds to a warm DICOMweb frame request, and how soon a revoked token is refused.

    python -m benchmarks.authorization [--requests 2000] [--database sqlite:///... | postgresql://...]

The same frame is asked for in one process, through the whole web application, once with the caller decided at
every request (token row read, rules and consents compared, decision looked up) and once with a caller that
stands already; the difference is authorization. Medians, so that a busy machine shows less.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from access.caller import Caller, Door, operator
from access.model import Account
from access.tokens import ACCESS, caller_of, issue, revoke
from archive.ingest import ingest
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from dicomweb import frame_door
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from tests.builders import ct_slice

BUDGET_MS = 0.3
MULTIPART = 'multipart/related; type="application/octet-stream"'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--database", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rooms = build_rooms(
            Settings(
                data_dir=Path(folder),
                database=DatabaseSettings(url=arguments.database or f"sqlite:///{folder}/cloudfilm.db"),
                blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
            )
        )
        migrate(rooms.settings.database.url)
        try:
            _measure(rooms, arguments.requests)
        finally:
            rooms.close()


def _measure(rooms: Rooms, requests: int) -> None:
    receipt = ingest(rooms.archive, operator(), io.BytesIO(ct_slice(study=1)))
    with rooms.database.transaction() as session:
        session.add(
            Account(
                id="bench", login="bench", role="radiologist", institution=rooms.settings.access.institution,
                failures=0, disabled=False, created_at=rooms.clock.now(),
            )
        )  # fmt: skip
        session.flush()
        secret = issue(
            rooms.access, session, ACCESS, life_s=3600, account_id="bench", scope="user/ImagingStudy.rs"
        )
    client = create_app(rooms).test_client()
    headers = {"Authorization": f"Bearer {secret}", "Accept": MULTIPART}
    path = (
        f"/dicomweb/studies/{receipt.study_instance_uid}/series/{receipt.series_instance_uid}"
        f"/instances/{receipt.sop_instance_uid}/frames/1"
    )
    standing: list[Caller] = []

    def stand(*asked: Any) -> Caller:
        return standing[0] if standing else caller_of(*asked)

    patch.object(frame_door, "caller_of", stand).start()  # where the door of frames asks who it is

    def ask() -> None:
        assert client.get(path, headers=headers).status_code == 200

    def decide() -> Caller:
        return caller_of(rooms.access, secret, (ACCESS,), Door.DICOMWEB, "127.0.0.1")

    for _ in range(50):
        ask()
    decided, known, caller = [], [], decide()
    for _ in range(requests):  # in turns, so that both see the same machine
        standing.clear()
        decided.append(_timed(ask))
        standing.append(caller)
        known.append(_timed(ask))
    alone = statistics.median(_timed(decide) for _ in range(requests))
    added = statistics.median(decided) - statistics.median(known)
    print(f"{rooms.settings.database.url.partition(':')[0]}, {requests} requests of one frame, medians")
    print(f"  the whole request          {statistics.median(decided):8.3f} ms")
    print(f"  with a caller that stands  {statistics.median(known):8.3f} ms")
    print(f"  authorization adds         {added:8.3f} ms   (budget {BUDGET_MS} ms)")
    print(f"  the decision by itself     {alone:8.3f} ms")
    standing.clear()
    with rooms.database.transaction() as session:
        revoke(rooms.access, session, caller.grant)
    began = time.perf_counter()
    status = client.get(path, headers=headers).status_code
    print(f"  the request after a revocation: {status}, {1000 * (time.perf_counter() - began):.1f} ms later")
    assert status == 401


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
