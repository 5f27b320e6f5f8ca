"""Frames and pixel data (PS3.18 10.4.1.1.6 and 10.4.1.1.7): as stored, as a rendition, or transcoded.

A frame as it is stored costs one indexed row and one ranged, decrypting read. The stored form is given
whenever the request takes it; what else is asked for is looked for among the renditions and made on the way
only when there is none.
"""

import gzip
import logging
import re
from collections.abc import Iterator

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Door
from archive.blobs.store import BlobNotFound
from archive.documents import parse_marked
from archive.image_pixel import ImagePixel, NotAnImage, image_pixel_of
from archive.recode import frame_in
from archive.renditions import find_rendition, rendition_frame
from archive.retrieve import (
    NotFound,
    StoredInstance,
    find_instance,
    find_instances,
    frame_pieces,
    instance_document,
)
from archive.room import Archive
from archive.transcode import EXPLICIT_LITTLE, JPEG_BASELINE, UNCOMPRESSED, can_be_baseline, can_encode
from archive.video import is_video
from dicomweb.answers import (
    Part,
    accepts_gzip,
    at_once,
    conditional,
    is_known,
    multipart,
    not_modified,
    ranged_bytes,
    wanted,
)
from dicomweb.media_types import OCTETS, NotAcceptable, Representation
from dicomweb.multipart import new_boundary, write_parts
from dicomweb.service import INSTANCE, SERIES, STUDY, service_base
from dicomweb.transfer_syntaxes import frame_media_type, wanted_syntax
from kernel.crypto import DamagedBlob
from kernel.http import room

blp = Blueprint("frames", __name__)
log = logging.getLogger(__name__)

FRAME_LIST = re.compile(r"\d{1,9}(,\d{1,9})*")
MOST_AT_ONCE = 16  # frames of one answer that are read before it begins, so that its length can be said
MOST_FRAMES = 100_000  # numbers in one list
GZIP_LEVEL = 1


@blp.get(INSTANCE + "/frames/<numbers>")
def frames(study: str, series: str, instance: str, numbers: str) -> Response:
    """One or more frames."""
    if not FRAME_LIST.fullmatch(numbers):
        raise NotFound("The frame list")
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    listed = [int(number) for number in numbers.split(",", MOST_FRAMES)]
    for number in listed:
        if not 1 <= number <= stored.number_of_frames:
            raise NotFound(f"Frame {number}")
    form, syntax = choose_form(archive, stored, wanted())
    media_type = OCTETS if syntax in UNCOMPRESSED else frame_media_type(syntax)
    tag = f"{stored.sha256.hex()}.{numbers}"
    if syntax != stored.transfer_syntax_uid:
        tag += f".{syntax}"
    single = not form.multipart and len(listed) == 1 and form.media_type != "*/*"
    gzipped = single and media_type == OCTETS and accepts_gzip() and "Range" not in request.headers
    if gzipped:
        tag += ".gzip"
    if request.headers.get("If-None-Match") and is_known(tag):
        return not_modified(tag)
    content_type = f"{media_type}; transfer-syntax={syntax}"
    if single:
        return _single(archive, stored, listed[0], syntax, content_type, tag, gzipped)
    parts = (
        ({"Content-Type": content_type}, pieces_in(archive, stored, number, syntax)) for number in listed
    )
    if len(listed) > MOST_AT_ONCE:
        return conditional(multipart(media_type, parts), tag)
    boundary = new_boundary()
    outer = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return at_once(list(write_parts(boundary, parts)), outer, tag)


def _single(
    archive: Archive,
    stored: StoredInstance,
    number: int,
    syntax: str,
    content_type: str,
    tag: str,
    gzipped: bool,
) -> Response:
    """One frame alone; uncompressed ones are compressed on the way when the client takes that."""
    pieces = pieces_in(archive, stored, number, syntax)
    if gzipped:
        answer = at_once([gzip.compress(b"".join(pieces), GZIP_LEVEL, mtime=0)], content_type, tag)
        answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Vary"] = "Accept, Accept-Encoding"
        return answer
    if "Range" in request.headers:
        return ranged_bytes(b"".join(pieces), content_type, tag)
    answer = at_once(pieces, content_type, tag)
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


