"""Rendered and thumbnail resources at every level (PS3.18 10.4.1.1.3 and 10.4.1.1.4).

Pictures, videos, documents: what a browser shows by itself. A presentation state is rendered as the images it
refers to, shown as it says. Browsers' `img`, `object` and `video` elements come with the session's cookie.
"""

import hashlib
import io
import itertools
import re
from collections.abc import Iterator

from flask import Blueprint, Response, request
from PIL import Image, ImageDraw

from access.bearer import current_caller
from access.caller import Caller, Door
from archive.documents import at_base, parse_marked
from archive.grayscale import frame_count_of
from archive.image_pixel import Attributes, first, items, number, values
from archive.lettering import font_of
from archive.render import (
    GIF,
    JPEG,
    PICTURES,
    InvalidRendering,
    Rendering,
    Viewport,
    draw_stored,
    encode_picture,
    find_or_draw,
    render_frame,
    rendering_key,
    representative_frame,
)
from archive.renditions import is_preview, preview_of
from archive.retrieve import (
    NotFound,
    StoredInstance,
    bulk_bytes,
    find_bulk,
    find_extent,
    find_instance,
    find_instances,
    find_middle,
    frame_bytes,
    instance_document,
)
from archive.room import Archive
from archive.sr_html import is_structured_report, to_html
from archive.sr_text import to_text
from archive.video import is_video, mp4_of_pictures, mp4_of_stream
from archive.waveform import is_waveform
from dicomweb.answers import (
    Part,
    conditional,
    is_known,
    multipart,
    not_modified,
    ranged_bytes,
    text_answer,
    wanted,
)
from dicomweb.bulk import DOCUMENT_TYPE, ENCAPSULATED_DOCUMENT, document_length
from dicomweb.frames import FRAME_LIST
from dicomweb.media_types import NotAcceptable, Representation, best
from dicomweb.native_xml import to_xml
from dicomweb.rendering_parameters import rendering_of
from dicomweb.service import INSTANCE, SERIES, STUDY, service_base
from kernel.errors import CloudfilmError
from kernel.http import room

blp = Blueprint("rendered", __name__)

MP4, PDF, HTML, OCTETS = "video/mp4", "application/pdf", "text/html", "application/octet-stream"
PAGE_OF = {HTML: to_html, "text/plain": to_text, "text/xml": to_xml}  # of a report; XML as PS3.19 A.1 has it
PAGES = tuple(PAGE_OF)
MEDIA_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}(; *[\w-]{1,32}=[\w.:-]{1,64})?", re.ASCII)
PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
THUMBNAIL = Viewport(256, 256)
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # of documents that others wrote
MOST_VIDEO_FRAMES = 4000


def chosen(offered: tuple[str, ...]) -> Representation:
    """The offered media type that this request likes best, alone or as a part; a page comes alone. Raises
    NotAcceptable."""
    alone = tuple(Representation(False, each) for each in offered)
    parts = tuple(Representation(True, each) for each in offered if each not in PAGES)
    return best(wanted(), alone + parts)


def as_asked(form: Representation, answer: Response) -> Response:
    """A single body as the only part, where the request takes nothing but parts."""
    if not form.multipart or answer.status_code != 200:
        return answer
    headers = {"Content-Type": form.media_type, "Content-Location": request.base_url}
    parts = multipart(form.media_type, [(headers, answer.iter_encoded())])
    parts.call_on_close(answer.close)
    return conditional(parts, answer.get_etag()[0] or "", weak=True)


