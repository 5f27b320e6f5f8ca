"""The patients' and staff's pages in Chromium: phone, tablet and desktop, Chinese and English, whole flows.

Every page is looked at by axe-core; no page may have a serious finding. No address that any request goes to,
and no line of the server's log, may hold a share's secret.
"""

import base64
import io
import json
import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page
from sqlalchemy import select

from access.caller import operator
from access.grants import revoke_grant
from archive.model import Instance
from tests.browser.film import SLICES, Site, check, claim, prove, sign_in, sign_in_staff
from tests.browser.npm_tools import run_module
from tests.browser.phantom import windowed

SAMPLE_APP = Path(__file__).parents[2] / "examples" / "patient-app"
WECHAT = (
    "Mozilla/5.0 (Linux; Android 12) AppleWebKit/537.36 Chrome/116 Mobile MicroMessenger/8.0.42 NetType/4G"
)


def shown(page: Page) -> np.ndarray[Any, Any]:
    """What the image page shows, as the picture's own grey levels."""
    data = page.evaluate(
        """async () => { const image = document.querySelector('[data-image]');
        while (!(image.complete && image.naturalWidth)) await new Promise(requestAnimationFrame);
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL('image/png'); }"""
    )
    png = base64.b64decode(data.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)


def instance_of(site: Site, number: int) -> str:
    """The SOP Instance UID of a slice."""
    with site.rooms.database.snapshot() as session:
        found = session.scalar(select(Instance.sop_instance_uid).where(Instance.instance_number == number))
    return str(found)


def is_slice(page: Page, number: int) -> bool:
    """Whether the picture is the phantom's slice of this number, below the watermark."""
    apart = [np.abs(shown(page) - windowed(each)).mean() for each in range(1, SLICES + 1)]
    return int(np.argmin(apart)) + 1 == number and min(apart) < 25


@pytest.mark.parametrize(
    ("size", "language"), [("phone", "zh-CN"), ("tablet", "en-US"), ("desktop", "zh-CN"), ("phone", "en-US")]
)
def test_a_patient_walks_from_the_code_on_paper_to_the_last_image(
    site: Site, opened: Callable[..., Page], size: str, language: str
) -> None:
    page = opened(size, language)
    prove(site, page, site.paper())
    home = page.url
    assert "右上肺小结节" in page.inner_text("main")
    assert ("诊断意见" if language == "zh-CN" else "Impression") in page.inner_text("main")
    check(page)

    page.locator(".hero").click()
    page.locator("[data-image]").wait_for()
    assert is_slice(page, 3)
    page.locator("[data-screen]").focus()
    page.keyboard.press("ArrowDown")
    page.locator("[data-count]", has_text=re.compile("^4 /")).wait_for()
    fourth = page.locator(f'[data-image][src*="{instance_of(site, 4)}"]')
    fourth.wait_for()
    assert is_slice(page, 4)
    check(page)

    page.goto(home)
    page.locator("article .actions a").first.click()
    page.locator("[data-print]").wait_for()
    check(page)
    for path in ("share", "family", "seen", "shares"):
        page.goto(f"{home}/{path}")
        check(page)
    assert "138****5678" in page.goto(f"{home}/seen").text()  # type: ignore[union-attr]


def test_the_end_of_a_share_is_felt_in_the_open_page(site: Site, opened: Callable[..., Page]) -> None:
    page = opened("phone")
    grant_id, link = site.link(binding="bearer")
    page.goto(link)
    page.locator("[data-step=open] button").click()
    page.locator(".hero").wait_for()
    frame = f"{page.url}/dicomweb/studies"
    assert page.request.get(frame).status == 200

    revoke_grant(site.rooms.access, operator(), grant_id)

    assert page.request.get(frame).status == 401
    page.locator(".hero").click()
    assert "链接已过期" in page.inner_text("h1")
    check(page)
    page.goto(link)
    page.wait_for_url("**/share/expired")
    assert "链接已过期" in page.inner_text("h1")


def test_a_wrong_code_says_so_and_a_passcode_opens(site: Site, opened: Callable[..., Page]) -> None:
    page = opened("phone", "en-US")
    _, link = site.link(binding="passcode", passcode="crane-77")
    page.goto(link)
    page.locator("input[name=passcode]").fill("wrong-one")
    page.locator("[data-step=passcode] button").click()
    page.locator("[data-said]").wait_for()
    assert "wrong" in page.inner_text("[data-said]")
    check(page)
    page.locator("input[name=passcode]").fill("crane-77")
    page.locator("[data-step=passcode] button").click()
    page.locator(".hero").wait_for()


def test_the_patient_shares_on_and_the_link_works_elsewhere(site: Site, opened: Callable[..., Page]) -> None:
    page = opened("phone")
    prove(site, page, site.paper())
    page.goto(f"{page.url}/share?study={site.study}")
    page.get_by_text("任何持有链接的人").click()
    page.locator("main form button.wide").click()
    page.locator("[data-made]").first.wait_for()
    check(page)
    link = page.inner_text("[data-link]")

    other = opened("desktop", "en-US")
    other.goto(link)
    other.locator("[data-step=open] button").click()
    other.locator(".hero").wait_for()
    assert "张*" in other.inner_text("main")
    assert "张伟" not in other.content()