def choose_form(
    archive: Archive, stored: StoredInstance, forms: tuple[Representation, ...]
) -> tuple[Representation, str]:
    """The first form that can be given, and the transfer syntax that it comes in. Raises NotAcceptable."""
    own = stored.transfer_syntax_uid
    own_type = frame_media_type(own)
    pixel: ImagePixel | None = None
    for form in forms:
        if form.transfer_syntax == "*":  # as stored, untouched, whatever the type asked for: OHIF's way
            return form, own
        same_type = form.media_type in (own_type, own_type.partition("/")[0] + "/*", "*/*")
        if same_type and form.transfer_syntax in ("", own):
            return form, own
        if form.media_type == OCTETS and own in UNCOMPRESSED and form.transfer_syntax in ("", own):
            return form, own
        asked = wanted_syntax(form.media_type, form.transfer_syntax)
        if not asked or is_video(own):
            continue
        if find_rendition(archive, stored, asked) is not None:
            return form, asked
        if pixel is None:
            try:
                pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
            except NotAnImage:
                continue
        if can_encode(pixel, asked) or (asked == JPEG_BASELINE and can_be_baseline(pixel)):
            return form, asked
    raise NotAcceptable(
        (
            f'multipart/related; type="{own_type}"; transfer-syntax={own}',
            f'multipart/related; type="{OCTETS}"; transfer-syntax={EXPLICIT_LITTLE}',
        )
    )


def pieces_in(archive: Archive, stored: StoredInstance, number: int, syntax: str) -> list[bytes]:
    """A frame in a transfer syntax: as stored, from a rendition, or made now."""
    if syntax == stored.transfer_syntax_uid:
        return frame_pieces(archive, stored, number)
    rendition = find_rendition(archive, stored, syntax)
    if rendition is not None:
        try:
            return rendition_frame(archive, rendition, number)
        except (BlobNotFound, DamagedBlob):
            log.warning("a rendition of %s is lost; it is made again on the way", stored.sop_instance_uid)
    key = f"{stored.sha256.hex()[:40]}{number:08x}{abs(hash_of(syntax)):08x}"
    kept = archive.cache.get(key)
    if kept is None:
        kept = frame_in(archive, stored, number, syntax)
        archive.cache.put(key, kept)
    return [kept]


def hash_of(syntax: str) -> int:
    """A number for a transfer syntax, the same in every process: its last components."""
    return int("".join(each for each in syntax[-9:] if each.isdigit()) or "0") & 0xFFFFFFFF


@blp.get(STUDY + "/pixeldata")
@blp.get(SERIES + "/pixeldata")
@blp.get(INSTANCE + "/pixeldata")
def pixel_data(study: str, series: str = "", instance: str = "") -> Response:
    """The pixel data of a study, series or instance: every frame of it as a part."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    found = (
        each for each in find_instances(archive, caller, study, series, instance) if each.number_of_frames
    )
    first = next(found, None)
    if first is None:
        raise NotFound("Pixel data")
    forms = wanted()
    _, syntax = choose_form(archive, first, forms)
    media_type = OCTETS if syntax in UNCOMPRESSED else frame_media_type(syntax)
    return multipart(media_type, _pixel_parts(archive, first, found, forms, service_base()))


def _pixel_parts(
    archive: Archive,
    first: StoredInstance,
    more: Iterator[StoredInstance],
    forms: tuple[Representation, ...],
    base: str,
) -> Iterator[Part]:
    yield from _frames_of(archive, first, forms, base)
    for stored in more:
        yield from _frames_of(archive, stored, forms, base)


def _frames_of(
    archive: Archive, stored: StoredInstance, forms: tuple[Representation, ...], base: str
) -> Iterator[Part]:
    try:
        _, syntax = choose_form(archive, stored, forms)
    except NotAcceptable:
        return  # an instance of the study that cannot be had so; the others can
    media_type = OCTETS if syntax in UNCOMPRESSED else frame_media_type(syntax)
    url = (
        f"{base}/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
        f"/instances/{stored.sop_instance_uid}/frames/"
    )
    for number in range(1, stored.number_of_frames + 1):
        headers = {
            "Content-Type": f"{media_type}; transfer-syntax={syntax}",
            "Content-Location": f"{url}{number}",
        }
        yield headers, pieces_in(archive, stored, number, syntax)
