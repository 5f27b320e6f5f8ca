"""Styles and scripts of the server's own pages, served below /assets/.

They are few and small: all are read when the server starts, compressed then where that makes them smaller,
and held in memory. The processes that serve are forks of one that has done so.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, abort, request

FOLDER = Path(__file__).parent / "assets"
FOR_AN_HOUR = "public, max-age=3600"
WORTH_PACKING = 0.9  # of its size; a picture hardly shrinks

blp = Blueprint("assets", __name__)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and compressed; `packed` is empty where compressing gains nothing."""

    media_type: str
    plain: bytes
    packed: bytes
    tag: str  # names its content


def read_asset(path: Path) -> Asset:
    """A file as it is served."""
    plain = path.read_bytes()
    packed = gzip.compress(plain, 9, mtime=0)
    return Asset(
        mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        plain,
        packed if len(packed) < WORTH_PACKING * len(plain) else b"",
        hashlib.sha256(plain).hexdigest()[:16],
    )


ASSETS = {path.name: read_asset(path) for path in sorted(FOLDER.iterdir())}


@blp.get("/assets/<name>")
def asset(name: str) -> Response:
    """One of them; 304 to who has it as it is."""
    found = ASSETS.get(name)
    if found is None:
        abort(404)
    is_packed = bool(found.packed) and bool(request.accept_encodings["gzip"])
    answer = Response(found.packed if is_packed else found.plain, mimetype=found.media_type)
    answer.set_etag(f"{found.tag}-gzip" if is_packed else found.tag)
    answer.headers["Cache-Control"] = FOR_AN_HOUR
    if found.packed:
        answer.vary.add("Accept-Encoding")
    if is_packed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.make_conditional(request)
    return answer
