"""Chinese in PDF: the font STSong-Light that PDF readers bring for Simplified Chinese (Adobe-GB1).

It is named and not embedded, so a report stays small; readers without it show a font of their own.
"""

from collections.abc import Iterator

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

FONT = "STSong-Light"


def use_chinese() -> None:
    """Make the font known; doing it again changes nothing."""
    if FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(UnicodeCIDFont(FONT))


def text_width(text: str, size: float) -> float:
    """How wide a text is, in points."""
    return float(pdfmetrics.stringWidth(text, FONT, size))


def wrapped(text: str, size: float, width: float) -> Iterator[str]:
    """A text's lines, broken where they would be wider: between Chinese characters, and between words."""
    for paragraph in text.splitlines() or [""]:
        line = ""
        for piece in _pieces(paragraph):
            if line and text_width(line + piece, size) > width:
                yield line.rstrip()
                line = piece.lstrip()
            else:
                line += piece
            while text_width(line, size) > width and len(line) > 1:  # a word wider than the page
                cut = max(1, int(len(line) * width / text_width(line, size)) - 1)
                yield line[:cut]
                line = line[cut:]
        yield line.rstrip()


def _pieces(paragraph: str) -> Iterator[str]:
    word = ""
    for character in paragraph:
        if character.isascii() and not character.isspace():
            word += character
            continue
        if word:
            yield word
            word = ""
        yield character
    if word:
        yield word
