"""Sheets of small pictures: every image in its place, marked, and nothing of what the caller may not see."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from access.caller import Caller
from archive.ingest import ingest
from archive.overview import ACROSS, DOWN, TILE, draw_sheet
from archive.renditions import make_renditions
from archive.retrieve import NotFound
from cloudfilm.rooms import Rooms
from tests.builders import ROOT, ct_slice

STUDY, SERIES = f"{ROOT}.1", f"{ROOT}.1.1"
IMAGES = ACROSS * DOWN + 2


def grey(instance: int) -> int:
    """The grey of an image that is all one."""
    return (instance * 53) % 200 + 20


@pytest.fixture
def series(rooms: Rooms, operator: Caller) -> Rooms:
    """Images of one grey each; the last stored is the first of the series, and one has no number."""
    for instance in range(IMAGES, 0, -1):
        pixels = np.full((8, 8), grey(instance), np.uint8).tobytes()
        more: dict[str, Any] = {"InstanceNumber": None} if instance == IMAGES else {}
        file = ct_slice(instance=instance, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels, **more)
        ingest(rooms.archive, operator, io.BytesIO(file))
    return rooms


def tiles(sheet: bytes) -> tuple[Any, list[float]]:
    """The pixels of a sheet, and the middle grey of each of its tiles."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)).convert("L"), dtype=float)
    rows = pixels.shape[0] // TILE
    return pixels, [
        float(np.median(pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]))
        for row in range(rows)
        for column in range(ACROSS)
    ]


@pytest.mark.parametrize("with_previews", [False, True])
def test_every_image_has_its_tile_in_the_order_of_the_pages(
    series: Rooms, operator: Caller, with_previews: bool
) -> None:
    if with_previews:
        make_renditions(series.archive, STUDY)

    _, first = tiles(draw_sheet(series.archive, operator, STUDY, SERIES, 0))
    _, second = tiles(draw_sheet(series.archive, operator, STUDY, SERIES, 1))

    assert np.abs(np.array(first) - [grey(each + 1) for each in range(ACROSS * DOWN)]).max() <= 2
    assert np.abs(np.array(second[:2]) - [grey(IMAGES - 1), grey(IMAGES)]).max() <= 2
    assert len(second) == ACROSS


def test_a_watermark_lies_on_every_tile_and_not_on_what_is_kept(series: Rooms, operator: Caller) -> None:
    plain = draw_sheet(series.archive, operator, STUDY, SERIES, 0)
    marked, _ = tiles(draw_sheet(series.archive, operator, STUDY, SERIES, 0, ("138****5678",)))

    apart = np.abs(marked - tiles(plain)[0]) > 6
    for row in range(DOWN):
        for column in range(ACROSS):
            tile = apart[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            if abs(grey(row * ACROSS + column + 1) - 160) > 60:  # the mark is a middle grey
                assert 0.01 < tile.mean() < 0.5
    assert draw_sheet(series.archive, operator, STUDY, SERIES, 0) == plain


def test_what_is_not_there_and_what_has_frames_has_no_sheet(series: Rooms, operator: Caller) -> None:
    frames = ct_slice(series=2, NumberOfFrames=2, PixelData=bytes(256))
    ingest(series.archive, operator, io.BytesIO(frames))

    for of, sheet in ((SERIES, 2), (SERIES, 10**9), (f"{ROOT}.1.9", 0), (f"{ROOT}.1.2", 0)):
        with pytest.raises(NotFound):
            draw_sheet(series.archive, operator, STUDY, of, sheet)
