"""WeChat official accounts: who a visitor is there, how a shared link looks, and template messages.

Web authorization (`snsapi_base`, silent: the openid alone; `snsapi_userinfo`, with the user's consent), the
JS-SDK's signature, template messages and subscription messages, as developers.weixin.qq.com documents them.
The two tickets that WeChat lends for two hours, and only some thousand times a day, are kept sealed in the
database, so that all processes share them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from kernel.errors import CloudfilmError, Kind
from messaging.gateways import Gateway, gateways_of
from messaging.http import GatewayRefused, get, post
from messaging.model import BorrowedTicket
from messaging.room import Messaging

API = "https://api.weixin.qq.com"
AUTHORIZE = "https://open.weixin.qq.com/connect/oauth2/authorize"
EARLY = timedelta(minutes=5)  # a ticket is renewed this long before its end
EXPIRED = frozenset({40001, 40014, 42001})  # of access_token: another process may have renewed it
BASE, USERINFO = "snsapi_base", "snsapi_userinfo"


class WeChatRefused(CloudfilmError):
    """WeChat is not set up here, or did not take a code."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"WeChat: {reason}.")


@dataclass(frozen=True, slots=True)
class WeChatUser:
    """Who WeChat says a visitor is: a pseudonym, proof of no patient."""

    openid: str
    unionid: str = ""
    nickname: str = ""


def account_of_site(messaging: Messaging) -> Gateway | None:
    """The site's official account, if it has one."""
    with messaging.database.snapshot() as session:
        return gateways_of(messaging, session).others.get("wechat")


def authorize_url(account: Gateway, redirect_uri: str, state: str, scope: str = BASE) -> str:
    """Where a browser is sent to be recognized; the order of the parameters matters to WeChat."""
    query = urlencode(
        [("appid", account["app_id"]), ("redirect_uri", redirect_uri), ("response_type", "code"),
         ("scope", scope), ("state", state)]
    )  # fmt: skip
    return f"{account.get('authorize') or AUTHORIZE}?{query}#wechat_redirect"


def user_of_code(account: Gateway, code: str) -> WeChatUser:
    """Exchange the code that a browser came back with. Raises WeChatRefused."""
    query = urlencode(
        {"appid": account["app_id"], "secret": account["app_secret"], "code": code,
         "grant_type": "authorization_code"}
    )  # fmt: skip
    told = _get(f"{_api(account)}/sns/oauth2/access_token?{query}")
    if not told.get("openid"):
        raise WeChatRefused(f"the code was not taken ({told.get('errcode', '?')})")
    user = WeChatUser(str(told["openid"]), str(told.get("unionid", "")))
    if USERINFO not in str(told.get("scope", "")):
        return user
    query = urlencode({"access_token": told["access_token"], "openid": user.openid, "lang": "zh_CN"})
    about = _get(f"{_api(account)}/sns/userinfo?{query}")
    return WeChatUser(
        user.openid, str(about.get("unionid", user.unionid)), str(about.get("nickname", ""))[:100]
    )


def _get(url: str) -> dict[str, Any]:
    try:
        return get(url)
    except GatewayRefused as refusal:
        raise WeChatRefused(str(refusal)) from None


def _api(account: Gateway) -> str:
    return str(account.get("endpoint") or API).rstrip("/")


def js_sdk_signature(ticket: str, nonce: str, timestamp: int, url: str) -> str:
    """The signature of `wx.config`: over the page's address without its fragment, not encoded."""
    text = f"jsapi_ticket={ticket}&noncestr={nonce}&timestamp={timestamp}&url={url.partition('#')[0]}"
    return hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - WeChat's rule


def js_sdk_config(messaging: Messaging, account: Gateway, url: str, nonce: str) -> dict[str, Any]:
    """What `wx.config` takes for a page of ours. Raises WeChatRefused."""
    timestamp = int(messaging.clock.now().timestamp())
    return {
        "appId": account["app_id"],
        "timestamp": timestamp,
        "nonceStr": nonce,
        "signature": js_sdk_signature(_js_ticket(messaging, account), nonce, timestamp, url),
    }


