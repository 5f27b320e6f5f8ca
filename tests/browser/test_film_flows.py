"""Every page of a patient, of staff and of administrators, at each size and in both languages; what a page
weighs; WeChat's browser; signing in with a password; family."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, Page, Request, Route, expect
from sqlalchemy import select

from access.accounts import create_account
from access.caller import operator
from access.document_kind import current_document
from access.model import Account
from access.share_policy import SHARING
from access.site_documents import put_document
from messaging.gateways import put_gateways
from messaging.model import PushSubscription
from messaging.web_push import CURVE, bytes_of, point_of, public_key, text_of
from portal.qr_code import qr_file
from tests.browser.film import PASSWORD, SIZES, Site, check, claim, prove, sign_in, sign_in_staff
from tests.messaging.test_wechat import FakeWeChat

WECHAT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile MicroMessenger/8.0.42"
)
LOOKS = [(size, language) for size in SIZES for language in ("zh-CN", "en-US")]
MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def patient(site: Site, browser: Browser) -> dict[str, Any]:
    """The browser state of a patient who signed in and added itself."""
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(f"{site.server.url}/patient")
    sign_in(site, page)
    page.wait_for_url(re.compile(r":\d+/patient$"))
    if not page.locator(".exam").count():
        page.goto(f"{site.server.url}/patient/records")
        claim(page)
    state = dict(context.storage_state())
    context.close()
    return state


@pytest.mark.parametrize(("size", "language"), LOOKS)
def test_a_patient_walks_through_every_page_of_its_account(
    site: Site, opened: Callable[..., Page], patient: dict[str, Any], size: str, language: str
) -> None:
    page = opened(size, language, storage_state=patient)
    base = f"{site.server.url}/patient"
    page.goto(base)
    assert page.get_attribute("html", "lang") == {"zh-CN": "zh-CN", "en-US": "en"}[language]
    thumbnail = page.locator(".exam .thumb img")
    thumbnail.scroll_into_view_if_needed()
    thumbnail.evaluate(
        "each => each.decode()"
    )  # a wait for a condition would need eval, which our policy forbids
    check(page)

    page.locator(".exam").first.click()
    page.locator(".hero").wait_for()
    check(page)
    page.locator("article .actions a").first.click()
    page.locator("[data-print]").wait_for()
    check(page)
    page.goto(f"{base}/studies/{site.study}/images")
    page.locator("[data-image]").wait_for()
    check(page)
    for path in ("shares", "family", "seen", "messages", "records", "account", "nowhere"):
        page.goto(f"{base}/{path}") if path != "nowhere" else page.goto(f"{base}/reports/none")
        check(page)

    page.goto(f"{base}/share?study={site.study}")
    page.locator("[name=binding][value=passcode]").check()
    page.locator("label[data-for=passcode] input").fill("crane-77")
    check(page)
    page.locator("main form button.wide").first.click()
    page.locator("[data-made]").wait_for()
    check(page)
    page.goto(f"{base}/shares")
    alive = page.locator("button.danger").count()
    page.locator("button.danger").first.click()
    expect(page.locator("button.danger")).to_have_count(alive - 1)


def test_an_image_has_a_name_before_it_is_drawn(
    site: Site, opened: Callable[..., Page], patient: dict[str, Any]
) -> None:
    page = opened("tablet", storage_state=patient)
    page.add_init_script("window.requestAnimationFrame = act => setTimeout(act, 5000)")
    page.goto(f"{site.server.url}/patient/studies/{site.study}/images")
    page.locator(".canvas").wait_for(state="attached")
    check(page)


@pytest.mark.parametrize(("size", "language"), LOOKS)
def test_staff_and_administrators_walk_through_their_pages(
    site: Site, opened: Callable[..., Page], size: str, language: str
) -> None:
    page = opened(size, language)
    sign_in_staff(site, page, "/staff/shares")
    page.locator("[data-find]").fill("zhang")
    page.keyboard.press("Enter")
    page.locator("[data-found]").first.click()
    page.locator("[data-begin]").click()
    check(page)
    page.locator("[data-confirm]").click()
    page.locator("[data-made]").wait_for()
    check(page)
    page.locator("a[href$='/completeness']").click()
    page.locator("a[href$='.csv']").wait_for()
    check(page)
    page.goto(f"{site.server.url}/staff/labels")
    page.locator("input[name=accession_number]").fill(f"NEW-{size}-{language}")
    page.locator("button[value=page]").click()
    page.locator(".label-sheet img.qr").wait_for()
    check(page)

    for role, path in (
        ("security_administrator", "/admin/sharing"),
        ("system_administrator", "/admin/gateways"),
    ):
        page.context.clear_cookies()
        with site.rooms.database.transaction() as session:
            if session.scalar(select(Account).where(Account.login == role)) is None:
                create_account(site.rooms.access, session, operator(), role, PASSWORD, role)
        sign_in_staff(site, page, path, role)
        check(page)


@pytest.fixture
def policy(site: Site) -> Iterator[None]:
    """The site's share policy, put back as it was."""
    with site.rooms.database.snapshot() as session:
        before = current_document(session, SHARING)
    yield
    put_document(site.rooms.access, operator(), SHARING, before)


def test_an_administrator_changes_what_shares_may_do(
    site: Site, opened: Callable[..., Page], policy: None
) -> None:
    page = opened("desktop")
    with site.rooms.database.transaction() as session:
        create_account(site.rooms.access, session, operator(), "boss", PASSWORD, "security_administrator")
    sign_in_staff(site, page, "/admin/sharing", "boss")
    page.get_by_label("联系方式").fill("服务台 028-1234")
    page.get_by_label("所有人可打开的链接").select_option(label="否")
    page.get_by_role("button", name="保存").first.click()
    page.locator("[role=status]").wait_for()

    visitor = opened("phone")
    visitor.goto(f"{site.server.url}/share/expired")
    assert "服务台 028-1234" in visitor.inner_text("main")
    prove(site, visitor, site.paper())
    visitor.goto(f"{visitor.url}/share?study={site.study}")
    assert visitor.locator("[name=binding]").evaluate_all("all => all.map(each => each.value)") == [
        "phone", "account", "passcode"
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["", "/studies/{study}/images", "/share"])
def test_a_page_weighs_little(
    site: Site, opened: Callable[..., Page], patient: dict[str, Any], path: str
) -> None:
    """Document, styles and scripts as they cross the wire, the light viewer included; images come besides."""
    page = opened("phone", storage_state=patient)
    finished: list[Request] = []
    page.on("requestfinished", lambda request: finished.append(request))
    page.goto(f"{site.server.url}/patient{path.format(study=site.study)}", wait_until="networkidle")

    parts = [each for each in finished if each.resource_type in ("document", "stylesheet", "script")]
    weight = sum(each.sizes()["responseBodySize"] for each in parts)

    assert len(parts) >= 3
    assert weight < MOST_BYTES, [(each.url, each.sizes()["responseBodySize"]) for each in parts]


def test_wechats_browser_keeps_a_visit_and_goes_back_as_people_expect(
    site: Site, opened: Callable[..., Page]
) -> None:
    page = opened("phone", user_agent=WECHAT)
    link = site.paper()
    prove(site, page, link)
    home = page.url

    page.locator(".hero").click()
    page.locator("[data-image]").wait_for()
    page.go_back()
    page.locator(".hero").wait_for()
    assert page.url == home
    assert page.evaluate("history.length") <= 3  # the gate left nothing to go back to
    again = page.context.new_page()
    again.goto(link)  # the same chat message tapped later: no second code
    again.locator(".hero").wait_for()
    assert again.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0

    again.goto(f"{home}/share?study={site.study}")
    again.locator("[name=binding][value=bearer]").check()
    again.locator("main form button.wide").first.click()
    code = again.locator("img.qr")
    code.wait_for()
    made = again.inner_text("[data-link]")
    source = code.get_attribute("src") or ""
    assert base64.b64decode(source.partition(",")[2]) == qr_file(made, "png")
    assert code.evaluate("each => getComputedStyle(each).webkitTouchCallout ?? ''") != "none"
    site.secrets.append(made.partition("#")[2])


@pytest.fixture
def wechat(site: Site) -> Iterator[None]:
    """An official account of the site, at a fake of WeChat's endpoints."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeWeChat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    account = {"app_id": "wx1", "app_secret": "s3cret", "endpoint": f"http://127.0.0.1:{server.server_port}"}
    put_gateways(site.rooms.messaging, operator(), json.dumps({"wechat": account}))
    yield
    put_gateways(site.rooms.messaging, operator(), "{}")
    server.shutdown()
    server.server_close()


SDK = """
window.told = {};
window.wx = {config: given => { told.config = given; }, ready: act => act(),
  updateAppMessageShareData: card => { told.friend = card; },
  updateTimelineShareData: card => { told.moments = card; document.body.dataset.told = "1"; }};
