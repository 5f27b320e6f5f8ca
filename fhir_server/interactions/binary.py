"""Binary in its own format: the bytes as they are, instead of a resource that holds them (R4 Binary)."""

import base64
import re
from typing import Any

import orjson
from flask import Response, request

from fhir_server.negotiate import JSON_TYPES, XML_TYPES, describe, request_body
from records.documents import InvalidDocument
from records.repository import Stored

MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}(;[ -~]{0,200})?")
SAFE = {  # what a client uploaded must not run as a page of ours, whatever it says that it is
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


def is_native_binary(resource_type: str) -> bool:
    """Whether the request's body is the bytes of a Binary themselves."""
    media_type = request.mimetype
    return resource_type == "Binary" and media_type not in JSON_TYPES and media_type not in XML_TYPES


def binary_of_request() -> dict[str, Any]:
    """The body as a Binary. Raises InvalidDocument or BodyTooLarge."""
    media_type = request.content_type or "application/octet-stream"
    if not MEDIA_TYPE.fullmatch(media_type):
        raise InvalidDocument("its Content-Type is none")
    document: dict[str, Any] = {"resourceType": "Binary", "contentType": media_type}
    context = request.headers.get("X-Security-Context")
    if context:
        document["securityContext"] = {"reference": context}
    return document | {"data": base64.b64encode(request_body()).decode()}


def wants_native() -> bool:
    """Whether a reader of a Binary wants its bytes: unless it asks for FHIR by name."""
    asked = request.args.get("_format") or request.headers.get("Accept", "*/*")
    types = {part.partition(";")[0].strip().lower().replace(" ", "+") for part in asked.split(",")}
    return not types & (JSON_TYPES | XML_TYPES)


def native_answer(stored: Stored) -> Response:
    """The bytes of a Binary under its own media type."""
    document = orjson.loads(stored.body)
    try:
        data = base64.b64decode(document.get("data", ""))
    except (ValueError, TypeError):
        data = b""
    media_type = str(document.get("contentType", ""))
    if not MEDIA_TYPE.fullmatch(media_type):
        media_type = "application/octet-stream"
    answer = Response(data, content_type=media_type, headers=SAFE)
    context = document.get("securityContext")
    if isinstance(context, dict) and str(context.get("reference", "")).isprintable():
        answer.headers["X-Security-Context"] = str(context.get("reference", ""))
    describe(answer, stored)
    answer.make_conditional(request.environ)
    return answer