@blp.get(INSTANCE + "/rendered")
def rendered_instance(study: str, series: str, instance: str) -> Response:
    """An instance as a picture, an animation, a video, a PDF or a page, whatever it is."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    stored = find_instance(archive, caller, study, series, instance)
    if stored.sop_class_uid.startswith(PRESENTATION_STATES):
        return _rendered_by_state(archive, caller, stored)
    form = chosen(offered_types(archive, stored))
    return as_asked(form, render_as(archive, stored, form.media_type))


def offered_types(archive: Archive, stored: StoredInstance) -> tuple[str, ...]:
    """What an instance can be rendered as, the most natural first."""
    if stored.sop_class_uid.startswith(ENCAPSULATED):
        named = first(parse_marked(instance_document(archive, stored)), DOCUMENT_TYPE)
        return (named if MEDIA_TYPE.fullmatch(named) else OCTETS,) if isinstance(named, str) else (PDF,)
    if is_structured_report(stored.sop_class_uid):
        return PAGES
    if is_video(stored.transfer_syntax_uid):
        return (MP4, *PICTURES)
    if stored.number_of_frames > 1:
        return (*PICTURES, MP4)
    if is_drawn(stored):
        return PICTURES
    raise NotAcceptable(("application/dicom",))


def is_drawn(stored: StoredInstance) -> bool:
    """Whether there are pixels, or traces."""
    return stored.number_of_frames > 0 or is_waveform(stored.sop_class_uid)


def render_as(
    archive: Archive, stored: StoredInstance, media_type: str, state: StoredInstance | None = None
) -> Response:
    """One instance in the media type that was chosen."""
    if stored.sop_class_uid.startswith(ENCAPSULATED):
        return _document(archive, stored, media_type)
    if media_type in PAGES:
        document = at_base(instance_document(archive, stored), service_base())
        answer = text_answer(PAGE_OF[media_type](parse_marked(document)), f"{media_type}; charset=utf-8")
        answer.headers["Content-Security-Policy"] = CONTENT_POLICY
        return answer
    rendering = rendering_of(request.args, media_type if media_type in PICTURES else JPEG)
    if media_type == MP4:
        return _video(archive, stored, rendering)
    numbers: tuple[int, ...] = (1,)
    if media_type == GIF and stored.number_of_frames > 1:
        numbers = tuple(range(1, stored.number_of_frames + 1))
    elif stored.number_of_frames > 1 or is_video(stored.transfer_syntax_uid):
        numbers = (_representative(archive, stored),)
    if state is None and is_preview(rendering) and (preview := preview_of(archive, stored)) is not None:
        return ranged_bytes(preview, JPEG, f"{stored.sha256.hex()[:40]}.preview")
    return picture(archive, stored, numbers, rendering, state)


def _representative(archive: Archive, stored: StoredInstance) -> int:
    attributes = parse_marked(instance_document(archive, stored))
    video = is_video(stored.transfer_syntax_uid)
    return representative_frame(attributes, frame_count_of(attributes) if video else stored.number_of_frames)


def picture(
    archive: Archive,
    stored: StoredInstance,
    numbers: tuple[int, ...],
    rendering: Rendering,
    state: StoredInstance | None = None,
) -> Response:
    """Frames as one picture; the client that has it already is told so before it is drawn, and one that is
    new is kept when it is sent."""
    tag = rendering_key(stored, numbers, rendering, state)
    if is_known(tag):
        return not_modified(tag)
    done = find_or_draw(archive, stored, numbers, rendering, state)
    answer = Response(done.data, content_type=done.media_type)
    if not done.is_kept:
        answer.call_on_close(lambda: archive.cache.put(done.tag, done.data))
    return conditional(answer, done.tag)


def _document(archive: Archive, stored: StoredInstance, media_type: str) -> Response:
    """An encapsulated document as it is (PS3.3 A.45), without the padding of its element."""
    bulk = find_bulk(archive, stored, ENCAPSULATED_DOCUMENT)
    length = document_length(archive, stored, ENCAPSULATED_DOCUMENT, bulk)
    data = bulk_bytes(archive, stored, ENCAPSULATED_DOCUMENT)[:length]
    answer = ranged_bytes(data, media_type, f"{stored.sha256.hex()}.document")
    answer.headers["Content-Disposition"] = f'inline; filename="{stored.sop_instance_uid}"'
    if media_type != PDF:
        answer.headers["Content-Security-Policy"] = CONTENT_POLICY
    return answer


def _video(archive: Archive, stored: StoredInstance, rendering: Rendering) -> Response:
    """Many frames as MP4, by the host's ffmpeg; kept like a picture, and sent in ranges."""
    key = rendering_key(stored, (0,), rendering)
    data = archive.cache.get(key)
    if data is None:
        if is_video(stored.transfer_syntax_uid):
            data = mp4_of_stream(frame_bytes(archive, stored, 1))
        else:
            attributes = parse_marked(instance_document(archive, stored))
            count = min(stored.number_of_frames, MOST_VIDEO_FRAMES)
            drawn = (draw_stored(archive, stored, each, rendering) for each in range(1, count + 1))
            data = mp4_of_pictures(drawn, frame_rate(attributes))
        archive.cache.put(key, data)
    return ranged_bytes(data, MP4, key)


