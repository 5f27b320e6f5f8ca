"""SMS gateways: signatures against the providers' own SDKs, fail-over, retry, reports, sealed secrets."""

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import alibabacloud_tea_openapi.utils as aliyun_sdk
import pytest
from darabonba.core import DaraRequest
from sqlalchemy import select
from tencentcloud.common.abstract_client import AbstractClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.http.request import RequestInternal

from access.accounts import create_account
from access.caller import Caller
from access.second_factor import set_phone
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from messaging import aliyun, tencent
from messaging.gateways import GATEWAYS, InvalidGateways, check_gateways, put_gateways
from messaging.model import OutboundMessage
from messaging.send import NotSent, SmsSender, deliver_message, queue_message

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
PHONE = "+8613812345678"
QUERY = {"PhoneNumbers": "13812345678", "SignName": "某某医院", "TemplateCode": "SMS_1",
         "TemplateParam": '{"code":"123456","minutes":"5"}'}  # fmt: skip


class Provider(BaseHTTPRequestHandler):
    """A provider that answers what it is told to, and remembers what it was asked."""

    answers: ClassVar[list[tuple[int, Any]]] = []
    asked: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.path, dict(self.headers), body))
        status, answer = self.answers.pop(0)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def provider() -> Iterator[str]:
    Provider.answers.clear()
    Provider.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_aliyuns_signature_is_its_sdks() -> None:
    ours = aliyun.signed_headers("AKID", "secret", "dysmsapi.aliyuncs.com", "SendSms", QUERY, AT, "nonce-1")
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", dict(QUERY)
    request.headers = {name: value for name, value in ours.items() if name != "Authorization"}

    theirs = aliyun_sdk.Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", hashlib.sha256(b"").hexdigest(), "AKID", "secret"
    )

    assert ours["Authorization"] == theirs


def test_tencents_signature_is_its_sdks() -> None:
    payload = json.dumps({"PhoneNumberSet": [PHONE], "SignName": "某某医院"}, ensure_ascii=False).encode()
    ours = tencent.signed_headers("AKID", "secret", "sms.tencentcloudapi.com", payload, AT)
    headers = {name: value for name, value in ours.items() if name != "Authorization"}
    request = RequestInternal("sms.tencentcloudapi.com", "POST", "/", headers, payload)
    client = AbstractClient(Credential("AKID", "secret"), "")

    theirs = client._get_tc3_signature({}, request, AT.strftime("%Y-%m-%d"), "sms", "secret")

    assert ours["Authorization"].endswith(f"Signature={theirs}")


def message(rooms: Rooms, template: str = "sign-in-code", channel: str = "sms", to: str = PHONE) -> str:
    with rooms.database.transaction() as session:
        return queue_message(
            rooms.messaging, session, channel, to, template, {"code": "123456", "minutes": "5"}
        )


def state(rooms: Rooms, message_id: str) -> OutboundMessage:
    with rooms.database.snapshot() as session:
        row = session.get(OutboundMessage, message_id)
        assert row is not None
        return row


def gateways(rooms: Rooms, operator: Caller, provider: str) -> None:
    document = {
        "sms": [
            {"name": "main", "kind": "aliyun", "endpoint": provider, "access_key_id": "AKID",
             "access_key_secret": "geheim-1", "sign_name": "某某医院",
             "templates": {"sign-in-code": "SMS_1", "report-ready": "SMS_2"}},
            {"name": "spare", "kind": "tencent", "endpoint": provider, "secret_id": "AKID",
             "secret_key": "geheim-2", "sdk_app_id": "1400", "sign_name": "某某医院",
             "templates": {"sign-in-code": {"id": "77", "values": ["code", "minutes"]}}},
            {"name": "house", "kind": "http", "url": f"{provider}/sms", "secret": "geheim-3",
             "body": {"mobile": "{phone}", "content": "{text}"}},
        ]
    }  # fmt: skip
    put_gateways(rooms.messaging, operator, json.dumps(document))


