"""How long until a patient sees the first image, on emulated 4G and a slow phone: cloudfilm's share page, and
OHIF on Orthanc, in one run on one machine: `python -m benchmarks.share --slices 300`.

Chromium emulates the network (1.5 MB/s each way, 60 ms) and a CPU four times slower. A cold browser each
time, the median of some runs. First image: the moment a picture stands on the screen. Series usable: from
when each of its slices can be shown without the network: in cloudfilm as a picture of 256 pixels, which the
slice's stored values replace where one stops; in OHIF as stored, for which it is given a minute, once. Then
the last slice is jumped to: how long until it stands there, and until its stored values do. At the end the
study gets a second series, as long as the first: how long a switch to it takes, until an image of it stands
there, until its stored values do, and until all of it is usable.
"""

import argparse
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import requests
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.servers import Server, cloudfilm, orthanc
from benchmarks.studies import ROOT, write_series
from portal.ohif import CONFIGURATION, SCRIPT
from portal.ohif_dist import FOLDER

BYTES_A_SECOND, LATENCY_MS, SLOWER = 1_500_000, 60, 4
STUDY = f"{ROOT}.1"
LIT = """[...document.querySelectorAll('canvas')].some(canvas => {
  const drawn = canvas.width > 50 && canvas.getContext('2d');
  if (!drawn) return false;
  const at = [canvas.width / 2 | 0, canvas.height / 2 | 0, 40, 40];
  const light = drawn.getImageData(...at).data.reduce((sum, each, n) => n % 4 ? sum : sum + each, 0);
  return light > 1600 * 12; })"""
SHOWN = """(() => { const image = document.querySelector('[data-image]');
  return !!image && image.complete && image.naturalWidth > 0 })()"""
SIZES = "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
MOST_OHIF_S = 60


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of the page, in seconds and bytes."""

    first: float
    usable: float
    far: float  # from the key to the last slice
    far_whole: float
    first_bytes: float
    usable_bytes: float


@dataclass(frozen=True, slots=True)
class Switch:
    """From the press on another series, in seconds."""

    shown: float
    whole: float  # stored values of the image shown
    usable: float


Seen = TypeVar("Seen", Visit, Switch)


@contextmanager
def page_on_4g(browser: Browser) -> Iterator[Page]:
    """A cold page on a slow network and processor."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True
    )
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    network = {"offline": False, "latency": LATENCY_MS, "downloadThroughput": BYTES_A_SECOND,
               "uploadThroughput": BYTES_A_SECOND}  # fmt: skip
    devtools.send("Network.emulateNetworkConditions", network)
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    yield page
    context.close()


