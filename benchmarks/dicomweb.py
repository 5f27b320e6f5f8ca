"""DICOMweb: cloudfilm, Orthanc, and nginx that sends the same bytes as static files, in one run:

    python -m benchmarks.dicomweb [--seconds 5] [--slices 300] [--tiny 1000] [--connections 1,16,64,500]
                                  [--folder DIR]

Needs wrk, nginx and Orthanc with its DICOMweb plugin (apt-get install wrk nginx orthanc orthanc-dicomweb).
nginx serves the frames and the metadata as files, without authorization, decryption or audit: the most that
the machine can do. Takes about five minutes. Prints a table in Markdown.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import requests
from pydicom import dcmread

from benchmarks.servers import SERVERS, Server, free_port, wait_for
from benchmarks.spine import FRAMES, JSON, Figures, fill, milliseconds, print_table, stow, wrk
from benchmarks.studies import ROOT, write_series

NGINX = which("nginx") or "/usr/sbin/nginx"
JPEG = "image/jpeg"
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SERIES = f"studies/{ROOT}.1/series/{ROOT}.1.1"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--tiny", type=int, default=1000, help="tiny studies to store; 0: none")
    parser.add_argument("--connections", default="1,16,64,500")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-bench-"))
    files, more, still_more = (
        sorted(write_series(folder / "data", study, asked.slices).iterdir()) for study in (1, 2, 3)
    )
    connections = [int(each) for each in asked.connections.split(",")]
    results: dict[str, Figures] = {}
    for name, start in SERVERS.items():
        with start(folder / f"{name}-{int(time.time())}") as server:
            figures = store(server, files, more, still_more, asked.tiny)
            time.sleep(30)  # the studies come to rest and get their renditions
            results[server.name] = figures | measure(server, len(files), connections, asked.seconds)
    with nginx(folder / "nginx", files) as server:
        results[server.name] = measure(server, len(files), connections, asked.seconds, static=True)
    print_table(results)


def store(server: Server, files: list[Path], more: list[Path], still_more: list[Path], tiny: int) -> Figures:
    """STOW-RS: of series, ten instances a request, and of studies of one small instance each."""
    figures: Figures = {}
    stow(server, [still_more])  # what every process does once is not counted
    figures["STOW-RS, 1 client"] = f"{len(files) / stow(server, [files]):.0f}/s"
    shares = [more[at::4] for at in range(4)]
    figures["STOW-RS, 4 clients"] = f"{len(more) / stow(server, shares):.0f}/s"
    if tiny:
        figures[f"STOW-RS, {tiny} tiny studies, 4 clients"] = f"{tiny / fill(server, tiny):.0f}/s"
    return figures


def measure(
    server: Server, slices: int, connections: list[int], seconds: int, static: bool = False
) -> Figures:
    """All figures of one server. static: only what a file server can have."""
    series = f"{server.dicomweb}/{SERIES}"
    instances = [f"{series}/instances/{ROOT}.1.1.{number}" for number in range(1, slices + 1)]
    figures: Figures = {}
    with requests.Session() as client:
        client.trust_env = False
        client.headers.update(server.headers)

        def metadata() -> None:
            answer = client.get(f"{series}/metadata", headers={"Accept": JSON}, stream=True)
            assert answer.status_code == 200, answer.status_code
            answer.raw.read(decode_content=False)

        def first_image() -> None:
            with requests.Session() as visitor:
                visitor.trust_env = False
                visitor.headers.update(server.headers)
                if not static:
                    visitor.get(
                        f"{server.dicomweb}/studies?StudyInstanceUID={ROOT}.1", headers={"Accept": JSON}
                    )
                    visitor.get(f"{server.dicomweb}/studies/{ROOT}.1/series", headers={"Accept": JSON})
                visitor.get(f"{series}/metadata", headers={"Accept": JSON})
                answer = visitor.get(f"{instances[0]}/frames/1", headers={"Accept": FRAMES})
                assert answer.status_code == 200, answer.status_code

        figures[f"series metadata of {slices} instances, p50"] = milliseconds(metadata)
        figures["first image from nothing, p50"] = milliseconds(first_image)
    figures["series metadata, 16 connections"] = wrk(
        server, [f"{series}/metadata"], 16, seconds, JSON, gzip=not static
    )
    for count in connections:
        figures[f"frames of 512 KiB, {count} connections"] = wrk(
            server, [f"{each}/frames/1" for each in instances], count, seconds, FRAMES
        )
    if static:
        return figures
    with requests.Session() as client:
        client.trust_env = False
        client.headers.update(server.headers)

        def whole() -> None:
            answer = client.get(series, headers={"Accept": OBJECTS}, stream=True)
            assert answer.status_code == 200, answer.status_code
            while answer.raw.read(1 << 20):
                pass

        figures[f"whole series of {slices}, p50"] = milliseconds(whole, 3)
        for size, query in (("", "?viewport=600,600"), (" in its own size", "")):
            unseen = iter(instances)

            def first_time(query: str = query, unseen: Iterator[str] = unseen) -> None:
                answer = client.get(f"{next(unseen)}/rendered{query}", headers={"Accept": JPEG})
                assert answer.status_code == 200, answer.status_code

            figures[f"rendered{size}, each for the first time, p50"] = milliseconds(
                first_time, min(15, slices - 1)
            )
    rendered = [f"{each}/rendered?viewport=512,512&quality=80" for each in instances]
    figures["rendered 512 x 512, 16 connections"] = wrk(server, rendered, 16, seconds, JPEG)
    if server.name == "cloudfilm":  # this Orthanc has no thumbnails and no HTJ2K
        figures["thumbnails, 16 connections"] = wrk(
            server, [f"{each}/thumbnail" for each in instances], 16, seconds, JPEG
        )
        figures["frames as HTJ2K, 16 connections"] = wrk(
            server, [f"{each}/frames/1" for each in instances], 16, seconds, "image/jphc"
        )
    return figures


@contextmanager
def nginx(folder: Path, files: list[Path]) -> Iterator[Server]:
    """nginx with the frames and the metadata as files under the paths of the service."""
    root, port = folder / "root", free_port()
    for path in files:
        ds = dcmread(path)
        target = root / "dicomweb" / SERIES / "instances" / str(ds.SOPInstanceUID) / "frames"
        target.mkdir(parents=True, exist_ok=True)
        (target / "1").write_bytes(ds.PixelData)
    (root / "dicomweb" / SERIES / "metadata").write_bytes(b"x" * 24_000)  # about what gzip leaves of 300
    configuration = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""  # whose folder it is
    configuration.write_text(
        f"{user}worker_processes 2; pid {folder}/pid; error_log {folder}/error.log; daemon off;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; default_type application/octet-stream; }} }}\n"
    )
    process = subprocess.Popen([NGINX, "-c", str(configuration), "-p", str(folder)])
    try:
        wait_for(f"http://127.0.0.1:{port}/dicomweb/{SERIES}/metadata")
        yield Server("nginx, static files", f"http://127.0.0.1:{port}/dicomweb", 0, "", {})
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    main()
