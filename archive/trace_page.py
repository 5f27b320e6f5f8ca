"""A waveform as a page: one row a channel, on the paper that cardiologists read.

25 mm are a second and, of an ECG, 10 mm a millivolt; less where a trace would not fit. Small squares are of
1 mm, large ones of 5 mm (0.2 s and 0.5 mV). What is no voltage is drawn to the height of its row, with its
range at the left. Above stand speed, gain and rate, and how much of the recording is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from PIL import Image, ImageDraw

from archive.image_pixel import Attributes, first
from archive.image_source import ImageSource
from archive.lettering import font_of
from archive.waveform import Channel, Values, read_recording

PIXELS_PER_MM = 6
FINER = 2  # drawn this much larger, then reduced, so that traces are smooth
SCALE = PIXELS_PER_MM * FINER
MM_PER_S = 25.0
SHOWN_S = 10.0
LEFT_MM, RIGHT_MM, TOP_MM, BOTTOM_MM = 20, 5, 12, 10
LEAST_ROW_MM, MOST_ROW_MM = 15.0, 40.0
ROWS_MM = 640.0  # of all together, unless each is of the least height
GAINS, FINE_GAINS = (10.0, 5.0, 2.5, 1.0), (500.0, 200.0, 100.0, 50.0, 20.0)  # mm for a mV
FAINT_MV = 0.3  # voltages below are no heart's at the skin: of a brain or a muscle
PAPER, SMALL, LARGE, INK = (255, 255, 255), (252, 226, 226), (243, 178, 178), (20, 24, 32)


@dataclass(frozen=True, slots=True)
class Row:
    """Where a channel is drawn: mm for a unit, the value at its middle, its height and its middle."""

    channel: Channel
    mm_per_unit: float
    middle: float
    height_mm: float
    y_mm: float


def draw_page(source: ImageSource, font: str = "") -> Image.Image:
    """The first seconds of a recording. Raises NotAnImage."""
    recording = read_recording(source, SHOWN_S)
    seconds = min(SHOWN_S, max(len(each.values) for each in recording.channels) / recording.frequency_hz)
    gain = gain_of(recording.channels)
    rows = tuple(_rows(recording.channels, gain))
    width = LEFT_MM + round(max(seconds, 1.0) * MM_PER_S) + RIGHT_MM
    height = round(rows[-1].y_mm + rows[-1].height_mm / 2) + BOTTOM_MM
    page = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    drawing = ImageDraw.Draw(page)
    _grid(drawing, width, height)
    for row in rows:
        _trace(drawing, row, recording.frequency_hz)
        _name(drawing, row, font)
    _seconds(drawing, seconds, height, font)
    shown = f"0-{seconds:g} s / {recording.duration_s:g} s"
    parts = [_when(source.attributes), f"{MM_PER_S:g} mm/s", f"{gain:g} mm/mV" if gain else "",
             f"{recording.frequency_hz:g} Hz", shown]  # fmt: skip
    _text(drawing, LEFT_MM, 4, "   ".join(part for part in parts if part), 3.6, font)
    return page.resize((width * PIXELS_PER_MM, height * PIXELS_PER_MM), Image.Resampling.BOX)


def gain_of(channels: tuple[Channel, ...]) -> float:
    """The gain for all voltages: what is usual, or the next that lets the largest fit; 0 without any."""
    spans = [_span(each.values) for each in channels if each.unit == "mV"]
    if not spans:
        return 0.0
    usual = GAINS if max(spans) >= FAINT_MV or not max(spans) else FINE_GAINS
    return next((gain for gain in usual if max(spans) * gain <= _most_row_mm(channels)), usual[-1])


def _most_row_mm(channels: tuple[Channel, ...]) -> float:
    return max(LEAST_ROW_MM, min(MOST_ROW_MM, ROWS_MM / len(channels)))


def _span(values: Values) -> float:
    seen = values[np.isfinite(values)]
    return float(seen.max() - seen.min()) if seen.size else 0.0


def _rows(channels: tuple[Channel, ...], gain: float) -> Iterator[Row]:
    y_mm, most_row_mm = float(TOP_MM), _most_row_mm(channels)
    for channel in channels:
        seen = channel.values[np.isfinite(channel.values)]
        middle = float(seen.max() + seen.min()) / 2 if seen.size else 0.0
        span = _span(channel.values)
        of_voltage = channel.unit == "mV"
        mm_per_unit = gain if of_voltage else (LEAST_ROW_MM - 3) / span if span else 1.0
        height_mm = min(most_row_mm, max(LEAST_ROW_MM, span * mm_per_unit + 3))
        yield Row(channel, mm_per_unit, middle, height_mm, y_mm + height_mm / 2)
        y_mm += height_mm


def _grid(drawing: ImageDraw.ImageDraw, width: int, height: int) -> None:
    for every, color in ((1, SMALL), (5, LARGE)):
        for x in range(0, width + 1, every):
            drawing.line((x * SCALE, 0, x * SCALE, height * SCALE), color, FINER)
        for y in range(0, height + 1, every):
            drawing.line((0, y * SCALE, width * SCALE, y * SCALE), color, FINER)


def _trace(drawing: ImageDraw.ImageDraw, row: Row, frequency_hz: float) -> None:
    """The trace, in pieces between gaps."""
    values, step = thinned(row.channel.values, int(SHOWN_S * MM_PER_S * SCALE))
    x = (LEFT_MM + np.arange(len(values)) * step / frequency_hz * MM_PER_S) * SCALE
    deviation = np.clip((values - row.middle) * row.mm_per_unit, -row.height_mm / 2, row.height_mm / 2)
    y = (row.y_mm - deviation) * SCALE
    known = np.isfinite(y)
    for piece in np.split(np.arange(len(y)), np.flatnonzero(np.diff(known)) + 1):
        if known[piece[0]]:
            points = np.column_stack((x[piece], y[piece])).ravel().tolist()
            drawing.line(points * (2 if len(piece) == 1 else 1), INK, FINER + 1, joint="curve")


def thinned(values: Values, most: int) -> tuple[Values, float]:
    """At most so many values, and how many samples each stands for: of many, the lowest and highest in turn,
    so that no spike is lost."""
    every = -(-len(values) // most) * 2
    if every <= 2:
        return values, 1.0
    padded = np.append(values, np.full(-len(values) % every, values[-1])).reshape(-1, every)
    return np.column_stack((padded.min(axis=1), padded.max(axis=1))).ravel(), every / 2


def _name(drawing: ImageDraw.ImageDraw, row: Row, font: str) -> None:
    """What the channel is called, and what its height means: a step of 1 mV, or its range."""
    _text(drawing, 1, row.y_mm - 2, row.channel.label[:12], 3.6, font)
    if row.channel.unit == "mV" and row.mm_per_unit <= MOST_ROW_MM:
        low, high = (row.y_mm + each * row.mm_per_unit / 2 for each in (1, -1))
        step = [(14, low), (15, low), (15, high), (18, high), (18, low), (19, low)]
        drawing.line([(x * SCALE, y * SCALE) for x, y in step], INK, FINER + 1)
    elif row.channel.unit != "mV":
        half = _span(row.channel.values) / 2
        for value, y_mm in ((row.middle + half, -6.5), (row.middle - half, 3.5)):
            _text(drawing, 1, row.y_mm + y_mm, f"{value:.4g} {row.channel.unit}"[:16], 2.4, font)


def _seconds(drawing: ImageDraw.ImageDraw, seconds: float, height: int, font: str) -> None:
    for second in range(int(seconds) + 1):
        x = LEFT_MM + second * MM_PER_S
        drawing.line((x * SCALE, (height - 6) * SCALE, x * SCALE, (height - 4.5) * SCALE), INK, FINER + 1)
        _text(drawing, x - 1, height - 4.5, f"{second} s", 2.8, font)


def _text(
    drawing: ImageDraw.ImageDraw, x_mm: float, y_mm: float, text: str, size_mm: float, font: str
) -> None:
    letters = font_of(round(size_mm * SCALE), font)
    drawing.text((x_mm * SCALE, y_mm * SCALE), text, font=letters, fill=INK, stroke_width=0)


def _when(attributes: Attributes) -> str:
    """The Acquisition DateTime as people write it."""
    try:
        taken = datetime.strptime(str(first(attributes, "0008002A") or "")[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 - as the cart's clock had it
    except ValueError:
        return ""
    return f"{taken:%Y-%m-%d %H:%M:%S}"
