"""Resampling: a gray picture in another size, by the filters that Pillow has, in half of its time.

Each line of the result is the weighted sum of a few lines of the picture. So some lines next to each other
are a product of two small matrices, the weights and the lines that they reach, and that is what processors
are best at. Only the result is rounded and cut off at black and white; Pillow does so after each direction.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from archive.grayscale import Numbers, Octets

Weights = npt.NDArray[np.float32]

TOGETHER = 16  # lines of the result that are one product
MOST_HELD = 524288  # samples at a time: what is large is given back to the system, and slow to get anew
MOST_MULTIPLICATIONS = 262144  # of one product: OpenBLAS calls no other threads for so few
REMEMBERED = 16  # sizes that were asked for of late


@dataclass(frozen=True, slots=True)
class Filter:
    """How much a line counts by its distance, within its support."""

    support: float
    weigh: Callable[[Numbers], Numbers]
    of_pillow: Image.Resampling  # the same one there, for pictures in colour


def _cubic(x: Numbers) -> Numbers:
    """Keys' kernel with a = -0.5, by the distance."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Numbers) -> Numbers:
    """The sinc function, windowed by the main lobe of one that is three times as wide."""
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


BICUBIC = Filter(2.0, _cubic, Image.Resampling.BICUBIC)
LANCZOS = Filter(3.0, _lanczos, Image.Resampling.LANCZOS)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of the result, and the lines of the picture that they are made of."""

    made: slice
    of: slice
    weights: Weights  # made x of
    turned: Weights  # of x made


def resample(
    gray: Octets, size: tuple[int, int], box: tuple[float, float, float, float], by: Filter
) -> Octets:
    """A part of a picture (left, top, right, bottom) in another size (width, height)."""
    across = _lines(gray.shape[1], box[0], box[2], size[0], by)
    down = _lines(gray.shape[0], box[1], box[3], size[1], by)
    drawn = np.empty((size[1], size[0]), np.uint8)
    held = (down[0].weights.shape[1] + TOGETHER) * gray.shape[1] + TOGETHER * size[0]  # samples
    together = max(1, MOST_HELD // held)
    for at in range(0, len(down), together):
        blocks = down[at : at + together]
        _draw_strip(drawn[blocks[0].made.start : blocks[-1].made.stop], gray, blocks, across)
    return drawn


def _draw_strip(strip: Octets, gray: Octets, down: Sequence[Block], across: Sequence[Block]) -> None:
    top, left = down[0].of.start, across[0].of.start
    part = gray[top : down[-1].of.stop, left : across[-1].of.stop].astype(np.float32)
    part += 0.5  # weights add up to 1: what is cut off at the end is then rounded
    tall = np.empty((len(strip), part.shape[1]), np.float32)
    for block in down:
        made, of = _from(block.made, down[0].made.start), _from(block.of, top)
        for columns in _cut(part.shape[1], block):
            np.matmul(block.weights, part[of, columns], out=tall[made, columns])
    sums = np.empty(strip.shape, np.float32)
    for block in across:
        of = _from(block.of, left)
        for rows in _cut(len(tall), block):
            np.matmul(tall[rows, of], block.turned, out=sums[rows, block.made])
    strip[:] = np.clip(sums, 0, 255, out=sums)


def _from(lines: slice, start: int) -> slice:
    return slice(lines.start - start, lines.stop - start)


def _cut(length: int, block: Block) -> Iterator[slice]:
    """A length in pieces, so that no product has too many multiplications."""
    step = max(1, MOST_MULTIPLICATIONS // block.weights.size)
    return (slice(at, at + step) for at in range(0, length, step))


@lru_cache(maxsize=REMEMBERED)
def _lines(lines: int, first: float, last: float, made: int, by: Filter) -> tuple[Block, ...]:
    """How `made` lines come of those between `first` and `last`; what lies around these has its part in the
    outermost."""
    step = (last - first) / made
    scale = max(step, 1.0)
    centers = first + (np.arange(made) + 0.5) * step
    begins = np.maximum(0, np.floor(centers - by.support * scale + 0.5)).astype(np.int64)
    ends = np.minimum(lines, np.floor(centers + by.support * scale + 0.5)).astype(np.int64)
    at = begins[:, None] + np.arange((ends - begins).max())
    weights = by.weigh(np.abs(at + 0.5 - centers[:, None]) / scale) * (at < ends[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    blocks = []
    for top in range(0, made, TOGETHER):
        of = slice(int(begins[top]), int(ends[top : top + TOGETHER][-1]))
        rows = range(top, min(top + TOGETHER, made))
        band = np.zeros((len(rows), of.stop - of.start), np.float32)
        for row in rows:
            count = ends[row] - begins[row]
            band[row - top, begins[row] - of.start :][:count] = weights[row, :count]
        blocks.append(Block(slice(top, rows.stop), of, band, np.ascontiguousarray(band.T)))
    return tuple(blocks)
