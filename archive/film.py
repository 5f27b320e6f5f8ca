"""Films: images laid out on a sheet as a film printer would, drawn as one picture.

Pure: what a print client said of the film and of each image comes in as values, a picture comes out.
Standards: PS3.3 C.13.3 (film box), C.13.5 (image box), PS3.4 H.4.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from archive.lettering import font_of
from kernel.errors import CloudfilmError, Kind

DPI = {"STANDARD": 150, "HIGH": 300}  # Requested Resolution ID
MOST_CELLS = 400
SHEETS_MM = {"A4": (210, 297), "A3": (297, 420)}  # Film Size ID that is no pair of lengths
MM_PER_INCH = 25.4
SLIDE_MM = {"SLIDE": (36, 24, 50), "SUPERSLIDE": (40, 40, 50)}  # width, height, and pitch of the mounts
GAP_MM, LETTERS_MM = 1.5, 6.0
DENSITIES = (20, 320)  # of our film's lightest and darkest, in hundredths of optical density
RESAMPLING = {  # by Magnification Type
    "REPLICATE": Image.Resampling.NEAREST,
    "BILINEAR": Image.Resampling.BILINEAR,
    "CUBIC": Image.Resampling.BICUBIC,
}
SMOOTHING = {  # by Smoothing Type, of CUBIC magnification (PS3.3 C.13.5)
    "SHARP": Image.Resampling.LANCZOS,
    "SMOOTH": Image.Resampling.HAMMING,
}


class InvalidFilm(CloudfilmError):
    """A format, a size or an image that no film can be made with."""

    kind = Kind.INVALID


class DoesNotFit(CloudfilmError):
    """An image larger than its place, of which nothing may be left out (C603)."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The image is larger than its place on the film.")


@dataclass(frozen=True, slots=True)
class Cell:
    """A place for an image, as fractions of the sheet."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sheet:
    """The film itself, in pixels."""

    width: int
    height: int
    dpi: int


def sheet_of(size_id: str, orientation: str, resolution_id: str) -> Sheet:
    """The sheet of a Film Size ID such as 14INX17IN, 24CMX30CM or A4. Raises InvalidFilm."""
    size_id, dpi = size_id.strip().upper() or "14INX17IN", DPI.get(resolution_id.strip().upper(), 150)
    pair = re.fullmatch(r"(\d{1,3}(?:_\d+)?)(IN|CM|MM)X(\d{1,3}(?:_\d+)?)(IN|CM|MM)", size_id)
    if pair is not None:
        width, height = _mm(pair[1], pair[2]), _mm(pair[3], pair[4])
    elif size_id in SHEETS_MM:
        width, height = SHEETS_MM[size_id]
    else:
        raise InvalidFilm("Film Size ID is not known; use one such as 14INX17IN, 24CMX30CM or A4.")
    if not (50 <= width <= 600 and 50 <= height <= 600):
        raise InvalidFilm("Film Size ID names a film that is too small or too large.")
    if orientation.strip().upper() == "LANDSCAPE":
        width, height = height, width
    return Sheet(round(width / MM_PER_INCH * dpi), round(height / MM_PER_INCH * dpi), dpi)


def _mm(text: str, unit: str) -> float:
    return float(text.replace("_", ".")) * {"IN": MM_PER_INCH, "CM": 10.0, "MM": 1.0}[unit]


def layout(display_format: str, sheet: Sheet) -> tuple[Cell, ...]:
    r"""The places of an Image Display Format: `STANDARD\c,r`, `ROW\n,n`, `COL\n,n`, SLIDE, SUPERSLIDE.

    They are numbered row by row, or column by column for COL. Raises InvalidFilm.
    """
    kind, _, numbers = display_format.strip().upper().partition("\\")
    if kind in SLIDE_MM and not numbers:
        return _slides(*SLIDE_MM[kind], sheet)
    counts = [int(number) for number in numbers.split(",") if re.fullmatch(r"\s*\d{1,3}\s*", number)]
    wrong = len(counts) != len(numbers.split(",")) or not counts or min(counts) == 0
    if kind not in ("STANDARD", "ROW", "COL") or wrong or (kind == "STANDARD" and len(counts) != 2):
        raise InvalidFilm(
            r"Image Display Format is one of STANDARD\c,r, ROW\n,n, COL\n,n, SLIDE, SUPERSLIDE."
        )
    if kind == "STANDARD":
        kind, counts = "ROW", [counts[0]] * counts[1]
    if sum(counts) > MOST_CELLS:
        raise InvalidFilm(f"A film has at most {MOST_CELLS} images.")
    cells = []
    for line, count in enumerate(counts):
        for at in range(count):
            along, across = (at / count, 1 / count), (line / len(counts), 1 / len(counts))
            if kind == "ROW":
                cells.append(Cell(along[0], across[0], along[1], across[1]))
            else:
                cells.append(Cell(across[0], along[0], across[1], along[1]))
    return tuple(cells)


def _slides(width_mm: float, height_mm: float, pitch_mm: float, sheet: Sheet) -> tuple[Cell, ...]:
    """As many mounts of slides as there is room for, in the middle of the sheet."""
    page = sheet.width / sheet.dpi * MM_PER_INCH, sheet.height / sheet.dpi * MM_PER_INCH
    columns, rows = (max(1, int(length // pitch_mm)) for length in page)
    margin = (page[0] - columns * pitch_mm) / 2, (page[1] - rows * pitch_mm) / 2
    return tuple(
        Cell(
            (margin[0] + column * pitch_mm + (pitch_mm - width_mm) / 2) / page[0],
            (margin[1] + row * pitch_mm + (pitch_mm - height_mm) / 2) / page[1],
            width_mm / page[0],
            height_mm / page[1],
        )
        for row in range(rows)
        for column in range(columns)
    )


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image in its place: P-values of 8 bits (rows x columns, or x 3), as they are to be seen."""

    pixels: NDArray[np.uint8]
    aspect: float = 1.0  # height of a pixel over its width
    magnification: str = ""  # REPLICATE, BILINEAR, CUBIC or NONE
    width_mm: float = 0.0  # Requested Image Size; 0: as large as there is room
    behavior: str = "DECIMATE"  # of an image that is too large: DECIMATE, CROP or FAIL
    smoothing: str = ""  # SHARP or SMOOTH, of CUBIC magnification


