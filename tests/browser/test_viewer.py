"""The light viewer on a share's image page: true grey levels, true millimetres, on phone and desktop."""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid

from access.caller import operator
from access.grants import Terms
from archive.ingest import ingest
from archive.shares import share_studies
from cloudfilm.rooms import build_rooms
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from portal.ui_dist import main as build_scripts
from tests.browser.film import SIZES, check
from tests.browser.phantom import ct_series, hounsfield, windowed
from tests.live import live_server_in
from tests.settling import settle
from tests.sharing import PHONE, register

ROW_MM, COLUMN_MM = 0.75, 0.5
SLICES = 5


def viewer_study() -> Iterator[Dataset]:
    """A CT whose pixels are not square, compressed in its archive, and a picture without any spacing."""
    first = None
    for image in ct_series("Zhang^Wei=张^伟", SLICES):
        image.PixelSpacing = [ROW_MM, COLUMN_MM]
        if first is None:
            first = Dataset(image)
            first.file_meta = image.file_meta
            first.SOPInstanceUID, first.SeriesInstanceUID = generate_uid(), generate_uid()
            first.SeriesNumber, first.SeriesDescription = 2, "无刻度"
            del first.PixelSpacing
            yield first
        image.compress(RLELossless, generate_instance_uid=False)
        yield image


@dataclass
class Shared:
    """Where the share of the study is opened."""

    link: Callable[[], str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    assert build_scripts() == 0, "the pages' scripts could not be built"
    with live_server_in(tmp_path_factory.mktemp("viewer")) as server:
        data_dir = server.data_dir / "var"
        settings = Settings(
            data_dir=data_dir,
            database=DatabaseSettings(url=f"sqlite:///{data_dir}/cloudfilm.db"),
            blobs=BlobsSettings(url=f"file://{data_dir}/blobs"),
        )
        rooms = build_rooms(settings)
        register(rooms, "PHANTOM-1", "张伟", PHONE, identity_number="11010519491231002X")
        study = ""
        for image in viewer_study():
            file = io.BytesIO()
            image.save_as(file, enforce_file_format=True)
            file.seek(0)
            ingest(rooms.archive, operator("MAIN"), file)
            study = str(image.StudyInstanceUID)
        settle(rooms)

        def link() -> str:
            made = share_studies(
                rooms.archive, rooms.access, operator("MAIN"), (study,), Terms(binding="bearer")
            )
            return f"{server.url}/share#{made.secret}"

        yield Shared(link)
        rooms.close()


@pytest.fixture
def viewing(shared: Shared, browser: Browser) -> Iterator[Callable[[str, str], Page]]:
    contexts: list[BrowserContext] = []

    def view(size: str, language: str) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=language, has_touch=size == "phone"
        )
        contexts.append(context)
        page = context.new_page()
        page.goto(shared.link())
        page.locator("[data-step=open] button").click()
        page.locator(".hero").click()
        series = page.locator("[data-open-series]", has_text="轴位")
        series.click()
        page.locator('canvas[data-pixels="true"][data-at="3"]').wait_for()
        return page

    yield view
    for context in contexts:
        context.close()


def place(page: Page, column: float, row: float, tall: float = ROW_MM / COLUMN_MM) -> tuple[float, float]:
    """Where a point of the whole, unturned image is on the page."""
    box = page.locator("canvas").bounding_box()
    assert box
    scale = min(box["width"] / 256, box["height"] / (256 * tall))
    return (
        box["x"] + box["width"] / 2 + (column - 128) * scale,
        box["y"] + box["height"] / 2 + (row - 128) * scale * tall,
    )


def drag(page: Page, first: tuple[float, float], last: tuple[float, float]) -> None:
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.move(*last, steps=4)
    page.mouse.up()


def measured(page: Page, said: str) -> str:
    found = page.locator("[data-measured]", has_text=said)
    found.wait_for(state="attached")
    return found.text_content() or ""


def redrawn(page: Page) -> None:
    """Two frames of the browser later."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")


def grey_at(page: Page, points: list[tuple[int, int]]) -> Any:
    """The grey levels of the canvas at the middle of some pixels."""
    places = [place(page, column + 0.5, row + 0.5) for column, row in points]
    return np.array(
        page.evaluate(
            """places => { const canvas = document.querySelector('canvas');
            const box = canvas.getBoundingClientRect();
            const brush = canvas.getContext('2d'), ratio = canvas.width / box.width;
            const grey = (x, y) => brush.getImageData(x * ratio, y * ratio, 1, 1).data[0];
            return places.map(([x, y]) => grey(x - box.left, y - box.top)); }""",
            places,
        ),
        dtype=float,
    )


GRID = [(column, row) for column in range(8, 256, 8) for row in range(8, 256, 8)]


def truth(values: Any) -> Any:
    return np.array([values[row, column] for column, row in GRID])


def server_picture(page: Page) -> Any:
    """The server's own picture of the shown image, at the same pixels."""
    data = page.evaluate(
        """async () => { const image = document.querySelector('[data-image]'); await image.decode();
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 256;
        canvas.getContext('2d').drawImage(image, 0, 0, 256, 256); return canvas.toDataURL('image/png'); }"""
    )
    png = base64.b64decode(data.partition(",")[2])
    return truth(np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float))


