"""QR codes of shares: on pages as pictures, for printers as SVG, PNG, and a PDF label with what is to do.

ISO/IEC 18004, error correction M: it is still read when a fold or a stamp takes some of it.
"""

import base64
import io
from dataclasses import dataclass

import segno
from markupsafe import Markup
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from portal.pdf_text import FONT, use_chinese

QUIET = 4  # modules of white around the code, as the standard asks


def qr_picture(text: str, alt: str, scale: int = 8) -> Markup:
    """The code as a picture to stand in a page: an `img`, which a long press saves or reads (in WeChat too),
    as it does not with an inline SVG."""
    data = base64.b64encode(qr_file(text, "png", scale)).decode()
    return Markup('<img class="qr" alt="{}" src="data:image/png;base64,{}">').format(alt, data)


def qr_file(text: str, kind: str, scale: int = 8) -> bytes:
    """The code as a file: svg or png."""
    file = io.BytesIO()
    segno.make(text, error="m", micro=False).save(file, kind=kind, scale=scale, border=QUIET)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Label:
    """What a label says beside the code."""

    title: str
    lines: tuple[str, ...]
    number: str  # the accession number, in digits


def label_pdf(text: str, label: Label, width_mm: float = 70, height_mm: float = 36) -> bytes:
    """A label of one page: the code at the left, what to do with it at the right."""
    file = io.BytesIO()
    use_chinese()
    canvas = Canvas(file, (width_mm * mm, height_mm * mm), pageCompression=1)
    canvas.setTitle(label.title)
    side = height_mm * mm - 4 * mm
    matrix = segno.make(text, error="m", micro=False)
    rows = [list(row) for row in matrix.matrix]
    module = side / (len(rows) + 2 * QUIET)
    for at, row in enumerate(rows):
        for column, dark in enumerate(row):
            if dark:
                left = 2 * mm + (QUIET + column) * module
                canvas.rect(
                    left, 2 * mm + side - (QUIET + at + 1) * module, module * 1.02, module * 1.02, 0, 1
                )
    left, top = 2 * mm + side + 2 * mm, height_mm * mm - 8 * mm
    canvas.setFont(FONT, 11)
    canvas.drawString(left, top, label.title)
    canvas.setFont(FONT, 7.5)
    for number, line in enumerate(label.lines):
        canvas.drawString(left, top - 14 - 10.5 * number, line)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(left, 3.2 * mm, label.number[:24])
    canvas.save()
    return file.getvalue()
