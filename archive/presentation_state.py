"""Softcopy presentation states: how a reader wanted an image to be shown (PS3.3 A.33, PS3.4 annex N).

Read from the state's DICOM JSON for one image and frame: the gray pipeline that replaces the image's own,
what is turned, cut out and covered, and what is drawn upon it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from archive.grayscale import Octets, Pipeline, modality_stage, presentation_stage, voi_stage
from archive.image_pixel import Attributes, first, items, number, values, whole
from archive.image_source import ImageSource
from archive.lettering import Font, font_of
from archive.overlays import Bitmap, read_overlays
from kernel.errors import CloudfilmError, Kind

MOST_GRAPHICS = 10_000  # objects drawn of one state


class NotAPresentationState(CloudfilmError):
    """What was named as a presentation state is none, or does not refer to the image."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The presentation state named does not refer to this image.")


@dataclass(frozen=True, slots=True)
class Turn:
    """Rotation clockwise in degrees, then a horizontal flip (PS3.3 C.10.6)."""

    rotation: int = 0
    flip: bool = False


@dataclass(frozen=True, slots=True)
class Presentation:
    """A state as it applies to one frame."""

    source: ImageSource
    frame: int

    @property
    def attributes(self) -> Attributes:
        """The state's own attributes."""
        return self.source.attributes

    def pipeline(self, base: Pipeline, signed: bool, sop_instance_uid: str) -> Pipeline:
        """The gray pipeline that takes the place of the image's own (PS3.4 N.2.1)."""
        voi = None
        for item in items(self.attributes, "00283110"):
            if _refers(item, sop_instance_uid, self.frame):
                voi = voi_stage(self.source, item, signed)
        inverse = first(self.attributes, "20500020") == "INVERSE"
        presentation = presentation_stage(self.source, self.attributes)
        modality = modality_stage(self.source, self.attributes, signed)
        return replace(base, modality=modality, voi=voi, presentation=presentation, inverse=inverse)

    @property
    def turn(self) -> Turn:
        """How the image is turned."""
        return Turn(
            whole(self.attributes, "00700042") % 360 // 90 * 90, first(self.attributes, "00700041") == "Y"
        )

    def displayed_area(self, sop_instance_uid: str, rows: int, columns: int) -> tuple[int, int, int, int]:
        """The region shown: left, top, right, bottom in pixels of the image, ends excluded (PS3.3 C.10.4)."""
        for item in items(self.attributes, "0070005A"):
            corners = values(item, "00700052") + values(item, "00700053")
            if _refers(item, sop_instance_uid, self.frame) and len(corners) == 4:
                x, y = sorted((int(corners[0]), int(corners[2]))), sorted((int(corners[1]), int(corners[3])))
                left, top = max(0, x[0] - 1), max(0, y[0] - 1)
                right, bottom = min(columns, x[1]), min(rows, y[1])
                if left < right and top < bottom:
                    return left, top, right, bottom
        return 0, 0, columns, rows

    def shutter(self, rows: int, columns: int) -> tuple[Bitmap, int] | None:
        """The pixels that a shutter covers, and with which gray (PS3.3 C.7.6.11, C.7.6.15)."""
        shapes = [str(shape) for shape in values(self.attributes, "00181600")]
        covered = np.zeros((rows, columns), np.bool_)
        for shape in shapes:
            covered |= ~SHUTTERS[shape](self.attributes, rows, columns) if shape in SHUTTERS else False
        if not covered.any():
            return None
        return covered, whole(self.attributes, "00181622") >> 8

    def planes(self, rows: int, columns: int) -> list[Bitmap]:
        """The state's own overlays that a layer shows."""
        found = read_overlays(self.source, self.attributes, (rows, columns), self.frame, active="1001")
        return [overlay.bitmap for overlay in found]

    def draw(
        self, image: Image.Image, sop_instance_uid: str, area: tuple[int, int, int, int], font: str = ""
    ) -> None:
        """Draw its graphics and texts onto the image, layer by layer."""
        layers = {first(item, "00700002"): item for item in items(self.attributes, "00700060")}
        annotations = sorted(
            items(self.attributes, "00700001"),
            key=lambda item: whole(layers.get(first(item, "00700002"), {}), "00700062"),
        )
        drawing, left = ImageDraw.Draw(image), MOST_GRAPHICS
        for annotation in annotations:
            if not _refers(annotation, sop_instance_uid, self.frame):
                continue
            layer = layers.get(first(annotation, "00700002"), {})
            color = _color(layer, image.mode)
            for item in items(annotation, "00700009")[:left]:
                _draw_graphic(drawing, item, color, area)
            for item in items(annotation, "00700008")[:left]:
                _draw_text(drawing, item, color, area, font_of(max(9, image.height // 40), font))


def presentation_for(source: ImageSource, sop_instance_uid: str, frame: int) -> Presentation:
    """A state as it applies to a frame of an image. Raises NotAPresentationState."""
    for series in items(source.attributes, "00081115"):
        for image in items(series, "00081140"):
            if first(image, "00081155") == sop_instance_uid and _has_frame(image, frame):
                return Presentation(source, frame)
    raise NotAPresentationState


def _has_frame(item: Attributes, frame: int) -> bool:
    frames = values(item, "00081160")
    return not frames or frame in frames


def _refers(item: Attributes, sop_instance_uid: str, frame: int) -> bool:
    """Whether an item is about an image: about all when it names none."""
    named = items(item, "00081140")
    return not named or any(
        first(image, "00081155") == sop_instance_uid and _has_frame(image, frame) for image in named
    )


# -- shutters -----------------------------------------------------------------------------------------------


def _rectangle(attributes: Attributes, rows: int, columns: int) -> Bitmap:
    left, right, top, bottom = (
        first(attributes, tag) for tag in ("00181602", "00181604", "00181606", "00181608")
    )
    inside = np.zeros((rows, columns), np.bool_)
    if all(isinstance(edge, int) for edge in (left, right, top, bottom)):
        inside[max(0, top - 1) : max(0, bottom), max(0, left - 1) : max(0, right)] = True
    return inside


def _circle(attributes: Attributes, rows: int, columns: int) -> Bitmap:
    center, radius = values(attributes, "00181610"), whole(attributes, "00181612")
    if len(center) != 2:
        return np.ones((rows, columns), np.bool_)
    y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
    return np.asarray((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2)


def _polygon(attributes: Attributes, rows: int, columns: int) -> Bitmap:
    points = values(attributes, "00181620")
    corners = [(points[at + 1] - 1, points[at] - 1) for at in range(0, len(points) - 1, 2)]
    if len(corners) < 3:
        return np.ones((rows, columns), np.bool_)
    mask = Image.new("1", (columns, rows))
    ImageDraw.Draw(mask).polygon(corners, fill=1, outline=1)
    return np.asarray(mask)


SHUTTERS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


# -- graphics (PS3.3 C.10.5) --------------------------------------------------------------------------------

Point = tuple[float, float]


def _points(item: Attributes, tag: str, units_tag: str, area: tuple[int, int, int, int]) -> list[Point]:
    numbers = [float(each) for each in values(item, tag) if isinstance(each, int | float)]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    if first(item, units_tag) == "DISPLAY":
        left, top, right, bottom = area
        return [(left + x * (right - left), top + y * (bottom - top)) for x, y in pairs]
    return [(x - 0.5, y - 0.5) for x, y in pairs]  # 0\0 is a pixel's corner, for Pillow its middle


def _draw_graphic(
    drawing: ImageDraw.ImageDraw, item: Attributes, color: Any, area: tuple[int, int, int, int]
) -> None:
    points = _points(item, "00700022", "00700005", area)
    kind, filled = first(item, "00700023"), first(item, "00700024") == "Y"
    if kind == "POINT" and points:
        (x, y), size = points[0], 3
        drawing.line([(x - size, y), (x + size, y)], fill=color)
        drawing.line([(x, y - size), (x, y + size)], fill=color)
    elif kind in ("POLYLINE", "INTERPOLATED") and len(points) > 1:
        curve = _interpolated(points) if kind == "INTERPOLATED" else points
        if filled and points[0] == points[-1] and len(points) > 2:
            drawing.polygon(curve, fill=color)
        drawing.line(curve, fill=color)
    elif kind == "CIRCLE" and len(points) == 2:
        radius = math.dist(*points)
        (x, y), _ = points
        box = (x - radius, y - radius, x + radius, y + radius)
        drawing.ellipse(box, outline=color, fill=color if filled else None)
    elif kind == "ELLIPSE" and len(points) == 4:
        curve = _ellipse(points)
        if filled:
            drawing.polygon(curve, fill=color)
        drawing.line([*curve, curve[0]], fill=color)


def _ellipse(ends: list[Point]) -> list[Point]:
    """An ellipse by the ends of its major axis, then of its minor axis."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = ends
    x, y = (ax + bx) / 2, (ay + by) / 2
    major, minor = ((bx - ax) / 2, (by - ay) / 2), ((dx - cx) / 2, (dy - cy) / 2)
    angles = [2 * math.pi * step / 72 for step in range(72)]
    return [
        (
            x + major[0] * math.cos(angle) + minor[0] * math.sin(angle),
            y + major[1] * math.cos(angle) + minor[1] * math.sin(angle),
        )
        for angle in angles
    ]


def _interpolated(points: list[Point]) -> list[Point]:
    """A smooth curve through the points (Catmull-Rom)."""
    padded = [points[0], *points, points[-1]]
    curve = []
    for at in range(len(points) - 1):
        p0, p1, p2, p3 = padded[at : at + 4]
        for step in range(8):
            t = step / 8
            curve.append(
                (_catmull_rom(t, p0[0], p1[0], p2[0], p3[0]), _catmull_rom(t, p0[1], p1[1], p2[1], p3[1]))
            )
    return [*curve, points[-1]]


def _catmull_rom(t: float, p0: float, p1: float, p2: float, p3: float) -> float:
    return 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )


def _draw_text(
    drawing: ImageDraw.ImageDraw,
    item: Attributes,
    color: Any,
    area: tuple[int, int, int, int],
    font: Font,
) -> None:
    text = str(first(item, "00700006") or "")[:1000]
    box = _points(item, "00700010", "00700003", area) + _points(item, "00700011", "00700003", area)
    anchor = _points(item, "00700014", "00700004", area)
    if len(box) == 2:
        at = (min(box[0][0], box[1][0]), min(box[0][1], box[1][1]))
    elif anchor:
        at = anchor[0]
    else:
        return
    drawing.multiline_text(at, text, fill=color, font=font)
    if anchor and len(box) == 2 and first(item, "00700015") == "Y":
        drawing.line([anchor[0], at], fill=color)


def _color(layer: Attributes, mode: str) -> Any:
    """A layer's recommended display value (0070,0066; 0070,0401 is CIELab), white when it has none."""
    if mode == "RGB" and len(values(layer, "00700401")) == 3:
        return lab_to_rgb(*values(layer, "00700401"))
    gray = number(layer, "00700066")
    level = 255 if gray is None else int(gray) >> 8
    return (level,) * 3 if mode == "RGB" else level


def lab_to_rgb(lightness: int, a: int, b: int) -> tuple[int, int, int]:
    """A PCS-value of 16 bits (PS3.3 C.10.7.1.1) as sRGB."""
    l_star = lightness / 65535 * 100
    a_star, b_star = a / 65535 * 255 - 128, b / 65535 * 255 - 128
    fy = (l_star + 16) / 116
    fx, fz = fy + a_star / 500, fy - b_star / 200
    x, y, z = (
        white * (f**3 if f**3 > 0.008856 else (f - 16 / 116) / 7.787)
        for f, white in ((fx, 0.9642), (fy, 1.0), (fz, 0.8251))
    )
    linear = (
        3.1339 * x - 1.6169 * y - 0.4906 * z,
        -0.9788 * x + 1.9161 * y + 0.0335 * z,
        0.0719 * x - 0.2290 * y + 1.4052 * z,
    )
    red, green, blue = (_gamma(min(1.0, max(0.0, each))) for each in linear)
    return red, green, blue


def _gamma(linear: float) -> int:
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * encoded)


def cover(drawn: Octets, covered: Bitmap, gray: int) -> Octets:
    """The image with covered pixels at one gray."""
    mask = covered[:, :, None] if drawn.ndim == 3 else covered
    return np.where(mask, np.uint8(gray), drawn)
