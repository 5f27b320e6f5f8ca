"""A headless Chromium without a graphics card."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.live import LiveServer

FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
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
