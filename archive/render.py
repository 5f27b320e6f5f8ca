"""Rendering: a frame as a picture that any browser shows.

One pipeline for every image: samples, modality LUT, VOI LUT or window, presentation LUT; palettes and colour
models; overlays, shutters and the graphics of a presentation state; cropping, turning and scaling; text and
watermark; JPEG, PNG or GIF. What was rendered once is kept by content and parameters.

Standards: PS3.4 N.2 (pipeline), PS3.18 8.3.5 (rendering parameters), PS3.3 C.7.6.3 and C.11.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from archive.color_profiles import convert
from archive.documents import parse_marked
from archive.grayscale import (
    Octets,
    Pipeline,
    Window,
    color_octets,
    is_monochrome1,
    modality_stage,
    padding_of,
    voi_stage,
)
from archive.image_pixel import Attributes, ImagePixel, NotAnImage, first, image_pixel_of, items, values
from archive.image_source import ImageSource, frame_attributes
from archive.lettering import write_lines, write_watermark
from archive.overlays import Bitmap, embedded_overlays, read_overlays
from archive.palette import has_palette, to_rgb
from archive.presentation_state import Presentation, Turn, cover, presentation_for
from archive.resampling import BICUBIC, LANCZOS, Filter, resample
from archive.retrieve import StoredInstance, bulk_bytes, frame_bytes, instance_document
from archive.room import Archive
from archive.trace_page import draw_page
from archive.transcode import (
    EXPLICIT_BIG,
    UNCOMPRESSED,
    DecodedFrame,
    decode_frame,
    partial_to_rgb,
    ycbcr_to_rgb,
)
from archive.video import is_video, still_of_video
from archive.waveform import is_waveform
from kernel.errors import CloudfilmError, Kind

REVISION = 2  # counted up when the same parameters come to look different
JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
PICTURES = (JPEG, PNG, GIF)
FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF"}
LARGEST_SIDE = 8192
MOST_GIF_FRAMES = 300
ANNOTATIONS = ("patient", "technique")


class InvalidRendering(CloudfilmError):
    """A rendering parameter that does not follow its form (PS3.18 8.3.5.1)."""

    kind = Kind.INVALID

    def __init__(self, parameter: str, form: str) -> None:
        super().__init__(f"The parameter {parameter} cannot be used: {form}.")


@dataclass(frozen=True, slots=True)
class Viewport:
    """The largest size of the picture, and the region of the image to show in it (PS3.18 8.3.5.1.3)."""

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    region_width: float | None = None  # None: to the right edge; negative: mirrored
    region_height: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How a frame is wanted."""

    media_type: str = JPEG
    window: Window | None = None  # None: the object's own
    viewport: Viewport | None = None
    quality: int = 90  # of lossy compression, 1 to 100
    annotations: tuple[str, ...] = ()  # patient, technique (PS3.18 8.3.5.1.1)
    watermark: tuple[str, ...] = ()  # lines across the whole picture
    caption: tuple[str, ...] = ()  # lines at the lower left
    icc_profile: str = ""  # no, yes, srgb, adobergb or rommrgb
    enlarge: bool = True  # fill the viewport also when the image is smaller


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished picture."""

    data: bytes
    media_type: str
    tag: str  # names content and parameters: an entity tag
    is_kept: bool  # in the cache, under its tag


def render_frame(
    archive: Archive,
    stored: StoredInstance,
    number: int,
    rendering: Rendering,
    state: StoredInstance | None = None,
) -> Rendered:
    """One frame (from 1) of an instance that the caller has found with `archive.retrieve`.

    state: a presentation state to show it by. Raises NotAnImage, NoSuchFrame, CannotDecode or
    NotAPresentationState.
    """
    return render_frames(archive, stored, (number,), rendering, state)


def render_frames(
    archive: Archive,
    stored: StoredInstance,
    numbers: Sequence[int],
    rendering: Rendering,
    state: StoredInstance | None = None,
) -> Rendered:
    """Frames as one picture; several become an animation, which only GIF has."""
    done = find_or_draw(archive, stored, numbers, rendering, state)
    if not done.is_kept:
        archive.cache.put(done.tag, done.data)
    return replace(done, is_kept=True)


def find_or_draw(
    archive: Archive,
    stored: StoredInstance,
    numbers: Sequence[int],
    rendering: Rendering,
    state: StoredInstance | None = None,
) -> Rendered:
    """The same for who keeps it later, when nobody waits for it any more."""
    key = rendering_key(stored, numbers, rendering, state)
    kept = archive.cache.get(key)
    if kept is not None:
        return Rendered(kept, rendering.media_type, key, is_kept=True)
    pictures = [
        draw_stored(archive, stored, number, rendering, state) for number in numbers[:MOST_GIF_FRAMES]
    ]
    own = icc_profile_of(image_source(archive, stored)) if rendering.icc_profile else None
    return Rendered(encode_picture(pictures, rendering, own), rendering.media_type, key, is_kept=False)


def rendering_key(
    stored: StoredInstance, numbers: Sequence[int], rendering: Rendering, state: StoredInstance | None = None
) -> str:
    """What names a picture by content and parameters."""
    parts = (REVISION, stored.sha256.hex(), *numbers, rendering, state.sha256.hex() if state else "")
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def image_source(archive: Archive, stored: StoredInstance) -> ImageSource:
    """A stored object as the renderer sees it."""
    attributes = parse_marked(instance_document(archive, stored))
    big_endian = stored.transfer_syntax_uid == EXPLICIT_BIG
    return ImageSource(attributes, lambda path: bulk_bytes(archive, stored, path), big_endian)


def draw_stored(
    archive: Archive,
    stored: StoredInstance,
    number: int,
    rendering: Rendering,
    state: StoredInstance | None = None,
) -> Image.Image:
    """A frame of a stored object, or its waveform, as a picture in memory, not yet encoded."""
    source = image_source(archive, stored)
    if is_waveform(stored.sop_class_uid):
        page = draw_page(source, archive.settings.font)
        return finish_picture(page, source.attributes, rendering, archive.settings.font)
    presentation = None
    if state is not None:
        presentation = presentation_for(image_source(archive, state), stored.sop_instance_uid, number)
    if is_video(stored.transfer_syntax_uid):
        still = still_of_video(frame_bytes(archive, stored, 1), number)
        return finish_picture(Image.fromarray(still), source.attributes, rendering, archive.settings.font)
    data = frame_bytes(archive, stored, number)
    return draw_frame(
        source, data, stored.transfer_syntax_uid, number, rendering, presentation, archive.settings.font
    )


def draw_frame(
    source: ImageSource,
    data: bytes,
    transfer_syntax_uid: str,
    number: int,
    rendering: Rendering,
    presentation: Presentation | None = None,
    font: str = "",
) -> Image.Image:
    """A frame's bytes as a picture in memory. Raises NotAnImage or CannotDecode."""
    source = replace(source, attributes=frame_attributes(source.attributes, number))
    attributes = source.attributes
    pixel = image_pixel_of(attributes)
    frame = decode_frame(data, pixel, transfer_syntax_uid)
    drawn = draw_pixels(source, frame, rendering.window, presentation)
    shape = (pixel.rows, pixel.columns)
    for bitmap in _overlay_bitmaps(source, data, pixel, transfer_syntax_uid, number, presentation):
        drawn = cover(drawn, bitmap, 255)
    if presentation is None:
        return finish_picture(Image.fromarray(drawn), attributes, rendering, font)
    instance = str(first(attributes, "00080018") or "")
    if (shutter := presentation.shutter(*shape)) is not None:
        drawn = cover(drawn, *shutter)
    picture = Image.fromarray(drawn)
    area = presentation.displayed_area(instance, *shape)
    presentation.draw(picture, instance, area, font)
    return finish_picture(turned(picture.crop(area), presentation.turn), attributes, rendering, font)


