"""The built scripts of the pages: served below /ui/, and named by what Vite's manifest says.

They are built from `portal/ui` (`python -m portal.ui_dist`). A name carries a hash of its content, so a
browser keeps a file for good; files lie compressed and are sent as they are.
"""

import gzip
import json
import mimetypes
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, request
from markupsafe import Markup
from werkzeug.security import safe_join

FOLDER = Path(__file__).parent / "static" / "ui"

blp = Blueprint("ui", __name__)


@lru_cache(maxsize=1)
def _manifest(_changed: float) -> dict[str, Any]:
    path = FOLDER / "manifest.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def manifest() -> dict[str, Any]:
    """What was built, by the name of its source."""
    path = FOLDER / "manifest.json"
    return _manifest(path.stat().st_mtime if path.is_file() else 0.0)


def script_tags(*entries: str) -> Markup:
    """The tags that load some entries; nothing where the scripts were not built."""
    built = manifest()
    tags = []
    for entry in entries:
        found = built.get(f"src/{entry}.ts")
        if found:
            tags += [f'<link rel="stylesheet" href="/ui/{css}">' for css in found.get("css", ())]
            tags += [
                f'<link rel="modulepreload" href="/ui/{built[each]["file"]}">'
                for each in found.get("imports", ())
                if each in built
            ]
            tags.append(f'<script type="module" src="/ui/{found["file"]}"></script>')
    return Markup("\n  ".join(dict.fromkeys(tags)))  # noqa: S704 - names from our own build


@blp.get("/ui/<path:name>")
def ui_file(name: str) -> Response:
    """One built file."""
    plain = safe_join(str(FOLDER), name)
    packed = Path(f"{plain}.gz") if plain else None
    if packed is None or not packed.is_file():
        abort(404)
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    content = packed.read_bytes()
    if request.accept_encodings["gzip"]:
        answer = Response(content, mimetype=media_type)
        answer.headers["Content-Encoding"] = "gzip"
    else:
        answer = Response(gzip.decompress(content), mimetype=media_type)
    answer.vary.add("Accept-Encoding")
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    if name == "push-worker.js":
        answer.headers["Cache-Control"] = "no-cache"
        answer.headers["Service-Worker-Allowed"] = "/patient"
    return answer
