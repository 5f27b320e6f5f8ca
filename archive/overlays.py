"""Overlay planes: bitmaps that lie on an image (PS3.3 C.9.2, groups 6000 to 601E)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.image_pixel import Attributes, first, values, whole
from archive.image_source import ImageSource
from archive.transcode import Samples

GROUPS = {f"{group:04X}" for group in range(0x6000, 0x6020, 2)}

Bitmap = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlay:
    """One plane, laid on the image's rows and columns."""

    bitmap: Bitmap
    is_shutter: bool = False


def read_overlays(
    source: ImageSource, attributes: Attributes, shape: tuple[int, int], frame: int, active: str | None = None
) -> list[Overlay]:
    """The graphics planes of a frame (from 1), at the size of the image.

    active: only planes with this attribute set to a layer (`1001`, of a presentation state); None: all.
    """
    found = []
    for prefix in _groups(attributes):
        if active is not None and not first(attributes, prefix + active):
            continue
        bitmap = _plane(source, attributes, prefix, frame)
        if bitmap is not None:
            origin = values(attributes, prefix + "0050")
            row, column = origin if len(origin) == 2 else (1, 1)
            found.append(Overlay(_laid(bitmap, shape, int(row) - 1, int(column) - 1)))
    return found


def _groups(attributes: Attributes) -> list[str]:
    """The groups of overlays that an object has, which is mostly none."""
    return sorted({tag[:4] for tag in attributes if tag.startswith("60")} & GROUPS)


def _plane(source: ImageSource, attributes: Attributes, prefix: str, frame: int) -> Bitmap | None:
    rows, columns = whole(attributes, prefix + "0010"), whole(attributes, prefix + "0011")
    bits = rows * columns
    data = source.binary(attributes, prefix + "3000")
    if not bits or not data or bits > 2**28:
        return None
    frames = max(1, whole(attributes, prefix + "0015", 1))
    origin = max(1, whole(attributes, prefix + "0051", 1))
    at = frame - origin if frames > 1 else 0
    if not 0 <= at < frames or (at + 1) * bits > len(data) * 8:
        return None
    first_octet, first_bit = divmod(at * bits, 8)
    octets = np.frombuffer(data, "u1")[first_octet : -(-(at + 1) * bits // 8)]
    unpacked = np.unpackbits(octets, bitorder="little")[first_bit : first_bit + bits]
    return unpacked.reshape(rows, columns).astype(np.bool_)


def _laid(bitmap: Bitmap, shape: tuple[int, int], row: int, column: int) -> Bitmap:
    """A bitmap on a canvas of the image's size; what lies outside is cut off."""
    canvas = np.zeros(shape, np.bool_)
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + bitmap.shape[0], shape[0]), min(column + bitmap.shape[1], shape[1])
    if top < bottom and left < right:
        canvas[top:bottom, left:right] = bitmap[top - row : bottom - row, left - column : right - column]
    return canvas


def embedded_overlays(attributes: Attributes, raw: Samples, shape: tuple[int, int]) -> list[Overlay]:
    """Planes in unused bits of the pixels (retired, PS3.3 C.9.2.1.1): of raw samples before masking."""
    found = []
    for prefix in _groups(attributes):
        bit = whole(attributes, prefix + "0102")
        if whole(attributes, prefix + "0100") > 1 and bit and prefix + "3000" not in attributes:
            found.append(Overlay((raw.reshape(shape) >> bit & 1).astype(np.bool_)))
    return found
