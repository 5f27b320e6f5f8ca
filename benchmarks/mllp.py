"""How many HL7 v2 messages a second are kept durably and acknowledged.

    python -m benchmarks.mllp --messages 2000 --connections 1 16

Starts a listener of its own (SQLite, waiting for the disk), and for comparison a bare asyncio server that
only answers. Each connection sends the next message when the last one is acknowledged. `registration` is
an ADT^A08 of a patient who is known; `new` registers a new patient with each message.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import cloudfilm.models
from cloudfilm.rooms import build_rooms
from hl7_listener.mllp import Framer, MllpServer, frame
from hl7_listener.room import hl7_of
from kernel.database import Base
from kernel.settings import BlobsSettings, DatabaseSettings, MllpSettings, Settings

PID = "PID|1||{number}^^^HIS^MR||{name}^^^^^^I||{birth_date}|M|||学府路306号^^成都市^四川省||139{phone:08d}"
MESSAGE = (
    "MSH|^~\\&|HIS|H1|CF|H1|20260301083000||ADT^A08|{control}|P|2.5.1||||||UNICODE UTF-8\rEVN||1\r"
    + PID
    + "\r"
)
SURNAMES, GIVEN = "王李张刘陈杨黄吴赵周徐孙马朱胡林郭何高罗", "明伟军建华文国志海峰强永东晓杰勇林龙辉涛"


def text_of(number: int, is_new: bool) -> bytes:
    """One message."""
    patient = number if is_new else 1
    name = f"{SURNAMES[patient % 20]}^{GIVEN[patient // 20 % 20]}{GIVEN[patient // 400 % 20]}"
    control = f"{os.getpid()}-{number}-{is_new}"
    return MESSAGE.format(
        control=control,
        number=patient,
        name=name,
        phone=patient * 7919,
        birth_date=f"19{patient % 90 + 10}{patient // 7 % 12 + 1:02d}{patient // 11 % 28 + 1:02d}",
    ).encode()


def serve(folder: str, port: "multiprocessing.sharedctypes.Synchronized[int]", stop: Event) -> None:
    """Be the listener."""
    settings = Settings(
        data_dir=Path(folder),
        database=DatabaseSettings(url=f"sqlite:///{folder}/cloudfilm.db"),
        blobs=BlobsSettings(url=f"file://{folder}/blobs"),
        mllp=MllpSettings(port=0),
    )
    rooms = build_rooms(settings)
    assert cloudfilm.models.MODULES
    Base.metadata.create_all(rooms.database.engine)

    async def run() -> None:
        server = MllpServer(hl7_of(rooms.by_kind()))
        port.value = await server.start()
        while not stop.is_set():
            await asyncio.sleep(0.1)
        await server.stop()

    asyncio.run(run())


def serve_bare(port: "multiprocessing.sharedctypes.Synchronized[int]", stop: Event) -> None:
    """The ceiling: answer at once."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(1_000_000)
        while data := await reader.read(65536):
            for _ in framer.feed(data):
                writer.write(frame(b"MSH|^~\\&|\rMSA|AA|1\r"))
            await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        while not stop.is_set():
            await asyncio.sleep(0.1)

    asyncio.run(run())


async def send(port: int, numbers: range, is_new: bool, times: list[float]) -> None:
    """One connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        start = time.perf_counter()
        writer.write(frame(text_of(number, is_new)))
        answer = await reader.readuntil(b"\x1c\r")
        times.append((time.perf_counter() - start) * 1000)
        if b"\rMSA|AA" not in answer:
            raise SystemExit(answer)
    writer.close()


def measure(name: str, port: int, messages: int, connections: int, offset: int, is_new: bool) -> None:
    """One line of the table."""
    times: list[float] = []
    each = messages // connections

    async def run() -> None:
        starts = [offset + at * each for at in range(connections)]
        await asyncio.gather(*(send(port, range(at, at + each), is_new, times) for at in starts))

    start = time.perf_counter()
    asyncio.run(run())
    rate = len(times) / (time.perf_counter() - start)
    p95 = statistics.quantiles(times, n=20)[18]
    print(f"| {name} | {connections} | {rate:.0f} | {statistics.median(times):.2f} | {p95:.2f} |", flush=True)


def main() -> None:
    """Start both servers, send, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    print("| server | connections | messages/s | p50 ms | p95 ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        ports = [context.Value("i", 0), context.Value("i", 0)]
        servers = [
            context.Process(target=serve, args=(folder, ports[0], stop)),
            context.Process(target=serve_bare, args=(ports[1], stop)),
        ]
        for server in servers:
            server.start()
        waiter = threading.Event()
        while not all(port.value for port in ports):
            waiter.wait(0.1)
        offset = 0
        for connections in arguments.connections:
            measure("answer only", ports[1].value, arguments.messages, connections, offset, False)
            measure("registration", ports[0].value, arguments.messages, connections, offset, False)
            measure("new", ports[0].value, arguments.messages, connections, offset, True)
            offset += arguments.messages
        stop.set()
        for server in servers:
            server.join()


if __name__ == "__main__":
    main()
