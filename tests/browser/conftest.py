"""A headless Chromium without a graphics card."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from tests.browser.film import SIZES, Site, film_site
from tests.live import LiveServer

FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-gpu-rasterization",  # the emulated graphics card is for WebGL: pages draw faster without
    "--disable-gpu-compositing",
    "--disable-accelerated-2d-canvas",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as this machine has it; its driver holds an event loop, so it is closed after each module."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "the browser tests need Chromium (apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(live_server: LiveServer, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The browser state of the first account, made on the page that the server's start pointed to."""
    link = re.search(r"http://\S+/sign-in#\S+", live_server.output)
    assert link, live_server.output
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(link[0].replace("localhost", "127.0.0.1"))
    page.locator("#set-up").get_by_label("用户名").fill("admin")
    page.locator("#set-up").get_by_label("密码").fill("Kunpeng-2026")
    page.get_by_role("button", name="创建并登录").click()
    page.wait_for_url(re.compile("/ohif/"))
    state = tmp_path_factory.mktemp("signed-in") / "state.json"
    context.storage_state(path=state)
    context.close()
    return state


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for every module that looks at the film pages."""
    with film_site(tmp_path_factory.mktemp("pages")) as found:
        yield found


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
        seen = f"{request.url.partition('#')[0]} {request.headers.get('referer', '')}"
        assert not any(secret in seen for secret in site.secrets), seen
    for context in contexts:
        context.close()
