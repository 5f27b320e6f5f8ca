"""Reports as PDF: drawn from their text, or as they came; marked across every page either way."""

import io
from collections.abc import Callable, Iterator

from pypdf import PdfReader, PdfWriter
from pypdf.errors import PyPdfError
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from archive.exams import Exam
from kernel.errors import CloudfilmError, Kind
from portal.pdf_text import FONT, use_chinese, wrapped
from portal.report_page import ReportShown

MARGIN = 56.0
BODY, HEAD, TITLE = 10.5, 11.5, 18.0
LEADING = 1.6
MOST_PAGES = 200
Say = Callable[..., str]


class UnreadablePdf(CloudfilmError):
    """A report's PDF that cannot be marked, and so is not handed out."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("The report's PDF cannot be read; ask the hospital for it.")


def draw_report(
    report: ReportShown, exam: Exam | None, name: str, watermark: tuple[str, ...], say: Say
) -> bytes:
    """The report as A4 pages. name: the patient's, as it may be shown here."""
    use_chinese()
    file = io.BytesIO()
    canvas = Canvas(file, A4, pageCompression=1)
    canvas.setTitle(say("film.report"))
    _mark(canvas, watermark, *A4)
    width, height = A4
    at = height - MARGIN
    canvas.setFillGray(0.1)
    canvas.setFont(FONT, TITLE)
    canvas.drawCentredString(width / 2, at, report.title or say("film.report"))
    at -= 2 * TITLE
    canvas.setFont(FONT, BODY)
    for label, value in _facts(report, exam, name, say):
        canvas.setFillGray(0.4)
        canvas.drawString(MARGIN, at, label)
        canvas.setFillGray(0.1)
        canvas.drawString(MARGIN + 90, at, value)
        at -= BODY * LEADING
    canvas.line(MARGIN, at, width - MARGIN, at)
    at -= HEAD * LEADING * 1.2
    for size, line in _lines(report, width - 2 * MARGIN, say):
        if at < MARGIN + BODY:
            canvas.showPage()
            _mark(canvas, watermark, *A4)
            canvas.setFillGray(0.1)
            at = height - MARGIN
        canvas.setFont(FONT, size)
        canvas.drawString(MARGIN, at, line)
        at -= size * LEADING
    canvas.setFont(FONT, 8)
    canvas.setFillGray(0.45)
    canvas.drawString(MARGIN, MARGIN / 2, say("film.report-copy"))
    canvas.save()
    return file.getvalue()


def _facts(report: ReportShown, exam: Exam | None, name: str, say: Say) -> Iterator[tuple[str, str]]:
    if exam is not None:
        sex = say(f"film.sex-{exam.patient_sex}") if exam.patient_sex in ("M", "F") else ""
        age = say("film.years", age=exam.age) if exam.age is not None else ""
        yield say("film.patient"), "  ".join(each for each in (name, sex, age) if each)
        yield say("film.exam"), f"{exam.day or ''} {exam.description} {' '.join(exam.modalities)}".strip()
        yield say("film.institution"), exam.institution_name
    if report.accession_number:
        yield say("film.number"), report.accession_number
    if report.authors:
        yield say("film.author"), "、".join(report.authors)
    if report.day:
        yield say("film.issued"), report.day


def _lines(report: ReportShown, width: float, say: Say) -> Iterator[tuple[float, str]]:
    for key, text in report.sections:
        if key:
            yield HEAD, say(f"film.section-{key}")
        for line in wrapped(text, BODY, width):
            yield BODY, line
        yield BODY, ""
    if report.results:
        yield HEAD, say("film.results")
    for row in report.results:
        flag = say(f"film.flag-{row.flag}") if row.flag else ""
        usual = f"{say('film.usual')} {row.usual}" if row.usual else ""
        said = "    ".join(each for each in (f"{row.name}  {row.value}", flag, usual) if each)
        for line in wrapped(said, BODY, width):
            yield BODY, line


def _mark(canvas: Canvas, lines: tuple[str, ...], width: float, height: float) -> None:
    """The watermark, slanted and light, all over a page."""
    if not lines:
        return
    canvas.saveState()
    canvas.setFillColorRGB(0.37, 0.5, 0.58, alpha=0.22)
    canvas.setFont(FONT, 12)
    for row in range(int(height // 150) + 2):
        for column in range(int(width // 230) + 2):
            canvas.saveState()
            canvas.translate(column * 230 - 40, row * 150)
            canvas.rotate(24)
            for number, line in enumerate(lines):
                canvas.drawString(0, -16 * number, line)
            canvas.restoreState()
    canvas.restoreState()


def mark_pdf(content: bytes, watermark: tuple[str, ...]) -> bytes:
    """A PDF with the watermark on every page, without scripts and attachments. Raises UnreadablePdf."""
    try:
        pages = list(PdfReader(io.BytesIO(content)).pages)[:MOST_PAGES]
        writer = PdfWriter()
        for page in pages:
            for name in ("/Annots", "/AA"):  # links and actions
                if name in page:
                    del page[name]
            added = writer.add_page(page)
            if watermark:
                box = added.mediabox
                mark = PdfReader(io.BytesIO(_mark_page(watermark, float(box.width), float(box.height))))
                added.merge_page(mark.pages[0])
        file = io.BytesIO()
        writer.write(file)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnreadablePdf from None
    if not pages:
        raise UnreadablePdf
    return file.getvalue()


def _mark_page(watermark: tuple[str, ...], width: float, height: float) -> bytes:
    use_chinese()
    file = io.BytesIO()
    canvas = Canvas(file, (width, height))
    _mark(canvas, watermark, width, height)
    canvas.save()
    return file.getvalue()
