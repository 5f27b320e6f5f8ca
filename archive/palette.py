"""Palette colour: indices to RGB (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.2 for segmented tables)."""

import numpy as np
import numpy.typing as npt

from archive.grayscale import Octets
from archive.image_pixel import Attributes, NotAnImage, values
from archive.image_source import ImageSource
from archive.transcode import Samples

CHANNELS = (("00281101", "00281201", "00281221"), ("00281102", "00281202", "00281222"),
            ("00281103", "00281203", "00281223"))  # fmt: skip
DISCRETE, LINEAR, INDIRECT = range(3)


def has_palette(attributes: Attributes) -> bool:
    """Whether an object carries palette tables."""
    return all(descriptor in attributes for descriptor, _, _ in CHANNELS)


def to_rgb(source: ImageSource, attributes: Attributes, samples: Samples) -> Octets:
    """Colours of palette indices. Raises NotAnImage when there is no usable palette."""
    channels = [_channel(source, attributes, *tags, samples) for tags in CHANNELS]
    return np.stack(channels, axis=2)


def _channel(
    source: ImageSource, attributes: Attributes, descriptor: str, plain: str, segmented: str, samples: Samples
) -> Octets:
    described = [each for each in values(attributes, descriptor) if isinstance(each, int)]
    if len(described) != 3:
        raise NotAnImage("its palette is missing")
    count, start, bits = described
    count = count if count > 0 else count + 65536
    if start >= 32768 and samples.dtype.kind == "i":
        start -= 65536
    if segmented in attributes:
        data = source.binary(attributes, segmented)
        entries = expand_segments(np.frombuffer(data, "u1" if bits == 8 else "<u2").astype(np.int64), count)
    else:
        entries = source.words(attributes, plain, count)
    if not len(entries):
        raise NotAnImage("its palette is empty")
    if bits == 16 or entries.max() > 255:
        entries = entries >> 8  # as dcmtk and gdcm do: the high octet is the 8-bit colour
    at = np.clip(samples.astype(np.int64) - start, 0, len(entries) - 1)
    return entries.astype(np.uint8)[at]


def expand_segments(data: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """A segmented palette (PS3.3 C.7.9.2): runs, ramps, and references to earlier ones. Raises NotAnImage."""
    entries: list[int] = []
    starts: list[int] = []
    at, opcodes = 0, 0
    numbers = data.tolist()
    while at + 1 < len(numbers) and len(entries) < count:
        starts.append(at)
        at = _segment(numbers, at, entries)
        opcodes += 1
        if at < 0 or opcodes > 65536:
            raise NotAnImage("its segmented palette is damaged")
    return np.array(entries[:count], np.int64)


def _segment(numbers: list[int], at: int, entries: list[int], depth: int = 0) -> int:
    """Expand the segment that begins at `at`; returns where the next begins, or -1."""
    opcode, length = numbers[at], numbers[at + 1]
    if opcode == DISCRETE:
        entries.extend(numbers[at + 2 : at + 2 + length])
        return at + 2 + length
    if opcode == LINEAR and at + 2 < len(numbers) and entries:
        begin, end = entries[-1], numbers[at + 2]
        entries.extend(round(begin + (end - begin) * step / length) for step in range(1, length + 1))
        return at + 3
    if opcode == INDIRECT and at + 3 < len(numbers) and depth == 0:
        unit = 1
        offset = (numbers[at + 2] | numbers[at + 3] << 16) // unit
        where = offset
        for _ in range(length):
            if not 0 <= where < at:
                return -1
            where = _segment(numbers, where, entries, depth + 1)
            if where < 0:
                return -1
        return at + 4
    return -1
