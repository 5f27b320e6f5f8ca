"""Opening a share: the page that a link or a QR code leads to, and the three steps that let a visitor in.

The page itself opens nothing, so that a preview of a link in a chat uses nothing up. Its script takes the
secret out of the address's fragment, cleans the address, and sends the secret in a body; from then on a
cookie of this browser stands for the opening, and another one, HttpOnly, for the visit.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import client_address, current_caller, is_same_origin
from access.caller import Door
from access.grants import visitor_caller
from access.phone_codes import (
    LetIn,
    LinkExpired,
    WrongCode,
    begin_opening,
    enter_by_account,
    enter_by_code,
    enter_by_openid,
    enter_by_passcode,
    enter_freely,
    send_code,
)
from access.phones import InvalidPhone
from access.rates import TooOften
from access.share_door import cookie_name
from access.tokens import Access
from archive.room import Archive
from archive.shares import relation_of
from kernel.errors import CloudfilmError, Forbidden, Unauthenticated
from kernel.http import STATUS, room
from messaging.room import Messaging
from messaging.send import queue_message
from portal.catalogue import say
from portal.film import film_page
from portal.film_pages import expired_page
from portal.wechat import wechat_openid

blp = Blueprint("share_opening", __name__, template_folder="templates")

OPENING_COOKIE = "cloudfilm_opening"
SAID = {
    InvalidPhone: "open.wrong-phone",
    TooOften: "open.too-often",
    WrongCode: "open.wrong-code",
    Unauthenticated: "open.sign-in-first",
    LinkExpired: "open.expired",
}
MOST_BODY = 4096


@blp.get("/share")
def opening_page() -> Response:
    """The page on which a visitor shows who it is."""
    return film_page("film_open.html", None, script="open")


@blp.get("/share/expired")
def expired() -> Response:
    """The link has expired."""
    return expired_page()


@blp.post("/share/begin")
def begin() -> AnyResponse:
    """Begin with a secret; says which step is next."""
    body = read_body()
    try:
        opening = begin_opening(room(Access), str(body.get("secret", ""))[:200], client_address())
    except CloudfilmError as refusal:
        return refused(refusal)
    known = request.cookies.get(cookie_name(opening.grant_id))
    if known and _is_in(opening.grant_id, known):
        return jsonify(step="in", to=f"/share/{opening.grant_id}")
    answer = jsonify(step=opening.step)
    _set_cookie(answer, OPENING_COOKIE, opening.secret, 1800)
    return answer


def _is_in(grant_id: str, secret: str) -> bool:
    """Whether this browser was let in before, and still is."""
    try:
        visitor_caller(room(Access), grant_id, secret, client_address())
    except CloudfilmError:
        return False
    return True


@blp.post("/share/code")
def code() -> AnyResponse:
    """Send a code to a phone, if it may open the share; the answer is the same if not."""
    archive, access, messaging = room(Archive), room(Access), room(Messaging)
    try:
        send_code(
            access,
            request.cookies.get(OPENING_COOKIE, ""),
            str(read_body().get("phone", "")),
            client_address(),
            lambda session, grant, phone: relation_of(archive, access, session, grant, phone),
            lambda session, phone, template, values: queue_code(messaging, session, phone, template, values),
        )
    except CloudfilmError as refusal:
        return refused(refusal)
    return jsonify(step="code", text=say("open.sent"))


def queue_code(
    messaging: Messaging, session: Session, to: str, template: str, values: dict[str, str],
    channel: str = "sms",
) -> None:  # fmt: skip
    """Queue a code as a text message, or by another channel."""
    queue_message(messaging, session, channel, to, template, values)


@blp.post("/share/enter")
def enter() -> AnyResponse:
    """Come in with a code, a passcode, by an account or WeChat, or as the bearer."""
    access, secret, body = room(Access), request.cookies.get(OPENING_COOKIE, ""), read_body()
    try:
        if "passcode" in body:
            let_in = enter_by_passcode(access, secret, str(body["passcode"]), client_address())
        elif "code" in body:
            let_in = enter_by_code(access, secret, str(body["code"]), client_address())
        elif "account" in body:
            let_in = enter_by_account(access, secret, current_caller(Door.PORTAL), client_address())
        elif "wechat" in body:
            let_in = enter_by_openid(access, secret, wechat_openid(), client_address())
        else:
            let_in = enter_freely(access, secret, client_address())
    except CloudfilmError as refusal:
        return refused(refusal)
    return _let_in(let_in)


def _let_in(let_in: LetIn) -> Response:
    answer = jsonify(step="in", to=f"/share/{let_in.grant_id}")
    _set_cookie(answer, cookie_name(let_in.grant_id), let_in.secret, 86400)
    answer.delete_cookie(OPENING_COOKIE, path="/share")
    return answer


def _set_cookie(answer: Response, name: str, secret: str, max_age: int) -> None:
    answer.set_cookie(
        name, secret, httponly=True, secure=request.is_secure, samesite="Lax", path="/share", max_age=max_age
    )


def read_body() -> dict[str, Any]:
    """The JSON object that our own page sent. Raises Forbidden for another site's."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    body = request.get_json(silent=True) if (request.content_length or 0) <= MOST_BODY else None
    return body if isinstance(body, dict) else {}


def refused(refusal: CloudfilmError) -> Response:
    """A refusal in words that do not tell what exists."""
    key = SAID.get(type(refusal), "open.expired")
    answer = jsonify(text=say(key), expired=key == "open.expired", wrong=isinstance(refusal, WrongCode))
    answer.status_code = STATUS[refusal.kind]
    return answer
