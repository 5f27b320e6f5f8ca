"""Films: places of every format, and images drawn into them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.film import (
    DoesNotFit,
    Film,
    InvalidFilm,
    PlacedImage,
    Sheet,
    draw_film,
    gray_of_density,
    layout,
    sheet_of,
    within_densities,
)

SHEET = Sheet(300, 300, 150)


@pytest.mark.parametrize(
    ("size", "orientation", "resolution", "pixels"),
    [
        ("14INX17IN", "PORTRAIT", "STANDARD", (2100, 2550)),
        ("14INX17IN", "LANDSCAPE", "", (2550, 2100)),
        ("8INX10IN", "", "HIGH", (2400, 3000)),
        ("25_7CMX36_4CM", "", "", (1518, 2150)),
        ("A4", "", "", (1240, 1754)),
        ("", "", "", (2100, 2550)),
    ],
)
def test_a_film_has_the_size_that_its_id_says(
    size: str, orientation: str, resolution: str, pixels: tuple[int, int]
) -> None:
    sheet = sheet_of(size, orientation, resolution)
    assert (sheet.width, sheet.height) == pixels


@pytest.mark.parametrize("size", ["BIG", "1INX1IN", "900CMX900CM", "14INX"])
def test_a_size_that_no_film_has_is_refused(size: str) -> None:
    with pytest.raises(InvalidFilm):
        sheet_of(size, "", "")


@pytest.mark.parametrize(
    ("display_format", "count", "first", "last"),
    [
        (r"STANDARD\1,1", 1, (0, 0), (0, 0)),
        (r"STANDARD\2,3", 6, (0, 0), (0.5, 2 / 3)),
        (r"ROW\1,2", 3, (0, 0), (0.5, 0.5)),
        (r"COL\1,2", 3, (0, 0), (0.5, 0.5)),
        (r"COL\2,1", 3, (0, 0), (0.5, 0)),
    ],
)
def test_places_are_numbered_as_the_format_says(
    display_format: str, count: int, first: tuple[float, float], last: tuple[float, float]
) -> None:
    cells = layout(display_format, SHEET)
    assert len(cells) == count
    assert (cells[0].left, cells[0].top) == pytest.approx(first)
    assert (cells[-1].left, cells[-1].top) == pytest.approx(last)


def test_slides_fill_the_sheet_with_mounts_of_their_size() -> None:
    sheet = sheet_of("14INX17IN", "", "")
    slides, larger = layout("SLIDE", sheet), layout("SUPERSLIDE", sheet)

    assert len(slides) == len(larger) == 7 * 8
    assert slides[0].width * 355.6 == pytest.approx(36, abs=0.1)
    assert larger[0].height * 431.8 == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize(
    "display_format",
    ["", "STANDARD", r"STANDARD\0,1", r"STANDARD\1", r"STANDARD\99,99", r"CUSTOM\1", r"ROW\a", "SLIDE\\1"],
)
def test_a_format_that_cannot_be_is_refused(display_format: str) -> None:
    with pytest.raises(InvalidFilm):
        layout(display_format, SHEET)


@given(st.text(max_size=30))
def test_any_format_is_laid_out_or_refused(display_format: str) -> None:
    try:
        cells = layout(display_format, SHEET)
    except InvalidFilm:
        return
    for cell in cells:
        assert cell.left >= 0
        assert cell.left + cell.width <= 1.0001
        assert cell.top + cell.height <= 1.0001


def drawn(*images: PlacedImage, display_format: str = r"STANDARD\2,1", **options: object) -> np.ndarray:
    places = dict(enumerate(images, 1))
    return np.asarray(draw_film(Film(SHEET, layout(display_format, SHEET), places, **options)))  # type: ignore[arg-type]


def gray(level: int, rows: int = 10, columns: int = 10) -> np.ndarray:
    return np.full((rows, columns), level, np.uint8)


def test_images_stand_in_their_places_with_border_and_empty_density() -> None:
    film = drawn(PlacedImage(gray(200)), border=255, empty=90)

    assert film.shape == (300, 300)
    assert (film[150, 75], film[150, 225]) == (200, 90)
    assert film[2, 75] == 255  # a square in a tall place leaves the border


def test_an_image_keeps_its_shape_and_that_of_its_pixels() -> None:
    film = drawn(PlacedImage(gray(200, 10, 10), aspect=2.0), display_format=r"STANDARD\1,1")
    rows, columns = np.nonzero(film == 200)
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(2, abs=0.05)


def test_an_image_of_a_requested_size_or_not_magnified_has_that_size() -> None:
    exact = drawn(PlacedImage(gray(200), width_mm=10), display_format=r"STANDARD\1,1")
    as_it_is = drawn(PlacedImage(gray(200), magnification="NONE"), display_format=r"STANDARD\1,1")
    assert (exact == 200).sum() == 59 * 59
    assert (as_it_is == 200).sum() == 100


def test_what_is_too_large_is_made_smaller_or_cropped_or_refused() -> None:
    large = gray(200, 1000, 1000)
    for behavior in ("DECIMATE", "CROP"):
        film = drawn(PlacedImage(large, 1.0, "NONE", 0, behavior), display_format=r"STANDARD\1,1")
        assert film[150, 150] == 200
    with pytest.raises(DoesNotFit):
        drawn(PlacedImage(large, 1.0, "NONE", 0, "FAIL"), display_format=r"STANDARD\1,1")


def test_color_and_gray_share_a_film_and_text_has_its_own_strip() -> None:
    red = np.zeros((10, 10, 3), np.uint8)
    red[:, :, 0] = 250
    film = drawn(PlacedImage(red), PlacedImage(gray(128)), is_color=True, annotations=("张伟 A0001",))
    assert film.shape == (300, 300, 3)
    assert film[130, 75].tolist() == [250, 0, 0]
    assert film[130, 225].tolist() == [128, 128, 128]
    assert film[266:].max() > 200


def test_densities_bound_how_dark_and_light_an_image_is() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    bounded = within_densities(ramp, 50, 280)
    assert 0 < bounded.min() < bounded.max() < 255
    assert (gray_of_density("20"), gray_of_density("320"), gray_of_density("WHITE")) == (255, 0, 255)
    assert within_densities(ramp, None, None) is ramp
