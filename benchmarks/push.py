"""How many idle WebSockets one push process holds, what each costs, and how soon they hear: `python -m
benchmarks.push --sockets 2000`.

Sockets are opened over loopback to a server of its own; then workitems are created and every socket hears of
each. The limit of open files (`ulimit -n`) bounds both sides.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import requests
from websockets.asyncio.client import ClientConnection, connect

from archive.attributes import document
from tests.live import LiveServer, live_server_in

GLOBAL = "1.2.840.10008.5.1.4.34.5"


def memory_of_push(server: LiveServer) -> int:
    """Resident bytes of the process that listens on the push port."""
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN
        if listens and connection.laddr.port == server.push_port and connection.pid:
            return int(psutil.Process(connection.pid).memory_info().rss)
    return 0


def workitem() -> str:
    """A workitem to be created."""
    return json.dumps(
        [
            document(
                ProcedureStepLabel="Benchmark",
                WorklistLabel="Benchmark",
                ScheduledProcedureStepPriority="LOW",
                ScheduledProcedureStepStartDateTime="20260301",
                InputReadinessState="READY",
                ProcedureStepState="SCHEDULED",
            )
        ]
    )


async def measure(server: LiveServer, http: requests.Session, sockets: int, events: int) -> None:
    """Open, wait, tell."""
    where = f"ws://127.0.0.1:{server.push_port}/ws/dicomweb/subscribers/BENCH"
    shown = {"Authorization": str(http.headers["Authorization"])}
    before, began = memory_of_push(server), time.monotonic()
    limit = asyncio.Semaphore(50)

    async def open_one() -> ClientConnection:
        async with limit:
            return await connect(where, additional_headers=shown, proxy=None, open_timeout=120).__aenter__()

    opened = await asyncio.gather(*(open_one() for _ in range(sockets)))
    took = time.monotonic() - began
    each = (memory_of_push(server) - before) / sockets / 1024
    print(f"{sockets} sockets opened in {took:.1f} s, {each:.1f} KiB each in the push process")
    delays = []
    for _ in range(events):
        told = time.monotonic()
        answer = await asyncio.to_thread(
            lambda: http.post(
                f"{server.url}/dicomweb/workitems", data=workitem(), timeout=60,
                headers={"Content-Type": "application/dicom+json"},
            )
        )  # fmt: skip
        answer.raise_for_status()
        await asyncio.gather(*(socket.recv() for socket in opened))
        delays.append(time.monotonic() - told)
    print(
        f"from the request until all have heard: median {statistics.median(delays):.2f} s of {events} events"
    )
    await asyncio.gather(*(socket.close() for socket in opened))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--events", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, live_server_in(Path(folder)) as server:
        http = server.session("system/Workitem.crus")
        http.post(
            f"{server.url}/dicomweb/workitems/{GLOBAL}/subscribers/BENCH", timeout=60
        ).raise_for_status()
        asyncio.run(measure(server, http, chosen.sockets, chosen.events))


if __name__ == "__main__":
    main()