def frame_rate(attributes: Attributes) -> float:
    """Frames a second: Recommended Display Frame Rate, Cine Rate, or by Frame Time (PS3.3 C.7.6.5)."""
    for tag in ("00082144", "00180040"):
        rate = number(attributes, tag)
        if rate:
            return min(60.0, max(1.0, rate))
    frame_time_ms = number(attributes, "00181063")
    return min(60.0, max(1.0, 1000 / frame_time_ms)) if frame_time_ms else 15.0


@blp.get(INSTANCE + "/frames/<numbers>/rendered")
def rendered_frames(study: str, series: str, instance: str, numbers: str) -> Response:
    """One frame as a picture; several as parts, or as an animation."""
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    listed = frame_numbers(archive, stored, numbers)
    form = chosen(PICTURES)
    media_type = form.media_type
    rendering = rendering_of(request.args, media_type)
    if len(listed) == 1 or media_type == GIF:
        return as_asked(form, picture(archive, stored, listed, rendering))
    parts: Iterator[Part] = (
        ({"Content-Type": media_type}, (render_frame(archive, stored, each, rendering).data,))
        for each in listed
    )
    return multipart(media_type, parts)


def frame_numbers(archive: Archive, stored: StoredInstance, text: str) -> tuple[int, ...]:
    """A list of frames that there are. Raises NotFound."""
    if not FRAME_LIST.fullmatch(text):
        raise NotFound("The frame list")
    count = stored.number_of_frames
    if is_video(stored.transfer_syntax_uid):
        count = frame_count_of(parse_marked(instance_document(archive, stored)))
    listed = tuple(int(each) for each in text.split(","))
    for each in listed:
        if not 1 <= each <= count:
            raise NotFound(f"Frame {each}")
    return listed


@blp.get(STUDY + "/rendered")
@blp.get(SERIES + "/rendered")
def rendered_many(study: str, series: str = "") -> Response:
    """Every image of a study or series as parts (PS3.18 10.4.1.1.3)."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    extent = find_extent(archive, caller, study, series)
    media_type = best(wanted(), tuple(Representation(True, each) for each in PICTURES)).media_type
    rendering = rendering_of(request.args, media_type)
    tag = f"{extent.tag}.{media_type}.{hash_of(rendering)}"
    if is_known(tag):
        return not_modified(tag, weak=True)
    parts = _parts(archive, find_instances(archive, caller, study, series), rendering, service_base())
    first_part = next(parts, None)
    if first_part is None:
        raise NotFound("An image")
    return conditional(multipart(media_type, itertools.chain((first_part,), parts)), tag, weak=True)


def hash_of(rendering: Rendering) -> str:
    """A short name for the parameters of a rendering."""
    return hashlib.sha256(repr(rendering).encode()).hexdigest()[:16]


def _parts(
    archive: Archive, instances: Iterator[StoredInstance], rendering: Rendering, base: str
) -> Iterator[Part]:
    for stored in instances:
        if not is_drawn(stored):
            continue
        try:
            attributes = parse_marked(instance_document(archive, stored))
            frame = representative_frame(attributes, stored.number_of_frames)
            done = render_frame(archive, stored, frame, rendering)
        except CloudfilmError:
            continue  # one that cannot be drawn does not keep the others back
        url = (
            f"{base}/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
            f"/instances/{stored.sop_instance_uid}/rendered"
        )
        yield {"Content-Type": done.media_type, "Content-Location": url}, (done.data,)


def _rendered_by_state(archive: Archive, caller: Caller, state: StoredInstance) -> Response:
    """The images that a presentation state refers to, shown by it."""
    attributes = parse_marked(instance_document(archive, state))
    form = chosen(PICTURES)
    media_type = form.media_type
    rendering = rendering_of(request.args, media_type)
    found = list(_referenced(archive, caller, state, attributes))
    if not found:
        raise NotFound("An image of this presentation state")
    if len(found) == 1:
        return as_asked(form, picture(archive, found[0][0], (found[0][1],), rendering, state))
    parts: Iterator[Part] = (
        ({"Content-Type": media_type}, (render_frame(archive, image, frame, rendering, state).data,))
        for image, frame in found
    )
    return multipart(media_type, parts)


def _referenced(
    archive: Archive, caller: Caller, state: StoredInstance, attributes: Attributes
) -> Iterator[tuple[StoredInstance, int]]:
    for series in items(attributes, "00081115"):
        for image in items(series, "00081140"):
            uids = state.study_instance_uid, str(first(series, "0020000E")), str(first(image, "00081155"))
            frames = [each for each in values(image, "00081160") if isinstance(each, int)] or [1]
            try:
                yield find_instance(archive, caller, *uids), frames[0]
            except NotFound:
                continue


# -- thumbnails ---------------------------------------------------------------------------------------------


@blp.get(STUDY + "/thumbnail")
@blp.get(SERIES + "/thumbnail")
def thumbnail_of_many(study: str, series: str = "") -> Response:
    """A small picture that stands for a study or series: that of its middle image."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    return _thumbnail(archive, find_middle(archive, caller, study, series))


