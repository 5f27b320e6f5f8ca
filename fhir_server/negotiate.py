"""What a request accepts, expects and prefers (R4 3.1.0.1): format, conditions, Prefer."""

import re
from email.utils import format_datetime
from typing import Any

from flask import Response, request

from fhir_server.outcomes import JSON, outcome
from kernel.errors import CloudfilmError, Kind
from kernel.http import base_url, room
from kernel.settings import Settings
from records.documents import document_text, parse_document
from records.repository import Stored

ROOT = "/fhir"
JSON_TYPES = frozenset(
    {"*/*", "application/*", JSON, "application/json", "text/json", "json", "text/html", "text/*"}
)


class FormatNotSupported(CloudfilmError):
    """A format that resources are not given in here."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self) -> None:
        super().__init__(f"Resources are given as {JSON}.")


class BodyNotSupported(CloudfilmError):
    """A body in a format that is not read here."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__(f"Send resources as {JSON}.")


class InvalidCondition(CloudfilmError):
    """An If-Match header that names no version."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__('Write If-Match as W/"3".')


def fhir_base() -> str:
    """The URL of the FHIR endpoint for this request."""
    return base_url(room(Settings).web.public_url) + ROOT


def require_json() -> None:
    """Raise FormatNotSupported unless the client takes JSON; `_format` wins over Accept."""
    asked = request.args.get("_format") or request.headers.get("Accept") or "*/*"
    types = {part.partition(";")[0].strip().lower().replace(" ", "+") for part in asked.split(",")}
    if not types & JSON_TYPES:
        raise FormatNotSupported


def require_json_body() -> None:
    """Raise BodyNotSupported for a body that is something else than JSON."""
    media_type = (request.content_type or JSON).partition(";")[0].strip().lower()
    if media_type not in JSON_TYPES:
        raise BodyNotSupported


def request_document() -> dict[str, Any]:
    """The resource in the request's body. Raises BodyNotSupported or InvalidDocument."""
    require_json_body()
    return parse_document(request.get_data())


def document_answer(document: dict[str, Any] | str, status: int = 200) -> Response:
    """Any resource, as a document or as its JSON text, in the format that the client asks for."""
    require_json()
    text = document if isinstance(document, str) else document_text(document)
    return Response(text, status, mimetype=JSON)


def if_match() -> int | None:
    """The version that the client counts on. Raises InvalidCondition."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    match = re.fullmatch(r'\s*(?:W/)?"?(\d{1,9})"?\s*', header)
    if match is None:
        raise InvalidCondition
    return int(match[1])


def prefers(name: str) -> str:
    """The value of one preference (RFC 7240), such as `return` or `handling`."""
    match = re.search(rf"(?:^|[,;\s]){name}=([\w-]+)", request.headers.get("Prefer", ""))
    return match[1] if match else ""


def resource_answer(stored: Stored, status: int = 200) -> Response:
    """A document with its version in ETag and its time in Last-Modified; 304 when the client has it."""
    answer = Response(stored.body, status, mimetype=JSON)
    _describe(answer, stored)
    if status == 200:
        answer.make_conditional(request.environ)
    return answer


def written_answer(stored: Stored) -> Response:
    """What a create or an update answers, as the client prefers it (R4 3.1.0.1.8)."""
    status = 201 if stored.is_new else 200
    wish = prefers("return")
    if wish == "minimal":
        answer = Response(status=status)
    elif wish == "OperationOutcome":
        told = outcome("information", "informational", "Done.")
        answer = Response(document_text(told), status, mimetype=JSON)
    else:
        answer = Response(stored.body, status, mimetype=JSON)
    _describe(answer, stored)
    answer.headers["Location"] = (
        f"{fhir_base()}/{stored.resource_type}/{stored.logical_id}/_history/{stored.version}"
    )
    return answer


def _describe(answer: Response, stored: Stored) -> None:
    answer.set_etag(str(stored.version), weak=True)
    answer.headers["Last-Modified"] = format_datetime(stored.updated_at, usegmt=True)
    answer.headers["Cache-Control"] = "private, no-cache"
