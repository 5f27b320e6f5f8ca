"""Capabilities (PS3.18 8.9): what this service can do, as WADL in XML or JSON, made from its own routes."""

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

from flask import Blueprint, Response, current_app

from access.bearer import open_to_all
from archive.keys import SEARCH_KEYS, Level, Matching
from archive.non_patient_keys import CATEGORY_BY_NAME
from dicomweb.answers import text_answer, wanted
from dicomweb.media_types import DICOM, DICOM_JSON, DICOM_XML, OCTETS, negotiate
from dicomweb.service import ROOT, service_base

blp = Blueprint("capabilities", __name__)

WADL_XML, WADL_JSON = "application/vnd.sun.wadl+xml", "application/json"
PLACE = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
QUERY = ("accept", "charset")
SEARCH = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching", "includefield", "limit", "offset")
BEYOND = ("/capabilities", "/removals", "/signed-urls")  # of ours, not of PS3.18
RENDERING = ("annotation", "quality", "viewport", "window", "iccprofile")

GIVEN = (  # by the end of a resource's path: its representations and its parameters
    (r"/metadata", (DICOM_JSON, f'multipart/related; type="{DICOM_XML}"'), ()),
    (r"/rendered", (
        "image/jpeg", "image/png", "image/gif", "video/mp4", "application/pdf", "text/html"), RENDERING),
    (r"/thumbnail", ("image/jpeg", "image/png", "image/gif"), ("viewport",)),
    (r"/frames/<numbers>", (
        OCTETS, "image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle"), ()),
    (r"/(bulkdata|pixeldata)(/<path>)?", (OCTETS,), ()),
    (r"/wado", (DICOM, "image/jpeg", "image/png", "image/gif", "video/mp4", "application/pdf"), (
        "requestType", "studyUID", "seriesUID", "objectUID", "contentType", "anonymize", "annotation", "rows",
        "columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality", "presentationUID",
        "presentationSeriesUID", "transferSyntax", "iccprofile")),
    (r"/(studies|series|instances)", (DICOM_JSON,), SEARCH),
    (rf"/({'|'.join(CATEGORY_BY_NAME)})", (DICOM_JSON,), SEARCH),
    (rf"/({'|'.join(CATEGORY_BY_NAME)})/<uid>", (
        DICOM, f'multipart/related; type="{DICOM}"', DICOM_JSON, DICOM_XML), ()),
    (r"", (f'multipart/related; type="{DICOM}"', DICOM, "application/zip"), ()),
)  # fmt: skip


@blp.route("/", methods=["OPTIONS"])
@blp.route("/capabilities", methods=["GET"])
@open_to_all
def capabilities() -> Response:
    """What the service can do (PS3.18 8.9)."""
    media_type = negotiate(wanted(), (WADL_XML, "application/xml", "application/wadl+xml", WADL_JSON))
    described = describe()
    if media_type == WADL_JSON:
        return text_answer(json.dumps(described).encode(), media_type)
    return text_answer(to_wadl(described), media_type)


def describe() -> dict[str, Any]:
    """The service as one value: its resources with their methods, representations and parameters."""
    resources: dict[str, list[dict[str, Any]]] = {}
    for rule in current_app.url_map.iter_rules():
        path = rule.rule.removeprefix(ROOT)
        if rule.rule.startswith(ROOT + "/") and not path.startswith(BEYOND):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                resources.setdefault(path, []).append(_method(method, path))
    return {
        "application": {
            "resources": {
                "@base": service_base(),
                "resource": [
                    {"@path": PLACE.sub(r"{\1}", path).lstrip("/"), "method": methods}
                    for path, methods in sorted(resources.items())
                ],
            }
        }
    }


def _method(method: str, path: str) -> dict[str, Any]:
    media_types, parameters = next(
        (media_types, parameters)
        for pattern, media_types, parameters in GIVEN
        if re.search(pattern + "$", path)
    )
    if method == "POST":
        bodies = (f'multipart/related; type="{DICOM}"', f'multipart/related; type="{DICOM_JSON}"',
                  f'multipart/related; type="{DICOM_XML}"', DICOM)  # fmt: skip
        return {
            "@name": method,
            "request": {"representation": [{"@mediaType": body} for body in bodies]},
            "response": {"representation": [{"@mediaType": DICOM_JSON}, {"@mediaType": DICOM_XML}]},
        }
    names = (*QUERY, *parameters, *(_searched(path) if parameters is SEARCH else ()))
    return {
        "@name": method,
        "request": {"param": [{"@name": name, "@style": "query"} for name in names]},
        "response": {"representation": [{"@mediaType": media_type} for media_type in media_types]},
    }


def _searched(path: str) -> Iterator[str]:
    resource = path.rpartition("/")[2]
    levels = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
    level = levels.get(resource, Level.INSTANCE)
    for key in CATEGORY_BY_NAME[resource].keys if resource in CATEGORY_BY_NAME else SEARCH_KEYS:
        if key.matching is not Matching.NONE and key.level <= level:
            yield key.keyword


def to_wadl(described: dict[str, Any]) -> bytes:
    """The same as WADL in XML."""
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<application xmlns="http://wadl.dev.java.net/2009/02">'
    resources = described["application"]["resources"]
    body = "".join(_xml("resource", resource) for resource in resources["resource"])
    base = quoteattr(resources["@base"])
    return f"{head}<resources base={base}>{body}</resources></application>".encode()


def _xml(name: str, value: dict[str, Any]) -> str:
    attributes = "".join(f" {key[1:]}={quoteattr(str(text))}" for key, text in value.items() if key[0] == "@")
    children: list[str] = []
    for key, child in value.items():
        if key[0] != "@":
            children.extend(_xml(key, each) for each in (child if isinstance(child, list) else [child]))
    return f"<{name}{attributes}>{''.join(children)}</{name}>" if children else f"<{name}{attributes}/>"
