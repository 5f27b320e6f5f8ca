"""Signed URLs of images, documents and videos (beyond PS3.18), see `access.signed_urls`.

POST /signed-urls  {"urls": ["/dicomweb/studies/.../rendered?viewport=512,512"], "expires_in": 300}
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from access.bearer import current_caller
from access.caller import READ_IMAGES, Door
from access.signed_urls import sign_url
from access.tokens import Access
from dicomweb.service import ROOT
from kernel.errors import CloudfilmError, Kind
from kernel.http import room

blp = Blueprint("signed_urls", __name__)

MOST_URLS = 1000
LONGEST_URL = 4096
FORM = f'Send {{"urls": [...], "expires_in": seconds}} with 1 to {MOST_URLS} URLs of this service.'


class InvalidRequest(CloudfilmError):
    """A body that does not say what is to be signed."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__(FORM)


@blp.post("/signed-urls")
def sign() -> Response:
    """The same URLs, each with a signature that opens it to whoever holds it, for a short while."""
    access, caller = room(Access), current_caller(Door.DICOMWEB)
    caller.require(READ_IMAGES)
    asked: Any = request.get_json(silent=True, force=True)
    urls, life_s = _read(asked, access.settings.signed_url_s)
    prefix, root = f"{ROOT}/", request.script_root
    signed = [sign_url(access, caller, url, prefix, life_s, root) for url in urls]
    answer = jsonify({"urls": signed, "expires_in": life_s})
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _read(asked: Any, most_s: int) -> tuple[list[str], int]:
    """The URLs, and for how long. Raises InvalidRequest."""
    if not isinstance(asked, dict):
        raise InvalidRequest
    urls, wanted = asked.get("urls"), asked.get("expires_in", most_s)
    if not isinstance(urls, list) or not 1 <= len(urls) <= MOST_URLS:
        raise InvalidRequest
    if not all(isinstance(url, str) and len(url) <= LONGEST_URL for url in urls):
        raise InvalidRequest
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise InvalidRequest
    return urls, min(wanted, most_s)
