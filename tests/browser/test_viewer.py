"""The light viewer on a share's image page: true grey levels, true millimetres, on phone and desktop."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request
from playwright.sync_api import Error as PlaywrightError
from sqlalchemy import select

from access.caller import operator
from access.grants import Terms, revoke_grant
from archive.ingest import ingest
from archive.model import Study
from archive.render import PNG, Rendering, render_frame
from archive.retrieve import find_instance
from archive.shares import share_studies
from cloudfilm.rooms import Rooms, build_rooms
from kernel.settings import BlobsSettings, DatabaseSettings, Settings
from portal.ui_dist import main as build_scripts
from records.orders import Number
from records.reports import Report, file_report
from tests.browser.film import SIZES, check
from tests.browser.phantom import hounsfield, windowed
from tests.browser.viewer_study import (
    COLUMN_MM,
    LENGTH_MM,
    ROW_MM,
    SPHERE_MM,
    VOLUME_MM,
    VOLUME_SIDE,
    VOLUME_SLICES,
    Examinations,
    examinations,
    sphere_slice,
)
from tests.live import LiveServer, live_server_in
from tests.settling import settle
from tests.sharing import PHONE, REPORT_TEXT, register

WECHAT = (
    "Mozilla/5.0 (Linux; Android 12) AppleWebKit/537.36 Chrome/116 Mobile MicroMessenger/8.0.42 NetType/4G"
)
WITHIN_MS = 90_000  # software rendering on a busy machine
OTHERS_INK = (0x7F, 0xE3, 0xFF)


@dataclass
class Shared:
    """A server with both examinations, and its rooms from beside it."""

    server: LiveServer
    rooms: Rooms
    made: Examinations

    def link(self) -> tuple[str, str]:
        """Id and link of a share of both."""
        studies = (self.made.study, self.made.prior)
        made = share_studies(
            self.rooms.archive, self.rooms.access, operator("MAIN"), studies, Terms(binding="bearer")
        )
        return made.id, f"{self.server.url}/share#{made.secret}"


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
        made = examinations()
        for image in made.objects:
            file = io.BytesIO()
            image.save_as(file, enforce_file_format=True)
            file.seek(0)
            ingest(rooms.archive, operator("MAIN"), file)
        settle(rooms)
        file_the_report(rooms, made)
        yield Shared(server, rooms, made)
        rooms.close()


def file_the_report(rooms: Rooms, made: Examinations) -> None:
    """A report that names slice 1 (FHIR R4 DiagnosticReport.media)."""
    with rooms.database.snapshot() as session:
        patient = session.scalar(
            select(Study.patient_logical_id).where(Study.study_instance_uid == made.study)
        )
    link = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{made.axial[0]}"}}
    document = {"code": {"text": "胸部 CT 报告"}, "media": [{"comment": "箭头处", "link": link}]}
    with rooms.database.transaction() as session:
        file_report(
            rooms.records, session, operator("MAIN"),
            Report(str(patient), "MAIN", Number("R-A1"), accession_number="A1", text=REPORT_TEXT,
                   document=document),
        )  # fmt: skip
    settle(rooms)


Viewing = Callable[..., Page]


@pytest.fixture(scope="module")
def visited(shared: Shared, browser: Browser) -> tuple[Any, str]:
    """The cookies of a visitor who has opened the share, and the address of its first page."""
    context = browser.new_context()
    context.set_default_timeout(WITHIN_MS)
    page = context.new_page()
    home = opened(page, shared.link()[1])
    state = context.storage_state()
    context.close()
    return state, home


def opened(page: Page, link: str) -> str:
    """Open a share; returns the address of its first page."""
    page.goto(link)
    page.locator("[data-step=open] button").click()
    page.wait_for_url(re.compile(r"/share/[0-9a-f-]{36}$"))
    return page.url


@pytest.fixture
def viewing(shared: Shared, visited: tuple[Any, str], browser: Browser) -> Iterator[Viewing]:
    contexts: list[BrowserContext] = []
    requests: list[Request] = []
    errors: list[str] = []

    def view(
        size: str,
        language: str,
        series: str = "轴位",
        link: str = "",
        no_frames: bool = False,
        **options: Any,
    ) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=language, has_touch=size == "phone",
            storage_state=None if link else visited[0], **options,
        )  # fmt: skip
        contexts.append(context)
        context.set_default_timeout(WITHIN_MS)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request))
        page.on("pageerror", lambda error: errors.append(f"{page.url} {error}"))
        if no_frames:
            page.route(re.compile("/frames/"), lambda route: route.abort())
        home = opened(page, link) if link else visited[1]
        page.goto(f"{home}/studies/{shared.made.study}/images")
        page.locator("canvas").wait_for()
        if not no_frames:
            open_series(page, series)
        return page

    yield view
    assert [error for error in errors if "/ohif/" not in error] == []
    for context in contexts:
        assert len(context.pages) == 1  # no pop-up and no new window: WeChat has none
        context.close()
    strangers = [
        request.url
        for request in requests
        if not request.url.startswith((shared.server.url, "data:", "blob:"))
    ]
    assert strangers == []


def open_series(page: Page, name: str) -> None:
    """Open a series and wait for the stored values of its middle image."""
    button = page.locator("[data-open-series]", has_text=name)
    uid = button.get_attribute("data-open-series")
    button.click()
    page.locator("[data-where]", has_text=name).wait_for()
    page.locator(f'.canvas:not(.second)[data-series="{uid}"][data-pixels="true"]').wait_for()


def canvas_of(page: Page) -> Locator:
    """The first pane."""
    return page.locator(".canvas:not(.second)")


def shows(page: Page, number: int, pixels: str = "true", pane: str = ":not(.second)") -> None:
    """Wait until a pane shows the image of this number."""
    page.locator(f'.canvas{pane}[data-at="{number}"][data-pixels="{pixels}"]').wait_for()


def place(
    page: Page,
    column: float,
    row: float,
    tall: float = ROW_MM / COLUMN_MM,
    size: tuple[int, int] = (256, 256),
) -> tuple[float, float]:
    """Where a point of the whole, unturned image is on the page."""
    return places(page, [(column, row)], tall, size)[0]


def places(
    page: Page, points: list[tuple[float, float]], tall: float = ROW_MM / COLUMN_MM,
    size: tuple[int, int] = (256, 256),
) -> list[tuple[float, float]]:  # fmt: skip
    """Where some points of the whole, unturned image are on the page."""
    box = canvas_of(page).bounding_box()
    assert box
    columns, rows = size
    scale = min(box["width"] / columns, box["height"] / (rows * tall))
    return [
        (
            box["x"] + box["width"] / 2 + (column - columns / 2) * scale,
            box["y"] + box["height"] / 2 + (row - rows / 2) * scale * tall,
        )
        for column, row in points
    ]


def drag(page: Page, first: tuple[float, float], last: tuple[float, float], button: Any = "left") -> None:
    page.mouse.move(*first)
    page.mouse.down(button=button)
    page.mouse.move(*last, steps=4)
    page.mouse.up(button=button)


def measured(page: Page, said: str) -> str:
    found = page.locator("[data-measured]", has_text=said)
    found.wait_for(state="attached")
    return found.text_content() or ""


def redrawn(page: Page) -> None:
    """Two frames of the browser later."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")


