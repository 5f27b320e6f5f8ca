"""A security key in Chromium (its virtual authenticator): made, asked for, not fooled."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page

from tests.live import LiveServer

PASSWORD = "Correct-Horse-7"
GIVEN = "Given-Horse-6"
KEY = {
    "protocol": "ctap2", "transport": "usb", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest.fixture
def person(live_server: LiveServer, browser: Browser) -> Iterator[tuple[BrowserContext, Page, CDPSession]]:
    """A browser of its own, with a key in it."""
    context = browser.new_context(locale="en-US", base_url=f"http://localhost:{live_server.http_port}")
    page = context.new_page()
    devices = context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
    yield context, page, devices
    context.close()


def sign_in(page: Page, login: str, password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    form = page.locator("#sign-in")
    form.get_by_label("Name").fill(login)
    form.get_by_label("Password").fill(password)
    form.get_by_role("button", name="Sign in").click()


def add_account(server: LiveServer, page: Page, login: str) -> None:
    """Add an account whose holder has chosen PASSWORD in place of the one that it was given."""
    server.command("account", "add", login, "--role", "radiologist", "--password", GIVEN)
    sign_in(page, login, GIVEN)
    page.wait_for_url(re.compile("/my/password"))
    form = page.locator("form", has=page.locator("input[name=old]"))
    form.locator("input[name=old]").fill(GIVEN)
    form.locator("input[name=new]").fill(PASSWORD)
    form.get_by_role("button").click()
    page.get_by_text("Done").wait_for()
    page.context.clear_cookies()


def add_key(page: Page) -> None:
    page.goto("/my/factor")
    page.get_by_label("Name of the key").fill("Blue key")
    page.get_by_role("button", name="Add a security key").click()
    page.get_by_role("cell", name="Blue key").wait_for()


def test_a_key_is_added_and_completes_the_next_sign_in(
    live_server: LiveServer, person: tuple[BrowserContext, Page, CDPSession]
) -> None:
    context, page, _ = person
    add_account(live_server, page, "keyholder")
    sign_in(page, "keyholder")
    page.wait_for_url(re.compile("/ohif/"))
    add_key(page)
    context.clear_cookies()

    sign_in(page, "keyholder")
    page.get_by_role("heading", name="Second factor").wait_for()
    assert page.request.get("/my/access", max_redirects=0).status == 303  # the password alone opens nothing
    page.get_by_role("button", name="Use the security key").click()
    page.wait_for_url(re.compile("/ohif/"))
    assert page.request.get("/my/access", max_redirects=0).status == 200

    page.goto("/my/factor")  # from a session begun with the key, the key may be taken away
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("Nothing here.").wait_for()


def test_a_recorded_answer_and_a_strange_key_are_refused(
    live_server: LiveServer, person: tuple[BrowserContext, Page, CDPSession]
) -> None:
    context, page, _ = person
    add_account(live_server, page, "target")
    sign_in(page, "target")
    page.wait_for_url(re.compile("/ohif/"))
    add_key(page)
    context.clear_cookies()
    sent: list[Any] = []
    page.on(
        "request",
        lambda each: sent.append(each.post_data_json) if each.url.endswith("/sign-in/key") else None,
    )
    sign_in(page, "target")
    page.get_by_role("button", name="Use the security key").click()
    page.wait_for_url(re.compile("/ohif/"))
    context.clear_cookies()

    sign_in(page, "target")
    page.get_by_role("heading", name="Second factor").wait_for()
    own_page = {"Sec-Fetch-Site": "same-origin"}
    replayed = page.request.post("/sign-in/key", data=sent[0], headers=own_page)
    assert replayed.status == 401
    wrong: dict[str, Any]
    for wrong in (
        {},
        {"answer": 1},
        {"answer": {"response": {}}},
        {"answer": {"response": {"clientDataJSON": "e30"}}},
    ):
        assert page.request.post("/sign-in/key", data=wrong, headers=own_page).status == 401
    assert page.request.get("/my/access", max_redirects=0).status == 303
