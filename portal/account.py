"""Signing in and out, and the first account: pages that work without a framework, on any screen."""

import ssl
from urllib.parse import unquote, urlsplit

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from access.accounts import (
    AccountLocked,
    InvalidLogin,
    LoginTaken,
    SignedIn,
    TooManyTries,
    UnknownCertificate,
    WeakPassword,
    WrongCredentials,
    password_due,
    set_up,
    sign_in,
    sign_in_by_certificate,
    sign_out,
)
from access.bearer import COOKIE, client_address, is_same_origin
from access.caller import Caller, Door
from access.federation import ProviderUnreachable, providers
from access.patient_accounts import login_of
from access.revocation_lists import CertificateRefused
from access.roles import ADMINISTRATORS
from access.second_factor import TooManyCodes, WrongCode, awaited, finish_sign_in, send_code
from access.security_keys import RelyingParty, ask_for_key, finish_with_key
from access.tokens import SESSION, Access, caller_of
from kernel.errors import CloudfilmError, Forbidden, Unauthenticated
from kernel.http import STATUS, base_url, room
from kernel.row_codes import RowChanged
from kernel.settings import Settings
from messaging.room import Messaging
from messaging.send import SmsSender
from portal.catalogue import language, say
from portal.session import set_session

blp = Blueprint("account", __name__, template_folder="templates")

HOME = {  # where a role begins; the others at the study list
    "system_administrator": "/admin/nodes",
    "security_administrator": "/admin/accounts",
    "audit_administrator": "/admin/audit",
    "patient": "/patient",
}
STUDY_LIST = "/ohif/"
HALF_COOKIE = "cloudfilm_half"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}

SAID = {  # refusals that a person can do something about
    WrongCredentials: "sign-in.wrong",
    AccountLocked: "sign-in.locked",
    TooManyTries: "sign-in.locked",
    WeakPassword: "set-up.weak",
    InvalidLogin: "set-up.login",
    LoginTaken: "set-up.login",
    UnknownCertificate: "sign-in.certificate-unknown",
    CertificateRefused: "sign-in.certificate-refused",
    RowChanged: "sign-in.row-changed",
    Unauthenticated: "set-up.expired",
}


@blp.get("/sign-in")
def sign_in_page() -> Response:
    """The page on which a person signs in; with a one-time code in its fragment, makes the first account."""
    return _page("", 200)


def _page(message: str, status: int, code: str = "") -> Response:
    """code: of the first run, of who tried to make an account by it and may try again."""
    asked_as = request.values.get("as", "")
    html = render_template(
        "sign_in.html",
        say=say,
        language=language(),
        message=message,
        next=inside(request.values.get("next", "")),
        providers=providers(room(Access)),
        role=asked_as if asked_as in ADMINISTRATORS else "",
        code=code,
        login=request.form.get("login", "") if code else "",
    )
    answer = make_response(html, status)
    answer.headers.update(HEADERS)
    return answer


@blp.post("/sign-in")
def begin() -> AnyResponse:
    """Begin a session and go to where the person wanted to go."""
    _require_own_page()
    try:
        signed_in = sign_in(
            room(Access),
            login_of(room(Access), request.form.get("login", "")),
            request.form.get("password", ""),
            client_address(),
        )
    except CloudfilmError as refusal:
        return _refused(refusal)
    return _half_signed_in(signed_in) if signed_in.awaits else _signed_in(signed_in.secret)


@blp.post("/sign-in/sms")
def text_message() -> AnyResponse:
    """Send a code to the phone of who gave the right password."""
    _require_own_page()
    half = request.cookies.get(HALF_COOKIE, "")
    try:
        send_code(room(Access), SmsSender(room(Messaging)), half, client_address())
        awaits = awaited(room(Access), half, client_address())
    except TooManyCodes:
        return _code_page(say("sign-in.too-many-codes"), 429, awaited(room(Access), half, client_address()))
    except CloudfilmError as refusal:
        return _refused(refusal)
    return _code_page("", 200, awaits, say("sign-in.code-sent"))


def relying_party() -> RelyingParty:
    """This site as security keys know it."""
    origin = base_url(room(Settings).web.public_url)
    return RelyingParty(urlsplit(origin).hostname or "", origin)


@blp.post("/sign-in/key/options")
def key_options() -> Response:
    """What a security key is to sign (WebAuthn 7.2)."""
    _require_own_page()
    half = request.cookies.get(HALF_COOKIE, "")
    asked = ask_for_key(room(Access), half, client_address(), relying_party())
    return Response(asked, mimetype="application/json")


@blp.post("/sign-in/key")
def by_key() -> AnyResponse:
    """Complete a sign-in with a security key."""
    _require_own_page()
    half, sent = request.cookies.get(HALF_COOKIE, ""), request.get_json(silent=True)
    answer = sent.get("answer") if isinstance(sent, dict) else None
    secret = finish_with_key(room(Access), half, answer, client_address(), relying_party())
    target = _target(secret, str(sent.get("next", "")) if isinstance(sent, dict) else "")
    done = make_response({"next": target})
    set_session(done, secret)
    done.delete_cookie(HALF_COOKIE, path="/sign-in")
    return done