def canvas_pixels(page: Page, selector: str = ".canvas:not(.second)") -> Any:
    """A canvas as it is drawn, rows x columns x 3, and its device pixels for each CSS pixel."""
    data = page.evaluate(
        """selector => new Promise(done => requestAnimationFrame(() => {
        const canvas = document.querySelector(selector);
        done(canvas.toDataURL('image/png')); }))""",
        selector,
    )
    png = base64.b64decode(data.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


def settled(page: Page) -> None:
    """The canvas fills its place, twice in a row: what the page shows later moves it."""
    before: object = None
    for _ in range(200):
        box, shape = canvas_of(page).bounding_box(), canvas_pixels(page).shape
        assert box
        is_filled = abs(shape[0] / box["height"] - shape[1] / box["width"]) < 0.01
        if is_filled and (box, shape) == before:
            return
        before = box, shape
        redrawn(page)
    raise AssertionError("the canvas does not come to rest")


def colours_at(page: Page, places: list[tuple[float, float]]) -> Any:
    """The colours of the first pane at some places of the page."""
    box = canvas_of(page).bounding_box()
    assert box
    pixels = canvas_pixels(page)
    ratio = pixels.shape[1] / box["width"]
    return np.array([pixels[int((y - box["y"]) * ratio), int((x - box["x"]) * ratio)] for x, y in places])


def grey_at(page: Page, points: list[tuple[int, int]], **shape: Any) -> Any:
    """The grey levels of the canvas at the middle of some pixels."""
    settled(page)
    middles = [(column + 0.5, row + 0.5) for column, row in points]
    return colours_at(page, places(page, middles, **shape))[:, 0]


def is_inked(page: Page, at: tuple[float, float]) -> bool:
    """Whether a line that others drew passes a place of the page, to a pixel."""
    around = colours_at(page, [(at[0], at[1] + down) for down in (-1, 0, 1)])
    return bool(np.abs(around - OTHERS_INK).max(axis=1).min() < 60)


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
def test_grey_levels_and_millimetres_are_the_phantoms(viewing: Viewing, size: str, language: str) -> None:
    page = viewing(size, language)
    assert canvas_of(page).get_attribute("data-form") == "htj2k"  # lossless, decoded in a worker
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


def test_windows_turns_and_keys(viewing: Viewing) -> None:
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
    shows(page, 4)
    drag(page, place(page, 128, 200), (place(page, 128, 200)[0], place(page, 128, 200)[1] - 17))
    shows(page, 2)


def test_tools_come_in_the_order_that_their_user_chose(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN")

    def listed() -> list[str]:
        found: list[str] = page.locator(".viewer-tools [data-tool]").evaluate_all(
            "all => all.map(each => each.dataset.tool)"
        )
        return found

    usual = listed()
    assert page.evaluate("localStorage.length") == 0
    page.locator("[data-tool=arrange]").click()
    page.get_by_text("依次点按").wait_for()
    check(page)
    for tool in ("invert", "angle"):
        page.locator(f"[data-tool={tool}]").click()
    page.locator("[data-tool=arrange]", has_text="完成").click()
    assert listed() == ["invert", "angle", *(each for each in usual if each not in ("invert", "angle"))]
    assert page.locator("[data-tool=angle]").get_attribute("aria-pressed") == "false"  # nothing was done
    assert np.median(np.abs(grey_at(page, GRID) - truth(windowed(3)))) <= 1

    page.reload()
    page.locator("[data-tool=invert]").wait_for()
    assert listed()[:2] == ["invert", "angle"]
    page.locator("[data-tool=arrange]").click()
    page.locator("[data-tool=arrange]").click()
    assert listed() == usual
    assert page.evaluate("localStorage.length") == 0


def test_what_has_no_spacing_is_said_to_be_uncalibrated(viewing: Viewing) -> None:
    page = viewing("phone", "en-US", "无刻度")
    page.locator(".viewer-info", has_text="not calibrated").wait_for()
    page.locator("[data-tool=distance]").click()
    drag(page, place(page, 60, 60, 1), place(page, 160, 60, 1))
    found = measured(page, "px not calibrated")
    assert abs(float(found.split()[0]) - 100) <= 2


def test_the_page_stays_small_and_volumes_come_only_when_asked_for(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN")
    sizes = page.evaluate(
        """performance.getEntriesByType('resource').filter(each => /\\/(ui|assets)\\//.test(each.name))
        .map(each => [each.name, each.encodedBodySize])"""
    )
    assert not [name for name, _ in sizes if "cornerstone" in name]
    before_first_image = [
        size for name, size in sizes if "openjph" not in name and "decode_worker" not in name
    ]
    assert 0 < sum(before_first_image) < 60_000
    assert sum(size for _, size in sizes) < 170_000  # with the decoder of lossless images


def test_what_reports_and_other_objects_say_of_images_is_shown_and_leads_there(viewing: Viewing) -> None:
    page = viewing("desktop", "zh-CN", "胸片")
    page.locator("[data-key=report]", has_text="箭头处").click()
    shows(page, 1)
    page.locator("[data-key=KO]", has_text="右上肺结节").click()
    shows(page, 2)

    page.locator("[data-key=PR]", has_text="BONE").click()
    shows(page, 4)
    page.locator(".viewer-info", has_text="窗位 500 窗宽 2000").wait_for()
    assert "见箭头" in measured(page, "见箭头")
    corner, beside = place(page, 60, 40), place(page, 60, 50)
    assert is_inked(page, corner)
    assert not is_inked(page, beside)
    page.locator("[data-tool=notes]").click()
    redrawn(page)
    assert not is_inked(page, corner)
    page.locator("[data-tool=notes]").click()

    page.locator("[data-key=SR]").click()
    shows(page, 5)
    assert measured(page, "Length") == f"Length {LENGTH_MM} mm"
    assert is_inked(page, place(page, 112, 100))
    check(page)


def test_from_the_report_to_the_image_that_it_points_to(viewing: Viewing, visited: tuple[Any, str]) -> None:
    page = viewing("phone", "zh-CN")
    page.goto(visited[1])
    page.locator("a.exam", has_text="体模").first.click()
    page.locator(".pointed a", has_text="箭头处").click()
    shows(page, 1)
    assert page.locator('[data-open-series][aria-pressed="true"]').inner_text().strip().startswith("轴位")


def drawn_by_server(shared: Shared) -> Any:
    """The radiograph as the server draws it by its presentation state: grey levels."""
    archive, made = shared.rooms.archive, shared.made
    image, state = (
        find_instance(
            archive, operator("MAIN"), made.study, str(each.SeriesInstanceUID), str(each.SOPInstanceUID)
        )
        for each in (made.radiograph, made.shuttered)
    )
    drawn = render_frame(archive, image, 1, Rendering(media_type=PNG), state)
    return np.asarray(Image.open(io.BytesIO(drawn.data)).convert("L"), dtype=int)


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_a_presentation_state_is_shown_as_the_server_draws_it(
    shared: Shared, viewing: Viewing, size: str
) -> None:
    page = viewing(size, "zh-CN", "胸片")
    page.locator("[data-key=PR]", has_text="SHUTTER").click()
    page.locator(".viewer-info", has_text="窗位 2000 窗宽 3000").wait_for()
    settled(page)
    wanted = drawn_by_server(shared)
    rows, columns = wanted.shape
    grid = [(column, row) for column in range(3, columns - 3, 3) for row in range(3, rows - 3, 3)]
    middles = [(column + 0.5, row + 0.5) for column, row in grid]
    drawn = colours_at(page, places(page, middles, 1.0, (columns, rows)))
    server = np.array([wanted[row, column] for column, row in grid])
    is_others = (np.abs(drawn - OTHERS_INK).max(axis=1) < 60) & (server > 250)
    apart = np.abs(drawn[:, 0] - server)
    assert wanted.shape == (145, 160)  # turned on its side
    assert {64, 255} <= set(np.unique(wanted))  # covered, and drawn upon
    assert np.mean(apart[~is_others] <= 3) > 0.95
    assert 4 < is_others.sum() < 60

    page.locator("[data-tool=reset]").click()
    page.locator(".viewer-info", has_text="窗位 2048 窗宽 4096").wait_for()
    square: dict[str, Any] = {"tall": 1.0, "size": (160, 200)}
    corner, middle = grey_at(page, [(155, 195), (110, 70)], **square)
    assert corner > 240  # the shutter went with its state
    assert middle < 10


@pytest.mark.parametrize(("size", "language"), [("phone", "zh-CN"), ("desktop", "en-US")])
def test_an_earlier_examination_stands_beside_and_scrolls_along(
    viewing: Viewing, size: str, language: str
) -> None:
    page = viewing(size, language)
    page.locator("[data-tool=compare]").click()
    second = page.locator(".canvas.second")
    second.wait_for()
    beside = page.locator("[data-beside] option:checked")
    assert "2025-03-01 · 去年的 CT" in (beside.text_content() or "")
    said = {"zh-CN": "按距离联动", "en-US": "linked by distance"}[language]
    page.locator(".viewer-info.second", has_text=said).wait_for()
    shows(page, 3)
    shows(page, 5, pane=".second")
    check(page)

    page.locator("[data-screen]").focus()
    page.keyboard.press("ArrowDown")  # 5 mm towards the feet; 2.5 mm from slice to slice over there
    shows(page, 4)
    shows(page, 3, pane=".second")
    box = second.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -100)
    shows(page, 2, pane=".second")
    page.mouse.wheel(0, -100)
    shows(page, 1, pane=".second")
    shows(page, 5)

    page.locator("[data-tool=link]").click()
    page.locator("[data-screen]").focus()
    page.keyboard.press("ArrowUp")
    shows(page, 4)
    redrawn(page)
    shows(page, 1, pane=".second")
    page.locator("[data-tool=distance]").click()
    centre = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    scale = min(box["width"], box["height"]) / 256  # the earlier one's pixels are square, of 1 mm
    drag(page, centre, (centre[0] + 40 * scale, centre[1]))
    assert abs(float(measured(page, "mm").split()[0]) - 40) <= 1
    page.locator("[data-tool=compare]").click()
    second.wait_for(state="detached")


def test_two_fingers_zoom_and_move_and_one_that_stays_turns_no_page(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN")
    devtools = page.context.new_cdp_session(page)
    x, y = place(page, 128, 128)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        listed = [{"x": at_x, "y": at_y, "id": number} for number, (at_x, at_y) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": listed})

    touch("touchStart", (x - 30, y), (x + 30, y))
    for wide in (40, 50, 60):
        touch("touchMove", (x - wide, y), (x + wide, y))
    redrawn(page)
    # Twice as large about the middle: what stands 40 pixels from the middle now stood 20 from it.
    points = [(column, row) for column in range(70, 190, 7) for row in range(70, 190, 7)]
    wanted = [windowed(3)[128 + (row - 128) // 2, 128 + (column - 128) // 2] for column, row in points]
    assert np.median(np.abs(grey_at(page, points) - np.array(wanted))) <= 3

    for down in (10, 20, 30):
        touch("touchMove", (x - 60, y + down), (x + 60, y + down))
    redrawn(page)
    box = canvas_of(page).bounding_box()
    assert box
    shift = 30 / min(box["width"] / 256, box["height"] / (256 * ROW_MM / COLUMN_MM)) * COLUMN_MM / ROW_MM
    points = [(column, row + round(shift)) for column in range(70, 190, 7) for row in range(70, 170, 7)]
    wanted = [
        windowed(3)[128 + round((row - shift - 128) / 2), 128 + (column - 128) // 2] for column, row in points
    ]
    assert np.median(np.abs(grey_at(page, points) - np.array(wanted))) <= 4

    touch("touchMove", (x - 60, y + 90))
    touch("touchEnd")
    redrawn(page)
    shows(page, 3)


def test_the_mouse_windows_with_its_right_and_moves_with_its_middle_button(viewing: Viewing) -> None:
    page = viewing("desktop", "en-US")
    x, y = place(page, 128, 128)
    box = canvas_of(page).bounding_box()
    assert box
    scale = min(box["width"] / 256, box["height"] / (256 * ROW_MM / COLUMN_MM))
    drag(page, (x, y), (x + 24 * scale, y), "middle")
    redrawn(page)
    points = [(column, row) for column in range(40, 250, 8) for row in range(8, 256, 8)]
    wanted = [windowed(3)[row, column - 24] for column, row in points]
    assert np.median(np.abs(grey_at(page, points) - np.array(wanted))) <= 2
    page.mouse.dblclick(x, y)
    redrawn(page)
    assert np.median(np.abs(grey_at(page, GRID) - truth(windowed(3)))) <= 1
    page.keyboard.down("Control")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    redrawn(page)
    shows(page, 3)  # that zoomed, and turned no page
    assert (
        np.mean(np.abs(grey_at(page, GRID) - truth(windowed(3)))) > 1
    )  # most of it is air, before and after
    drag(page, (x, y), (x + 64, y + 32), "right")
    found = page.locator(".viewer-info", has_text=re.compile(r"width [5-9]\d\d"))
    found.wait_for()
    center, width = map(int, re.findall(r"-?\d+", found.text_content() or "")[:2])
    assert width > 500
    assert center > 60


def test_cine_runs_at_the_chosen_speed_and_stops(viewing: Viewing) -> None:
    page = viewing("desktop", "zh-CN", "心动")
    shows(page, 7)
    page.locator("[data-speed]").select_option(label="每秒 10 幅")
    page.locator("[data-screen]").focus()
    page.keyboard.press(" ")
    page.locator("[data-tool=play]", has_text="停止").wait_for()
    for number in (11, 2, 8):  # around the end, and on
        page.locator(f'.canvas[data-at="{number}"]').wait_for()
    page.keyboard.press(" ")
    page.locator("[data-tool=play]", has_text="播放").wait_for()
    stopped = canvas_of(page).get_attribute("data-at")
    redrawn(page)
    assert canvas_of(page).get_attribute("data-at") == stopped


def test_a_region_of_an_ultrasound_image_measures_and_what_lies_outside_does_not(viewing: Viewing) -> None:
    page = viewing("desktop", "en-US", "心动")
    square: dict[str, Any] = {"tall": 1.0, "size": (128, 128)}
    page.locator("[data-tool=distance]").click()
    drag(page, place(page, 30, 40, **square), place(page, 80, 40, **square))
    assert abs(float(measured(page, "mm").split()[0]) - 10) <= 0.3
    page.locator("[data-tool=clear]").click()
    drag(page, place(page, 5, 40, **square), place(page, 80, 40, **square))
    assert measured(page, "not calibrated").split()[1] == "px"


def test_sizes_on_a_radiograph_are_said_to_be_those_at_the_detector(viewing: Viewing) -> None:
    page = viewing("phone", "en-US", "胸片")
    page.locator(".viewer-info", has_text="at the detector").wait_for()
    square: dict[str, Any] = {"tall": 1.0, "size": (160, 200)}
    page.locator("[data-tool=distance]").click()
    drag(page, place(page, 30, 40, **square), place(page, 130, 40, **square))
    found = measured(page, "at the detector")
    assert abs(float(found.split()[0]) - 20) <= 0.3
    listed = page.locator("[data-presets] option").all_text_contents()
    assert {"Bone detail", "Lung field"} <= set(listed)
    page.locator("[data-presets]").select_option(label="Bone detail")
    page.locator(".viewer-info", has_text="width 2253").wait_for()


def test_padding_is_no_value_and_is_left_out_of_the_window(viewing: Viewing) -> None:
    page = viewing("desktop", "en-US", "填充")
    page.locator(".viewer-info", has_text="Level 164 width 128").wait_for()
    square: dict[str, Any] = {"tall": 1.0, "size": (128, 128)}
    wanted = np.arange(128) / 127 * 255
    drawn = grey_at(page, [(column, 64) for column in range(4, 128, 8)], **square)
    assert np.median(np.abs(drawn - wanted[4::8])) <= 2
    page.locator("[data-screen]").focus()
    page.keyboard.press("i")
    redrawn(page)
    assert grey_at(page, [(20, 10), (100, 120)], **square).max() == 0  # inverted, and still black
    page.locator("[data-tool=value]").click()
    page.mouse.click(*place(page, 20.5, 10.5, **square))
    assert measured(page, "no value") == "no value here"
    page.mouse.click(*place(page, 20.5, 64.5, **square))
    assert measured(page, "120") == "120"
    page.locator("[data-tool=ellipse]").click()
    drag(page, place(page, 60, 16, **square), place(page, 64, 112, **square))
    assert abs(float(measured(page, "⌀").partition("⌀ ")[2].split()[0]) - 161.5) <= 1


def test_every_image_of_a_long_series_has_a_small_picture_before_its_own(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN", no_frames=True)
    page.locator(f'.canvas[data-overview="{VOLUME_SLICES}"]').wait_for()
    page.route(re.compile("/preview/"), lambda route: route.abort())
    page.locator("[data-screen]").focus()
    page.keyboard.press("Home")
    shows(page, 1, "overview")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.locator('.canvas[data-at="31"]').wait_for()
    page.locator("[data-slice]").fill("20")
    shows(page, 20, "overview")
    square: dict[str, Any] = {"tall": 1.0, "size": (VOLUME_SIDE, VOLUME_SIDE)}
    points = [(column, row) for column in range(1, VOLUME_SIDE, 3) for row in range(1, VOLUME_SIDE, 3)]
    lit = np.array([sphere_slice(19)[row, column] > 0 for column, row in points])
    grey = grey_at(page, points, **square)
    assert np.mean((grey > 120) == lit) > 0.95


def lit_extent(page: Page, plane: str) -> tuple[float, float, float]:
    """Width and height of what is bright in a plane of the volume, and the share of the canvas it fills."""
    pixels = canvas_pixels(page, f"[data-plane={plane}] canvas")[:, :, 0] > 150
    columns, rows = np.flatnonzero(pixels.mean(axis=0) > 0.02), np.flatnonzero(pixels.mean(axis=1) > 0.02)
    assert columns.size
    assert rows.size
    return float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1, float(pixels.mean())


def volume_of(page: Page, kind: str, state: str = "shown") -> Locator:
    """Open the volume of the series and wait for it."""
    page.locator(f"[data-tool={kind}]").click()
    found = page.locator(f".volume[data-volume={state}]")
    found.wait_for()
    return found


@pytest.mark.parametrize(("size", "language"), [("phone", "zh-CN"), ("desktop", "en-US")])
def test_planes_through_the_volume_keep_its_shape(viewing: Viewing, size: str, language: str) -> None:
    page = viewing(size, language, "球体")
    volume = volume_of(page, "mpr")
    said = volume.locator("[role=status]").inner_text()
    assert {"zh-CN": "不用于诊断", "en-US": "not for diagnosis"}[language] in said
    assert "3.00 × 3.00 × 4.00 mm" in said
    assert "interpolated" not in said
    assert "插值" not in said
    sizes = {plane: lit_extent(page, plane) for plane in ("axial", "sagittal", "coronal")}
    for wide, high, _ in sizes.values():  # a sphere is round from every side; voxels are not cubes
        assert abs(wide / high - 1) < 0.12
    widest = max(wide for wide, _, _ in sizes.values())
    box = page.locator("[data-plane=axial] canvas").bounding_box()
    assert box
    ratio = canvas_pixels(page, "[data-plane=axial] canvas").shape[1] / box["width"]
    per_mm = min(box["width"], box["height"]) * ratio / (VOLUME_SIDE * VOLUME_MM)
    assert 0.75 < widest / (2 * SPHERE_MM * per_mm) < 1.25  # the whole of the plane is to be seen
    check(page)

    page.go_back()
    volume.wait_for(state="detached")
    assert page.url.endswith("/images")
    shows(page, 17)


def test_the_volume_from_outside_turns_under_the_hand(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN", "球体")
    volume = volume_of(page, "volume")
    before = canvas_pixels(page, "[data-plane=volume] canvas")
    assert before.max() > 60
    check(page)
    page.locator("[data-presets]").nth(1).select_option(label="软组织")
    volume.locator("[data-tool=leave]").click()
    volume.wait_for(state="detached")
    assert page.url.endswith("/images")


def test_uneven_slices_are_said_to_be_interpolated_and_tilted_ones_refused(viewing: Viewing) -> None:
    page = viewing("desktop", "en-US", "不等距")
    volume = volume_of(page, "mpr")
    assert "slices lie 2.00 to 4.00 mm apart" in volume.locator("[role=status]").inner_text()
    page.keyboard.press("Escape")
    volume.wait_for(state="detached")
    open_series(page, "机架倾斜")
    refused = volume_of(page, "mpr", "refused")
    assert "tilted gantry" in refused.locator("[role=status]").inner_text()
    assert page.locator("[data-plane]").count() == 0
    check(page)
    refused.locator("[data-tool=leave]").click()
    refused.wait_for(state="detached")


def test_a_device_with_little_memory_gets_a_smaller_volume_and_is_told(viewing: Viewing) -> None:
    page = viewing("phone", "en-US", "球体")
    page.evaluate("Object.defineProperty(navigator, 'deviceMemory', {value: 0.002})")
    volume = volume_of(page, "mpr")
    said = volume.locator("[role=status]").inner_text()
    assert "reduced 2 times" in said
    assert "6.00 × 6.00 × 8.00 mm" in said
    wide, high, _ = lit_extent(page, "coronal")
    assert abs(wide / high - 1) < 0.2


def test_the_viewer_works_in_wechat_and_the_back_button_leads_out_of_a_volume(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN", user_agent=WECHAT)
    page.locator("[data-tool=compare]").click()
    page.locator(".canvas.second").wait_for()
    page.locator("[data-tool=compare]").click()
    open_series(page, "机架倾斜")
    refused = volume_of(page, "mpr", "refused")
    page.go_back()
    refused.wait_for(state="detached")
    shows(page, 4)


def test_the_visitor_stands_across_the_image(viewing: Viewing) -> None:
    page = viewing("phone", "zh-CN")
    every = [(column, row) for column in range(0, 256, 2) for row in range(0, 256, 2)]
    apart = np.abs(grey_at(page, every) - np.array([windowed(3)[row, column] for column, row in every]))
    assert 0.002 < np.mean(apart > 6) < 0.2
    assert page.locator("img.watermark").evaluate("image => image.naturalWidth > 0")


def test_the_end_of_a_share_closes_the_viewer(shared: Shared, viewing: Viewing) -> None:
    grant_id, link = shared.link()
    page = viewing("phone", "zh-CN", link=link)
    revoke_grant(shared.rooms.access, operator(), grant_id)
    with suppress(PlaywrightError):  # a request that was under way may have noticed already
        page.locator("[data-open-series]", has_text="填充").click(timeout=3000)
    page.locator("h1", has_text="链接已过期").wait_for()


def test_a_physician_opens_the_diagnostic_viewer_on_what_is_shared_and_nothing_else(
    shared: Shared, viewing: Viewing
) -> None:
    page = viewing("desktop", "zh-CN")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(shared.server.url)))
    page.locator("[data-tool=diagnostic]").click()
    page.locator("canvas.cornerstone-canvas").first.wait_for()
    data = [path for path in asked if "/dicomweb/" in path]
    assert data
    assert all(path.startswith("/share/") for path in data)
    mark = page.locator('img[src$="/watermark.svg"]')
    assert mark.evaluate("image => image.naturalWidth > 0")
