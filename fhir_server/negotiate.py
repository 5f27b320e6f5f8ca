"""What a request accepts, expects and prefers (R4 3.1.0.1): format, conditions, Prefer."""

import gzip
import re
import zlib
from email.utils import format_datetime
from typing import Any

from flask import Response, request

from fhir_server.outcomes import JSON, XML, outcome
from fhir_server.shaping import in_form, is_shaped, shaped
from kernel.errors import CloudfilmError, Kind
from kernel.http import base_url, room
from kernel.settings import Settings
from records.documents import document_text, parse_document
from records.repository import Stored
from records.xml_form import from_xml

ROOT = "/fhir"
JSON_TYPES = frozenset({JSON, "application/json", "text/json", "json"})
XML_TYPES = frozenset({XML, "application/xml", "text/xml", "xml"})
OUR_VERSION = frozenset({"fhirversion=4.0", 'fhirversion="4.0"'})
ANY_TYPES = frozenset({"*/*", "application/*", "text/*", "text/html", "application/xhtml+xml", "html"})


class FormatNotSupported(CloudfilmError):
    """A format that resources are not given in here."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self) -> None:
        super().__init__(f"Resources are given as {JSON} or {XML}, of FHIR 4.0.")


class BodyNotSupported(CloudfilmError):
    """A body in a format that is not read here."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__(f"Send resources as {JSON} or {XML}, of FHIR 4.0.")


class BodyTooLarge(CloudfilmError):
    """A body larger than a resource may be."""

    kind = Kind.TOO_LARGE

    def __init__(self, most: int) -> None:
        super().__init__(f"A resource may have {most} bytes; send bulk data to $import, images to STOW-RS.")


class InvalidCondition(CloudfilmError):
    """An If-Match or If-None-Match header that names no version."""

    kind = Kind.INVALID

    def __init__(self, header: str) -> None:
        super().__init__(f'Write {header} as W/"3".')


def fhir_base() -> str:
    """The URL of the FHIR endpoint for this request."""
    return base_url(room(Settings).web.public_url) + ROOT


def require_json() -> None:
    """Raise FormatNotSupported unless the client takes one of the formats; `_format` wins over Accept."""
    answer_format()


