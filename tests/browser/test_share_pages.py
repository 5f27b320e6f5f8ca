"""The patients' and staff's pages in Chromium: phone, tablet and desktop, Chinese and English, whole flows.

Every page is looked at by axe-core; no page may have a serious finding. No address that any request goes to,
and no line of the server's log, may hold a share's secret.
"""

import base64
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Request
from sqlalchemy import select

from access.accounts import create_account
from access.caller import operator
from access.grants import Terms, revoke_grant
from access.share_policy import SHARING
from access.site_documents import put_document
from archive.ingest import ingest
from archive.model import Instance, Study
from archive.shares import share_accession_number, share_studies
from cloudfilm.rooms import Rooms, build_rooms
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from portal.ui_dist import main as build_scripts
from tests.browser.npm_tools import npm_tools, run_module
from tests.browser.phantom import ct_series, windowed
from tests.live import LiveServer, live_server_in
from tests.settling import settle
from tests.sharing import PHONE, register, report

LIMITS = {"again_after_s": 1, "phone_an_hour": 1000, "phone_a_day": 1000, "share_an_hour": 1000}
SLICES = 5
SAMPLE_APP = Path(__file__).parents[2] / "examples" / "patient-app"
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1366, 850)}
WECHAT = (
    "Mozilla/5.0 (Linux; Android 12) AppleWebKit/537.36 Chrome/116 Mobile MicroMessenger/8.0.42 NetType/4G"
)


@dataclass
class Site:
    """A server with one patient's study and report, and its rooms from beside it."""

    server: LiveServer
    rooms: Rooms
    study: str

    def paper(self) -> str:
        """The link of a paper code."""
        made = share_accession_number(
            self.rooms.archive, self.rooms.access, operator("MAIN"), "A1", "MAIN", Terms()
        )
        return f"{self.server.url}/share#{made.secret}"

    def link(self, **terms: Any) -> tuple[str, str]:
        """Id and link of a share."""
        made = share_studies(
            self.rooms.archive, self.rooms.access, operator("MAIN"), (self.study,), Terms(**terms)
        )
        return made.id, f"{self.server.url}/share#{made.secret}"

    def code(self, after: int) -> str:
        """The next code that the server prints, as it does without a gateway."""
        for _ in range(300):
            found = re.findall(r"to 138\*\*\*\*5678: \D*(\d{6})", self.server.output[after:])
            if found:
                return str(found[-1])
            time.sleep(0.1)
        raise AssertionError(f"no code was printed:\n{self.server.output[-2000:]}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert build_scripts() == 0, "the pages' scripts could not be built"
    with live_server_in(tmp_path_factory.mktemp("pages")) as server:
        data_dir = server.data_dir / "var"
        settings = Settings(
            data_dir=data_dir,
            database=DatabaseSettings(url=f"sqlite:///{data_dir}/cloudfilm.db"),
            blobs=BlobsSettings(url=f"file://{data_dir}/blobs"),
        )
        rooms = build_rooms(settings)
        put_document(rooms.access, operator(), SHARING, json.dumps({"limits": LIMITS}))
        register(rooms, "PHANTOM-1", "张伟", PHONE, identity_number="11010519491231002X")
        study = ""
        for image in ct_series("Zhang^Wei=张^伟", SLICES):
            file = io.BytesIO()
            image.save_as(file, enforce_file_format=True)
            file.seek(0)
            ingest(rooms.archive, operator("MAIN"), file)
            study = str(image.StudyInstanceUID)
        settle(rooms)
        with rooms.database.snapshot() as session:
            patient = session.scalar(
                select(Study.patient_logical_id).where(Study.study_instance_uid == study)
            )
        report(rooms, str(patient), "A1")
        with rooms.database.transaction() as session:
            create_account(
                rooms.access, session, operator(), "doctor", "Correct-Horse-7", "radiologist",
                institution="MAIN",
            )  # fmt: skip
        yield Site(server, rooms, study)
        rooms.close()


@pytest.fixture
def opened(site: Site, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages of a size and language; checks afterwards that no request carried a secret."""
    contexts: list[BrowserContext] = []
    requests: list[Request] = []

    def open_page(size: str = "phone", language: str = "zh-CN", **options: Any) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            locale=language,
            has_touch=size != "desktop",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request))
        return page

    yield open_page
    for request in requests:
        assert not re.search(r"/share#?[A-Za-z0-9_-]{43}", request.url.partition("#")[0])
        assert "share#" not in request.headers.get("referer", "")
    for context in contexts:
        context.close()


def check(page: Page) -> None:
    """No serious accessibility finding, and nothing wider than the screen."""
    page.evaluate((npm_tools() / "node_modules/axe-core/axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (each["id"], [node["html"][:120] for node in each["nodes"]][:3])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == [], page.url
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, page.url


def prove(site: Site, page: Page, link: str) -> None:
    """Open a paper code with the patient's phone."""
    page.goto(link)
    page.locator("[data-step=phone]").wait_for()
    assert "#" not in page.url  # the address is clean before anything is typed
    check(page)
    before = len(site.server.output)
    page.locator("input[name=phone]").fill("138 1234 5678")
    page.locator("[data-step=phone] button").click()
    page.locator("[data-step=code]").wait_for()
    page.locator("input[name=code]").fill(site.code(before))
    page.locator("[data-step=code] button").first.click()
    page.locator(".hero").wait_for()


def shown(page: Page) -> np.ndarray[Any, Any]:
    """What the image page shows, as the picture's own grey levels."""
    data = page.evaluate(
        """async () => { const image = document.querySelector('[data-image]'); await image.decode();
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


def sign_in(site: Site, page: Page) -> None:
    """On the page of the patients' sign-in: by a code to the phone."""
    check(page)
    before = len(site.server.output)
    page.locator("input[name=phone]").fill(PHONE)
    page.locator("[data-step=phone] button").first.click()
    page.locator("[data-step=code]").wait_for()
    page.locator("input[name=code]").fill(site.code(before))
    page.locator("[data-step=code] button").first.click()


def claim(page: Page) -> None:
    """Add the person to the account."""
    page.locator("input[name=name]").fill("张伟")
    page.locator("input[name=number]").fill("31002x")
    check(page)
    page.locator("main form button").click()
    page.wait_for_url(re.compile(r":\d+/patient$"))


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
    page.goto(f"{site.server.url}/sign-in?next=/staff/shares")
    page.locator("#sign-in input[name=login]").fill("doctor")
    page.locator("#sign-in input[name=password]").fill("Correct-Horse-7")
    page.locator("#sign-in button").click()
    page.wait_for_url("**/staff/shares*")
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
