"""WeChat at the door: recognizing its users, its page signature, and the file that proves our domain to it.

An openid is a pseudonym. It signs in only who once proved a phone in the same WeChat, and opens no share.
"""

import hmac
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import client_address
from access.patient_accounts import sign_in_by_openid
from access.share_links import site_url
from access.tokens import Access
from kernel.clock import new_secret
from kernel.errors import CloudfilmError
from kernel.http import room
from messaging.room import Messaging
from messaging.wechat import (
    BASE,
    USERINFO,
    WeChatRefused,
    account_of_site,
    authorize_url,
    js_sdk_config,
    user_of_code,
)
from portal.session import set_session

blp = Blueprint("wechat", __name__)

STATE_COOKIE, USER_COOKIE = "cloudfilm_wechat_state", "cloudfilm_wechat"
SEALED = "wechat openid"


@blp.get("/wechat/sign-in")
def sign_in() -> AnyResponse:
    """To WeChat and back: silently, or with the user's consent to tell its name (`?scope=userinfo`).

    `?for=share`: to open a share that is bound to a WeChat user, and no account.
    """
    account = account_of_site(room(Messaging))
    if account is None:
        raise WeChatRefused("no official account is set up here")
    state = new_secret(18).replace("-", "x").replace("_", "y")
    scope = USERINFO if request.args.get("scope") == "userinfo" else BASE
    answer = redirect(authorize_url(account, f"{site_url()}/wechat/return", state, scope), 302)
    answer.set_cookie(
        STATE_COOKIE, f"{state}.{request.args.get('for', '')[:8]}", httponly=True, secure=request.is_secure,
        samesite="Lax", path="/wechat", max_age=600,
    )  # fmt: skip
    return answer


@blp.get("/wechat/return")
def returned() -> AnyResponse:
    """Back from WeChat with a code: signed in where the openid is known, else on to the phone."""
    access, messaging = room(Access), room(Messaging)
    account = account_of_site(messaging)
    state, _, purpose = request.cookies.get(STATE_COOKIE, "").partition(".")
    if account is None or not state or not hmac.compare_digest(state, request.args.get("state", "")):
        raise WeChatRefused("the way back does not belong to this browser")
    user = user_of_code(account, request.args.get("code", ""))
    if purpose == "share":
        answer = redirect("/share?go=wechat", 303)
        _keep_openid(answer, user.openid, "/share")
        answer.delete_cookie(STATE_COOKIE, path="/wechat")
        return answer
    session = sign_in_by_openid(access, user.openid, client_address())
    answer = redirect("/patient" if session else "/patient/sign-in", 303)
    answer.delete_cookie(STATE_COOKIE, path="/wechat")
    if session:
        set_session(answer, session)
    else:
        _keep_openid(answer, user.openid, "/patient")
    return answer


def _keep_openid(answer: AnyResponse, openid: str, path: str) -> None:
    """What WeChat told, sealed, for the pages that ask for it next."""
    sealed = room(Access).keys.seal_bytes(openid.encode(), SEALED).hex()
    answer.set_cookie(
        USER_COOKIE, sealed, httponly=True, secure=request.is_secure, samesite="Lax", path=path, max_age=1800
    )


def wechat_openid() -> str:
    """The openid that WeChat told of this browser a short while ago; empty: none."""
    try:
        sealed = bytes.fromhex(request.cookies.get(USER_COOKIE, ""))
        return room(Access).keys.open_bytes(sealed, SEALED).decode() if sealed else ""
    except (ValueError, CloudfilmError):
        return ""


@blp.get("/wechat/config")
def config() -> AnyResponse:
    """What `wx.config` takes, for a page of ours and of nobody else."""
    messaging = room(Messaging)
    account = account_of_site(messaging)
    page = request.args.get("url", "").partition("#")[0]
    own = urlsplit(site_url())
    if account is None or urlsplit(page)[:2] != own[:2]:
        abort(404)
    return jsonify(js_sdk_config(messaging, account, page, new_secret(12)))


@blp.get("/MP_verify_<name>.txt")
def verification(name: str) -> Response:
    """The file by which WeChat knows that the domain is ours."""
    account = account_of_site(room(Messaging))
    content = dict(account.get("files") or {}).get(f"MP_verify_{name}.txt") if account else None
    if content is None:
        abort(404)
    return Response(str(content), mimetype="text/plain")
