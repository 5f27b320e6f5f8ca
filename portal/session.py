"""A browser's session: its cookie, and what its holder sees it as among the own devices."""

from flask import request
from werkzeug.wrappers import Response

from access.bearer import COOKIE, client_address
from access.tokens import Access, label_token
from kernel.http import room

BROWSERS = (  # what a User-Agent holds, and what people call it: the first that fits, for most claim several
    ("MicroMessenger", "WeChat"), ("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"), ("Chrome", "Chrome"), ("CriOS", "Chrome"), ("Safari", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("HarmonyOS", "HarmonyOS"), ("Android", "Android"),
    ("Windows", "Windows"), ("Mac OS X", "macOS"), ("Linux", "Linux"),
)  # fmt: skip


def set_session(answer: Response, secret: str) -> None:
    """Hand a session to the browser, and keep which browser it is."""
    answer.set_cookie(COOKIE, secret, httponly=True, secure=request.is_secure, samesite="Lax", path="/")
    device = device_of(request.headers.get("User-Agent", ""))
    if device:
        label_token(room(Access), secret, f"{device} · {client_address()}")


def device_of(user_agent: str) -> str:
    """Browser and system in a few words, of these tables only; empty for what neither knows."""
    found = (next((name for mark, name in table if mark in user_agent), "") for table in (BROWSERS, SYSTEMS))
    return " · ".join(filter(None, found))
