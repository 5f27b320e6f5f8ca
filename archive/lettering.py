"""Text on images: a font that has Chinese, lines in a corner, and a watermark across the whole.

The font is found once: the one that the settings name, else what Debian's packages bring.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJKsc-Regular.otf",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
)
MOST_LINES, MOST_CHARACTERS = 12, 200

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def font_of(size: int, named: str = "") -> Font:
    """The font at a size in pixels."""
    for path in (named, *FONTS):
        if path and Path(path).is_file():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def write_lines(image: Image.Image, lines: Sequence[str], font: str = "", bottom: bool = False) -> None:
    """Lines of text at the upper (or lower) left, light with a dark rim, readable on any image."""
    kept = [line[:MOST_CHARACTERS] for line in lines if line][:MOST_LINES]
    if not kept:
        return
    drawing = ImageDraw.Draw(image)
    size = max(10, min(28, image.height // 28))
    step = size * 5 // 4
    y = image.height - step * len(kept) - size // 2 if bottom else size // 2
    for line in kept:
        drawing.text(
            (size // 2, y), line, font=font_of(size, font), fill=_light(image), stroke_width=1,
            stroke_fill=_dark(image),
        )  # fmt: skip
        y += step


def write_watermark(image: Image.Image, lines: Sequence[str], font: str = "") -> Image.Image:
    """Lines of text again and again across the image, slanted and faint, so that no part is free of them."""
    mask = watermark_mask(image.size, lines, font)
    return image if mask is None else mark_by(image, mask)


def mark_by(image: Image.Image, mask: Image.Image) -> Image.Image:
    """A copy of an image with a watermark of its size."""
    marked = image.copy()
    marked.paste(Image.new(image.mode, image.size, _middle(image)), (0, 0), mask)
    return marked


def watermark_mask(size: tuple[int, int], lines: Sequence[str], font: str = "") -> Image.Image | None:
    """Where, and how strongly, a watermark lies on an image of a size; None without a text."""
    text = "\n".join(line[:MOST_CHARACTERS] for line in lines if line)
    if not text:
        return None
    letter_size = max(12, min(36, min(size) // 18))
    letters = font_of(letter_size, font)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=letters)
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    side = int((size[0] ** 2 + size[1] ** 2) ** 0.5) + 2 * max(width, height)
    stamp = Image.new("L", (side, side))
    drawing = ImageDraw.Draw(stamp)
    for row, y in enumerate(range(0, side, height + 4 * letter_size)):
        for x in range(-(row % 2) * (width // 2), side, width + 4 * letter_size):
            drawing.multiline_text((x, y), text, font=letters, fill=70)
    turned = stamp.rotate(30, resample=Image.Resampling.BILINEAR)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    return turned.crop((left, top, left + size[0], top + size[1]))


def _light(image: Image.Image) -> int | tuple[int, int, int]:
    return (255, 255, 255) if image.mode == "RGB" else 255


def _dark(image: Image.Image) -> int | tuple[int, int, int]:
    return (0, 0, 0) if image.mode == "RGB" else 0


def _middle(image: Image.Image) -> int | tuple[int, int, int]:
    """A gray that shows on black and on white."""
    return (160, 160, 160) if image.mode == "RGB" else 160
