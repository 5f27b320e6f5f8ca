"""WeChat: signatures by its published vectors, sign-in and messages against a fake of its endpoints."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from flask.testing import FlaskClient

from access.caller import Caller
from access.caller import operator as operator_of
from access.grants import Terms
from archive.shares import share_studies
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from messaging.gateways import put_gateways
from messaging.send import deliver_message, queue_message
from messaging.wechat import js_sdk_signature
from tests.sharing import PHONE, last_code, two_patients

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
TICKET = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg"


class FakeWeChat(BaseHTTPRequestHandler):
    """The endpoints that we use, as WeChat documents them."""

    tokens: ClassVar[int] = 0
    codes: ClassVar[dict[str, dict[str, Any]]] = {}
    messages: ClassVar[list[dict[str, Any]]] = []
    paths: ClassVar[list[str]] = []
    expired_once: ClassVar[bool] = False

    def do_GET(self) -> None:
        """oauth2/access_token, userinfo, getticket."""
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/sns/oauth2/access_token":
            known = query["appid"] == "wx1" and query["secret"] == "s3cret"
            told = self.codes.pop(query["code"], None) if known else None
            return self.answer(told or {"errcode": 40029, "errmsg": "invalid code"})
        if parts.path == "/sns/userinfo":
            return self.answer({"openid": query["openid"], "nickname": "小张"})
        if parts.path == "/cgi-bin/ticket/getticket" and query["access_token"] == f"token-{self.tokens}":
            return self.answer({"errcode": 0, "ticket": TICKET, "expires_in": 7200})
        return self.answer({"errcode": 40001})

    def do_POST(self) -> None:
        """stable_token, message/template/send."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/cgi-bin/stable_token":
            if body["secret"] != "s3cret":
                return self.answer({"errcode": 40125})
            FakeWeChat.tokens += 1
            return self.answer({"access_token": f"token-{self.tokens}", "expires_in": 7200})
        if FakeWeChat.expired_once:
            FakeWeChat.expired_once = False
            return self.answer({"errcode": 42001})
        self.messages.append(body)
        self.paths.append(self.path)
        return self.answer({"errcode": 0, "msgid": 55})

    def answer(self, told: dict[str, Any]) -> None:
        """As JSON."""
        content = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def wechat(rooms: Rooms, operator: Caller) -> Iterator[str]:
    FakeWeChat.tokens, FakeWeChat.expired_once = 0, False
    FakeWeChat.codes.clear()
    FakeWeChat.messages.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeWeChat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    document = {"wechat": {"app_id": "wx1", "app_secret": "s3cret", "endpoint": url,
                           "files": {"MP_verify_abc.txt": "abc"},
                           "templates": {"report-ready": {"id": "T1",
                                                          "fields": {"thing1": "{exam}"}}}}}  # fmt: skip
    put_gateways(rooms.messaging, operator, json.dumps(document))
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        ("http://mp.weixin.qq.com", "f4d90daf4b3bca3078ab155816175ba34c443a7b"),
        ("http://mp.weixin.qq.com?params=value", "0f9de62fce790f9a083d5c99e95740ceb90c27ed"),
    ],
)
def test_the_js_sdk_signature_is_that_of_the_published_vectors(url: str, signature: str) -> None:
    assert js_sdk_signature(TICKET, "Wm3WZYTPz0wzccnW", 1414587457, url) == signature
    assert js_sdk_signature(TICKET, "Wm3WZYTPz0wzccnW", 1414587457, f"{url}#secret") == signature


def go(
    browser: FlaskClient, openid: str, code: str, scope: str = "snsapi_base", purpose: str = "sign-in"
) -> str:
    """To WeChat and back with a code for this openid; where the browser ends."""
    asked = {"scope": "userinfo"} if scope == "snsapi_userinfo" else {}
    there = browser.get("/wechat/sign-in", query_string={**asked, "for": purpose}).headers["Location"]
    parts = urlsplit(there)
    query = parse_qs(parts.query)
    assert list(query) == ["appid", "redirect_uri", "response_type", "scope", "state"]  # their order matters
    assert (query["scope"], parts.fragment) == ([scope], "wechat_redirect")
    assert query["state"][0].isalnum()
    FakeWeChat.codes[code] = {"openid": openid, "access_token": "at", "scope": scope}
    return str(browser.get(f"/wechat/return?code={code}&state={query['state'][0]}").headers["Location"])


