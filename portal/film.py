"""Where a film page stands: below a share, for its visitor, or below /patient, for a patient's own account.

The pages are the same; the place says by whose right they are drawn, what they lead to, and what is written
across every image and report.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from flask import Response, make_response, render_template, request

from access.bearer import client_address, current_caller, is_same_origin
from access.caller import Action, Caller, Door
from access.grants import MAKE_SHARE, Visit, policy_of, visit_of
from access.roles import PERSONAL
from access.share_door import cookie_name
from access.tokens import Access
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated
from kernel.http import room
from messaging.notices import unread
from messaging.room import Messaging
from portal.catalogue import LANGUAGE_COOKIE, LANGUAGES, language, say
from portal.ui_files import script_tags

CHINA = timezone(timedelta(hours=8))

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{more}; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self' blob:; worker-src 'self' blob:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Frame-Options": "DENY",
}
WECHAT_SCRIPT = " https://res.wx.qq.com"  # where WeChat's JS-SDK is, for its own browser alone


class NotOpen(CloudfilmError):
    """A share's page asked for by a browser that was not let in, or is no longer."""

    kind = Kind.GONE

    def __init__(self) -> None:
        super().__init__("The link has expired.")


class SignInFirst(CloudfilmError):
    """A patient's page asked for by nobody who is signed in as one."""

    kind = Kind.UNAUTHENTICATED


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands."""

    base: str  # the path that its pages are below
    data: str  # the path that the DICOMweb and FHIR doors are below
    caller: Caller
    watermark: tuple[str, ...]
    menu: tuple[tuple[str, str], ...]  # key of an entry, and its path
    may_share: bool
    may_download: bool
    institution: str = ""
    visit: Visit | None = None
    unread: int = 0

    @property
    def is_visit(self) -> bool:
        """Whether somebody visits a share here."""
        return self.visit is not None


def place_of(grant: str = "") -> Place:
    """Where this request's page stands. Raises NotOpen or SignInFirst."""
    if request.method not in ("GET", "HEAD") and not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    return _visited(grant) if grant else _own()


def _visited(grant: str) -> Place:
    access = room(Access)
    try:
        visit = visit_of(access, request.cookies.get(cookie_name(grant), ""), client_address())
    except Unauthenticated:
        raise NotOpen from None
    if visit.grant_id != grant:
        raise NotOpen
    base = f"/share/{grant}"
    shares = visit.caller.may(MAKE_SHARE)
    menu = []
    if shares:
        menu = [
            ("film.home", base),
            ("film.shares", f"{base}/shares"),
            ("film.family", f"{base}/family"),
            ("film.seen", f"{base}/seen"),
        ]
    marks = _watermark(
        access, visit.institution, visit.visitor or say("film.visitor"), visit.opened_at, grant
    )
    return Place(
        base, base, visit.caller, marks, tuple(menu), shares, visit.may_download, visit.institution, visit
    )


def _own() -> Place:
    try:
        caller = current_caller(Door.PORTAL)
    except Unauthenticated:
        raise SignInFirst from None
    if caller.principal.role not in PERSONAL:
        raise SignInFirst
    access = room(Access)
    menu = (
        ("film.exams", "/patient"),
        ("film.shares", "/patient/shares"),
        ("film.family", "/patient/family"),
        ("film.seen", "/patient/seen"),
        ("film.messages", "/patient/messages"),
    )
    now = access.clock.now().astimezone(CHINA).replace(minute=0)
    marks = _watermark(access, "", caller.principal.name, now, caller.grant)
    return Place(
        "/patient", "", caller, marks, menu, caller.may(Action("Share", "c")), True,
        unread=unread(room(Messaging), caller),
    )  # fmt: skip


def _watermark(access: Access, institution: str, visitor: str, at: datetime, grant: str) -> tuple[str, ...]:
    """What stands across every image and report: who looks, since when, by which grant."""
    if not policy_of(access, institution).watermark:
        return ()
    return visitor, f"{local_time(at)} · {grant[:8]}"


def local_time(at: datetime) -> str:
    """A moment as pages write it: China's time, to the minute."""
    return at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M")


def masked_name(name: str) -> str:
    """A patient's name on a page that others may see: the family name alone is readable."""
    name = name.strip()
    if not name:
        return ""
    if any("\u4e00" <= each <= "\u9fff" for each in name):
        return name[0] + "*" * max(1, len(name) - 1)
    first, *rest = name.split()
    return " ".join((first, *(f"{each[0]}." for each in rest)))


def is_wechat() -> bool:
    """Whether WeChat's own browser asks; for the look of pages, never for a decision on rights."""
    return "MicroMessenger" in request.headers.get("User-Agent", "")


def film_page(
    template: str, place: Place | None, status: int = 200, script: str = "",
    menu: tuple[tuple[str, str], ...] = (), leave: str = "", **values: object,
) -> Response:  # fmt: skip
    """Draw one page of the patients' side, or of those who share from the hospital's.

    menu, leave: entries, and where the button to leave sends to, of a page that stands at no place.
    """
    if place is not None:
        menu, leave = place.menu, f"{place.base}/{'leave' if place.is_visit else 'sign-out'}"
    html = render_template(
        template,
        say=say,
        language=language(),
        place=place,
        menu=menu,
        leave=leave,
        home=place.base if place else menu[0][1] if menu else "#main",
        here=request.path,
        scripts=script_tags("film", *([script] if script else [])),
        local_time=local_time,
        masked_name=masked_name,
        is_wechat=is_wechat(),
        **values,
    )
    answer = make_response(html, status)
    answer.headers.update(HEADERS)
    if request.args.get("lang") in LANGUAGES:
        answer.set_cookie(
            LANGUAGE_COOKIE, language(), max_age=31536000, samesite="Lax", secure=request.is_secure
        )
    more = WECHAT_SCRIPT if is_wechat() else ""
    answer.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].format(more=more)
    return answer
