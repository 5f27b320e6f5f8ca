"""The Image Pixel description of an object, read from its DICOM JSON (PS3.3 C.7.6.3)."""

from dataclasses import dataclass, replace
from typing import Any

from kernel.errors import CloudfilmError, Kind

Attributes = dict[str, Any]

FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS = "7FE00008", "7FE00009", "7FE00010"
MOST_PIXELS = 2**28  # of one frame; a larger one is not held in memory


class NotAnImage(CloudfilmError):
    """The object has no pixels that could be drawn, or describes them in a way that makes no sense."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"This object cannot be drawn as an image: {reason}.")


@dataclass(frozen=True, slots=True)
class ImagePixel:
    """How the samples of a frame are arranged and what they mean."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool = False  # colour by plane: RRR GGG BBB
    floating: bool = False  # Float or Double Float Pixel Data
    words: bool = False  # octets were written as words (OW), which big endian swaps

    @property
    def is_color(self) -> bool:
        """Whether a pixel has several samples."""
        return self.samples > 1

    @property
    def frame_bits(self) -> int:
        """Bits of an uncompressed frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated

    def as_decoded(self, photometric: str) -> "ImagePixel":
        """The same image uncompressed, by pixel, in another colour model."""
        return replace(self, photometric=photometric, planar=False, high_bit=self.bits_stored - 1)


def image_pixel_of(attributes: Attributes) -> ImagePixel:
    """Read it. Raises NotAnImage."""
    floating = FLOAT_PIXELS in attributes or DOUBLE_PIXELS in attributes
    if not floating and PIXELS not in attributes:
        raise NotAnImage("it has no pixel data")
    allocated = whole(attributes, "00280100", 16)
    stored = min(whole(attributes, "00280101", allocated), allocated) or allocated
    pixel = ImagePixel(
        rows=whole(attributes, "00280010"),
        columns=whole(attributes, "00280011"),
        samples=whole(attributes, "00280002", 1),
        photometric=str(first(attributes, "00280004") or "MONOCHROME2"),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=min(whole(attributes, "00280102", stored - 1), allocated - 1),
        signed=whole(attributes, "00280103") == 1,
        planar=whole(attributes, "00280006") == 1,
        floating=floating,
        words=attributes.get(PIXELS, {}).get("vr") == "OW",
    )
    if not (pixel.rows and pixel.columns):
        raise NotAnImage("its rows or columns are missing")
    if pixel.rows * pixel.columns > MOST_PIXELS:
        raise NotAnImage("a frame has too many pixels")
    if pixel.samples not in (1, 3, 4) or allocated not in (1, 8, 16, 32, 64):
        raise NotAnImage("its samples or bits are not those of an image")
    if pixel.high_bit + 1 < stored:
        raise NotAnImage("its high bit lies below its stored bits")
    return pixel


def values(attributes: Attributes, tag: str) -> list[Any]:
    """The values of an attribute; none when it is missing or empty."""
    found = attributes.get(tag, {}).get("Value")
    return found if isinstance(found, list) else []


def first(attributes: Attributes, tag: str) -> Any:
    """The first value of an attribute, or None."""
    found = values(attributes, tag)
    return found[0] if found else None


def whole(attributes: Attributes, tag: str, default: int = 0) -> int:
    """The first value as a whole number of 0 or more."""
    found = first(attributes, tag)
    return found if isinstance(found, int) and found >= 0 else default


def number(attributes: Attributes, tag: str) -> float | None:
    """The first value as a number, or None when it is none."""
    found = first(attributes, tag)
    return float(found) if isinstance(found, int | float) else None


def items(attributes: Attributes, tag: str) -> list[Attributes]:
    """The items of a sequence."""
    return [item for item in values(attributes, tag) if isinstance(item, dict)]
