"""What browser tests of the film pages share: a server with one patient, sizes, and what every page keeps."""

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from sqlalchemy import select

from access.accounts import create_account
from access.caller import operator
from access.grants import Terms
from access.share_policy import SHARING
from access.site_documents import put_document
from archive.ingest import ingest
from archive.model import Study
from archive.shares import share_accession_number, share_studies
from cloudfilm.rooms import Rooms, build_rooms
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from portal.ui_dist import main as build_scripts
from tests.browser.npm_tools import npm_tools
from tests.browser.phantom import ct_series
from tests.live import LiveServer, live_server_in
from tests.settling import settle
from tests.sharing import PHONE, register, report

LIMITS = {
    "again_after_s": 1, "phone_an_hour": 1000, "phone_a_day": 1000, "share_an_hour": 1000,
    "address_an_hour": 1000, "network_an_hour": 1000,
}  # fmt: skip
SLICES = 5
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1366, 850)}
CUT_OFF = """[...document.querySelectorAll('a, button, h1, h2')].filter(each => {
  const { left, right, width } = each.getBoundingClientRect(), style = getComputedStyle(each);
  if (!width || each.classList.contains('skip') || style.textOverflow === 'ellipsis') return false;
  for (let around = each.parentElement; around; around = around.parentElement)
    if (/auto|scroll/.test(getComputedStyle(around).overflowX)) return false;
  const isCut = each.scrollWidth > each.clientWidth + 1 && style.display !== 'inline';
  return left < -1 || right > innerWidth + 1 || isCut;
}).map(each => each.outerHTML.slice(0, 120))"""
STAFF, PASSWORD = "doctor", "Correct-Horse-7"


@dataclass
class Site:
    """A server with one patient's study and report, and its rooms from beside it."""

    server: LiveServer
    rooms: Rooms
    study: str
    secrets: list[str] = field(default_factory=list)  # of every share: never seen in an address

    def paper(self) -> str:
        """The link of a paper code."""
        made = share_accession_number(
            self.rooms.archive, self.rooms.access, operator("MAIN"), "A1", "MAIN", Terms()
        )
        return self._link(made.secret)

    def link(self, **terms: Any) -> tuple[str, str]:
        """Id and link of a share."""
        made = share_studies(
            self.rooms.archive, self.rooms.access, operator("MAIN"), (self.study,), Terms(**terms)
        )
        return made.id, self._link(made.secret)

    def _link(self, secret: str) -> str:
        self.secrets.append(secret)
        return f"{self.server.url}/share#{secret}"

    def code(self, after: int, masked: str = "138****5678") -> str:
        """The next code that the server prints for a phone, as it does without a gateway."""
        for _ in range(300):
            found = re.findall(rf"to {re.escape(masked)}: \D*(\d{{6}})", self.server.output[after:])
            if found:
                return str(found[-1])
            time.sleep(0.1)
        raise AssertionError(f"no code was printed:\n{self.server.output[-2000:]}")


@contextmanager
def film_site(folder: Path) -> Iterator[Site]:
    """A site in this folder, until the block ends."""
    assert build_scripts() == 0, "the pages' scripts could not be built"
    with live_server_in(folder) as server:
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
                rooms.access, session, operator(), STAFF, PASSWORD, "radiologist", institution="MAIN"
            )
        site = Site(server, rooms, study)
        yield site
        rooms.close()
        assert not any(secret in server.output for secret in site.secrets), "a secret is in the log"


def check(page: Page) -> None:
    """No serious accessibility finding, nothing wider than the screen, no button, link or heading cut off."""
    page.evaluate((npm_tools() / "node_modules/axe-core/axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (each["id"], [node["html"][:120] for node in each["nodes"]][:3])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == [], f"{page.url}: {serious}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, page.url
    cut = page.evaluate(CUT_OFF)
    assert cut == [], f"{page.url}: {cut}"


def prove(
    site: Site, page: Page, link: str, phone: str = "138 1234 5678", masked: str = "138****5678"
) -> None:
    """Open a paper code with the patient's phone, or another one."""
    page.goto(link)
    page.locator("[data-step=phone]").wait_for()
    assert "#" not in page.url  # the address is clean before anything is typed
    check(page)
    before = len(site.server.output)
    page.locator("input[name=phone]").fill(phone)
    page.locator("[data-step=phone] button").click()
    page.locator("[data-step=code]").wait_for()
    page.locator("input[name=code]").fill(site.code(before, masked))
    page.locator("[data-step=code] button").first.click()
    page.locator(".hero").wait_for()


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


def sign_in_staff(site: Site, page: Page, path: str, login: str = STAFF) -> None:
    """As a physician, or another of the staff, to one of its pages."""
    page.goto(f"{site.server.url}/sign-in?next={path}")
    page.locator("#sign-in input[name=login]").fill(login)
    page.locator("#sign-in input[name=password]").fill(PASSWORD)
    page.locator("#sign-in button").first.click()
    page.wait_for_url(f"**{path}*")
