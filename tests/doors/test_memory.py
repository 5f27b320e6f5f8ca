"""Memory does not grow with the size of an object, on the way in and on the way out."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import requests

from tests.builders import ROOT, dataset, part10
from tests.live import LiveServer

FRAME_BYTES = 1024 * 1024
FRAMES = 480
MOST_BYTES = 300 * 1024 * 1024


def large_object() -> Iterator[bytes]:
    """A multi-frame object of half a gigabyte, as it is made piece by piece."""
    ds = dataset(study=60, Rows=1024, Columns=512, NumberOfFrames=FRAMES, PixelData=None)
    yield part10(ds) + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", FRAME_BYTES * FRAMES)
    for number in range(FRAMES):
        yield struct.pack("<I", number) * (FRAME_BYTES // 4)


def peak_bytes(server: LiveServer) -> int:
    """The most memory that any process of the server has had."""
    peaks = []
    for process in [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)


def test_half_a_gigabyte_goes_in_and_out_in_less_than_300_megabytes(live_server: LiveServer) -> None:
    client = live_server.session()
    answer = client.post(
        f"{live_server.url}/dicomweb/studies",
        data=large_object(),
        headers={"Content-Type": "application/dicom"},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    sent, received = hashlib.sha256(), hashlib.sha256()
    for piece in large_object():
        sent.update(piece)
    url = f"{live_server.url}/dicomweb/studies/{ROOT}.60/series/{ROOT}.60.1/instances/{ROOT}.60.1.1"
    with client.get(url, headers={"Accept": "application/dicom"}, stream=True, timeout=300) as back:
        for piece in back.iter_content(1 << 20):
            received.update(piece)
    assert received.digest() == sent.digest()
    frame = client.get(f"{url}/frames/{FRAMES}", headers={"Accept": "application/octet-stream"}, timeout=60)
    assert frame.content == struct.pack("<I", FRAMES - 1) * (FRAME_BYTES // 4)
    assert peak_bytes(live_server) < MOST_BYTES
    assert requests.get(f"{live_server.url}/readyz", timeout=10).ok
