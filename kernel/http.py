"""What HTTP doors share: finding their room, refusals as problem JSON, conditional requests, ranges.

RFC 9110 (semantics), RFC 9457 (problem details).
"""

import re
from dataclasses import dataclass
from typing import TypeVar

from flask import Response, current_app, request

from kernel.errors import CloudfilmError, Kind

Bundle = TypeVar("Bundle")

STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.NOT_ALLOWED: 405,
    Kind.NOT_ACCEPTABLE: 406,
    Kind.CONFLICT: 409,
    Kind.GONE: 410,
    Kind.PRECONDITION: 412,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.UNPROCESSABLE: 422,
    Kind.TOO_MANY: 429,
    Kind.UNAVAILABLE: 503,
    Kind.EXHAUSTED: 507,
    Kind.FAULT: 500,
}


def room(kind: type[Bundle]) -> Bundle:
    """The bundle of a room (`room(Archive)`), as `cloudfilm.web` put it into this app."""
    found: Bundle = current_app.extensions["cloudfilm"][kind]
    return found


PREFIX = "cloudfilm.prefix"  # in a request's environment: the path below which it sees every door


def base_url(public_url: str) -> str:
    """How the client reaches this server, without a slash at the end: the setting, else the request itself.

    Some clients send a Host without the port; then it is the one that the request came in at, unless a proxy
    stands before us.
    """
    below = str(request.environ.get(PREFIX, ""))
    if public_url:
        return public_url.rstrip("/") + below
    base, port = f"{request.scheme}://{request.host}", request.environ.get("SERVER_PORT", "")
    says_port = ":" in request.host.rpartition("]")[2]
    behind_proxy = "werkzeug.proxy_fix.orig" in request.environ or "Via" in request.headers
    if says_port or behind_proxy or port in ("", "80", "443"):
        return base + below
    return f"{base}:{port}{below}"


def problem(refusal: CloudfilmError) -> Response:
    """A refusal as problem JSON (RFC 9457)."""
    status = 416 if isinstance(refusal, RangeNotSatisfiable) else STATUS[refusal.kind]
    body = {
        "type": "about:blank",
        "title": refusal.kind.name.lower(),
        "status": status,
        "detail": str(refusal),
    }
    answer = current_app.response_class(
        current_app.json.dumps(body), status, mimetype="application/problem+json"
    )
    return with_challenge(answer, refusal)


def with_challenge(answer: Response, refusal: CloudfilmError) -> Response:
    """Add what a client needs to try again: WWW-Authenticate (RFC 6750) or Retry-After."""
    if refusal.kind is Kind.UNAUTHENTICATED:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="cloudfilm"'
    if refusal.kind in (Kind.UNAVAILABLE, Kind.TOO_MANY):
        answer.headers["Retry-After"] = "5"
    return answer


class RangeNotSatisfiable(CloudfilmError):
    """A byte range that lies outside of the thing (RFC 9110 15.5.17)."""

    kind = Kind.INVALID


RANGE = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1


MOST_RANGES = 100


def parse_ranges(header: str | None, size_bytes: int) -> tuple[ByteRange, ...]:
    """Read a Range header (RFC 9110 14.2): the byte ranges in their order, without those that lie outside;
    none when there are none to be honoured.

    Another unit, what cannot be read, and ranges that come to more than the whole are ignored, which the RFC
    allows. Raises RangeNotSatisfiable when all lie outside.
    """
    unit, equals, text = (header or "").replace(" ", "").partition("=")
    specs = [RANGE.fullmatch(spec) for spec in text.split(",", MOST_RANGES)]
    if unit != "bytes" or not equals or len(specs) > MOST_RANGES:
        return ()
    found = []
    for spec in specs:
        if spec is None or spec[0] == "-" or (spec[1] and spec[2] and int(spec[1]) > int(spec[2])):
            return ()
        first, last = spec[1], spec[2]
        start = int(first) if first else max(0, size_bytes - int(last))
        stop = min(int(last), size_bytes - 1) if first and last else size_bytes - 1
        if start <= stop:
            found.append(ByteRange(start, stop))
    if not found:
        raise RangeNotSatisfiable(f"The range lies outside of the {size_bytes} bytes there are.")
    return tuple(found) if sum(each.length for each in found) <= size_bytes else ()