class Fit(Enum):
    """How an image comes to its place (PS3.4 H.4.3.1.2.2)."""

    WHOLE = "whole"
    DEMAGNIFIED = "demagnified"  # it has more pixels than its place
    DECIMATED = "decimated"  # the size that was asked for is larger than its place
    CROPPED = "cropped"


@dataclass(frozen=True, slots=True)
class Film:
    """All that is on one film."""

    sheet: Sheet
    cells: tuple[Cell, ...]
    images: dict[int, PlacedImage] = field(default_factory=dict)  # by position, from 1
    is_color: bool = False
    border: int = 0  # gray between the images, 0 black
    empty: int = 0  # gray of places without an image
    trim: bool = False
    annotations: tuple[str, ...] = ()


def gray_of_density(text: str, default: str = "BLACK") -> int:
    """The gray of a Border or Empty Image Density: BLACK, WHITE, or hundredths of optical density."""
    text = text.strip().upper() or default
    if text in ("BLACK", "WHITE"):
        return 0 if text == "BLACK" else 255
    if not re.fullmatch(r"\d{1,4}", text):
        raise InvalidFilm("A density is BLACK, WHITE or a number of hundredths.")
    least, most = DENSITIES
    return round(255 * (1 - (min(max(int(text), least), most) - least) / (most - least)))


def within_densities(pixels: NDArray[np.uint8], least: int | None, most: int | None) -> NDArray[np.uint8]:
    """The same image between a Min Density and a Max Density of the film."""
    dark = gray_of_density(str(most)) if most is not None else 0
    light = gray_of_density(str(least)) if least is not None else 255
    if (dark, light) == (0, 255) or dark >= light:
        return pixels
    ramp = np.round(dark + np.arange(256) * (light - dark) / 255).astype(np.uint8)
    scaled: NDArray[np.uint8] = ramp[pixels]
    return scaled


