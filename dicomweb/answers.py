"""Forms of an answer: one body or parts, whole or a range, conditional, compressed (RFC 9110, PS3.18 8.6)."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from flask import Response, request

from dicomweb.media_types import Representation, accepted, representations
from dicomweb.multipart import new_boundary, write_parts
from kernel.http import ByteRange, parse_ranges
from kernel.runs import Runs

Part = tuple[dict[str, str], Iterable[bytes]]

MOST_ACCEPT = 4096  # characters that are read of an Accept header
FAST = 1  # gzip level for bodies made on request
LEAST_COMPRESSED_BYTES = 1024
CACHE = "private, no-cache"


def wanted() -> tuple[Representation, ...]:
    """The forms that this request accepts, best first."""
    return forms_of(request.headers.get("Accept", ""), request.args.get("accept", ""))


def forms_of(header: str, parameter: str = "") -> tuple[Representation, ...]:
    """The forms that an Accept header, or the parameter in its place, names; best first."""
    return _forms(header[:MOST_ACCEPT], parameter[:MOST_ACCEPT])


@lru_cache(maxsize=512)
def _forms(header: str, parameter: str) -> tuple[Representation, ...]:
    """Read once for each of the few headers that clients send."""
    return representations(accepted(header, parameter))


def accepts_gzip() -> bool:
    """Whether the client takes a gzip-encoded body."""
    return bool(request.accept_encodings["gzip"])


def multipart(media_type: str, parts: Iterable[Part], parameters: str = "") -> Response:
    """Parts as a stream; the outer type names that of the parts (RFC 2387).

    When they are at hand and each says its Content-Length, so does the whole: a client then reads it straight
    to where it wants it, and sees how far it is.
    """
    boundary = new_boundary()
    content_type = f'multipart/related; type="{media_type}"; boundary={boundary}{parameters}'
    answer = long_answer(write_parts(boundary, parts), content_type)
    if isinstance(parts, list) and all("Content-Length" in headers for headers, _ in parts):
        answer.content_length = _framing(boundary, parts) + sum(
            int(headers["Content-Length"]) for headers, _ in parts
        )
    return answer


def long_answer(pieces: Iterable[bytes], content_type: str) -> Response:
    """An answer that is sent as it is made, in runs of pieces."""
    return Response(Runs(pieces), content_type=content_type, direct_passthrough=True)


def at_once(pieces: list[bytes], content_type: str, tag: str) -> Response:
    """An answer whose pieces are all at hand; they are sent as they are, not joined."""
    return Response(pieces, headers=head_of(pieces, content_type, tag))


def head_of(pieces: list[bytes], content_type: str, tag: str) -> list[tuple[str, str]]:
    """What is said of such an answer."""
    return [
        ("Content-Type", content_type),
        ("Content-Length", str(sum(map(len, pieces)))),
        ("ETag", f'"{tag}"'),
        ("Cache-Control", CACHE),
    ]


def ranged(
    read: Callable[[int, int], Iterable[bytes]], size_bytes: int, content_type: str, tag: str
) -> Response:
    """A single-part answer, or the ranges of it that are asked for, several as parts (RFC 9110 14)."""
    header = request.headers.get("Range")
    if header and (condition := request.headers.get("If-Range")) and condition.strip() != f'"{tag}"':
        header = None  # it has changed since: the whole is sent
    ranges = parse_ranges(header, size_bytes)
    if len(ranges) > 1:
        parts: list[Part] = [
            ({"Content-Type": content_type, "Content-Range": _place(each, size_bytes)},
             read(each.first, each.length)) for each in ranges
        ]  # fmt: skip
        return conditional(_byte_ranges(parts, sum(each.length for each in ranges)), tag)
    asked = ranges[0] if ranges else ByteRange(0, size_bytes - 1)
    partial = asked.length != size_bytes
    answer = Response(read(asked.first, asked.length), 206 if partial else 200, content_type=content_type)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Content-Length"] = str(asked.length)
    if partial:
        answer.headers["Content-Range"] = _place(asked, size_bytes)
    return conditional(answer, tag)


def _place(part: ByteRange, size_bytes: int) -> str:
    return f"bytes {part.first}-{part.last}/{size_bytes}"


def _byte_ranges(parts: list[Part], size_bytes: int) -> Response:
    """Several ranges of one body (RFC 9110 14.6), which come to so many bytes."""
    boundary = new_boundary()
    answer = long_answer(write_parts(boundary, parts), f"multipart/byteranges; boundary={boundary}")
    answer.status_code = 206
    answer.headers["Accept-Ranges"] = "bytes"
    answer.content_length = _framing(boundary, parts) + size_bytes
    return answer


def _framing(boundary: str, parts: list[Part]) -> int:
    """The length of all that stands around the contents."""
    empty: list[Part] = [(headers, ()) for headers, _ in parts]
    return sum(map(len, write_parts(boundary, empty)))


def ranged_bytes(data: bytes, content_type: str, tag: str) -> Response:
    """The same of bytes that are at hand."""
    return ranged(lambda first, length: (data[first : first + length],), len(data), content_type, tag)


def conditional(answer: Response, tag: str, weak: bool = False) -> Response:
    """Add the entity tag; 304 when the client has this very answer (RFC 9110 13.1.2)."""
    answer.set_etag(tag, weak)
    answer.headers["Cache-Control"] = CACHE
    answer.make_conditional(request.environ)
    return answer


def is_known(tag: str) -> bool:
    """Whether the client says that it has this answer; asked before the answer is made."""
    return request.if_none_match.contains_weak(tag)


def not_modified(tag: str, weak: bool = False) -> Response:
    """304, with what a full answer would have said."""
    answer = Response(status=304)
    answer.set_etag(tag, weak)
    answer.headers["Cache-Control"] = CACHE
    return answer


def text_answer(body: bytes, media_type: str, tag: str = "") -> Response:
    """A body of JSON, XML or HTML: tagged by its content, compressed when the client takes that."""
    tag = tag or hashlib.sha256(body).hexdigest()[:32]
    encoded = accepts_gzip() and len(body) >= LEAST_COMPRESSED_BYTES
    if encoded:
        body, tag = gzip.compress(body, FAST, mtime=0), f"{tag}.gzip"
    answer = Response(body, content_type=media_type)
    if encoded:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return conditional(answer, tag)


def text_stream(pieces: Iterator[bytes], media_type: str, tag: str) -> Response:
    """The same of a body that comes in pieces; it is not held as a whole."""
    if is_known(tag):
        return not_modified(tag, weak=True)
    encoded = accepts_gzip()
    answer = Response(gzipped(pieces) if encoded else pieces, content_type=media_type)
    if encoded:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    answer.set_etag(tag, weak=True)
    answer.headers["Cache-Control"] = CACHE
    return answer


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A stream of pieces, compressed as it goes."""
    compressor = zlib.compressobj(FAST, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        if compressed := compressor.compress(piece):
            yield compressed
    yield compressor.flush()