@blp.post("/sign-in/code")
def second_factor() -> AnyResponse:
    """Complete a sign-in with the code of a second factor."""
    _require_own_page()
    half = request.cookies.get(HALF_COOKIE, "")
    try:
        secret = finish_sign_in(room(Access), half, request.form.get("code", ""), client_address())
    except WrongCode:
        return _code_page(say("sign-in.wrong-code"), 401, awaited(room(Access), half, client_address()))
    except CloudfilmError as refusal:
        return _refused(refusal)
    answer = _signed_in(secret)
    answer.delete_cookie(HALF_COOKIE, path="/sign-in")
    return answer


@blp.post("/sign-in/certificate")
def by_certificate() -> AnyResponse:
    """Begin a session with the client certificate of the TLS connection."""
    _require_own_page()
    try:
        return _signed_in(sign_in_by_certificate(room(Access), _verified_certificate(), client_address()))
    except CloudfilmError as refusal:
        return _refused(refusal)


def _verified_certificate() -> bytes:
    """The client certificate that our own TLS, or the trusted proxy's, has verified, as PEM.

    The proxy says so in X-SSL-Client-Verify (`SUCCESS`) and X-SSL-Client-Cert (PEM, percent-encoded, as
    nginx's $ssl_client_escaped_cert); from anybody else the two mean nothing. Raises UnknownCertificate.
    """
    connection = request.environ.get("gunicorn.socket")
    if isinstance(connection, ssl.SSLSocket):
        shown = connection.getpeercert(binary_form=True)
        if connection.context.verify_mode is not ssl.CERT_NONE and shown:
            return ssl.DER_cert_to_PEM_cert(shown).encode()
    is_from_proxy = "werkzeug.proxy_fix.orig" in request.environ
    if is_from_proxy and request.headers.get("X-SSL-Client-Verify") == "SUCCESS":
        return unquote(request.headers.get("X-SSL-Client-Cert", "")).encode()
    raise UnknownCertificate


def _half_signed_in(signed_in: SignedIn) -> Response:
    answer = _code_page("", 200, signed_in.awaits)
    answer.set_cookie(
        HALF_COOKIE,
        signed_in.secret,
        httponly=True,
        secure=request.is_secure,
        samesite="Strict",
        path="/sign-in",
        max_age=300,
    )
    return answer


def _code_page(message: str, status: int, awaits: tuple[str, ...], notice: str = "") -> Response:
    html = render_template(
        "second_factor.html",
        awaits=awaits,
        notice=notice,
        say=say,
        language=language(),
        message=message,
        next=inside(request.values.get("next", "")),
    )
    answer = make_response(html, status)
    answer.headers.update(HEADERS)
    return answer


@blp.post("/set-up")
def first_account() -> AnyResponse:
    """Make the first account and sign it in."""
    _require_own_page()
    form = request.form
    try:
        secret = set_up(
            room(Access),
            form.get("code", ""),
            form.get("login", ""),
            form.get("password", ""),
            client_address(),
        )
    except (WeakPassword, InvalidLogin, LoginTaken) as refusal:
        return _page(say(SAID[type(refusal)]), STATUS[refusal.kind], form.get("code", ""))
    except CloudfilmError as refusal:
        return _refused(refusal)
    return _signed_in(secret)


@blp.post("/sign-out")
def end() -> AnyResponse:
    """End the session here and now."""
    _require_own_page()
    secret = request.cookies.get(COOKIE)
    if secret:
        sign_out(room(Access), secret)
    answer = redirect("/sign-in", 303)
    answer.delete_cookie(COOKIE)
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def refused_journey(refusal: CloudfilmError) -> Response:
    """The sign-in page again, saying why the way through the hospital led nowhere."""
    said = {AccountLocked: "sign-in.locked", ProviderUnreachable: "sign-in.unreachable"}
    return _page(say(said.get(type(refusal), "sign-in.not-federated")), STATUS[refusal.kind])


def _refused(refusal: CloudfilmError) -> Response:
    key = SAID.get(type(refusal))
    if key is None:
        raise refusal
    return _page(say(key), STATUS[refusal.kind])


def _signed_in(secret: str) -> AnyResponse:
    return signed_in_to(secret, request.form.get("next", ""))


def signed_in_to(secret: str, wanted: str) -> AnyResponse:
    """Hand the session over, and go to what is due or wanted."""
    answer = redirect(_target(secret, wanted), 303)
    set_session(answer, secret)
    return answer


def _target(secret: str, wanted: str) -> str:
    """Where who signed in goes: to what is due, else where it wanted to go, else where its role begins."""
    caller = caller_of(room(Access), secret, (SESSION,), Door.PORTAL, client_address())
    return page_due(caller) or inside(wanted) or HOME.get(caller.principal.role, STUDY_LIST)


def page_due(caller: Caller) -> str:
    """Where a session that does not count yet has to go first; empty: it counts."""
    if password_due(room(Access), caller):
        return "/my/password?must=1"
    return "" if caller.permissions.verbs else "/my/factor?must=1"


def inside(path: str) -> str:
    """A path on this site, or nothing: never another site's address."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and "\\" not in path
    return path if is_local and path.isprintable() else ""


def _require_own_page() -> None:
    """Raise Forbidden for a form that another site's page sent."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