"""


def test_a_share_to_a_friend_in_wechat_has_title_picture_and_our_link(
    site: Site, opened: Callable[..., Page], wechat: None
) -> None:
    page = opened("phone", user_agent=WECHAT)

    def sdk(route: Route) -> None:
        route.fulfill(body=SDK, content_type="text/javascript")

    page.route("https://res.wx.qq.com/**", sdk)
    prove(site, page, site.paper())
    page.goto(f"{page.url}/share?study={site.study}")
    page.locator("[name=binding][value=bearer]").check()
    page.locator("main form button.wide").first.click()
    page.locator("body[data-told]").wait_for()

    told = page.evaluate("told")
    made = page.inner_text("[data-link]")
    site.secrets.append(made.partition("#")[2])
    assert told["config"]["appId"] == "wx1"
    assert re.fullmatch("[0-9a-f]{40}", told["config"]["signature"])
    for card in (told["friend"], told["moments"]):
        assert (card["title"], card["link"]) == ("影像检查报告", made)
        picture = page.request.get(card["imgUrl"])
        assert (picture.status, picture.headers["content-type"]) == (200, "image/png")


def test_a_patient_chooses_a_password_and_signs_in_with_it(
    site: Site, opened: Callable[..., Page], patient: dict[str, Any]
) -> None:
    page = opened("phone", storage_state=patient)
    page.goto(f"{site.server.url}/patient/account")
    page.locator("input[name=new]").fill("Heron-am-See-42")
    page.locator("form:has(input[name=new]) button").click()
    page.locator("[role=status]").wait_for()
    check(page)

    other = opened("phone", "en-US")
    other.goto(f"{site.server.url}/patient/sign-in")
    other.locator("a[href^='/sign-in']").click()
    other.locator("#sign-in input[name=login]").fill("13812345678")
    other.locator("#sign-in input[name=password]").fill("Heron-am-See-42")
    other.locator("#sign-in button").first.click()
    check(other)
    before = len(site.server.output)
    other.locator("form[action='/sign-in/sms'] button").click()
    other.locator("input[name=code]").fill(site.code(before))
    other.locator("form[action='/sign-in/code'] button").first.click()
    other.wait_for_url(re.compile(r":\d+/patient$"))
    other.locator(".exam").wait_for()


def test_family_that_the_patient_named_opens_the_paper_code_until_it_is_taken_back(
    site: Site, opened: Callable[..., Page]
) -> None:
    page, link = opened("phone"), site.paper()
    prove(site, page, link)
    home = page.url
    page.goto(f"{home}/family")
    page.locator("input[name=name]").fill("张丽")
    page.locator("input[name=phone]").fill("13700001234")
    page.locator("select[name=relation]").select_option("child")
    page.locator("form:has(input[name=phone]) button.wide").click()
    page.get_by_text("137****1234").wait_for()
    check(page)

    child = opened("tablet", "en-US")
    prove(site, child, link, "137 0000 1234", "137****1234")
    page.locator("button.danger").click()
    page.get_by_text("137****1234").wait_for(state="detached")
    gone = child.reload()
    assert child.locator(".hero").count() == 0
    assert gone is not None
    assert gone.status == 410


SUBSCRIBES = """
PushManager.prototype.subscribe = async asked => {
  window.asked = btoa(String.fromCharCode(...new Uint8Array(asked.applicationServerKey)));
  return {toJSON: () => ({endpoint: 'https://8.8.8.8/push/browser-1', keys: %s})};
};
"""


SHOWN = """async () => {
  const found = await navigator.serviceWorker.ready;
  for (let tries = 0; tries < 30; tries++) {
    const all = await found.getNotifications();
    if (all.length) return all.map(each => [each.title, each.data]);
    await new Promise(done => setTimeout(done, 100));
  }
  return [];
}"""


def test_a_browser_that_asked_for_it_shows_what_is_pushed(
    site: Site, opened: Callable[..., Page], patient: dict[str, Any]
) -> None:
    """All but the push service: that is its maker's, and stands in `tests/messaging/test_channels.py`."""
    key = ec.generate_private_key(CURVE).public_key()
    keys = {"p256dh": text_of(point_of(key)), "auth": text_of(bytes(16))}
    page = opened("phone", storage_state=patient, permissions=["notifications"])
    page.add_init_script(SUBSCRIBES % json.dumps(keys))
    page.add_init_script("Object.defineProperty(Notification, 'permission', {get: () => 'default'})")
    devtools = page.context.new_cdp_session(page)
    workers: list[dict[str, Any]] = []
    devtools.on("ServiceWorker.workerRegistrationUpdated", lambda told: workers.extend(told["registrations"]))
    devtools.send("ServiceWorker.enable")
    page.goto(f"{site.server.url}/patient/messages")
    page.locator("[data-push-on]").click()
    page.locator("[data-push-on]", has_text="已开启").wait_for()

    assert bytes_of(public_key(site.rooms.keys)) == base64.b64decode(page.evaluate("asked"))
    with site.rooms.database.transaction() as session:
        kept = session.scalars(select(PushSubscription)).one()
        session.delete(kept)

    told = {"title": "报告已发布", "link": "/patient/messages"}
    page.evaluate("navigator.serviceWorker.ready.then(found => found.active.scriptURL)")
    push = {
        "origin": site.server.url,
        "registrationId": workers[0]["registrationId"],
        "data": json.dumps(told),
    }
    # What is pushed while the worker has only just begun may be dropped: a push service sends it again.
    for _ in range(10):
        devtools.send("ServiceWorker.deliverPushMessage", push)
        if shown := page.evaluate(SHOWN):
            break
    assert shown[0] == [told["title"], told["link"]]
