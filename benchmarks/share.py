"""How long until a patient sees the first image, on emulated 4G and a slow phone: cloudfilm's share page, and
OHIF on Orthanc, in one run on one machine: `python -m benchmarks.share --slices 300`.

Chromium emulates the network (1.5 MB/s each way, 60 ms) and a CPU four times slower. A cold browser each
time, the median of some runs. First image: the moment a picture stands on the screen. Series usable: ten
slices from all over the series, asked for by the slider one after the other from the first image on, have
stood on the screen. Next image: one step of the arrow key until the next slice stands there.
"""

import argparse
import http.server
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


JUMP = """at => { const slider = document.querySelector('[data-slice]');
  slider.value = String(1 + Math.round(at * (Number(slider.max) - 1)));
  slider.dispatchEvent(new Event('input', {bubbles: true})); }"""
JUMPS = (0.1, 0.9, 0.3, 0.7, 0.0, 0.6, 0.2, 0.8, 0.4, 1.0)  # where in the series, as a part of it


def share_page(browser: Browser, link: str) -> tuple[float, float, float, int]:
    """Seconds to the first image on the page of the images, until the series is usable, and to the next one;
    and bytes until the first."""
    with page_on_4g(browser) as page:
        page.goto(link)
        page.locator("[data-step=open] button").click()
        page.wait_for_url("**/share/*-*")
        images = page.url + "/studies/" + STUDY + "/images"
        page.goto("about:blank")
        begin = time.perf_counter()
        page.goto(images, wait_until="commit")
        first = until(page, SHOWN) - begin
        sizes = "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
        size = int(page.evaluate(sizes))
        source = "document.querySelector('[data-image]').src"
        for at in JUMPS:
            before = page.evaluate(source)
            page.evaluate(JUMP, at)
            until(page, f"{source} !== {json.dumps(before)} && {SHOWN}")
        usable = time.perf_counter() - begin
        time.sleep(2)  # neighbours are fetched meanwhile, as for a person who looks
        page.evaluate(JUMP, 0.5)
        until(page, f"{source} !== {json.dumps(before)}")
        before = page.evaluate(source)
        page.locator("[data-screen]").focus()
        begin = time.perf_counter()
        page.keyboard.press("ArrowDown")
        following = (
            until(page, f"document.querySelector('[data-image]').src !== {json.dumps(before)}") - begin
        )
    return first, usable, following, size


def ohif_page(browser: Browser, url: str) -> tuple[float, int]:
    """Seconds until OHIF's canvas shows something, and bytes until then."""
    with page_on_4g(browser) as page:
        begin = time.perf_counter()
        page.goto(url, wait_until="commit")
        first = until(page, LIT, 240) - begin
        sizes = "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
        return first, int(page.evaluate(sizes))


@contextmanager
def ohif_before(server: Server) -> Iterator[str]:
    """OHIF as it is, with Orthanc behind it on the same site."""
    configuration = json.loads(json.dumps(CONFIGURATION))
    source = configuration["dataSources"][0]["configuration"]
    source |= {"qidoRoot": "/dicom-web", "wadoRoot": "/dicom-web", "supportsFuzzyMatching": False}
    script = (SCRIPT % {"base": '"/ohif/"', "configuration": json.dumps(configuration)}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/dicom-web/"):
                accept = {"Accept": self.headers.get("Accept", "*/*")}
                told = requests.get(server.dicomweb + self.path[10:], headers=accept, timeout=120)
                return self.send(told.content, told.headers.get("Content-Type", ""), told.status_code)
            name = self.path.partition("?")[0].removeprefix("/ohif/")
            if name == "app-config.js":
                return self.send(script, "text/javascript")
            packed, plain = FOLDER / f"{name}.gz", FOLDER / name
            if packed.is_file():
                kind = {"js": "text/javascript", "css": "text/css", "wasm": "application/wasm"}
                return self.send(packed.read_bytes(), kind.get(name.rpartition(".")[2], ""), coded=True)
            if plain.is_file():
                return self.send(plain.read_bytes(), "")
            bundle = next(FOLDER.glob("app.bundle.*.js.gz")).stem
            html = (Path(__file__).parents[1] / "portal/templates/ohif.html").read_text("utf-8")
            html = (
                re.sub(r"{%.*?%}", "", html).replace("{{ base }}", "/ohif/").replace("{{ bundle }}", bundle)
            )
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
            runs = [share_page(browser, made.json()["url"]) for _ in range(asked.runs)]
        first, usable, following, size = (statistics.median(values) for values in zip(*runs, strict=True))
        print(
            f"cloudfilm share page: first image {first:.2f} s, {size / 1e3:.0f} kB; "
            f"series usable {usable:.2f} s; next {following:.2f} s"
        )
        if not asked.without_orthanc:
            with orthanc(folder / "orthanc") as peer, ohif_before(peer) as url:
                store(peer, files)
                there = f"{url}/ohif/viewer?StudyInstanceUIDs={STUDY}"
                looks = [ohif_page(browser, there) for _ in range(asked.runs)]
            first, size = (statistics.median(values) for values in zip(*looks, strict=True))
            print(f"OHIF on Orthanc: first image {first:.2f} s, {size / 1e3:.0f} kB")
        browser.close()
    shutil.rmtree(folder, ignore_errors=True)


def store(server: Server, files: list[Path]) -> None:
    """Send the files by C-STORE."""
    command = ["storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dicom_port), *map(str, files)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    time.sleep(12)  # until the study is at rest


if __name__ == "__main__":
    main()