def test_an_openid_signs_in_only_who_proved_a_phone_before(
    rooms: Rooms, browser: FlaskClient, wechat: str
) -> None:
    two_patients(rooms)
    assert go(browser, "o-1", "code-1") == "/patient/sign-in"
    assert browser.get("/patient").status_code == 303
    browser.post("/patient/sign-in/code", json={"phone": PHONE}, headers=OWN_PAGE)
    browser.post("/patient/sign-in/enter", json={"code": last_code(rooms)}, headers=OWN_PAGE)

    again = create_app(rooms).test_client()
    assert go(again, "o-1", "code-2", "snsapi_userinfo") == "/patient"
    assert again.get("/patient").status_code == 200
    other = create_app(rooms).test_client()
    assert go(other, "o-2", "code-3") == "/patient/sign-in"


def test_a_share_for_a_wechat_user_is_the_first_ones_who_opens_it(rooms: Rooms, wechat: str) -> None:
    study, *_ = two_patients(rooms)
    made = share_studies(rooms.archive, rooms.access, operator_of("MAIN"), (study,), Terms(binding="wechat"))
    app = create_app(rooms)

    def come(openid: str) -> tuple[FlaskClient, int]:
        browser = app.test_client()
        step = browser.post("/share/begin", json={"secret": made.secret}, headers=OWN_PAGE).get_json()["step"]
        assert step == "wechat"
        if openid:
            assert go(browser, openid, f"code-{openid}", purpose="share") == "/share?go=wechat"
        answer = browser.post("/share/enter", json={"wechat": True}, headers=OWN_PAGE)
        return browser, answer.status_code

    assert come("")[1] == 401  # no WeChat user, and so not the first one
    first, status = come("o-1")
    assert status == 200
    assert first.get("/patient").status_code == 303  # it is let in to the share, and signed in to nothing
    assert come("o-2")[1] == 401
    assert come("o-1")[1] == 200


def test_a_way_back_that_another_browser_began_is_refused(browser: FlaskClient, wechat: str) -> None:
    FakeWeChat.codes["code-1"] = {"openid": "o-1", "scope": "snsapi_base"}

    assert browser.get("/wechat/return?code=code-1&state=").status_code == 422
    assert browser.get("/wechat/return?code=code-1&state=forged").status_code == 422


def test_our_pages_are_signed_and_no_others_and_tickets_are_borrowed_once(
    browser: FlaskClient, wechat: str
) -> None:
    first = browser.get("/wechat/config?url=http://localhost/share/x?a=b")
    second = browser.get("/wechat/config?url=http://localhost/patient%23x")

    assert (first.status_code, second.status_code) == (200, 200)
    told = first.get_json()
    expected = js_sdk_signature(TICKET, told["nonceStr"], told["timestamp"], "http://localhost/share/x?a=b")
    assert (told["appId"], told["signature"]) == ("wx1", expected)
    assert FakeWeChat.tokens == 1
    assert browser.get("/wechat/config?url=https://evil.example.org/").status_code == 404
    assert browser.get("/MP_verify_abc.txt").get_data(as_text=True) == "abc"
    assert browser.get("/MP_verify_xyz.txt").status_code == 404


def test_a_template_message_goes_with_a_fresh_token_when_the_old_one_is_over(
    rooms: Rooms, wechat: str
) -> None:
    FakeWeChat.expired_once = True
    with rooms.database.transaction() as session:
        message_id = queue_message(
            rooms.messaging, session, "wechat", "o-1", "report-ready", {"exam": "胸部 CT", "link": "/patient"}
        )

    deliver_message(rooms.messaging, message_id)

    assert FakeWeChat.tokens == 2
    sent = FakeWeChat.messages[0]
    assert (sent["touser"], sent["template_id"]) == ("o-1", "T1")
    assert sent["data"] == {"thing1": {"value": "胸部 CT"}}


def test_without_an_official_account_wechat_is_not_there(browser: FlaskClient) -> None:
    assert browser.get("/wechat/sign-in").status_code == 422
    assert browser.get("/wechat/config?url=http://localhost/").status_code == 404