def test_the_first_gateway_that_takes_a_message_has_it(rooms: Rooms, operator: Caller, provider: str) -> None:
    gateways(rooms, operator, provider)
    Provider.answers[:] = [
        (200, {"Code": "isv.BUSINESS_LIMIT_CONTROL"}),
        (200, {"Response": {"SendStatusSet": [{"Code": "Ok", "SerialNo": "serial-1"}]}}),
    ]
    message_id = message(rooms)

    deliver_message(rooms.messaging, message_id)
    deliver_message(rooms.messaging, message_id)  # a job that runs twice sends once

    row = state(rooms, message_id)
    assert (row.state, row.gateway, row.receipt) == ("sent", "spare", "serial-1")
    (path, _, _), (_, headers, body) = Provider.asked
    assert dict(parse_qsl(urlsplit(path).query)) == QUERY
    assert json.loads(body)["TemplateParamSet"] == ["123456", "5"]
    assert headers["X-TC-Action"] == "SendSms"
    values = rooms.keys.open_bytes(row.values, f"values {message_id}")
    assert values == b"{}"  # a code that was sent is forgotten


def test_a_message_that_none_takes_is_tried_again_and_given_up(
    rooms: Rooms, operator: Caller, provider: str, clock: FixedClock
) -> None:
    gateways(rooms, operator, provider)
    busy = [
        (200, {"Code": "isp.SYSTEM_ERROR"}),
        (200, {"Response": {"Error": {"Code": "InternalError"}}}),
        (503, {}),
    ]
    Provider.answers[:] = busy * 5
    message_id = message(rooms)
    for _ in range(4):
        with pytest.raises(NotSent):
            deliver_message(rooms.messaging, message_id)
    deliver_message(rooms.messaging, message_id)
    assert state(rooms, message_id).state == "failed"

    late = message(rooms)
    clock.advance(timedelta(minutes=6))
    deliver_message(rooms.messaging, late)
    assert state(rooms, late).state == "expired"


def test_a_refusal_for_good_is_not_tried_again(rooms: Rooms, operator: Caller, provider: str) -> None:
    gateways(rooms, operator, provider)
    refusals = [
        (200, {"Code": "isv.MOBILE_NUMBER_ILLEGAL"}),
        (200, {"Response": {"Error": {"Code": "FailedOperation"}}}),
        (400, {}),
    ]
    Provider.answers[:] = refusals
    message_id = message(rooms)

    deliver_message(rooms.messaging, message_id)

    assert state(rooms, message_id).state == "failed"


def test_a_hospitals_own_gateway_gets_the_text_and_our_signature(
    rooms: Rooms, operator: Caller, provider: str
) -> None:
    document = {"sms": [{"name": "house", "kind": "http", "url": f"{provider}/sms", "secret": "geheim-3",
                         "body": {"mobile": "{phone}", "content": "{text}"}}]}  # fmt: skip
    put_gateways(rooms.messaging, operator, json.dumps(document))
    Provider.answers[:] = [(200, {})]
    SmsSender(rooms.messaging).send(PHONE, "sign-in-code", {"code": "654321", "minutes": "5"})
    with rooms.database.snapshot() as session:
        message_id = session.scalar(select(OutboundMessage.id))

    deliver_message(rooms.messaging, str(message_id))

    _, headers, body = Provider.asked[0]
    assert json.loads(body)["mobile"] == PHONE
    assert "654321" in json.loads(body)["content"]
    signed = f"{headers['X-Cloudfilm-Timestamp']}.{headers['X-Cloudfilm-Nonce']}.".encode() + body
    expected = hmac.new(b"geheim-3", signed, hashlib.sha256).hexdigest()
    assert headers["X-Cloudfilm-Signature"] == f"sha256={expected}"