def draw_pixels(
    source: ImageSource,
    frame: DecodedFrame,
    window: Window | None = None,
    presentation: Presentation | None = None,
) -> Octets:
    """Samples as 8-bit grays or colours: rows x columns, or x 3."""
    attributes, pixel = source.attributes, frame.pixel
    if pixel.is_color:
        return np.ascontiguousarray(_rgb(frame))
    if pixel.photometric == "PALETTE COLOR":
        return np.ascontiguousarray(to_rgb(source, attributes, frame.samples))
    modality = modality_stage(source, attributes, pixel.signed)
    pipeline = Pipeline(
        modality,
        voi_stage(source, attributes, pixel.signed or modality is not None),
        inverse=is_monochrome1(attributes),
        padding=padding_of(attributes, pixel),
    )
    if presentation is not None:
        instance = str(first(attributes, "00080018") or "")
        pipeline = presentation.pipeline(pipeline, pixel.signed, instance)
    if window is not None:
        pipeline = replace(pipeline, voi=window)
    drawn = pipeline.draw(frame.samples, pixel)
    if presentation is not None and has_palette(presentation.attributes):  # pseudo-colour (PS3.3 A.33.2)
        return to_rgb(presentation.source, presentation.attributes, drawn)
    return drawn


def _rgb(frame: DecodedFrame) -> Octets:
    samples, photometric = frame.samples[:, :, :3], frame.pixel.photometric
    if photometric.startswith("YBR_PARTIAL"):
        return partial_to_rgb(color_octets(samples, frame.pixel))
    if photometric.startswith("YBR"):
        samples = ycbcr_to_rgb(samples, frame.pixel.bits_stored)
    return color_octets(samples, frame.pixel)


def _overlay_bitmaps(
    source: ImageSource,
    data: bytes,
    pixel: ImagePixel,
    transfer_syntax_uid: str,
    number: int,
    presentation: Presentation | None,
) -> list[Bitmap]:
    shape = (pixel.rows, pixel.columns)
    found = [overlay.bitmap for overlay in read_overlays(source, source.attributes, shape, number)]
    if transfer_syntax_uid in UNCOMPRESSED and pixel.bits_allocated == 16 and pixel.samples == 1:
        order = ">" if transfer_syntax_uid == EXPLICIT_BIG else "<"
        raw = np.frombuffer(data, f"{order}u2", pixel.rows * pixel.columns)
        found += [overlay.bitmap for overlay in embedded_overlays(source.attributes, raw, shape)]
    if presentation is not None:
        found += presentation.planes(*shape)
    return found