def test_in_wechats_browser_a_share_opens_without_new_windows(
    site: Site, opened: Callable[..., Page]
) -> None:
    page = opened("phone", user_agent=WECHAT)
    popups: list[Any] = []
    page.on("popup", lambda popup: popups.append(popup))
    prove(site, page, site.paper())

    assert page.locator("body[data-wechat]").count() == 1
    assert page.locator("[target=_blank]").count() == 0
    page.locator(".hero").click()
    page.locator("[data-image]").wait_for()
    page.go_back()
    page.locator(".hero").wait_for()
    assert popups == []


def test_a_patient_signs_in_and_adds_a_person(site: Site, opened: Callable[..., Page]) -> None:
    page = opened("phone")
    page.goto(f"{site.server.url}/patient")
    sign_in(site, page)
    page.wait_for_url(re.compile(r":\d+/patient$"))
    check(page)
    page.locator('a[href="/patient/records"]').click()
    claim(page)
    page.locator("a.exam").click()
    page.locator(".hero").wait_for()
    assert "张伟" in page.inner_text("main")
    check(page)
    for path in ("shares", "family", "seen", "messages"):
        page.goto(f"{site.server.url}/patient/{path}")
        check(page)


class Quiet(SimpleHTTPRequestHandler):
    """Serves the sample app and says nothing of it."""

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def test_the_sample_app_reads_a_patients_studies_by_standalone_launch(
    site: Site, opened: Callable[..., Page]
) -> None:
    app = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SAMPLE_APP)))
    threading.Thread(target=app.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{app.server_port}/index.html"
    added = site.server.command("access", "client", "add", "My film", "--redirect", here)
    client_id = json.loads(added.stdout)["client_id"]
    page = opened("phone")
    page.goto(f"{site.server.url}/patient/records")
    sign_in(site, page)
    page.wait_for_url("**/patient/records")
    claim(page)
    page.context.clear_cookies()
    page.goto(f"{here}?iss={site.server.url}/fhir&client_id={client_id}")
    page.locator("#connect").click()
    page.get_by_role("link", name="患者登录").click()
    sign_in(site, page)
    page.get_by_role("button", name="同意").wait_for()
    page.locator('input[name="patient"]').first.check()
    page.get_by_role("button", name="同意").click()
    page.locator("#studies li").first.wait_for()

    assert "体模 CT" in page.inner_text("#studies")
    assert "随访" in page.inner_text("#studies")
    app.shutdown()
    app.server_close()


def test_a_staff_member_shares_in_three_keystrokes(site: Site, opened: Callable[..., Page]) -> None:
    page = opened("desktop")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in_staff(site, page, "/staff/shares")
    check(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**study=*")
    check(page)

    page.keyboard.press("s")
    page.keyboard.press("Enter")
    page.locator("[data-made]").wait_for()
    page.keyboard.press("c")
    page.locator("[data-copy]", has_text="已复制").wait_for()

    assert re.fullmatch(r"http://\S+/share#[\w-]{43}", page.evaluate("navigator.clipboard.readText()"))
    check(page)
    page.goto(f"{site.server.url}/staff/labels")
    check(page)


READER = """
import { SHLViewer } from "kill-the-clipboard";
const [uri, passcode, most] = process.argv.slice(1);
const viewer = new SHLViewer({ shlinkURI: uri });
const found = await viewer.resolveSHL({ recipient: "Dr. Reader", passcode, embeddedLengthMax: Number(most) });
console.log(JSON.stringify({ bundles: found.fhirResources, label: viewer.shl?.label ?? "" }));
"""


def test_a_smart_health_link_is_read_by_an_independent_reader(
    site: Site, opened: Callable[..., Page]
) -> None:
    page = opened("phone")
    prove(site, page, site.paper())
    page.goto(f"{page.url}/share?study={site.study}")
    page.locator("summary").click()
    page.locator("details input[name=passcode]").fill("heron-42")
    page.locator("details button").click()
    page.locator("[data-link]").wait_for()
    check(page)
    link = page.inner_text("[data-link]")

    for most in ("0", "10000000"):  # files by their location, and embedded
        found = json.loads(run_module(READER, link, "heron-42", most))
        (bundle,) = [each for each in found["bundles"] if each.get("resourceType") == "Bundle"]
        kinds = sorted(each["resource"]["resourceType"] for each in bundle["entry"])
        assert kinds == ["DiagnosticReport", "Endpoint", "ImagingStudy", "Patient"]
    endpoint = next(
        each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "Endpoint"
    )
    name, _, token = endpoint["header"][0].partition(": ")
    images = page.request.get(f"{endpoint['address']}/studies", headers={name: token})
    assert [each["0020000D"]["Value"] for each in images.json()] == [[site.study]]
    payload = json.loads(base64.urlsafe_b64decode(link.removeprefix("shlink:/") + "==="))
    assert len(payload["url"]) <= 128
    for attempts in (9, 8):
        answer = page.request.post(payload["url"], data={"recipient": "x", "passcode": "wrong-1"})
        assert (answer.status, answer.json()) == (401, {"remainingAttempts": attempts})


def test_no_secret_is_in_the_servers_log(site: Site) -> None:
    assert not re.search(r"#[A-Za-z0-9_-]{43}", site.server.output.partition("/sign-in#")[2][43:])