def test_staff_sign_in_with_the_code_that_the_hospitals_gateway_was_given(
    rooms: Rooms, operator: Caller, provider: str
) -> None:
    document = {"sms": [{"name": "house", "kind": "http", "url": f"{provider}/sms",
                         "body": {"mobile": "{phone}", "content": "{text}"}}]}  # fmt: skip
    put_gateways(rooms.messaging, operator, json.dumps(document))
    with rooms.database.transaction() as session:
        account_id = create_account(
            rooms.access, session, operator, "reader", "Correct-Horse-7", "radiologist"
        )
    set_phone(rooms.access, operator, account_id, PHONE)
    Provider.answers[:] = [(200, {})]
    browser, own_page = create_app(rooms).test_client(), {"Sec-Fetch-Site": "same-origin"}

    browser.post("/sign-in", data={"login": "reader", "password": "Correct-Horse-7"}, headers=own_page)
    assert browser.get("/my/access").status_code == 303  # the password alone opens nothing
    assert browser.post("/sign-in/sms", headers=own_page).status_code == 200
    with rooms.database.snapshot() as session:
        message_id = session.scalars(select(OutboundMessage.id)).one()
    deliver_message(rooms.messaging, message_id)
    ((_, _, body),) = Provider.asked
    text = json.loads(body)["content"]
    code = re.findall(r"\d{6}", text)[0]
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    refused = browser.post("/sign-in/code", data={"code": wrong}, headers=own_page)
    signed_in = browser.post("/sign-in/code", data={"code": code}, headers=own_page)

    assert json.loads(body)["mobile"] == PHONE
    assert "5 分钟" in text
    assert "{" not in text  # every value of the text was given
    assert refused.status_code == 401
    assert signed_in.status_code == 303
    assert browser.get("/my/access").status_code == 200


def test_delivery_reports_reach_their_message(rooms: Rooms, operator: Caller, provider: str) -> None:
    gateways(rooms, operator, provider)
    browser = create_app(rooms).test_client()
    Provider.answers[:] = [(200, {"Code": "OK", "BizId": "biz-1"})]
    message_id = message(rooms)
    deliver_message(rooms.messaging, message_id)

    strange: tuple[Any, ...] = ("x", {}, [], [{"biz_id": "unknown", "success": True}], [1])
    for body in strange:
        assert browser.post("/gateways/aliyun/reports", json=body).status_code == 200
    assert state(rooms, message_id).state == "sent"
    answer = browser.post("/gateways/aliyun/reports", json=[{"biz_id": "biz-1", "success": True}])

    assert answer.get_json() == {"code": 0, "msg": "接收成功"}
    assert state(rooms, message_id).state == "delivered"
    assert browser.post("/gateways/other/reports", json=[]).status_code == 404


def test_without_a_gateway_the_server_shows_the_code_and_half_the_number(
    rooms: Rooms, caplog: pytest.LogCaptureFixture
) -> None:
    message_id = message(rooms)

    deliver_message(rooms.messaging, message_id)

    assert "123456" in caplog.text
    assert "138****5678" in caplog.text
    assert PHONE not in caplog.text


def test_secrets_of_gateways_are_kept_sealed(rooms: Rooms, operator: Caller, provider: str) -> None:
    gateways(rooms, operator, provider)

    with rooms.database.engine.connect() as connection:
        kept = str(connection.exec_driver_sql("SELECT document FROM site_document").scalar())
    assert "geheim" not in kept
    assert "sealed" in kept


@pytest.mark.parametrize(
    "document",
    [
        "x", "[]", '{"other": {}}', '{"sms": {}}', '{"sms": [{"kind": "console"}]}',
        '{"sms": [{"name": "a", "kind": "pigeon"}]}', '{"sms": [{"name": "a", "kind": "aliyun"}]}',
        '{"sms": [{"name": "a", "kind": "console"}, {"name": "a", "kind": "console"}]}',
        '{"email": {"host": "x"}}', '{"webhook": {"url": "file:///etc/passwd", "secret": {"sealed": ""}}}',
        '{"webhook": {"url": "https://x", "secret": "clear"}}',
    ],
)  # fmt: skip
def test_a_gateways_document_that_cannot_be_used_is_refused(document: str) -> None:
    with pytest.raises(InvalidGateways):
        check_gateways(document)
    assert GATEWAYS.check is check_gateways
