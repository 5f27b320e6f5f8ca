"""Capabilities (PS3.18 8.9): what this service can do, as WADL in XML or JSON, made from its own routes."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from flask import Blueprint, Response, current_app, request

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
DICOM_PARTS, XML_PARTS = (f'multipart/related; type="{each}"' for each in (DICOM, DICOM_XML))
STORED = (DICOM_PARTS, f'multipart/related; type="{DICOM_JSON}"', XML_PARTS, DICOM)
WORKITEM = (DICOM_JSON, WADL_JSON, DICOM_XML)


@dataclass(frozen=True, slots=True)
class Given:
    """What a resource is had as, by which parameters, and what is sent to it."""

    ends: str  # of its path
    representations: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()


GIVEN = (
    Given(r"/metadata", (DICOM_JSON, XML_PARTS)),
    Given(r"/rendered", (
        "image/jpeg", "image/png", "image/gif", "video/mp4", "application/pdf", "text/html",
        "text/plain", "text/xml"), RENDERING),
    Given(r"/thumbnail", ("image/jpeg", "image/png", "image/gif"), ("viewport",)),
    Given(r"/frames/<numbers>", (
        OCTETS, "image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle")),
    Given(r"/(bulkdata|pixeldata)(/<path>)?", (OCTETS,)),
    Given(r"/wado", (DICOM, "image/jpeg", "image/png", "image/gif", "video/mp4", "application/pdf"), (
        "requestType", "studyUID", "seriesUID", "objectUID", "contentType", "anonymize", "annotation", "rows",
        "columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality", "presentationUID",
        "presentationSeriesUID", "transferSyntax", "iccprofile")),
    Given(r"/reject/<reason>"),
    Given(r"/workitems", (DICOM_JSON, XML_PARTS), (
        "fuzzymatching", "includefield", "limit", "offset"), WORKITEM),
    Given(r"/workitems/<uid>", (DICOM_JSON, DICOM_XML), bodies=WORKITEM),
    Given(r"/(state|cancelrequest)(/<requester>)?", bodies=WORKITEM),
    Given(r"/subscribers/<ae_title>(/suspend)?"),
    Given(r"/studies", (DICOM_JSON, XML_PARTS), SEARCH, STORED),
    Given(r"/(series|instances)", (DICOM_JSON, XML_PARTS), SEARCH),
    Given(rf"/({'|'.join(CATEGORY_BY_NAME)})", (DICOM_JSON, XML_PARTS), SEARCH, STORED),
    Given(rf"/({'|'.join(CATEGORY_BY_NAME)})/<uid>", (DICOM, DICOM_PARTS, DICOM_JSON, DICOM_XML),
          bodies=STORED),
    Given(r"", (DICOM_PARTS, DICOM, "application/zip"), bodies=STORED),
)  # fmt: skip


@blp.route("/", methods=["OPTIONS"])
@blp.route("/capabilities", methods=["GET"])
@open_to_all
def capabilities() -> Response:
    """What the service can do (PS3.18 8.9)."""
    return _answer(_resources())


@blp.before_app_request
def capabilities_of_resource() -> Response | None:
    """What one resource can do, whether there is one or not; a browser's preflight is answered as such."""
    if request.method != "OPTIONS" or request.url_rule is None:
        return None
    shape = PLACE.sub("<>", request.url_rule.rule.removeprefix(ROOT))
    resources = {path: methods for path, methods in _resources().items() if PLACE.sub("<>", path) == shape}
    if not resources or "Access-Control-Request-Method" in request.headers:
        return None
    answer = _answer(resources)
    methods = {"OPTIONS"}.union(*resources.values())
    answer.headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return answer


def _answer(resources: dict[str, list[str]]) -> Response:
    media_type = negotiate(wanted(), (WADL_XML, "application/xml", "application/wadl+xml", WADL_JSON))
    described = describe(resources)
    if media_type == WADL_JSON:
        return text_answer(json.dumps(described).encode(), media_type)
    return text_answer(to_wadl(described), media_type)


def _resources() -> dict[str, list[str]]:
    """The paths of PS3.18 below the service's root that there are, and the methods that each takes."""
    resources: dict[str, list[str]] = {}
    for rule in current_app.url_map.iter_rules():
        path = rule.rule.removeprefix(ROOT)
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if methods and rule.rule.startswith(ROOT + "/") and not path.startswith(BEYOND):
            resources.setdefault(path, []).extend(methods)
    return resources


def describe(resources: dict[str, list[str]]) -> dict[str, Any]:
    """Resources as one value, with their methods, representations and parameters."""
    return {
        "application": {
            "resources": {
                "@base": service_base(),
                "resource": [
                    {
                        "@path": PLACE.sub(r"{\1}", path).lstrip("/"),
                        "method": [_method(method, path) for method in methods],
                    }
                    for path, methods in sorted(resources.items())
                ],
            }
        }
    }


def _method(method: str, path: str) -> dict[str, Any]:
    given = next(each for each in GIVEN if re.search(each.ends + "$", path))
    if method == "GET":
        names = (*QUERY, *given.parameters, *(_searched(path) if given.parameters is SEARCH else ()))
        return {
            "@name": method,
            "request": {"param": [{"@name": name, "@style": "query"} for name in names]},
            "response": _represented(given.representations),
        }
    described: dict[str, Any] = {"@name": method}
    if method != "DELETE" and given.bodies:
        described["request"] = _represented(given.bodies)
        if given.bodies is STORED:
            described["response"] = _represented((DICOM_JSON, DICOM_XML))
    return described


def _represented(media_types: tuple[str, ...]) -> dict[str, Any]:
    return {"representation": [{"@mediaType": media_type} for media_type in media_types]}


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
