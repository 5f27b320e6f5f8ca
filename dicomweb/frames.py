"""Frames and pixel data (PS3.18 10.4.1.1.6 and 10.4.1.1.7): as stored, as a rendition, or transcoded.

A frame as it is stored costs one indexed row and one ranged, decrypting read. The stored form is given
whenever the request takes it; what else is asked for is looked for among the renditions and made on the way
only when there is none.
"""

import gzip
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Door
from archive.blobs.store import BlobNotFound
from archive.documents import parse_marked
from archive.image_pixel import ImagePixel, NotAnImage, image_pixel_of
from archive.recode import frame_in
from archive.renditions import StoredRendition, find_rendition, rendition_frame
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
    head_of,
    is_known,
    multipart,
    not_modified,
    ranged_bytes,
    wanted,
)
from dicomweb.media_types import OCTETS, NotAcceptable, Representation
from dicomweb.multipart import new_boundary, write_parts
from dicomweb.service import INSTANCE, SERIES, STUDY, service_base
from dicomweb.transfer_syntaxes import frame_media_type, wanted_syntaxes
from kernel.crypto import DamagedBlob
from kernel.http import room

blp = Blueprint("frames", __name__)
log = logging.getLogger(__name__)

FRAME_LIST = re.compile(r"\d{1,9}(,\d{1,9})*")
MOST_AT_ONCE = 16  # frames of one answer that are read before it begins, so that its length can be said
MOST_FRAMES = 100_000  # numbers in one list
GZIP_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """The form that a request gets, and what it comes from."""

    as_parts: bool
    transfer_syntax_uid: str
    rendition: StoredRendition | None = None  # that has the frames in this transfer syntax


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
    choice = choose_form(archive, stored, wanted())
    named = name_answer(stored, numbers, choice, accepts_gzip() and "Range" not in request.headers)
    if request.headers.get("If-None-Match") and is_known(named.tag):
        return not_modified(named.tag)
    if named.gzipped or ("Range" in request.headers and named.single):
        return _single(archive, stored, listed[0], choice, named)
    if len(listed) > MOST_AT_ONCE:
        part = {"Content-Type": named.content_type}
        parts = ((part, pieces_in(archive, stored, number, choice)) for number in listed)
        return conditional(multipart(named.media_type, parts), named.tag)
    answer = _answer(archive, stored, listed, choice, named)
    return Response(answer.pieces, headers=answer.headers)


@dataclass(frozen=True, slots=True)
class Named:
    """What can be said of an answer before a frame is read."""

    media_type: str
    content_type: str  # of a frame
    tag: str
    single: bool  # one frame that is no part
    gzipped: bool


def name_answer(stored: StoredInstance, numbers: str, choice: Choice, takes_gzip: bool) -> Named:
    """Type and entity tag of an answer with the frames `numbers` (a list, as it stands in the URL)."""
    syntax = choice.transfer_syntax_uid
    media_type = OCTETS if syntax in UNCOMPRESSED else frame_media_type(syntax)
    single = not choice.as_parts and "," not in numbers
    gzipped = single and media_type == OCTETS and takes_gzip
    tag = f"{stored.sha256.hex()}.{numbers}"
    if syntax != stored.transfer_syntax_uid:
        tag += f".{syntax}"
    if gzipped:
        tag += ".gzip"
    return Named(media_type, f"{media_type}; transfer-syntax={syntax}", tag, single, gzipped)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, before any framework has it."""

    headers: list[tuple[str, str]]
    pieces: list[bytes]


def frame_answer(
    archive: Archive,
    stored: StoredInstance,
    number: int,
    forms: tuple[Representation, ...],
    takes_gzip: bool,
) -> Answer | None:
    """The answer that has one frame; None when it would be compressed on the way.

    Raises NotAcceptable, NoSuchFrame, or what reading raises.
    """
    choice = choose_form(archive, stored, forms)
    named = name_answer(stored, str(number), choice, takes_gzip)
    return None if named.gzipped else _answer(archive, stored, [number], choice, named)


def _answer(
    archive: Archive, stored: StoredInstance, listed: list[int], choice: Choice, named: Named
) -> Answer:
    """A few frames, all read before the answer begins: alone, or as parts."""
    if named.single:
        pieces = pieces_in(archive, stored, listed[0], choice)
        headers = head_of(pieces, named.content_type, named.tag)
        return Answer([*headers, ("Accept-Ranges", "bytes"), ("Vary", "Accept, Accept-Encoding")], pieces)
    boundary, part = new_boundary(), {"Content-Type": named.content_type}
    parts = ((part, pieces_in(archive, stored, number, choice)) for number in listed)
    pieces = list(write_parts(boundary, parts))
    outer = f'multipart/related; type="{named.media_type}"; boundary={boundary}'
    return Answer(head_of(pieces, outer, named.tag), pieces)


def _single(archive: Archive, stored: StoredInstance, number: int, choice: Choice, named: Named) -> Response:
    """One frame alone, compressed on the way or a range of it."""
    data = b"".join(pieces_in(archive, stored, number, choice))
    if not named.gzipped:
        return ranged_bytes(data, named.content_type, named.tag)
    answer = at_once([gzip.compress(data, GZIP_LEVEL, mtime=0)], named.content_type, named.tag)
    answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


def choose_form(archive: Archive, stored: StoredInstance, forms: tuple[Representation, ...]) -> Choice:
    """The first form that can be given. Raises NotAcceptable."""
    own = stored.transfer_syntax_uid
    own_type = frame_media_type(own)
    pixel: ImagePixel | None = None
    for form in forms:
        for as_parts in reversed(form.ways):  # parts, where the request leaves it to us
            as_stored = form.transfer_syntax == "*"  # untouched, whatever the type asked for: OHIF's way
            if (as_stored and not form.refuses(as_parts, own_type, own)) or form.takes(
                as_parts, own_type, own
            ):
                return Choice(as_parts, own)
            for asked in () if is_video(own) else wanted_syntaxes(form, as_parts):
                rendition = find_rendition(archive, stored, asked)
                if rendition is not None:
                    return Choice(as_parts, asked, rendition)
                if pixel is None:
                    try:
                        pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
                    except NotAnImage:
                        break
                if can_encode(pixel, asked) or (asked == JPEG_BASELINE and can_be_baseline(pixel)):
                    return Choice(as_parts, asked)
    raise NotAcceptable(
        (
            f'multipart/related; type="{own_type}"; transfer-syntax={own}',
            f'multipart/related; type="{OCTETS}"; transfer-syntax={EXPLICIT_LITTLE}',
        )
    )


def pieces_in(archive: Archive, stored: StoredInstance, number: int, choice: Choice) -> list[bytes]:
    """A frame in the form that was chosen: as stored, from a rendition, or made now."""
    syntax = choice.transfer_syntax_uid
    if syntax == stored.transfer_syntax_uid:
        return frame_pieces(archive, stored, number)
    if choice.rendition is not None:
        try:
            return rendition_frame(archive, choice.rendition, number)
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
    syntax = choose_form(archive, first, forms).transfer_syntax_uid
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
        choice = choose_form(archive, stored, forms)
    except NotAcceptable:
        return  # an instance of the study that cannot be had so; the others can
    syntax = choice.transfer_syntax_uid
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
        yield headers, pieces_in(archive, stored, number, choice)
