"""Grayscale: from stored values to what a display shows, by the pipeline of PS3.4 N.2.

Modality LUT, then VOI LUT or window, then presentation LUT; each a function on numbers. Up to 16 stored bits
the whole pipeline is one table that a frame is looked up in.

Standards: PS3.3 C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.11.6 (Softcopy Presentation LUT), C.7.5.1.1.2
(Pixel Padding).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from archive.image_pixel import Attributes, ImagePixel, first, items, number, values, whole
from archive.image_source import ImageSource
from archive.transcode import Samples

Numbers: TypeAlias = npt.NDArray[np.float64]
Octets: TypeAlias = npt.NDArray[np.uint8]
Stage = Callable[[Numbers], Numbers]

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
MOST_TABLE_BITS = 16


@dataclass(frozen=True, slots=True)
class Window:
    """A window on values: its result runs from 0 to 1 (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, x: Numbers) -> Numbers:
        """Where values lie in the window."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (x - self.center) / self.width, -700, 700)
            return np.asarray(1 / (1 + np.exp(exponent)))
        if self.function == "LINEAR_EXACT":
            return np.clip((x - self.center) / self.width + 0.5, 0, 1)
        if self.width <= 1:  # nothing lies within: all is black or white
            return (x > self.center - 0.5).astype(np.float64)
        return np.clip((x - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table: values below and above it get its first and last entry (PS3.3 C.11.1.1.1)."""

    first: int
    entries: Numbers

    def __call__(self, x: Numbers) -> Numbers:
        """The entries for some values."""
        at = np.clip(np.floor(x).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[at]


def read_table(source: ImageSource, item: Attributes, signed: bool, scaled: bool) -> Table | None:
    """A LUT of a sequence item (0028,3002 and 3006), its entries from 0 to 1 when scaled; None when it is
    unusable."""
    descriptor = [each for each in values(item, "00283002") if isinstance(each, int)]
    if len(descriptor) != 3:
        return None
    count, start, bits = descriptor
    count = count if count > 0 else count + 65536
    if start >= 32768 and signed:
        start -= 65536  # written as unsigned where it had to be signed
    entries = source.words(item, "00283006", count)
    if not len(entries):
        return None
    most = (1 << bits) - 1 if 0 < bits <= 16 else 65535
    if scaled and entries.max() > most:
        most = 65535  # some writers give the bits of the input
    return Table(start, entries / most if scaled else entries.astype(np.float64))


def modality_stage(source: ImageSource, attributes: Attributes, signed: bool) -> Stage | None:
    """Stored values to those of the modality, such as Hounsfield units; None: they are the same."""
    for item in items(attributes, "00283000")[:1]:
        table = read_table(source, item, signed, scaled=False)
        if table is not None:
            return table
    slope, intercept = number(attributes, "00281053"), number(attributes, "00281052")
    if slope in (None, 0):
        slope = 1.0
    if (slope, intercept or 0.0) == (1.0, 0.0):
        return None
    return _rescale(slope or 1.0, intercept or 0.0)


def _rescale(slope: float, intercept: float) -> Stage:
    return lambda x: x * slope + intercept


def voi_stage(source: ImageSource, attributes: Attributes, signed: bool, at: int = 0) -> Stage | None:
    """The first (or another) window of an object, else its VOI LUT; None when it has neither."""
    windows = read_windows(attributes)
    if windows:
        return windows[min(at, len(windows) - 1)]
    for item in items(attributes, "00283010")[:1]:
        return read_table(source, item, signed, scaled=True)
    return None


def read_windows(attributes: Attributes) -> list[Window]:
    """The windows that an object offers; those without width are left out."""
    function = str(first(attributes, "00281056") or "LINEAR").upper()
    pairs = zip(values(attributes, "00281050"), values(attributes, "00281051"), strict=False)
    return [
        Window(float(center), float(width), function if function in FUNCTIONS else "LINEAR")
        for center, width in pairs
        if isinstance(center, int | float) and isinstance(width, int | float) and width > 0
    ]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a grayscale frame is drawn by. No `voi`: the range of its own values."""

    modality: Stage | None = None
    voi: Stage | None = None
    presentation: Stage | None = None
    inverse: bool = False
    padding: tuple[int, int] | None = None  # stored values that are no image, first and last

    def draw(self, samples: Samples, pixel: ImagePixel) -> Octets:
        """The frame as 8-bit grays."""
        background = self._background(samples)
        if pixel.floating or pixel.bits_stored > MOST_TABLE_BITS:
            stage = self._stages(samples, pixel, background)
            drawn = stage(samples.astype(np.float64))
        else:
            low = -(1 << pixel.bits_stored - 1) if pixel.signed else 0
            stage = self._stages(samples, pixel, background)
            table = stage(np.arange(low, low + (1 << pixel.bits_stored), dtype=np.float64))
            at = samples.astype(np.int32) - low if low else samples
            drawn = np.take(table, at, mode="clip")  # in a third less time than table[at]
        if background is not None:
            drawn = np.where(background, np.uint8(0), drawn)
        return drawn

    def _background(self, samples: Samples) -> npt.NDArray[np.bool_] | None:
        if self.padding is None:
            return None
        first_value, last_value = self.padding
        found = (samples >= first_value) & (samples <= last_value)
        return found if found.any() else None

    def _stages(
        self, samples: Samples, pixel: ImagePixel, background: npt.NDArray[np.bool_] | None
    ) -> Callable[[Numbers], Octets]:
        voi = self.voi or self._own_range(samples, pixel, background)

        def stage(x: Numbers) -> Octets:
            y = voi(self.modality(x) if self.modality else x)
            if self.presentation is not None:
                y = self.presentation(y)
            y = np.nan_to_num(1 - y if self.inverse else y, nan=0.0)
            return np.asarray(np.rint(np.clip(y, 0, 1) * 255), np.uint8)

        return stage

    def _own_range(
        self, samples: Samples, pixel: ImagePixel, background: npt.NDArray[np.bool_] | None
    ) -> Stage:
        """Without a window: all values that 8 bits hold, else those that the frame has."""
        if pixel.bits_stored <= 8 and self.modality is None and not pixel.floating:
            low = -(1 << pixel.bits_stored - 1) if pixel.signed else 0
            ends = np.array([low, low + (1 << pixel.bits_stored) - 1], np.float64)
        else:
            shown = samples if background is None else samples[~background]
            shown = shown[np.isfinite(shown)] if pixel.floating else shown
            ends = np.array([shown.min(), shown.max()] if shown.size else [0, 1], np.float64)
        if self.modality is not None:
            ends = self.modality(ends)
        low_end, high_end = float(ends.min()), float(ends.max())
        return lambda x: np.clip((x - low_end) / ((high_end - low_end) or 1), 0, 1)


def padding_of(attributes: Attributes, pixel: ImagePixel) -> tuple[int, int] | None:
    """The range of Pixel Padding Values (0028,0120 and 0121), in the sign of the stored values."""
    ends = [_stored(first(attributes, tag), pixel) for tag in ("00280120", "00280121")]
    if ends[0] is None or pixel.floating:
        return None
    other = ends[0] if ends[1] is None else ends[1]
    return min(ends[0], other), max(ends[0], other)


def _stored(value: Any, pixel: ImagePixel) -> int | None:
    if not isinstance(value, int):
        return None
    if pixel.signed and value >= 1 << pixel.bits_stored - 1:
        return value - (1 << 16) if value >= 1 << 15 else value - (1 << pixel.bits_stored)
    return value


def presentation_stage(source: ImageSource, attributes: Attributes) -> Stage | None:
    """The Presentation LUT Sequence (2050,0010) of a presentation state; its input is 0 to 1."""
    for item in items(attributes, "20500010")[:1]:
        table = read_table(source, item, signed=False, scaled=True)
        if table is not None:
            return _spread(table)
    return None


def _spread(table: Table) -> Stage:
    last = len(table.entries) - 1
    return lambda y: table.entries[np.rint(np.clip(y, 0, 1) * last).astype(np.int64)]


def color_octets(samples: Samples, pixel: ImagePixel) -> Octets:
    """Colour samples of any depth as 8 bits."""
    bits = pixel.bits_stored
    if bits == 8:
        return samples.astype(np.uint8)
    return np.rint(samples.astype(np.float64) * (255 / ((1 << bits) - 1))).astype(np.uint8)


def is_monochrome1(attributes: Attributes) -> bool:
    """Whether the least value is white."""
    return str(first(attributes, "00280004")) == "MONOCHROME1"


def frame_count_of(attributes: Attributes) -> int:
    """Number of Frames (0028,0008), 1 when it is absent."""
    return whole(attributes, "00280008", 1) or 1
