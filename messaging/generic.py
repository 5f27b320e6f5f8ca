"""Gateways that are no cloud's: a hospital's own HTTP interface by a template, e-mail, and the console.

The HTTP gateway fills `{phone}`, `{text}`, `{template}` and the message's values into the body that the site
wrote, and signs it: `X-Cloudfilm-Signature: sha256=` over `timestamp.nonce.body`, keyed with the secret.
"""

import hashlib
import hmac
import json
import logging
import smtplib
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlencode

from access.phones import masked
from kernel.clock import new_id
from kernel.tls import host_context
from messaging.gateways import Gateway
from messaging.http import GatewayRefused, post_for_status

log = logging.getLogger(__name__)
DEFAULT_BODY = {"phone": "{phone}", "template": "{template}", "text": "{text}"}
SMTP_TIMEOUT_S = 20.0


def send_http(
    gateway: Gateway, phone: str, template: str, values: Mapping[str, str], text: str, at: datetime
) -> str:
    """Send by the site's own interface; returns the nonce as receipt. Raises GatewayRefused."""
    named = gateway.get("templates", {}).get(template, template)
    places = {**values, "phone": phone, "text": text, "template": str(named)}
    filled = _filled(gateway.get("body") or DEFAULT_BODY, places)
    body = urlencode(filled) if gateway.get("form") else json.dumps(filled, ensure_ascii=False)
    media_type = "application/x-www-form-urlencoded" if gateway.get("form") else "application/json"
    nonce = new_id()
    headers = {
        "Content-Type": f"{media_type}; charset=utf-8",
        **{str(name): str(value) for name, value in dict(gateway.get("headers") or {}).items()},
        **signature_headers(str(gateway.get("secret")), body.encode(), at, nonce),
    }
    status, said = post_for_status(gateway["url"], body.encode(), headers)
    expected = str(gateway.get("expect"))
    if not 200 <= status < 300 or (expected and expected not in said):
        raise GatewayRefused(f"the gateway answered {status}", may_recover=status >= 500 or status == 429)
    return nonce


def _filled(shape: Any, places: Mapping[str, str]) -> Any:
    if isinstance(shape, dict):
        return {key: _filled(value, places) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_filled(value, places) for value in shape]
    if not isinstance(shape, str):
        return shape
    for name, value in places.items():
        shape = shape.replace("{" + name + "}", value)
    return shape


def signature_headers(secret: str, body: bytes, at: datetime, nonce: str) -> dict[str, str]:
    """Timestamp, nonce and signature by which a receiver knows that a request is ours and fresh."""
    timestamp = str(int(at.timestamp()))
    signed = f"{timestamp}.{nonce}.".encode() + body
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return {
        "X-Cloudfilm-Timestamp": timestamp,
        "X-Cloudfilm-Nonce": nonce,
        "X-Cloudfilm-Signature": f"sha256={signature}",
    }


def send_email(gateway: Gateway, address: str, subject: str, text: str) -> str:
    """Send a plain message; returns its Message-ID. Raises GatewayRefused."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = gateway["from"], address, subject
    message["Message-ID"] = f"<{new_id()}@cloudfilm>"
    message.set_content(text)
    security, host = str(gateway.get("security") or "starttls"), str(gateway["host"])
    port = int(gateway.get("port") or {"tls": 465, "none": 25}.get(security, 587))
    try:
        with _smtp(security, host, port) as connection:
            if security == "starttls":
                connection.starttls(context=host_context())
            if gateway.get("user"):
                connection.login(str(gateway["user"]), str(gateway.get("password")))
            connection.send_message(message)
    except smtplib.SMTPRecipientsRefused:
        raise GatewayRefused("the address is refused", may_recover=False) from None
    except (OSError, smtplib.SMTPException) as failure:
        raise GatewayRefused(type(failure).__name__, may_recover=True) from None
    return str(message["Message-ID"])


def _smtp(security: str, host: str, port: int) -> smtplib.SMTP:
    if security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=SMTP_TIMEOUT_S, context=host_context())
    return smtplib.SMTP(host, port, timeout=SMTP_TIMEOUT_S)


def show_on_console(phone: str, text: str) -> str:
    """The embedded default: no gateway is there, so whoever runs the server reads the message on it."""
    log.warning("no SMS gateway is set up; to %s: %s", masked(phone), text)
    return ""
