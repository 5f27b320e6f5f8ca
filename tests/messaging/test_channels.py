"""The channels beside SMS and e-mail (webhook, web push, WeChat), and what a gateway could not deliver."""

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from messaging import web_push
from messaging.delivery import keep_reports
from messaging.gateways import put_gateways
from messaging.model import OutboundMessage, PushSubscription
from messaging.notices import subscribe
from messaging.reports import Report
from messaging.send import NotSent, deliver_message, queue_message
from messaging.web_push import bytes_of, point_of, text_of
from tests.certificates import Authority
from tests.messaging.test_gateways import PHONE, Provider, gateways, provider, state
from tests.messaging.test_wechat import FakeWeChat, wechat

__all__ = ["provider", "wechat"]  # fixtures

REPORT = {"exam": "胸部 CT", "institution": "MAIN", "link": "/patient/reports/r1"}


def queued(rooms: Rooms, channel: str, to: str, template: str = "report-ready") -> str:
    with rooms.database.transaction() as session:
        return queue_message(rooms.messaging, session, channel, to, template, REPORT)


def test_the_hospitals_app_gets_a_notice_that_it_can_trust(
    rooms: Rooms, operator: Caller, provider: str
) -> None:
    gateway = {"url": f"{provider}/film", "secret": "geheim-4"}
    put_gateways(rooms.messaging, operator, json.dumps({"webhook": gateway}))
    Provider.answers[:] = [(503, {}), (200, {})]
    message_id = queued(rooms, "webhook", "account-1")

    with pytest.raises(NotSent):
        deliver_message(rooms.messaging, message_id)
    deliver_message(rooms.messaging, message_id)

    path, headers, body = Provider.asked[1]
    assert path == "/film"
    assert json.loads(body) == {"account": "account-1", "topic": "report-ready", "values": REPORT}
    signed = f"{headers['X-Cloudfilm-Timestamp']}.{headers['X-Cloudfilm-Nonce']}.".encode() + body
    expected = hmac.new(b"geheim-4", signed, hashlib.sha256).hexdigest()
    assert headers["X-Cloudfilm-Signature"] == f"sha256={expected}"
    assert state(rooms, message_id).state == "sent"


def test_a_subscription_message_leads_to_a_page_of_ours(rooms: Rooms, operator: Caller, wechat: str) -> None:
    template = {"id": "T2", "kind": "subscribe", "fields": {"thing1": "{exam}", "thing2": "{institution}"}}
    account = {
        "app_id": "wx1",
        "app_secret": "s3cret",
        "endpoint": wechat,
        "templates": {"report-ready": template},
    }
    put_gateways(rooms.messaging, operator, json.dumps({"wechat": account}))
    message_id = queued(rooms, "wechat", "o-1")

    deliver_message(rooms.messaging, message_id)

    (told,) = FakeWeChat.messages
    assert (told["touser"], told["template_id"]) == ("o-1", "T2")
    assert told["data"] == {"thing1": {"value": "胸部 CT"}, "thing2": {"value": "MAIN"}}
    assert FakeWeChat.paths[-1].startswith("/cgi-bin/message/subscribe/bizsend?access_token=token-")
    assert state(rooms, message_id).state == "sent"


class PushService(BaseHTTPRequestHandler):
    """A browser maker's push service (RFC 8030)."""

    status: ClassVar[int] = 201
    asked: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((dict(self.headers), body))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def push_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("push")
    PushService.status = 201
    PushService.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), PushService)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setattr(web_push, "public_address", lambda host, *_: host)  # ours is on this very machine
    yield f"https://127.0.0.1:{server.server_port}/push/abc"
    server.shutdown()
    server.server_close()


def opened(body: bytes, key: ec.EllipticCurvePrivateKey, auth: bytes) -> dict[str, str]:
    """What a browser reads (RFC 8291 3.4)."""
    salt, length = body[:16], body[20]
    theirs, sealed = body[21 : 21 + length], body[21 + length :]
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(web_push.CURVE, theirs))
    info = b"WebPush: info\x00" + point_of(key.public_key()) + theirs
    secret = HKDF(SHA256(), 32, auth, info).derive(shared)
    content_key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\x00").derive(secret)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\x00").derive(secret)
    told: dict[str, str] = json.loads(AESGCM(content_key).decrypt(nonce, sealed, None).rstrip(b"\x02"))
    return told


def test_a_browser_that_subscribed_is_told_and_one_that_left_is_forgotten(
    rooms: Rooms, operator: Caller, push_service: str
) -> None:
    key, auth = ec.generate_private_key(web_push.CURVE), b"0123456789abcdef"
    assert subscribe(
        rooms.messaging, operator, push_service, text_of(point_of(key.public_key())), text_of(auth)
    )
    with rooms.database.snapshot() as session:
        subscription = str(session.scalar(select(PushSubscription.id)))

    first = queued(rooms, "push", subscription)
    deliver_message(rooms.messaging, first)
    headers, body = PushService.asked[0]
    assert opened(body, key, auth) == {"title": "报告已发布", "link": REPORT["link"]}
    assert headers["Content-Encoding"] == "aes128gcm"
    assert headers["Authorization"].startswith("vapid t=")
    assert bytes_of(headers["Authorization"].rpartition("k=")[2])

    PushService.status = 410
    second = queued(rooms, "push", subscription)
    deliver_message(rooms.messaging, second)
    assert (state(rooms, first).state, state(rooms, second).state) == ("sent", "failed")
    with rooms.database.snapshot() as session:
        assert session.scalar(select(PushSubscription.id)) is None


def test_what_a_gateway_could_not_deliver_goes_by_the_next_one(
    rooms: Rooms, operator: Caller, provider: str
) -> None:
    gateways(rooms, operator, provider)
    Provider.answers[:] = [(200, {"Code": "OK", "BizId": "biz-1"}), (200, {})]
    message_id = queued(rooms, "sms", PHONE)
    deliver_message(rooms.messaging, message_id)

    failed = [Report("biz-1", delivered=False, error="MOBILE_NOT_ON_SERVICE")]
    assert keep_reports(rooms.messaging, ["main"], failed) == 1
    deliver_message(rooms.messaging, message_id)  # the spare one has no template for it: the house's takes it

    row = state(rooms, message_id)
    assert (row.state, row.gateway) == ("sent", "house")
    with rooms.database.snapshot() as session:
        assert len(session.scalars(select(OutboundMessage)).all()) == 1


def test_a_code_that_was_not_delivered_is_not_sent_again(
    rooms: Rooms, operator: Caller, provider: str
) -> None:
    gateways(rooms, operator, provider)
    Provider.answers[:] = [(200, {"Code": "OK", "BizId": "biz-2"})]
    with rooms.database.transaction() as session:
        values = {"code": "123456", "minutes": "5"}
        message_id = queue_message(rooms.messaging, session, "sms", PHONE, "sign-in-code", values)
    deliver_message(rooms.messaging, message_id)

    keep_reports(rooms.messaging, ["main"], [Report("biz-2", delivered=False, error="x")])

    assert (state(rooms, message_id).state, state(rooms, message_id).error) == ("failed", "main: x")
