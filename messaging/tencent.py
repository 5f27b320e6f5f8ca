"""SMS by Tencent Cloud: SendSms of SMS 2021-01-11, signed with TC3-HMAC-SHA256, and its reports.

The signature is that of the published rule "Signature v3" of its API 3.0.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from messaging.gateways import Gateway
from messaging.http import GatewayRefused, post
from messaging.reports import Report

ENDPOINT = "https://sms.tencentcloudapi.com"
VERSION, SERVICE, ALGORITHM = "2021-01-11", "sms", "TC3-HMAC-SHA256"
CONTENT_TYPE = "application/json"
BUSY = ("InternalError", "LimitExceeded", "RequestLimitExceeded", "ResourceUnavailable")


def send(gateway: Gateway, phone: str, template: str, values: Mapping[str, str], at: datetime) -> str:
    """Send one message; returns its SerialNo. Raises GatewayRefused."""
    registered = gateway.get("templates", {}).get(template)
    if not isinstance(registered, dict):
        raise GatewayRefused(f"template {template} has no id at this gateway", may_recover=False)
    payload = json.dumps(
        {
            "PhoneNumberSet": [phone],
            "SmsSdkAppId": gateway["sdk_app_id"],
            "SignName": gateway["sign_name"],
            "TemplateId": str(registered["id"]),
            "TemplateParamSet": [values.get(name, "") for name in registered.get("values", ())],
        },
        ensure_ascii=False,
    ).encode()
    endpoint = str(gateway.get("endpoint") or ENDPOINT).rstrip("/")
    headers = signed_headers(
        gateway["secret_id"], gateway["secret_key"], endpoint.partition("://")[2], payload, at
    )
    headers |= {"X-TC-Action": "SendSms", "X-TC-Version": VERSION,
                "X-TC-Region": gateway.get("region") or "ap-guangzhou"}  # fmt: skip
    answer = dict(post(f"{endpoint}/", payload, headers).get("Response", {}))
    status = (answer.get("SendStatusSet") or [{}])[0]
    said = str(answer.get("Error", {}).get("Code") or status.get("Code") or "no code")
    if said != "Ok":
        raise GatewayRefused(f"Tencent: {said}", may_recover=said.startswith(BUSY))
    return str(status.get("SerialNo", ""))


def signed_headers(
    secret_id: str, secret_key: str, host: str, payload: bytes, at: datetime
) -> dict[str, str]:
    """Content-Type, Host, X-TC-Timestamp and Authorization of a POST."""
    moment = at.astimezone(UTC)
    timestamp, day = str(int(moment.timestamp())), moment.strftime("%Y-%m-%d")
    canonical = "\n".join(
        ("POST", "/", "", f"content-type:{CONTENT_TYPE}", f"host:{host}", "", "content-type;host",
         hashlib.sha256(payload).hexdigest())
    )  # fmt: skip
    scope = f"{day}/{SERVICE}/tc3_request"
    to_sign = "\n".join((ALGORITHM, timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"TC3{secret_key}".encode()
    for part in (day, SERVICE, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={secret_id}/{scope}, SignedHeaders=content-type;host, Signature={signature}"
    return {
        "Content-Type": CONTENT_TYPE,
        "Host": host,
        "X-TC-Timestamp": timestamp,
        "Authorization": f"{ALGORITHM} {credential}",
    }


def reports(body: Any) -> list[Report]:
    """What the status callback tells of messages."""
    return [
        Report(str(each["sid"]), each.get("report_status") == "SUCCESS", str(each.get("errmsg", ""))[:100])
        for each in body
        if isinstance(each, dict) and each.get("sid")
    ]


ACKNOWLEDGED = {"result": 0, "errmsg": "OK"}