@blp.get(INSTANCE + "/thumbnail")
@blp.get(INSTANCE + "/frames/<numbers>/thumbnail")
def thumbnail(study: str, series: str, instance: str, numbers: str = "") -> Response:
    """A small picture that stands for an instance, or for a frame of it."""
    archive = room(Archive)
    stored = find_instance(archive, current_caller(Door.DICOMWEB), study, series, instance)
    return _thumbnail(archive, stored, frame_numbers(archive, stored, numbers)[:1] if numbers else ())


def _thumbnail(archive: Archive, stored: StoredInstance, numbers: tuple[int, ...] = ()) -> Response:
    form = chosen(PICTURES)
    media_type = form.media_type
    asked = rendering_of(request.args, media_type)  # of its parameters, only the viewport counts here
    rendering = Rendering(media_type=media_type, viewport=asked.viewport or THUMBNAIL, quality=80)
    if rendering.viewport is not None and rendering.viewport.region_width is not None:
        raise InvalidRendering("viewport", "a thumbnail has width and height only")
    tag = rendering_key(stored, numbers, rendering)
    if is_known(tag):
        return not_modified(tag)
    data = archive.cache.get(tag)
    if data is None:
        data = encode_picture([_small_picture(archive, stored, numbers, rendering)], rendering)
        archive.cache.put(tag, data)
    return as_asked(form, conditional(Response(data, content_type=media_type), tag))


def _small_picture(
    archive: Archive, stored: StoredInstance, numbers: tuple[int, ...], rendering: Rendering
) -> Image.Image:
    attributes = parse_marked(instance_document(archive, stored))
    if is_drawn(stored):
        try:
            viewport = rendering.viewport or THUMBNAIL
            if not numbers and (preview := preview_of(archive, stored)) is not None:
                small = Image.open(io.BytesIO(preview))
                if max(small.size) >= max(viewport.width, viewport.height):
                    small.thumbnail((viewport.width, viewport.height))
                    return small
            frame = numbers[0] if numbers else representative_frame(attributes, stored.number_of_frames)
            return draw_stored(archive, stored, frame, rendering)
        except CloudfilmError:
            pass  # what cannot be drawn gets a sign, as what is no image does
    return _sign(str(first(attributes, "00080060") or "?"), rendering.viewport or THUMBNAIL)


def _sign(label: str, viewport: Viewport) -> Image.Image:
    """A plain tile with the modality on it, for what has no picture of its own."""
    side = min(viewport.width, viewport.height, 512)
    tile = Image.new("RGB", (side, side), (38, 46, 57))
    drawing = ImageDraw.Draw(tile)
    drawing.rounded_rectangle((side // 8, side // 8, side * 7 // 8, side * 7 // 8), side // 16, (58, 70, 86))
    drawing.text(
        (side / 2, side / 2), label[:6], font=font_of(max(8, side // 4)), fill=(226, 232, 240), anchor="mm"
    )
    return tile