@pytest.mark.parametrize(("size", "language"), [("phone", "zh-CN"), ("desktop", "en-US")])
def test_grey_levels_and_millimetres_are_the_phantoms(
    viewing: Callable[[str, str], Page], size: str, language: str
) -> None:
    page = viewing(size, language)
    assert page.evaluate("document.querySelector('canvas').dataset.pixels") == "true"
    grey = grey_at(page, GRID)
    assert np.median(np.abs(grey - truth(windowed(3)))) <= 1
    assert np.median(np.abs(grey - server_picture(page))) <= 3
    check(page)

    page.locator("[data-tool=distance]").click()
    drag(page, place(page, 60, 60), place(page, 160, 60))
    assert abs(float(measured(page, "mm").split()[0]) - 100 * COLUMN_MM) <= 1
    page.locator("[data-tool=clear]").click()
    drag(page, place(page, 60, 60), place(page, 60, 160))
    assert abs(float(measured(page, "mm").split()[0]) - 100 * ROW_MM) <= 1
    page.locator("[data-tool=clear]").click()

    page.locator("[data-tool=ellipse]").click()
    drag(page, place(page, 120, 187), place(page, 136, 203))  # within the bone
    found = measured(page, "700.0 ± 0.0 HU")
    assert abs(float(found.split()[0]) - np.pi / 4 * 16 * COLUMN_MM * 16 * ROW_MM / 100) <= 0.1
    page.locator("[data-tool=clear]").click()

    page.locator("[data-tool=value]").click()
    page.mouse.click(*place(page, 80.5, 130.5))
    assert measured(page, "HU") == "-800 HU"
    page.locator("[data-tool=clear]").click()

    page.locator("[data-tool=angle]").click()
    drag(page, place(page, 160, 60), place(page, 60, 60))
    page.mouse.click(*place(page, 60, 160))
    assert abs(float(measured(page, "°").rstrip("°")) - 90) <= 1


def test_windows_turns_and_keys(viewing: Callable[[str, str], Page]) -> None:
    page = viewing("desktop", "zh-CN")
    page.locator("[data-presets]").select_option(label="肺窗")
    page.locator(".viewer-info", has_text="窗位 -600 窗宽 1500").wait_for()
    lung = np.clip((hounsfield(3) + 600.5) / 1499 + 0.5, 0, 1) * 255
    assert np.median(np.abs(grey_at(page, GRID) - truth(lung))) <= 1
    page.locator("[data-screen]").focus()
    page.keyboard.press("0")
    page.locator(".viewer-info", has_text="窗位 40 窗宽 400").wait_for()
    page.keyboard.press("f")
    redrawn(page)
    assert np.median(np.abs(grey_at(page, GRID) - truth(windowed(3)[:, ::-1]))) <= 1
    page.keyboard.press("0")
    page.keyboard.press("i")
    redrawn(page)
    assert np.median(np.abs(grey_at(page, GRID) - (255 - truth(windowed(3))))) <= 1
    page.keyboard.press("0")
    page.keyboard.press("ArrowDown")
    page.locator('canvas[data-at="4"][data-pixels="true"]').wait_for()
    drag(page, place(page, 128, 200), (place(page, 128, 200)[0], place(page, 128, 200)[1] - 17))
    page.locator('canvas[data-at="2"]').wait_for()


def test_what_has_no_spacing_is_said_to_be_uncalibrated(viewing: Callable[[str, str], Page]) -> None:
    page = viewing("phone", "en-US")
    page.locator("[data-open-series]", has_text="无刻度").click()
    page.locator('canvas[data-pixels="true"][data-at="1"]').wait_for()
    page.locator(".viewer-info", has_text="not calibrated").wait_for()
    page.locator("[data-tool=distance]").click()
    drag(page, place(page, 60, 60, 1), place(page, 160, 60, 1))
    found = measured(page, "px not calibrated")
    assert abs(float(found.split()[0]) - 100) <= 2


def test_the_page_stays_small(viewing: Callable[[str, str], Page]) -> None:
    page = viewing("phone", "zh-CN")
    scripts = page.evaluate(
        """performance.getEntriesByType('resource').filter(each => /\\/(ui|assets)\\//.test(each.name))
        .reduce((sum, each) => sum + each.encodedBodySize, 0)"""
    )
    assert 0 < scripts < 150_000
