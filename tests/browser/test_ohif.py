"""From a modality to a screen: what dcmtk's storescu sends is what OHIF shows in a browser."""

import io
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.browser.phantom import ct_series, windowed
from tests.browser.reading_room import (
    FRAMES,
    PDF,
    chest_on_screen,
    echo,
    prior,
    radiograph,
    report,
    ultrasound,
)
from tests.live import LiveServer

CANVAS = "canvas.cornerstone-canvas"
WITHIN_MS = 90_000  # software rendering on a busy machine


@pytest.fixture(scope="module")
def study_uid(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The phantom, stored by C-STORE."""
    return stored_phantom(live_server, tmp_path_factory.mktemp("phantom"))


def stored_phantom(live_server: LiveServer, folder: Path) -> str:
    """Store the phantom by dcmtk; returns its Study Instance UID."""
    slices = list(ct_series("Zhang^San=张^三"))
    for number, image in enumerate(slices):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    subprocess.run(
        ["storescu", "-aec", "CLOUDFILM", "127.0.0.1", str(live_server.dicom_port)]
        + [str(path) for path in sorted(folder.iterdir())],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return str(slices[0].StudyInstanceUID)


@pytest.fixture(scope="module")
def stored(live_server: LiveServer, study_uid: str) -> dict[str, str]:
    """Studies of other kinds, by what they are; the current one is the phantom."""
    uids = {"current": study_uid}
    with live_server.session() as client:
        for name, objects in (
            ("prior", list(prior())), ("us", [ultrasound()]), ("dx", [radiograph()]), ("pdf", [report()]),
        ):  # fmt: skip
            for ds in objects:
                file = io.BytesIO()
                ds.save_as(file, enforce_file_format=True)
                client.post(
                    f"{live_server.url}/dicomweb/studies", data=file.getvalue(), timeout=60,
                    headers={"Content-Type": "application/dicom"},
                ).raise_for_status()  # fmt: skip
                uids[name] = str(ds.StudyInstanceUID)
    return uids


@pytest.fixture
def page(live_server: LiveServer, signed_in: Path, browser: Browser) -> Iterator[Page]:
    """A page of somebody who signed in and whose browser asks for Chinese."""
    context = browser.new_context(
        base_url=live_server.url,
        storage_state=signed_in,
        locale="zh-CN",
        viewport={"width": 1280, "height": 800},
    )
    context.set_default_timeout(WITHIN_MS)
    page = context.new_page()
    yield page
    context.close()


def shown(page: Page) -> NDArray[np.float64]:
    """Grey levels of the square in the viewport's middle, which a square image fills."""
    shot = Image.open(io.BytesIO(page.locator(CANVAS).first.screenshot())).convert("L")
    side = min(shot.size)
    left, top = (shot.width - side) // 2, (shot.height - side) // 2
    square = shot.crop((left, top, left + side, top + side)).resize((128, 128))
    return np.asarray(square, dtype=np.float64)


def likeness(page: Page, number: int) -> float:
    """How the viewport correlates with a slice of the phantom: 1 is the same picture."""
    return likeness_to(page, windowed(number))


def likeness_to(page: Page, picture: NDArray[np.float64] | NDArray[np.uint8]) -> float:
    """The same of any square picture."""
    expected = Image.fromarray(picture.astype(np.uint8)).resize((128, 128))
    try:
        levels = shown(page)
    except PlaywrightError:  # the viewer has just put another canvas in its place
        return 0.0
    if levels.std() < 1:
        return 0.0
    return float(np.corrcoef(levels.ravel(), np.asarray(expected, dtype=np.float64).ravel())[0, 1])


def wait_until(page: Page, holds: Callable[[], bool], what: str) -> None:
    """Until something holds."""
    deadline = WITHIN_MS / 500
    while not holds():
        deadline -= 1
        assert deadline > 0, what
        page.wait_for_timeout(500)


def drawn_viewports(page: Page) -> int:
    """How many viewports show more than one grey level."""
    count = 0
    for canvas in page.locator(CANVAS).all():
        try:
            shot = Image.open(io.BytesIO(canvas.screenshot())).convert("L")
        except PlaywrightError:  # the viewer has just put another canvas in its place
            return 0
        middle = shot.crop((shot.width // 8, shot.height // 4, shot.width * 7 // 8, shot.height * 3 // 4))
        count += float(np.asarray(middle, dtype=np.float64).std()) > 5
    return count


@pytest.mark.parametrize("language", ["zh-CN", "en-US"])
@pytest.mark.parametrize("width", [390, 1024, 1280])
def test_our_links_stand_beside_the_lists_title_and_not_over_it(
    live_server: LiveServer, signed_in: Path, browser: Browser, width: int, language: str
) -> None:
    context = browser.new_context(
        storage_state=signed_in, locale=language, viewport={"width": width, "height": 800}
    )
    page = context.new_page()
    page.goto(f"{live_server.url}/ohif/")
    links = page.locator("nav").bounding_box(timeout=WITHIN_MS)
    title = page.get_by_text("Study List", exact=True).bounding_box(timeout=WITHIN_MS)
    context.close()

    assert links
    assert title
    assert links["x"] + links["width"] < title["x"]


def wait_for_slice(page: Page, number: int) -> None:
    """Until the viewport shows that slice and no other."""
    deadline = WITHIN_MS / 500
    while likeness(page, number) < 0.97:
        deadline -= 1
        assert deadline > 0, f"slice {number} does not appear: {[likeness(page, n) for n in range(1, 6)]}"
        page.wait_for_timeout(500)


def test_a_stored_ct_is_on_the_screen_with_its_own_grey_levels(page: Page, study_uid: str) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={study_uid}")

    wait_for_slice(page, 1)

    assert likeness(page, 1) > max(likeness(page, number) for number in range(2, 6))


def test_scrolling_shows_the_next_slice(page: Page, study_uid: str) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={study_uid}")
    wait_for_slice(page, 1)

    page.locator(CANVAS).first.hover()
    page.mouse.wheel(0, 100)

    wait_for_slice(page, 2)
    assert likeness(page, 2) > likeness(page, 1)


def test_the_study_list_finds_a_study_by_its_chinese_name(page: Page, study_uid: str) -> None:
    page.goto("/ohif/")

    row = page.get_by_role("row", name=re.compile("体模 CT"))
    expect(row).to_contain_text("张")
    expect(row).to_contain_text("CT")


def test_the_viewer_speaks_chinese_to_a_chinese_browser(page: Page, study_uid: str) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={study_uid}")

    expect(page.get_by_text("检查", exact=True).first).to_be_visible()


def test_a_stack_is_cut_in_three_planes(page: Page, stored: dict[str, str]) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={stored['current']}&hangingprotocolId=mpr")

    wait_until(page, lambda: drawn_viewports(page) == 3, "the three planes do not appear")


def test_a_study_is_compared_with_its_prior(page: Page, stored: dict[str, str]) -> None:
    both = f"{stored['current']},{stored['prior']}"
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={both}&hangingprotocolId=@ohif/hpCompare")

    wait_until(page, lambda: drawn_viewports(page) >= 2, "the two studies do not appear")
    for day in ("2026-03-01", "2025-03-01"):
        expect(page.get_by_text(day).first).to_be_visible()


def test_a_radiograph_of_monochrome1_is_bright_where_it_is_dense(page: Page, stored: dict[str, str]) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={stored['dx']}")
    page.get_by_role("button", name="Confirm and hide").click()  # what lies over the image

    expected = chest_on_screen()
    wait_until(page, lambda: likeness_to(page, expected) > 0.97, "the radiograph does not appear")


def test_a_cine_loop_runs(page: Page, stored: dict[str, str]) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={stored['us']}")
    page.get_by_role("button", name="Confirm and hide").click()
    wait_until(page, lambda: likeness_to(page, echo(0)) > 0.97, "the first frame does not appear")

    page.locator('[data-cy="cine-player-play-pause"]').click()

    def frame() -> int:
        return max(range(FRAMES), key=lambda number: likeness_to(page, echo(number)))

    first = frame()
    wait_until(page, lambda: frame() not in (0, first), "the loop does not run")


def test_a_pdf_is_an_object_that_the_session_opens(page: Page, stored: dict[str, str]) -> None:
    page.goto(f"/ohif/viewer?StudyInstanceUIDs={stored['pdf']}")

    shown = page.locator("object[type='application/pdf']")  # headless Chromium has nothing to show it with
    expect(shown).to_have_attribute("data", re.compile("^/dicomweb/.*/rendered$"))
    fetched = page.request.get(
        str(shown.get_attribute("data")), headers={"Accept": "text/html,application/xml;q=0.9,*/*;q=0.8"}
    )
    assert (fetched.status, fetched.headers["content-type"]) == (200, "application/pdf")
    assert fetched.body().rstrip(b"\0") == PDF  # padded to an even length


def test_elements_of_another_sites_page_show_what_is_signed(
    browser: Browser, live_server: LiveServer, stored: dict[str, str]
) -> None:
    paths = [f"/dicomweb/studies/{stored[name]}/thumbnail" for name in ("dx", "us")]
    with live_server.session() as client:
        answer = client.post(f"{live_server.url}/dicomweb/signed-urls", json={"urls": paths}, timeout=60)
    image, thing = (f"{live_server.url}{path}" for path in answer.json()["urls"])
    page = browser.new_page()  # of nobody who signed in
    page.set_content(f'<img src="{image}"><object type="image/jpeg" data="{thing}">no</object>'
                     f'<img src="{live_server.url}{paths[0]}">')  # fmt: skip

    page.wait_for_function("[...document.images].every(each => each.complete)", timeout=WITHIN_MS)
    assert page.evaluate("[...document.images].map(each => each.naturalWidth > 0)") == [True, False]
    page.wait_for_function("document.querySelector('object').offsetWidth > 40", timeout=WITHIN_MS)
    page.close()


def test_nothing_is_asked_of_any_other_host(page: Page, live_server: LiveServer, study_uid: str) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))

    page.goto(f"/ohif/viewer?StudyInstanceUIDs={study_uid}")
    wait_for_slice(page, 1)

    assert {url for url in asked if not url.startswith((live_server.url, "blob:", "data:"))} == set()


def test_who_has_not_signed_in_is_led_to_the_sign_in(browser: Browser, live_server: LiveServer) -> None:
    page = browser.new_page()
    page.goto(f"{live_server.url}/ohif/viewer?StudyInstanceUIDs=1.2.3")

    expect(page).to_have_url(re.compile("/sign-in"))
    page.close()