def draw_film(film: Film, font: str = "") -> Image.Image:
    """The film as one picture, gray or RGB. Raises DoesNotFit."""
    mode = "RGB" if film.is_color else "L"
    picture = Image.new(mode, (film.sheet.width, film.sheet.height), _tone(film.border, mode))
    letters = _pixels(LETTERS_MM, film.sheet) * len(film.annotations)
    for position, cell in enumerate(film.cells, 1):
        box = _place(cell, film.sheet, letters)
        image = film.images.get(position)
        if image is None:
            picture.paste(_tone(film.empty, mode), (box[0], box[1], box[0] + box[2], box[1] + box[3]))
            continue
        drawn = _fit(image, box[2], box[3], film.sheet)
        left, top = box[0] + (box[2] - drawn.width) // 2, box[1] + (box[3] - drawn.height) // 2
        picture.paste(drawn.convert(mode), (left, top))
        if film.trim:
            edge = (left - 1, top - 1, left + drawn.width, top + drawn.height)
            ImageDraw.Draw(picture).rectangle(edge, outline=_tone(255 - film.border, mode))
    _annotate(picture, film, font, letters)
    return picture


def _place(cell: Cell, sheet: Sheet, letters: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a cell in pixels, above what is written."""
    gap, room = _pixels(GAP_MM, sheet), sheet.height - letters
    return (
        round(cell.left * sheet.width) + gap // 2,
        round(cell.top * room) + gap // 2,
        max(1, round(cell.width * sheet.width) - gap),
        max(1, round(cell.height * room) - gap),
    )


def fit_of(image: PlacedImage, cell: Cell, sheet: Sheet) -> Fit:
    """How an image will come to its place. Raises DoesNotFit."""
    _, _, width, height = _place(cell, sheet, 0)
    return _fitted(image, width, height, sheet)[0]


def _fitted(image: PlacedImage, width: int, height: int, sheet: Sheet) -> tuple[Fit, tuple[int, int]]:
    """How it comes to a place of this size, and the size that it is drawn in before any of it is cropped."""
    natural = image.pixels.shape[1], max(1, round(image.pixels.shape[0] * image.aspect))
    scale = min(width / natural[0], height / natural[1])
    if not image.width_mm and image.magnification != "NONE":
        return Fit.DEMAGNIFIED if scale < 1 else Fit.WHOLE, _scaled(natural, scale)
    if image.width_mm:
        wanted = max(1, _pixels(image.width_mm, sheet))
        natural = wanted, max(1, round(natural[1] * wanted / natural[0]))
    if natural[0] <= width and natural[1] <= height:
        return Fit.WHOLE, natural
    if image.behavior == "FAIL":
        raise DoesNotFit
    if image.behavior == "CROP":
        return Fit.CROPPED, natural
    return Fit.DECIMATED, _scaled(natural, min(width / natural[0], height / natural[1]))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _fit(image: PlacedImage, width: int, height: int, sheet: Sheet) -> Image.Image:
    fit, size = _fitted(image, width, height, sheet)
    drawn = _resized(Image.fromarray(image.pixels), size, image)
    if fit is not Fit.CROPPED:
        return drawn
    left, top = max(0, (size[0] - width) // 2), max(0, (size[1] - height) // 2)
    return drawn.crop((left, top, left + min(width, size[0]), top + min(height, size[1])))


def _resized(drawn: Image.Image, size: tuple[int, int], image: PlacedImage) -> Image.Image:
    if size == drawn.size:
        return drawn
    how = RESAMPLING.get(image.magnification, Image.Resampling.BICUBIC)
    if size[0] < drawn.width:
        how = Image.Resampling.LANCZOS
    elif how is Image.Resampling.BICUBIC:
        how = SMOOTHING.get(image.smoothing, how)
    return drawn.resize(size, how)


def _annotate(picture: Image.Image, film: Film, font: str, letters: int) -> None:
    lines: Sequence[str] = film.annotations
    if not lines:
        return
    step = letters // len(lines)
    drawing = ImageDraw.Draw(picture)
    for at, line in enumerate(lines):
        drawing.text(
            (step // 2, film.sheet.height - letters + at * step), line, font=font_of(step * 2 // 3, font),
            fill=_tone(255 if film.border < 128 else 0, picture.mode),
        )  # fmt: skip


def _pixels(mm: float, sheet: Sheet) -> int:
    return round(mm / MM_PER_INCH * sheet.dpi)


def _tone(gray: int, mode: str) -> int | tuple[int, int, int]:
    return (gray, gray, gray) if mode == "RGB" else gray
