"""What it costs to receive a CT slice by C-STORE, step by step, beside pynetdicom; dcmtk's storescu sends:

    python -m benchmarks.receive [--slices 100] [--folder X]

One association, one receiving process. CPU is what the receiving process used for each slice, system calls
included, and hardly moves when the machine is busy; the rate does. Prints a table in Markdown.
"""

import argparse
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from access.caller import operator
from access.nodes import NodePeer
from archive.ingest import ANYWHERE, Incoming
from benchmarks.dimse import DCMTK, ENVIRONMENT
from benchmarks.servers import free_port
from benchmarks.studies import write_series
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from dimse.associate import decode_request, encode_accept
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.negotiation import negotiate
from dimse.service import Service
from dimse.statuses import SUCCESS
from dimse.store import STORAGE_SYNTAXES, file_meta, on_store
from dimse.upper_layer import AssociationEnded, UpperLayer
from kernel.settings import BlobsSettings, DatabaseSettings, Settings

PDU_BYTES = 131072
NODE = NodePeer("BENCH", "127.0.0.1", 0, "", "", ("all",), (), False, 0)
Handle = Callable[[Rooms, Association, Message], None]


def main() -> None:
    """Measure each case, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-bench-"))
    paths = sorted(write_series(folder / "data", 1, asked.slices).iterdir())
    print("| C-STORE of a slice of 512 x 512 x 16 bit, 1 association | CPU | |\n| --- | --- | --- |")
    for name, serving in CASES.items():
        with serving(folder) as port:
            send(port, paths[:1])  # what is done once is done
            began, used = time.monotonic(), time.process_time()
            send(port, paths)
            used, took = time.process_time() - used, time.monotonic() - began
        print(f"| {name} | {used / len(paths) * 1000:.1f} ms | {len(paths) / took:.0f}/s |", flush=True)


def send(port: int, paths: list[Path]) -> None:
    """Send files in one association."""
    command = ["storescu", "-aet", "BENCH", "-aec", "CLOUDFILM", "127.0.0.1", str(port), *map(str, paths)]
    subprocess.run([DCMTK + command[0], *command[1:]], env=ENVIRONMENT, check=True, capture_output=True)


@contextmanager
def pynetdicom_in_memory(_folder: Path) -> Iterator[int]:
    """Its storage SCP; the data set is collected in memory and not decoded."""

    def take(event: Any) -> int:
        assert event.request.DataSet.getbuffer().nbytes
        return SUCCESS

    yield from pynetdicom(take)


@contextmanager
def pynetdicom_to_file(_folder: Path) -> Iterator[int]:
    """The same with its chunked receiving: the data set goes to a file."""
    _config.STORE_RECV_CHUNKED_DATASET = True
    try:
        yield from pynetdicom(lambda event: SUCCESS if event.dataset_path.exists() else 0xA700)
    finally:
        _config.STORE_RECV_CHUNKED_DATASET = False


def pynetdicom(take: Callable[[Any], int]) -> Iterator[int]:
    """A storage SCP of pynetdicom until the block ends."""
    entity, port = AE("CLOUDFILM"), free_port()
    entity.maximum_pdu_size = PDU_BYTES
    entity.add_supported_context(CTImageStorage, list(STORAGE_SYNTAXES))
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield port
    finally:
        entity.shutdown()


def ours(handle: Handle, pdu_bytes: int = PDU_BYTES) -> Callable[[Path], Any]:
    """Our upper layer, with what is done with a message."""

    @contextmanager
    def serving(folder: Path) -> Iterator[int]:
        data = Path(tempfile.mkdtemp(prefix="archive-", dir=folder))
        settings = Settings(
            data_dir=data,
            database=DatabaseSettings(url=f"sqlite:///{data}/cloudfilm.db"),
            blobs=BlobsSettings(url=f"file://{data}/blobs"),
        )
        migrate(settings.database.url)
        rooms = build_rooms(settings)
        with create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
            threading.Thread(target=serve, args=(listener, rooms, handle, pdu_bytes), daemon=True).start()
            yield port
        rooms.close()

    return serving


def serve(listener: Any, rooms: Rooms, handle: Handle, pdu_bytes: int) -> None:
    """Take one association after another."""
    service = Service(
        "Storage", "PS3.4 B", (str(CTImageStorage),), {Operation.C_STORE: on_store}, STORAGE_SYNTAXES
    )
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        layer = UpperLayer(connection, pdu_bytes, 60)
        request = decode_request(layer.read_pdu()[1])
        agreed = negotiate(request, {str(CTImageStorage): service}, pdu_bytes)
        layer.write(encode_accept(agreed.accept))
        association = Association(
            layer, agreed.contexts, request.user.max_pdu_bytes, "CLOUDFILM", "BENCH", operator(), NODE
        )
        try:
            while True:
                handle(rooms, association, association.receive())
        except AssociationEnded:
            association.close()


def drop(_rooms: Rooms, association: Association, request: Message) -> None:
    """Read it and forget it."""
    for _ in request.fragments():
        continue
    association.respond(request, SUCCESS)


def seal(rooms: Rooms, association: Association, request: Message) -> None:
    """Encrypt, hash and write it; nothing is waited for, nothing indexed."""
    with Incoming(rooms.archive, association.caller) as incoming:
        said = (request.text("AffectedSOPClassUID"), request.text("AffectedSOPInstanceUID"))
        incoming.write(file_meta(*said, request.context.transfer_syntax, association.calling))
        for fragment in request.fragments():
            incoming.write(fragment)
        incoming.arrival(ANYWHERE)
    association.respond(request, SUCCESS)


def store(rooms: Rooms, association: Association, request: Message) -> None:
    """All that C-STORE does."""
    on_store(rooms.dimse, association, request)


CASES: dict[str, Callable[[Path], Any]] = {
    "pynetdicom, data set in memory, dropped": pynetdicom_in_memory,
    "pynetdicom, data set to a file, dropped": pynetdicom_to_file,
    "own upper layer, PDUs of 16 KiB, dropped": ours(drop, 16384),
    "own upper layer, PDUs of 128 KiB, dropped": ours(drop),
    "the same, sealed, hashed, its header read": ours(seal),
    "the same, on the disk, indexed, audited": ours(store),
}

if __name__ == "__main__":
    main()