def until(page: Page, condition: str, seconds: float = 120) -> float:
    """When a condition holds in a page, on this machine's clock."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        if page.evaluate(condition):
            return time.perf_counter()
        time.sleep(0.02)
    raise TimeoutError(condition)


def share_page(browser: Browser, link: str, slices: int) -> Visit:
    """A visit of the page of the images."""
    with page_on_4g(browser) as page:
        images = images_page(page, link)
        begin = time.perf_counter()
        page.goto(images, wait_until="commit")
        first = until(page, SHOWN) - begin
        first_bytes = int(page.evaluate(SIZES))
        canvas = "document.querySelector('.canvas')"
        usable = until(page, f"{canvas}?.dataset.overview === '{slices}'") - begin
        usable_bytes = int(page.evaluate(SIZES))
        page.locator("[data-screen]").focus()
        begin = time.perf_counter()
        page.keyboard.press("End")
        last = f"{canvas}.dataset.at === '{slices}'"
        far = until(page, f"{last} && {canvas}.dataset.pixels !== 'none'") - begin
        far_whole = until(page, f"{last} && {canvas}.dataset.pixels === 'true'") - begin
    return Visit(first, usable, far, far_whole, first_bytes, usable_bytes)


def images_page(page: Page, link: str) -> str:
    """Open the share; the address of its images."""
    page.goto(link)
    page.locator("[data-step=open] button").click()
    page.wait_for_url("**/share/*-*")
    images = page.url + "/studies/" + STUDY + "/images"
    page.goto("about:blank")
    return images


def series_switch(browser: Browser, link: str, slices: int) -> Switch:
    """A visit that goes on to the series that it did not open with."""
    with page_on_4g(browser) as page:
        page.goto(images_page(page, link))
        canvas = "document.querySelector('.canvas')"
        until(page, f"{canvas}?.dataset.overview === '{slices}'")
        other = page.locator("[data-open-series][aria-pressed=false]")
        uid = other.get_attribute("data-open-series")
        begin = time.perf_counter()
        other.click()
        there = f"{canvas}.dataset.series === '{uid}' && {canvas}.dataset.pixels"
        shown = until(page, f"{there} !== 'none'") - begin
        whole = until(page, f"{there} === 'true'") - begin
        usable = until(page, f"{canvas}.dataset.overview === '{slices}'") - begin
    return Switch(shown, whole, usable)


def ohif_page(browser: Browser, url: str, slices: int) -> tuple[float, int, float, int]:
    """Seconds until OHIF's canvas shows something, and bytes until then; with `slices`, also the seconds
    until so many frames are there, or a limit, and how many were."""
    with page_on_4g(browser) as page:
        frames: list[str] = []
        page.on("requestfinished", lambda each: frames.append(each.url) if "/frames/" in each.url else None)
        begin = time.perf_counter()
        page.goto(url, wait_until="commit")
        first = until(page, LIT, 240) - begin
        first_bytes = int(page.evaluate(SIZES))
        while len(set(frames)) < slices and time.perf_counter() - begin < MOST_OHIF_S:
            page.wait_for_timeout(50)
        return first, first_bytes, time.perf_counter() - begin, len(set(frames))


@contextmanager
def ohif_before(server: Server) -> Iterator[str]:
    """OHIF as it is, with Orthanc behind it on the same site."""
    configuration = json.loads(json.dumps(CONFIGURATION))
    source = configuration["dataSources"][0]["configuration"]
    source |= {"qidoRoot": "/dicom-web", "wadoRoot": "/dicom-web", "supportsFuzzyMatching": False}
    script = SCRIPT % {"base": '"/ohif/"', "configuration": json.dumps(configuration), "links": "[]"}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/dicom-web/"):
                accept = {"Accept": self.headers.get("Accept", "*/*")}
                told = requests.get(server.dicomweb + self.path[10:], headers=accept, timeout=120)
                return self.send(told.content, told.headers.get("Content-Type", ""), told.status_code)
            name = self.path.partition("?")[0].removeprefix("/ohif/")
            if name == "app-config.js":
                return self.send(script.encode(), "text/javascript")
            packed, plain = FOLDER / f"{name}.gz", FOLDER / name
            if packed.is_file():
                kind = {"js": "text/javascript", "css": "text/css", "wasm": "application/wasm"}
                return self.send(packed.read_bytes(), kind.get(name.rpartition(".")[2], ""), coded=True)
            if plain.is_file():
                return self.send(plain.read_bytes(), "")
            bundle = next(FOLDER.glob("app.bundle.*.js.gz")).stem
            html = (Path(__file__).parents[1] / "portal/templates/ohif.html").read_text("utf-8")
            html = jinja2.Template(html).render(base="/ohif/", page="/ohif/", bundle=bundle)
            return self.send(html.encode(), "text/html")

        def send(self, body: bytes, kind: str, status: int = 200, coded: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            if coded:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{site.server_port}"
    site.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without-orthanc", action="store_true")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="share-bench-"))
    files = sorted(write_series(folder, 1, asked.slices).iterdir())
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with cloudfilm(folder / "cloudfilm") as server:
            store(server, files)
            token = server.headers["Authorization"]
            made = requests.post(
                server.dicomweb.removesuffix("/dicomweb") + "/shares",
                json={"studies": [STUDY], "binding": "bearer"}, headers={"Authorization": token}, timeout=60,
            )  # fmt: skip
            made.raise_for_status()
            link = made.json()["url"]
            seen = medians([share_page(browser, link, asked.slices) for _ in range(asked.runs)])
            store(server, sorted(write_series(folder, 1, asked.slices, series=2).iterdir()))
            switched = medians([series_switch(browser, link, asked.slices) for _ in range(asked.runs)])
        print(
            f"cloudfilm share page: first image {seen.first:.2f} s, {seen.first_bytes / 1e3:.0f} kB; "
            f"series usable {seen.usable:.2f} s, {seen.usable_bytes / 1e3:.0f} kB; "
            f"last slice {seen.far:.2f} s, its stored values {seen.far_whole:.2f} s; "
            f"another series {switched.shown:.2f} s, stored values {switched.whole:.2f} s, "
            f"usable {switched.usable:.2f} s"
        )
        if not asked.without_orthanc:
            with orthanc(folder / "orthanc") as peer, ohif_before(peer) as url:
                store(peer, files)
                there = f"{url}/ohif/viewer?StudyInstanceUIDs={STUDY}"
                looks = [ohif_page(browser, there, 0 if run else asked.slices) for run in range(asked.runs)]
            first = statistics.median(look[0] for look in looks)
            size = statistics.median(look[1] for look in looks)
            _, _, whole, count = looks[0]
            print(
                f"OHIF on Orthanc: first image {first:.2f} s, {size / 1e3:.0f} kB; "
                f"{count} of {asked.slices} slices after {whole:.1f} s"
            )
        browser.close()
    shutil.rmtree(folder, ignore_errors=True)


def medians(seen: list[Seen]) -> Seen:
    """Each value's median."""
    values = {
        each.name: statistics.median(getattr(one, each.name) for one in seen) for each in fields(seen[0])
    }
    return type(seen[0])(**values)


def store(server: Server, files: list[Path]) -> None:
    """Send the files by C-STORE."""
    command = ["storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dicom_port), *map(str, files)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    time.sleep(12)  # until the study is at rest


if __name__ == "__main__":
    main()