def turned(picture: Image.Image, turn: Turn) -> Image.Image:
    """A picture turned clockwise, then mirrored left to right."""
    if turn.rotation:
        picture = picture.transpose(QUARTERS[turn.rotation])
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn.flip else picture


QUARTERS = {  # Pillow turns the other way round
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def finish_picture(
    picture: Image.Image, attributes: Attributes, rendering: Rendering, font: str = ""
) -> Image.Image:
    """Crop, scale and letter a picture."""
    if rendering.viewport is not None:
        picture = fitted(picture, rendering.viewport, rendering.enlarge)
    lines = [line for name in rendering.annotations for line in annotation_lines(attributes, name)]
    write_lines(picture, lines, font)
    write_lines(picture, rendering.caption, font, bottom=True)
    return write_watermark(picture, rendering.watermark, font)


def fitted(picture: Image.Image, viewport: Viewport, enlarge: bool = True) -> Image.Image:
    """A region of a picture, as large as the viewport lets it be in its own proportions.

    Raises InvalidRendering for a region that lies outside.
    """
    wide = picture.width - viewport.left if viewport.region_width is None else viewport.region_width
    high = picture.height - viewport.top if viewport.region_height is None else viewport.region_height
    left, top = max(0.0, viewport.left), max(0.0, viewport.top)
    right = min(float(picture.width), viewport.left + abs(wide))
    bottom = min(float(picture.height), viewport.top + abs(high))
    if right - left < 1 or bottom - top < 1:
        raise InvalidRendering("viewport", "the region lies outside of the image")
    scale = min(viewport.width / (right - left), viewport.height / (bottom - top))
    if not enlarge:
        scale = min(1.0, scale)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    box = (left, top, right, bottom)
    if size != picture.size or box != (0.0, 0.0, float(picture.width), float(picture.height)):
        picture = _scaled(picture, size, box, LANCZOS if scale < 1 else BICUBIC)
    if wide < 0:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if high < 0:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return picture


def _scaled(
    picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float], by: Filter
) -> Image.Image:
    if picture.mode == "L":
        return Image.fromarray(resample(np.asarray(picture), size, box, by))
    return picture.resize(size, by.of_pillow, box=box)


PATIENT = ("00100010", "00100020", "00100040", "00100030")
TECHNIQUE = ("00080060", "0008103E", "00080022", "00200013", "00180050", "00180060", "00181152", "00180081")


def annotation_lines(attributes: Attributes, name: str) -> list[str]:
    """The lines that an annotation (`patient` or `technique`) stands for."""
    tags = PATIENT if name == "patient" else TECHNIQUE
    return [text for tag in tags if (text := _line(first(attributes, tag), tag))]


UNITS = {
    "00180050": "{} mm", "00180060": "{} kV", "00181152": "{} mAs", "00180081": "TE {} ms",
    "00200013": "# {}",
}  # fmt: skip


def _line(value: Any, tag: str) -> str:
    if isinstance(value, dict):
        return "  ".join(str(value[group]).replace("^", " ") for group in GROUPS if value.get(group))
    if value is None or value == "":
        return ""
    return UNITS.get(tag, "{}").format(value)


GROUPS = ("Ideographic", "Alphabetic")


def icc_profile_of(source: ImageSource) -> bytes | None:
    """The object's own ICC profile: its own attribute, or of its first optical path."""
    for attributes in (source.attributes, *items(source.attributes, "00480105")):
        profile = source.binary(attributes, "00282000")
        if profile:
            return profile
    return None


def encode_picture(
    pictures: Sequence[Image.Image], rendering: Rendering, own_profile: bytes | None = None
) -> bytes:
    """Pictures as bytes of the media type; several as an animated GIF."""
    if rendering.media_type not in FORMATS:
        raise NotAnImage(f"{rendering.media_type} is not a picture")
    converted = [convert(picture, own_profile, rendering.icc_profile) for picture in pictures]
    picture, profile = converted[0]
    file = io.BytesIO()
    if rendering.media_type == JPEG:
        picture.save(
            file, "JPEG", quality=rendering.quality, subsampling=0 if rendering.quality >= 85 else 2,
            icc_profile=profile,
        )  # fmt: skip
    elif rendering.media_type == PNG:
        picture.save(file, "PNG", compress_level=4, icc_profile=profile)
    else:
        more = [other for other, _ in converted[1:]]
        picture.save(file, "GIF", save_all=bool(more), append_images=more, duration=66, loop=0)
    return file.getvalue()


def representative_frame(attributes: Attributes, frames: int) -> int:
    """The frame that stands for the object: Representative Frame Number (0028,6010), else the middle one."""
    named = values(attributes, "00286010")
    if named and isinstance(named[0], int) and 1 <= named[0] <= frames:
        return int(named[0])
    return max(1, (frames + 1) // 2)