def _access_token(messaging: Messaging, account: Gateway, renew: bool = False) -> str:
    def borrow() -> dict[str, Any]:
        body = {"grant_type": "client_credential", "appid": account["app_id"],
                "secret": account["app_secret"], "force_refresh": renew}  # fmt: skip
        return post(f"{_api(account)}/cgi-bin/stable_token", json.dumps(body).encode(), JSON)

    return _ticket(messaging, f"access {account['app_id']}", "access_token", borrow, renew)


def _js_ticket(messaging: Messaging, account: Gateway) -> str:
    def borrow() -> dict[str, Any]:
        query = urlencode({"access_token": _access_token(messaging, account), "type": "jsapi"})
        return get(f"{_api(account)}/cgi-bin/ticket/getticket?{query}")

    return _ticket(messaging, f"jsapi {account['app_id']}", "ticket", borrow)


JSON = {"Content-Type": "application/json; charset=utf-8"}


def _ticket(messaging: Messaging, name: str, key: str, borrow: Any, renew: bool = False) -> str:
    """A ticket that is at hand, else a new one; WeChat hands the same one out while it lives."""
    now = messaging.clock.now()
    with messaging.database.snapshot() as session:
        row = session.get(BorrowedTicket, name)
    if row is not None and row.expires_at > now + EARLY and not renew:
        return messaging.keys.open_bytes(row.sealed, name).decode()
    try:
        told = borrow()
    except GatewayRefused as refusal:
        raise WeChatRefused(str(refusal)) from None
    value = str(told.get(key, ""))
    if not value:
        raise WeChatRefused(f"no {key} was given ({told.get('errcode', '?')})")
    life = timedelta(seconds=int(told.get("expires_in", 7200)))
    with messaging.database.transaction() as session:
        session.merge(
            BorrowedTicket(
                name=name, sealed=messaging.keys.seal_bytes(value.encode(), name), expires_at=now + life
            )
        )
    return value


def send_template(
    messaging: Messaging, account: Gateway, openid: str, template: str, values: Mapping[str, str]
) -> str:
    """Send a template message (or a subscription message); returns its msgid. Raises GatewayRefused.

    What the account's registered template says is the site's to write: its fields take our values, as
    `{"id": "...", "fields": {"thing1": "{title}"}, "kind": "subscribe"}`. No diagnosis goes this way.
    """
    registered = account.get("templates", {}).get(template)
    if not isinstance(registered, dict):
        raise GatewayRefused(f"template {template} has no id at WeChat", may_recover=False)
    fields = dict(registered.get("fields", {}))
    link = values.get("link", "")
    body: dict[str, Any] = {
        "touser": openid,
        "template_id": registered["id"],
        "data": {name: {"value": str(text).format(**values)[:200]} for name, text in fields.items()},
    }
    is_subscription = registered.get("kind") == "subscribe"
    if link and messaging.public_url:
        body["page" if is_subscription else "url"] = messaging.public_url.rstrip("/") + link
    path = "/cgi-bin/message/subscribe/bizsend" if is_subscription else "/cgi-bin/message/template/send"
    for renew in (False, True):
        try:
            token = _access_token(messaging, account, renew)
        except WeChatRefused as refusal:
            raise GatewayRefused(str(refusal), may_recover=True) from None
        url = f"{_api(account)}{path}?access_token={quote(token)}"
        told = post(url, json.dumps(body, ensure_ascii=False).encode(), JSON)
        if told.get("errcode") not in EXPIRED:
            break
    if told.get("errcode"):
        raise GatewayRefused(f"WeChat {told['errcode']}", may_recover=told["errcode"] in (-1, *EXPIRED))
    return str(told.get("msgid", ""))