def answer_format() -> str:
    """The media type that the client wants most. Raises FormatNotSupported."""
    asked = request.args.get("_format")
    if asked is None and request.mimetype == "application/x-www-form-urlencoded":
        asked = request.form.get("_format")
    asked = asked or request.headers.get("Accept") or "*/*"
    if asked == "*/*" or asked == JSON:
        return JSON
    best, format_ = 0.0, ""
    for part in asked.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        media_type = media_type.replace(" ", "+")
        if any(each.startswith("fhirversion=") and each not in OUR_VERSION for each in parameters):
            continue
        quality = next((_quality(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        if quality > best and (
            media_type in JSON_TYPES or media_type in XML_TYPES or media_type in ANY_TYPES
        ):
            best, format_ = quality, XML if media_type in XML_TYPES else JSON
    if not format_:
        raise FormatNotSupported
    return format_


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{1,3})?", text) else 0.0


def require_json_body() -> None:
    """Raise BodyNotSupported for a body that is neither of the formats."""
    media_type = (request.content_type or JSON).partition(";")[0].strip().lower()
    of_version = request.mimetype_params.get("fhirversion", "4.0")
    if of_version != "4.0" or (media_type not in JSON_TYPES and media_type not in XML_TYPES):
        raise BodyNotSupported


def request_body() -> bytes:
    """The body, unpacked. Raises BodyTooLarge, or BodyNotSupported for an encoding that is not read."""
    most = room(Settings).fhir.max_body_bytes
    if (request.content_length or 0) > most:
        raise BodyTooLarge(most)
    body = request.stream.read(most + 1)
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "gzip":
        unpacking = zlib.decompressobj(31)
        try:
            body = unpacking.decompress(body, most + 1)
        except zlib.error:
            raise BodyNotSupported from None
    elif encoding != "identity":
        raise BodyNotSupported
    if len(body) > most:
        raise BodyTooLarge(most)
    return body


def request_document() -> dict[str, Any]:
    """The resource in the request's body. Raises BodyNotSupported, BodyTooLarge or InvalidDocument."""
    require_json_body()
    media_type = (request.content_type or JSON).partition(";")[0].strip().lower()
    return from_xml(request_body()) if media_type in XML_TYPES else parse_document(request_body())


def document_answer(document: dict[str, Any] | str, status: int = 200) -> Response:
    """Any resource, as a document or as its JSON text, in the format that the client asks for."""
    format_ = answer_format()
    text = document if isinstance(document, str) else document_text(document)
    body = in_form(text, format_, request.args.get("_pretty") == "true")
    return Response(body, status, content_type=f"{format_}; charset=utf-8")


def outcome_answer(message: str, status: int = 200) -> Response:
    """An OperationOutcome that tells of success."""
    return document_answer(document_text(outcome("information", "informational", message)), status)


def if_match() -> int | None:
    """The version that the client counts on. Raises InvalidCondition."""
    header = request.headers.get("If-Match")
    return None if header is None else version_of(header, "If-Match")


def version_of(etag: str, header: str) -> int:
    """The version that an ETag names. Raises InvalidCondition."""
    match = re.fullmatch(r'\s*(?:W/)?"?([0-9]{1,9})"?\s*', etag)
    if match is None:
        raise InvalidCondition(header)
    return int(match[1])


def must_be_new() -> bool:
    """Whether the client writes only what is not there yet (If-None-Match: *)."""
    return request.headers.get("If-None-Match", "").strip() == "*"


def prefers(name: str) -> str:
    """The value of one preference (RFC 7240), such as `return` or `handling`."""
    match = re.search(rf"(?:^|[,;\s]){name}=([\w-]+)", request.headers.get("Prefer", ""))
    return match[1] if match else ""


def shown(stored: Stored) -> str:
    """The text of a document with as much of it as the client asks for (_summary, _elements)."""
    return shaped(stored.body) if is_shaped() else stored.body


def resource_answer(stored: Stored, status: int = 200) -> Response:
    """A document with its version in ETag and its time in Last-Modified; 304 when the client has it."""
    answer = document_answer(shown(stored), status)
    describe(answer, stored)
    if status == 200:
        answer.make_conditional(request.environ)
    return answer


def written_answer(stored: Stored, status: int = 0) -> Response:
    """What a create or an update answers, as the client prefers it (R4 3.1.0.1.8)."""
    status = status or (201 if stored.is_new else 200)
    wish = prefers("return")
    if wish == "minimal":
        answer = Response(status=status)
    elif wish == "OperationOutcome":
        answer = outcome_answer("Done.", status)
    else:
        answer = document_answer(stored.body, status)
    describe(answer, stored)
    answer.headers["Location"] = (
        f"{fhir_base()}/{stored.resource_type}/{stored.logical_id}/_history/{stored.version}"
    )
    return answer


def describe(answer: Response, stored: Stored) -> None:
    """Say the version and the time of a document in the headers of an answer."""
    answer.set_etag(str(stored.version), weak=True)
    answer.headers["Last-Modified"] = format_datetime(stored.updated_at, usegmt=True)
    answer.headers["Cache-Control"] = "private, no-cache"


COMPRESSED = frozenset({JSON, XML, "application/json"})
LEAST_COMPRESSED, LEVEL = 1400, 4  # bytes that fit into a packet gain nothing


def compressed(answer: Response) -> Response:
    """The answer with gzip where the client takes it and it is worth it (RFC 9110 8.4)."""
    if answer.direct_passthrough or answer.is_streamed or "Content-Encoding" in answer.headers:
        return answer
    answer.vary.add("Accept-Encoding")
    answer.vary.add("Accept")
    if "gzip" not in request.headers.get("Accept-Encoding", "") or answer.mimetype not in COMPRESSED:
        return answer
    body = answer.get_data()
    if len(body) >= LEAST_COMPRESSED:
        answer.set_data(gzip.compress(body, LEVEL, mtime=0))
        answer.headers["Content-Encoding"] = "gzip"
    return answer
