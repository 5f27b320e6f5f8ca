"""Retrieve transaction (PS3.18 10.4, WADO-RS): objects, metadata, frames and bulk data.

What is stored is sent as it is stored, straight from the sealed object, whenever the request accepts that.
"""

import re
from collections.abc import Iterable, Iterator

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Door
from archive.bundles import EncodedBundles
from archive.documents import at_base
from archive.retrieve import (
    NotFound,
    StoredInstance,
    find_bulk,
    find_instance,
    find_instances,
    find_series_metadata,
    frame_pieces,
    instance_bytes,
    instance_document,
    series_documents,
)
from archive.room import Archive
from dicomweb.media_types import (
    DICOM,
    OCTETS,
    NotAcceptable,
    Representation,
    accepted,
    negotiate_json,
    representations,
)
from dicomweb.multipart import new_boundary, write_parts
from dicomweb.service import service_base
from dicomweb.transfer_syntaxes import frame_media_type
from kernel.http import ByteRange, parse_range, room

blp = Blueprint("wado", __name__)

STUDY = "/studies/<study>"
SERIES = STUDY + "/series/<series>"
INSTANCE = SERIES + "/instances/<instance>"

FRAME_LIST = re.compile(r"\d{1,9}(,\d{1,9})*")


@blp.get(STUDY)
@blp.get(SERIES)
@blp.get(INSTANCE)
def retrieve(study: str, series: str = "", instance: str = "") -> Response:
    """Retrieve a study, a series or an instance as PS3.10 objects (PS3.18 10.4.1.1)."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    for form in _wanted():
        if form.media_type in (DICOM, "application/*", "*/*"):
            if form.multipart or not instance:
                stored = _peeked(find_instances(archive, caller, study, series, instance))
                return _multipart(DICOM, (_object_part(archive, each) for each in stored))
            return _whole(archive, find_instance(archive, caller, study, series, instance))
    raise NotAcceptable((f'multipart/related; type="{DICOM}"', *((DICOM,) if instance else ())))


def _object_part(archive: Archive, stored: StoredInstance) -> tuple[dict[str, str], Iterable[bytes]]:
    headers = {
        "Content-Type": f"{DICOM}; transfer-syntax={stored.transfer_syntax_uid}",
        "Content-Length": str(stored.size_bytes),
    }
    return headers, instance_bytes(archive, stored)


def _whole(archive: Archive, stored: StoredInstance) -> Response:
    answer = _ranged(
        lambda offset, length: instance_bytes(archive, stored, offset, length),
        stored.size_bytes,
        f"{DICOM}; transfer-syntax={stored.transfer_syntax_uid}",
        stored.sha256.hex(),
    )
    answer.headers["Content-Disposition"] = f'attachment; filename="{stored.sop_instance_uid}.dcm"'
    return answer


@blp.get(STUDY + "/metadata")
def study_metadata(study: str) -> Response:
    """The metadata of every instance of a study (PS3.18 10.4.1.1.2)."""
    media_type = negotiate_json(request.headers.get("Accept"), request.args.get("accept"))
    archive, caller, base = room(Archive), current_caller(Door.DICOMWEB), service_base()
    stored = _peeked(find_instances(archive, caller, study))
    documents = (at_base(instance_document(archive, each), base) for each in stored)
    return Response(_array(documents), mimetype=media_type)


@blp.get(SERIES + "/metadata")
def series_metadata(study: str, series: str) -> Response:
    """The metadata of every instance of a series, ready-made when the study is at rest (PS3.18
    10.4.1.1.2)."""
    media_type = negotiate_json(request.headers.get("Accept"), request.args.get("accept"))
    archive, base = room(Archive), service_base()
    caller = current_caller(Door.DICOMWEB)
    found = find_series_metadata(archive, caller, room(EncodedBundles), study, series, base)
    tag = f"{found.series_id}.{found.revision}"
    if found.encoded is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        answer = Response(found.encoded, mimetype=media_type, headers={"Content-Encoding": "gzip"})
        tag += ".gzip"
    else:
        documents = (at_base(document, base) for document in series_documents(archive, found.series_id))
        answer = Response(_array(documents), mimetype=media_type)
    answer.headers["Vary"] = "Accept-Encoding"
    return _conditional(answer, tag)


@blp.get(INSTANCE + "/metadata")
def instance_metadata(study: str, series: str, instance: str) -> Response:
    """The metadata of one instance (PS3.18 10.4.1.1.2)."""
    media_type = negotiate_json(request.headers.get("Accept"), request.args.get("accept"))
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    body = b"[" + at_base(instance_document(archive, stored), service_base()) + b"]"
    return _conditional(Response(body, mimetype=media_type), stored.sha256.hex())


def _array(documents: Iterable[bytes]) -> Iterator[bytes]:
    separator = b"["
    for document in documents:
        yield separator + document
        separator = b","
    yield b"]"


@blp.get(INSTANCE + "/frames/<numbers>")
def frames(study: str, series: str, instance: str, numbers: str) -> Response:
    """One or more frames (PS3.18 10.4.1.1.6)."""
    if not FRAME_LIST.fullmatch(numbers):
        raise NotFound("The frame list")
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    wanted = [int(number) for number in numbers.split(",")]
    for number in wanted:
        if not 1 <= number <= stored.number_of_frames:
            raise NotFound(f"Frame {number}")
    media_type = frame_media_type(stored.transfer_syntax_uid)
    content_type = f"{media_type}; transfer-syntax={stored.transfer_syntax_uid}"
    for form in _wanted():
        if _takes_stored(form, media_type, stored.transfer_syntax_uid):
            tag = f"{stored.sha256.hex()}.{numbers}"
            if request.headers.get("If-None-Match"):
                answer = _conditional(Response(), tag)
                if answer.status_code == 304:
                    return answer
            if form.multipart or len(wanted) > 1 or form.media_type == "*/*":
                return _frames(archive, stored, wanted, media_type, content_type, tag)
            return _at_once(frame_pieces(archive, stored, wanted[0]), content_type, tag)
    raise NotAcceptable(
        (f'multipart/related; type="{media_type}"; transfer-syntax={stored.transfer_syntax_uid}',)
    )


MOST_AT_ONCE = 16  # frames of one answer that are read before it begins, so that its length can be said


def _frames(
    archive: Archive, stored: StoredInstance, wanted: list[int], media_type: str, content_type: str, tag: str
) -> Response:
    """Frames as parts of one answer: a few with their length said, many as a stream."""
    parts = (({"Content-Type": content_type}, frame_pieces(archive, stored, number)) for number in wanted)
    if len(wanted) > MOST_AT_ONCE:
        return _conditional(_multipart(media_type, parts), tag)
    boundary = new_boundary()
    outer = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return _at_once(list(write_parts(boundary, parts)), outer, tag)


def _at_once(pieces: list[bytes], content_type: str, tag: str) -> Response:
    """An answer whose pieces are all at hand; they are sent as they are, not joined."""
    answer = Response(pieces, content_type=content_type)
    answer.headers["Content-Length"] = str(sum(map(len, pieces)))
    answer.headers["ETag"] = f'"{tag}"'
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _takes_stored(form: Representation, media_type: str, transfer_syntax_uid: str) -> bool:
    if form.transfer_syntax == "*":  # as stored, untouched, whatever the type asked for: OHIF's way
        return True
    same_type = form.media_type in (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return same_type and form.transfer_syntax in ("", transfer_syntax_uid)


@blp.get(INSTANCE + "/bulkdata/<path>")
def bulk_data(study: str, series: str, instance: str, path: str) -> Response:
    """A value that metadata refers to (PS3.18 10.4.1.1.5)."""
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    bulk = find_bulk(archive, stored, path)
    for form in _wanted():
        if form.media_type in (OCTETS, "application/*", "*/*"):
            if form.multipart:
                content = instance_bytes(archive, stored, bulk.offset, bulk.length)
                return _multipart(OCTETS, [({"Content-Type": OCTETS}, content)])
            return _ranged(
                lambda offset, length: instance_bytes(archive, stored, bulk.offset + offset, length),
                bulk.length,
                OCTETS,
                f"{stored.sha256.hex()}.{path}",
            )
    raise NotAcceptable((OCTETS, f'multipart/related; type="{OCTETS}"'))


def _wanted() -> tuple[Representation, ...]:
    return representations(accepted(request.headers.get("Accept"), request.args.get("accept")))


def _peeked(stored: Iterator[StoredInstance]) -> Iterator[StoredInstance]:
    """The same, with the first one found already: a refusal must come before the answer has begun."""
    first = next(stored)

    def chained() -> Iterator[StoredInstance]:
        yield first
        yield from stored

    return chained()


def _multipart(media_type: str, parts: Iterable[tuple[dict[str, str], Iterable[bytes]]]) -> Response:
    boundary = new_boundary()
    content_type = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return Response(write_parts(boundary, parts), content_type=content_type)


def _ranged(read, size_bytes: int, content_type: str, tag: str) -> Response:  # type: ignore[no-untyped-def]
    """A single-part answer, or the range of it that is asked for (RFC 9110 14)."""
    wanted = parse_range(request.headers.get("Range"), size_bytes) or ByteRange(0, size_bytes - 1)
    partial = wanted.length != size_bytes
    answer = Response(read(wanted.first, wanted.length), 206 if partial else 200, content_type=content_type)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Content-Length"] = str(wanted.length)
    if partial:
        answer.headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{size_bytes}"
    return _conditional(answer, tag)


def _conditional(answer: Response, tag: str) -> Response:
    """Add the entity tag; 304 when the client has this very answer (RFC 9110 13.1.2)."""
    answer.set_etag(tag)
    answer.headers["Cache-Control"] = "private, no-cache"
    answer.make_conditional(request.environ)
    return answer
