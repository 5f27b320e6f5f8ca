"""SMS by Alibaba Cloud: SendSms of Dysmsapi 2017-05-25, signed with ACS3-HMAC-SHA256, and its reports.

The signature is that of the published rule "V3 request body & signature mechanism" of its OpenAPI.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from kernel.clock import new_id
from messaging.gateways import Gateway
from messaging.http import GatewayRefused, post
from messaging.reports import Report

ENDPOINT = "https://dysmsapi.aliyuncs.com"
VERSION = "2017-05-25"
BUSY = frozenset({"isv.BUSINESS_LIMIT_CONTROL", "isp.SYSTEM_ERROR", "Throttling.User"})


def send(gateway: Gateway, phone: str, template: str, values: Mapping[str, str], at: datetime) -> str:
    """Send one message; returns its BizId. Raises GatewayRefused."""
    code = gateway.get("templates", {}).get(template)
    if not code:
        raise GatewayRefused(f"template {template} has no code at this gateway", may_recover=False)
    query = {
        "PhoneNumbers": phone.removeprefix("+86").removeprefix("+"),
        "SignName": gateway["sign_name"],
        "TemplateCode": code,
        "TemplateParam": json.dumps(dict(values), ensure_ascii=False, separators=(",", ":")),
    }
    endpoint = str(gateway.get("endpoint") or ENDPOINT).rstrip("/")
    headers = signed_headers(
        gateway["access_key_id"], gateway["access_key_secret"], endpoint.partition("://")[2], "SendSms",
        query, at, new_id(),
    )  # fmt: skip
    answer = post(f"{endpoint}/?{canonical_query(query)}", b"", headers)
    if answer.get("Code") != "OK":
        said = str(answer.get("Code", "no code"))
        raise GatewayRefused(f"Aliyun: {said}", may_recover=said in BUSY)
    return str(answer.get("BizId", ""))


def signed_headers(
    key_id: str, secret: str, host: str, action: str, query: Mapping[str, str], at: datetime, nonce: str
) -> dict[str, str]:
    """The headers of a POST without a body, Authorization among them."""
    digest = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": digest,
        "x-acs-date": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": VERSION,
    }
    names = sorted(headers)
    canonical = "\n".join(
        ("POST", "/", canonical_query(query), *(f"{name}:{headers[name].strip()}" for name in names), "",
         ";".join(names), digest)
    )  # fmt: skip
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    authorization = f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={';'.join(names)}"
    return {**headers, "Authorization": f"{authorization},Signature={signature}"}


def canonical_query(query: Mapping[str, str]) -> str:
    """Parameters in the order of their names, percent-encoded as RFC 3986."""
    return urlencode(sorted(query.items()), quote_via=quote, safe="~")


def reports(body: Any) -> list[Report]:
    """What SmsReport (HTTP batch push) tells of messages."""
    return [
        Report(str(each["biz_id"]), bool(each.get("success")), str(each.get("err_code", ""))[:100])
        for each in body
        if isinstance(each, dict) and each.get("biz_id")
    ]


ACKNOWLEDGED = {"code": 0, "msg": "接收成功"}
