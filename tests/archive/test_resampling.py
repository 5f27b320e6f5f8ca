"""A gray picture in another size is the one that Pillow makes of it in floating point, rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from archive.resampling import BICUBIC, LANCZOS, Filter, resample

RNG = np.random.default_rng(20260101)
NOISE = RNG.integers(0, 256, (550, 650)).astype(np.uint8)
SOFT = np.asarray(Image.fromarray(NOISE).resize((130, 110)).resize((650, 550)))

FILTERS = pytest.mark.parametrize("by", [BICUBIC, LANCZOS])


def assert_like_pillow(
    picture: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float], by: Filter
) -> None:
    drawn = resample(picture, size, box, by).astype(int)
    exact = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, by.of_pillow, box=box))

    assert drawn.shape == exact.shape
    assert np.abs(drawn - np.clip(exact, 0, 255)).max() <= 0.501


@FILTERS
@pytest.mark.parametrize("picture", [NOISE, SOFT], ids=["noise", "soft"])
@pytest.mark.parametrize("size", [(650, 550), (750, 700), (325, 275), (61, 50), (3, 900), (1, 1)])
def test_a_picture_is_scaled_as_pillow_scales_it(
    picture: np.ndarray, size: tuple[int, int], by: Filter
) -> None:
    assert_like_pillow(picture, size, (0.0, 0.0, 650.0, 550.0), by)


@FILTERS
@given(data=st.data())
def test_any_part_of_any_picture_is_scaled_as_pillow_scales_it(by: Filter, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    left, top = data.draw(st.floats(0, width - 1)), data.draw(st.floats(0, height - 1))
    right, bottom = data.draw(st.floats(left + 1, width)), data.draw(st.floats(top + 1, height))
    size = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))

    assert_like_pillow(NOISE[:height, :width].copy(), size, (left, top, right, bottom), by)


@FILTERS
def test_an_even_gray_stays_what_it_is(by: Filter) -> None:
    for gray in (0, 1, 127, 254, 255):
        even = np.full((40, 30), gray, np.uint8)
        for size in ((77, 91), (11, 7)):
            assert (resample(even, size, (0.0, 0.0, 30.0, 40.0), by) == gray).all()


def test_a_picture_can_be_larger_than_what_is_held_at_a_time() -> None:
    wide = np.tile(SOFT, (2, 12))
    assert_like_pillow(wide, (1200, 340), (0.0, 0.0, 7800.0, 1100.0), LANCZOS)
