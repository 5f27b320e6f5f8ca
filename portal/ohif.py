"""The diagnostic viewer: OHIF's prebuilt pages below /ohif/, under our session.

`portal.ohif_dist` prepared the files. They are sent compressed as they lie; names that carry a digest of the
content never change and are cached for a year. The page itself and its configuration are written here: any
path that is no file is the page, for the viewer routes by itself. Its DICOMweb calls go to this same host, so
the session cookie rides along and no token ever stands in an address.

The same program stands below a share and a patient's pages (`portal.film_pages`): there its data come through
that door, and the visitor's watermark lies over the page. The files hold nothing of anybody and are open.
"""

import gzip
import json
import mimetypes
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, abort, redirect, render_template, request, send_file
from werkzeug.security import safe_join
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import current_caller
from access.caller import Door
from kernel.errors import Unauthenticated
from kernel.http import room
from kernel.settings import Settings
from portal.catalogue import say
from portal.ohif_dist import BASE_PATH, FOLDER, STAMP

blp = Blueprint("ohif", __name__, url_prefix="/ohif", template_folder="templates")

HEADERS = {
    "Content-Security-Policy": (
        # unsafe-eval: the WebAssembly codecs build their glue functions from text
        "default-src 'self'; script-src 'self' 'unsafe-eval'; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' data: blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next one: shared memory between the decoders
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

FOR_A_YEAR = "private, max-age=31536000, immutable"
ASK_EACH_TIME = "private, no-cache"
STAFF_MENU = (  # where those of the house work with images
    ("staff.images", BASE_PATH),
    ("staff.shares", "/staff/shares"),
    ("staff.labels", "/staff/labels"),
    ("staff.mine", "/my/access"),
)
NAMED_BY_CONTENT = re.compile(r"(^|\.)[0-9a-f]{16}\.")  # app.bundle.0f6159c501addfe9.js

CONFIGURATION: dict[str, Any] = {
    "name": "cloudfilm",
    "routerBasename": BASE_PATH.rstrip("/"),
    "extensions": [],
    "modes": [],
    "customizationService": [{"ohif.tours": {"$set": []}}],  # no guided tour over the first study
    "showStudyList": True,
    "showLoadingIndicator": True,
    "showCPUFallbackMessage": True,
    "showErrorDetails": "production",
    "investigationalUseDialog": {"option": "configure", "days": 365},
    "strictZSpacingForVolumeViewport": True,
    "groupEnabledModesFirst": True,
    "maxNumberOfWebWorkers": 3,
    "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
    "defaultDataSourceName": "cloudfilm",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "cloudfilm",
            "configuration": {
                "friendlyName": "cloudfilm",
                "name": "cloudfilm",
                "qidoRoot": "/dicomweb",
                "wadoRoot": "/dicomweb",
                "qidoSupportsIncludeField": True,
                "supportsFuzzyMatching": True,
                "supportsWildcard": True,
                "enableStudyLazyLoad": True,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "dicomUploadEnabled": True,
                "singlepart": "bulkdata,pdf,video",
                "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
                "omitQuotationForMultipartRequest": True,
            },
        }
    ],
}
"""What OHIF reads at its start (docs.ohif.org, Configuration)."""

SCRIPT = """window.PUBLIC_URL = %(base)s;
window.browserImportFunction = (name) => import(name);
window.config = %(configuration)s;
window.config.whiteLabeling = {
  createLogoComponentFn: (React) => {
    const links = %(links)s.filter((_, at, all) => innerWidth >= 1280 || at === all.length - 1);
    const bar = { display: "flex", gap: "12px", alignItems: "baseline", whiteSpace: "nowrap" };
    return React.createElement("nav", { style: bar }, links.map(([text, href], at) => React.createElement(
      "a", { key: href, href, "aria-label": text, style: { color: "#fff", fontSize: at ? "13px" : "18px" } },
      innerWidth < 800 ? "\u2630" : text)));  // the list's title stands where a word would
  },
};
window.config.httpErrorHandler = (error) => {
  if (error.status === 401) location.reload();  // the session ended: the page itself leads to the sign-in
};
"""


@blp.get("/app-config.js")
def app_config() -> Response:
    """The viewer's configuration, and the two globals its page would otherwise set inline."""
    current_caller(Door.PORTAL)
    return configuration()


@blp.get("/", defaults={"name": ""})
@blp.get("/<path:name>")
def page_or_file(name: str) -> AnyResponse:
    """A file of the viewer, or the viewer's page at any of its own paths."""
    if Path(name).suffix:
        return file(name)
    try:
        current_caller(Door.PORTAL)
    except Unauthenticated:
        return redirect("/sign-in?next=" + quote(request.full_path.rstrip("?"), safe=""))
    return page()


def configuration(base: str = BASE_PATH, data: str = "") -> Response:
    """What the viewer reads at its start.

    base: where its page is; data: the path that the DICOMweb door is below.
    """
    source = CONFIGURATION["dataSources"][0]
    roots = {"qidoRoot": f"{data}/dicomweb", "wadoRoot": f"{data}/dicomweb"}
    settings = CONFIGURATION | {
        "routerBasename": base.rstrip("/"),
        "showStudyList": base == BASE_PATH,
        "dataSources": [source | {"configuration": source["configuration"] | roots}],
    }
    links = [(say("product"), base.removesuffix("ohif/"))]
    if base == BASE_PATH:  # of the house: what else it has
        links = [(say("product"), base), *((say(key), path) for key, path in STAFF_MENU[1:])]
    written = {"base": BASE_PATH, "configuration": settings, "links": links}
    script = SCRIPT % {name: json.dumps(value) for name, value in written.items()}
    return finished(Response(script, mimetype="text/javascript"), ASK_EACH_TIME)


def page(base: str = BASE_PATH, watermark: str = "") -> Response:
    """The page that loads the viewer; says how to get it when set-up could not fetch it.

    watermark: the address of a picture that lies over all.
    """
    bundle = next(FOLDER.glob("app.bundle.*.js.gz"), None)
    html = render_template(
        "ohif.html", base=BASE_PATH, page=base, watermark=watermark, bundle=bundle and bundle.stem
    )
    return finished(Response(html, 200 if bundle else 503, mimetype="text/html"), ASK_EACH_TIME)


def file(name: str) -> Response:
    """One file: compressed as it lies, or unpacked for a client that does not take gzip."""
    plain = safe_join(str(FOLDER), name)
    if plain is None or name == STAMP:
        abort(404)
    path, packed = Path(plain), Path(plain + ".gz")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if packed.is_file():
        if room(Settings).web.hand_over_files:
            answer = Response(mimetype=media_type)
            answer.headers["X-Accel-Redirect"] = f"/_files/ohif/{quote(name)}"  # nginx: docker/
        elif request.accept_encodings["gzip"]:
            answer = send_file(packed, media_type, download_name=path.name, conditional=True)
            answer.headers["Content-Encoding"] = "gzip"
        else:
            answer = Response(gzip.decompress(packed.read_bytes()), mimetype=media_type)
        answer.vary.add("Accept-Encoding")
    elif path.is_file():
        answer = send_file(path, media_type, conditional=True)
    else:
        abort(404)
    return finished(answer, FOR_A_YEAR if NAMED_BY_CONTENT.search(path.name) else ASK_EACH_TIME)


def finished(answer: Response, cache_control: str) -> Response:
    """The answer with the headers that every one of the viewer's carries."""
    answer.headers.update(HEADERS)
    answer.headers["Cache-Control"] = cache_control
    return answer
