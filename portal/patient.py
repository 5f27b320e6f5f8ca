"""A patient's own account: signing in by a code to the phone or by WeChat, adding records, messages.

What a signed-in patient sees are the pages of `portal.film_pages` below /patient.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, make_response, redirect, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from access.accounts import (
    AccountLocked,
    PasswordUsedBefore,
    TooManyTries,
    WeakPassword,
    WrongCredentials,
)
from access.accounts import sign_out as end_session
from access.bearer import COOKIE, client_address, is_same_origin
from access.grant_model import ShareGrant
from access.grants import own_patients
from access.patient_accounts import (
    EMAIL_CODE_S,
    PHONE,
    InvalidEmail,
    NotOnRecord,
    SignInAgain,
    account_of_binding,
    ask_for_email,
    bound,
    count_claim,
    forget_binding,
    prove_email,
    set_password,
    set_patients,
    sign_in_by_phone,
    ways_of,
)
from access.phone_codes import begin_sign_in, prove_phone, send_code
from access.phones import phone_index
from access.rates import TooOften
from access.tokens import Access
from archive.room import Archive
from kernel.errors import CloudfilmError, Forbidden
from kernel.http import room
from messaging.gateways import gateways_of
from messaging.notices import mark_read, notices_of, subscribe
from messaging.room import Messaging
from messaging.web_push import public_key
from mpi.by_phone import claimed, is_on_record, patients_of_person
from portal.catalogue import say
from portal.film import Place, SignInFirst, film_page, place_of
from portal.session import set_session
from portal.share_opening import queue_code, read_body, refused
from portal.wechat import wechat_openid

blp = Blueprint("patient", __name__, template_folder="templates")

SIGN_IN_COOKIE = "cloudfilm_patient"


@blp.get("/patient/sign-in")
def sign_in_page() -> Response:
    """The page on which a patient signs in: a phone, then the code that was sent to it."""
    return film_page("film_sign_in.html", None, script="open", next=_inside(request.args.get("next", "")))


@blp.post("/patient/sign-in/code")
def send() -> AnyResponse:
    """Send a code, if the phone is on a record or leads to an account; the answer is the same if not."""
    access, archive, messaging = room(Access), room(Archive), room(Messaging)

    def known(session: Session, _: ShareGrant | None, phone: str) -> str:
        has_account = account_of_binding(session, PHONE, phone_index(access.keys, phone)) is not None
        return "patient" if has_account or is_on_record(archive.mpi, session, phone) else ""

    body = read_body()
    try:
        secret = request.cookies.get(SIGN_IN_COOKIE) or begin_sign_in(
            access, client_address(), wechat_openid()
        )
        send_code(
            access, secret, str(body.get("phone", "")), client_address(), known,
            lambda session, phone, template, values: queue_code(messaging, session, phone, template, values),
        )  # fmt: skip
    except CloudfilmError as refusal:
        answer = refused(refusal)
        answer.delete_cookie(SIGN_IN_COOKIE, path="/patient")
        return answer
    answer = jsonify(step="code", text=say("open.sent"))
    answer.set_cookie(
        SIGN_IN_COOKIE, secret, httponly=True, secure=request.is_secure, samesite="Lax", path="/patient",
        max_age=1800,
    )  # fmt: skip
    return answer


@blp.post("/patient/sign-in/enter")
def enter() -> AnyResponse:
    """Sign in with the code."""
    access, body = room(Access), read_body()
    try:
        proven = prove_phone(
            access, request.cookies.get(SIGN_IN_COOKIE, ""), str(body.get("code", "")), client_address()
        )
        if proven.subject or not proven.relation:
            raise SignInFirst
        secret = sign_in_by_phone(access, proven.phone, client_address(), proven.openid)
    except CloudfilmError as refusal:
        return refused(refusal)
    answer = jsonify(step="in", to=_inside(str(body.get("next", ""))) or "/patient")
    answer.delete_cookie(SIGN_IN_COOKIE, path="/patient")
    set_session(answer, secret)
    return answer


def _inside(path: str) -> str:
    """A path of the patients' pages, or of an app's consent screen, or nothing."""
    is_ours = (
        path.startswith(("/patient", "/oauth/authorize?", "/share?go="))
        and "\\" not in path
        and path.isprintable()
    )
    return path if is_ours else ""


@blp.route("/patient/records", methods=["GET", "POST"])
def records() -> AnyResponse:
    """Add the records of a person to the account: its name and the end of its identity number."""
    try:
        place = place_of()
    except SignInFirst:
        return redirect("/patient/sign-in?next=/patient/records", 303)
    message = ""
    if request.method == "POST":
        try:
            _claim(place)
        except CloudfilmError as refusal:
            message = say("film.claim-wrong" if isinstance(refusal, NotOnRecord) else "open.too-often")
        else:
            return redirect("/patient", 303)
    status = 422 if message else 200
    return film_page("film_records.html", place, status, message=message)


def _claim(place: Place) -> None:
    access, mpi = room(Access), room(Archive).mpi
    count_claim(access, place.caller)
    with access.database.transaction() as session:
        phones = bound(access, session, place.caller.principal.id, PHONE)
        found = claimed(mpi, session, phones, request.form.get("name", ""), request.form.get("number", ""))
        if not found:
            raise NotOnRecord
        held = own_patients(place.caller) | found
        set_patients(access, session, place.caller, patients_of_person(mpi, session, held))


EMAIL_COOKIE = "cloudfilm_email"
ACCOUNT_SAID = {
    SignInAgain: "account.sign-in-again",
    WrongCredentials: "account.wrong-password",
    AccountLocked: "sign-in.locked",
    TooManyTries: "sign-in.locked",
    WeakPassword: "set-up.weak",
    PasswordUsedBefore: "account.used-before",
    InvalidEmail: "account.wrong-email",
    TooOften: "open.too-often",
}


@blp.route("/patient/account", methods=["GET", "POST"])
def account() -> AnyResponse:
    """How one signs in and is told of things: password and second factor, WeChat, e-mail."""
    try:
        place = place_of()
    except SignInFirst:
        return redirect("/patient/sign-in?next=/patient/account", 303)
    asked, message, done = request.cookies.get(EMAIL_COOKIE, ""), "", ""
    if request.method == "POST":
        try:
            asked, done = _change_account(place, asked)
        except CloudfilmError as refusal:
            if type(refusal) not in ACCOUNT_SAID:
                raise
            message = say(ACCOUNT_SAID[type(refusal)])
    others = account_gateways()
    answer = film_page(
        "film_account.html", place, 422 if message else 200, script="share", message=message,
        done=say(f"account.{done}") if done else "", ways=ways_of(room(Access), place.caller),
        asked=bool(asked), may_email="email" in others, may_wechat="wechat" in others,
    )  # fmt: skip
    if asked:
        answer.set_cookie(
            EMAIL_COOKIE, asked, httponly=True, secure=request.is_secure, samesite="Lax",
            path="/patient/account", max_age=EMAIL_CODE_S,
        )  # fmt: skip
    else:
        answer.delete_cookie(EMAIL_COOKIE, path="/patient/account")
    return answer


def account_gateways() -> frozenset[str]:
    """The channels beside SMS that this site has."""
    messaging = room(Messaging)
    with messaging.database.snapshot() as session:
        return frozenset(gateways_of(messaging, session).others)


def _change_account(place: Place, asked: str) -> tuple[str, str]:
    """Do what the form says; returns what waits for its code, and what was done."""
    access, messaging, form = room(Access), room(Messaging), request.form
    if "new" in form:
        set_password(access, place.caller, form.get("old", ""), form["new"])
        return asked, "password-set"
    if form.get("forget"):
        forget_binding(access, place.caller, form["forget"])
        return asked, "done"
    if "code" in form:
        proven = prove_email(access, place.caller, asked, form["code"])
        return ("", "done") if proven else (asked, "wrong-code")
    sealed = ask_for_email(
        access, place.caller, form.get("email", ""),
        lambda session, to, values: queue_code(messaging, session, to, "email-code", values, "email"),
    )  # fmt: skip
    return sealed, "code-sent"


@blp.get("/patient/messages")
def messages() -> AnyResponse:
    """The message centre. Looking at it marks everything as read."""
    try:
        place = place_of()
    except SignInFirst:
        return redirect("/patient/sign-in?next=/patient/messages", 303)
    messaging = room(Messaging)
    notices = notices_of(messaging, place.caller)
    mark_read(messaging, place.caller)
    return film_page(
        "film_messages.html", place, script="messages", notices=notices, push_key=public_key(messaging.keys)
    )


@blp.get("/patient/messages.json")
def messages_json() -> AnyResponse:
    """The message centre for the hospital's own app."""
    try:
        place = place_of()
    except SignInFirst:
        return make_response(jsonify(text=say("open.expired")), 401)
    return jsonify(
        [
            {
                "id": each.id, "topic": each.topic, "title": say(f"notice.{each.topic}", **each.values),
                "link": each.link, "at": each.at.isoformat(), "read": each.is_read,
            }
            for each in notices_of(room(Messaging), place.caller)
        ]
    )  # fmt: skip


@blp.post("/patient/push")
def push_subscription() -> AnyResponse:
    """Let this browser be told by push."""
    try:
        place = place_of()
    except SignInFirst:
        return make_response(jsonify(text=say("open.expired")), 401)
    body = read_body()
    keys: Any = body.get("keys")
    keys = keys if isinstance(keys, dict) else {}
    kept = subscribe(
        room(Messaging), place.caller, str(body.get("endpoint", "")), str(keys.get("p256dh", "")),
        str(keys.get("auth", "")),
    )  # fmt: skip
    return make_response(jsonify(subscribed=kept), 200 if kept else 422)


@blp.post("/patient/sign-out")
def sign_out() -> AnyResponse:
    """End the session on this device."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    secret = request.cookies.get(COOKIE)
    if secret:
        end_session(room(Access), secret)
    answer = redirect("/patient/sign-in", 303)
    answer.delete_cookie(COOKIE)
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer
