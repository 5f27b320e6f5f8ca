"""The memory that a very large multi-frame object takes, on the way in and on the way out:

python -m benchmarks.memory [--gigabytes 2]
"""

import argparse
import struct
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import requests

from benchmarks.servers import cloudfilm
from benchmarks.studies import ROOT, ct_series, part10

FRAME_BYTES = 1 << 20


def main() -> None:
    """Store and retrieve one object; print the time and the highest resident memory of any process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2)
    frames = int(parser.parse_args().gigabytes * 1024)
    with cloudfilm(Path(tempfile.mkdtemp(prefix="cloudfilm-bench-"))) as server, requests.Session() as client:
        client.trust_env = False
        client.headers.update(server.headers)
        began = time.monotonic()
        answer = client.post(
            f"{server.dicomweb}/studies",
            data=large_object(frames),
            headers={"Content-Type": "application/dicom"},
        )
        assert answer.status_code == 200, answer.text
        stored = time.monotonic()
        url = f"{server.dicomweb}/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
        with client.get(url, headers={"Accept": "application/dicom"}, stream=True) as back:
            received = sum(len(piece) for piece in back.iter_content(1 << 20))
        ended = time.monotonic()
        inward, outward = stored - began, ended - stored
        print(f"{received / 2**30:.2f} GiB stored in {inward:.1f} s, sent back in {outward:.1f} s")
        print(f"highest resident memory of any process: {peak_bytes() / 2**20:.0f} MiB")


def large_object(frames: int) -> Iterator[bytes]:
    """The object, made piece by piece."""
    ds = next(ct_series(1, 1, 8))
    ds.Rows, ds.Columns, ds.NumberOfFrames = 1024, 512, frames
    del ds.PixelData
    head = BytesIO(part10(ds)).getvalue()
    yield head + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", FRAME_BYTES * frames)
    for number in range(frames):
        yield struct.pack("<I", number) * (FRAME_BYTES // 4)


def peak_bytes() -> int:
    """The highest resident memory that any process below this one has had."""
    peaks = [0]
    for process in psutil.Process().children(recursive=True):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)


if __name__ == "__main__":
    main()
