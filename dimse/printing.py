"""Print management: films are laid out, drawn and archived (PS3.4 H).

A film session and all that hangs on it lives as long as its association. When it is printed, each film
becomes a DICOM image and the session a PDF, bound to the study that its data sets speak of (`archive.films`);
success is answered when they are durable. One handler for each command dispatches by the SOP class that the
message names, for the meta SOP classes carry several over one presentation context.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    BasicAnnotationBox,
    BasicColorImageBox,
    BasicColorPrintManagementMeta,
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    PresentationLUT,
    Printer,
    PrinterConfigurationRetrieval,
    PrinterConfigurationRetrievalInstance,
    PrinterInstance,
    PrintJob,
)

from access.caller import STORE_IMAGES
from archive.film import (
    DENSITIES,
    Cell,
    DoesNotFit,
    Film,
    Fit,
    InvalidFilm,
    PlacedImage,
    Sheet,
    draw_film,
    fit_of,
    gray_of_density,
    layout,
    sheet_of,
    within_densities,
)
from archive.films import archive_films, hints_of
from dimse.association import Association, Context, Message
from dimse.command import Operation, Value
from dimse.identifier import encode_identifier, read_identifier
from dimse.service import Dimse, Service
from dimse.statuses import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    NO_SUCH_ACTION,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
    Refusal,
)
from kernel.clock import new_uid

SESSION, FILM_BOX, GRAYSCALE, COLOR = (
    str(uid) for uid in (BasicFilmSession, BasicFilmBox, BasicGrayscaleImageBox, BasicColorImageBox)
)
LUT, ANNOTATION, PRINTER, CONFIGURATION, JOB = (
    str(uid)
    for uid in (PresentationLUT, BasicAnnotationBox, Printer, PrinterConfigurationRetrieval, PrintJob)
)
COLOR_META = str(BasicColorPrintManagementMeta)
WITH_PRINTER = frozenset({str(BasicGrayscalePrintManagementMeta), COLOR_META, PRINTER})

NO_FILM, EMPTY_FILM_SESSION, EMPTY_FILM, TOO_LARGE, NO_MEMORY = 0xC600, 0xB602, 0xB603, 0xC603, 0xC605
DENSITY_OUT_OF_RANGE = 0xB605
STATUS_OF_FIT = {Fit.WHOLE: SUCCESS, Fit.DEMAGNIFIED: 0xB604, Fit.CROPPED: 0xB609, Fit.DECIMATED: 0xB60A}
JOB_DONE = 3  # Event Type ID (H.4.5.2.1)
PRINTER_EVENTS = {"NORMAL": 1, "WARNING": 2, "FAILURE": 3}  # Event Type ID (PS3.4 H.4.8.2.1)
PRINT = 1  # Action Type ID
MOST_IMAGE_BYTES = 1 << 27  # of one image box's data set
MOST_SESSION_BYTES = 1 << 28  # of the images that a session holds
MOST_FILMS, MOST_LUTS, MOST_ANNOTATIONS = 100, 32, 6
KEPT = "print"


@dataclass(slots=True)
class ImageBox:
    """One place of a film, and what was put there."""

    position: int
    said: Dataset = field(default_factory=Dataset)
    image: Dataset | None = None


@dataclass(slots=True)
class Box:
    """One film."""

    uid: str
    said: Dataset
    sheet: Sheet
    cells: tuple[Cell, ...]
    images: dict[str, ImageBox] = field(default_factory=dict)
    annotations: dict[str, Dataset] = field(default_factory=dict)


@dataclass(slots=True)
class Printing:
    """What lives on one association."""

    session_uid: str = ""
    session: Dataset = field(default_factory=Dataset)
    films: dict[str, Box] = field(default_factory=dict)
    luts: dict[str, Dataset] = field(default_factory=dict)
    jobs: dict[str, Dataset] = field(default_factory=dict)
    printer_status: str = "NORMAL"  # that the client knows of

    def size_bytes(self) -> int:
        """Of the images that are held."""
        return sum(
            len(box.image.get("PixelData") or b"")
            for film in self.films.values()
            for box in film.images.values()
            if box.image is not None
        )


def _printing(association: Association) -> Printing:
    kept: Printing = association.kept.setdefault(KEPT, Printing())
    return kept


def _said(request: Message) -> Dataset:
    """The data set of a request. Raises Refusal (no memory), InvalidIdentifier."""
    if not request.has_data_set:
        return Dataset()
    whole, size = BytesIO(), 0
    for fragment in request.fragments():
        size += len(fragment)
        if size <= MOST_IMAGE_BYTES:
            whole.write(fragment)
    if size > MOST_IMAGE_BYTES:
        raise Refusal(NO_MEMORY, "The image is too large.")
    return read_identifier(whole.getvalue(), request.context.transfer_syntax)


def _respond(
    association: Association, request: Message, data: Dataset | None, status: int = SUCCESS, **elements: Value
) -> None:
    encoded = None if data is None else encode_identifier(data, request.context.transfer_syntax)
    association.respond(request, status, encoded, **elements)


def _reference(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def _missing(what: str) -> Refusal:
    return Refusal(NO_SUCH_SOP_INSTANCE, f"There is no such {what} on this association.")


Act = Callable[[Dimse, Association, Message, Printing], None]


def create_session(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Session, N-CREATE (H.4.1.2.1): one for each association."""
    association.caller.require(STORE_IMAGES)
    said = _said(request)
    if printing.session_uid:
        raise Refusal(PROCESSING_FAILURE, "There is a film session on this association already.")
    printing.session_uid = request.text("AffectedSOPInstanceUID") or new_uid()
    printing.session = said
    _respond(association, request, said, AffectedSOPInstanceUID=printing.session_uid)


def set_session(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Session, N-SET."""
    said = _said(request)
    _require_session(request, printing)
    printing.session.update(said)
    _respond(association, request, said)


def _require_session(request: Message, printing: Printing) -> None:
    if not printing.session_uid or request.text("RequestedSOPInstanceUID") != printing.session_uid:
        raise _missing("film session")


def delete_session(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Session, N-DELETE: with all films."""
    _require_session(request, printing)
    printing.session_uid, printing.session, printing.films = "", Dataset(), {}
    association.respond(request, SUCCESS)


def create_film(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Box, N-CREATE (H.4.2.2.1): makes its image boxes and annotation boxes."""
    said = _said(request)
    if not printing.session_uid:
        raise Refusal(NO_SUCH_SOP_INSTANCE, "There is no film session.")
    if "ImageDisplayFormat" not in said:
        raise Refusal(MISSING_ATTRIBUTE, "Image Display Format is required.")
    uid = request.text("AffectedSOPInstanceUID") or new_uid()
    if uid in printing.films:
        raise Refusal(DUPLICATE_SOP_INSTANCE, "There is a film box with this UID.")
    if len(printing.films) >= MOST_FILMS:
        raise Refusal(PROCESSING_FAILURE, f"A session has at most {MOST_FILMS} films.")
    try:
        sheet = sheet_of(
            _text(said, "FilmSizeID"), _text(said, "FilmOrientation"), _text(said, "RequestedResolutionID")
        )
        cells = layout(_text(said, "ImageDisplayFormat"), sheet)
        for keyword in ("BorderDensity", "EmptyImageDensity"):
            gray_of_density(_text(said, keyword))
    except InvalidFilm as refusal:
        raise Refusal(INVALID_ATTRIBUTE_VALUE, str(refusal)) from refusal
    box_class = COLOR if request.context.sop_class == COLOR_META else GRAYSCALE
    film = Box(uid, said, sheet, cells)
    film.images = {new_uid(): ImageBox(position) for position in range(1, len(cells) + 1)}
    format_id = _text(said, "AnnotationDisplayFormatID")
    if format_id:
        count = min(MOST_ANNOTATIONS, int(format_id)) if format_id.isdigit() and int(format_id) else 1
        film.annotations = {new_uid(): Dataset() for _ in range(count)}
    printing.films[uid] = film
    answer = Dataset()
    answer.update(said)
    answer.ReferencedFilmSessionSequence = [_reference(SESSION, printing.session_uid)]
    answer.ReferencedImageBoxSequence = [_reference(box_class, each) for each in film.images]
    if film.annotations:
        answer.ReferencedBasicAnnotationBoxSequence = [
            _reference(ANNOTATION, each) for each in film.annotations
        ]
    _respond(association, request, answer, AffectedSOPInstanceUID=uid)


def _film(request: Message, printing: Printing) -> Box:
    film = printing.films.get(request.text("RequestedSOPInstanceUID"))
    if film is None:
        raise _missing("film box")
    return film


def set_film(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Box, N-SET: its format stays."""
    said = _said(request)
    film = _film(request, printing)
    if "ImageDisplayFormat" in said or "FilmSizeID" in said:
        raise Refusal(INVALID_ATTRIBUTE_VALUE, "Format and size of a film do not change.")
    film.said.update(said)
    _respond(association, request, said)


def delete_film(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Box, N-DELETE."""
    del printing.films[_film(request, printing).uid]
    association.respond(request, SUCCESS)


def set_image(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Grayscale or Color Image Box, N-SET (H.4.3.1.2.1): an image comes to its place or leaves it.

    The status says how it fits there; one that may neither be cropped nor decimated does not come.
    """
    said = _said(request)
    uid = request.text("RequestedSOPInstanceUID")
    film = next((film for film in printing.films.values() if uid in film.images), None)
    if film is None:
        raise _missing("image box")
    box = film.images[uid]
    sequence = said.get("BasicGrayscaleImageSequence", said.get("BasicColorImageSequence"))
    for keyword in ("BasicGrayscaleImageSequence", "BasicColorImageSequence"):
        if keyword in said:
            delattr(said, keyword)
    changed = ImageBox(box.position, Dataset(), box.image)
    changed.said.update(box.said)
    changed.said.update(said)
    if sequence is not None:
        box.image = changed.image = None
        if len(sequence):
            _require_image(sequence[0])
            if printing.size_bytes() + len(sequence[0].PixelData) > MOST_SESSION_BYTES:
                raise Refusal(NO_MEMORY, "The session holds as many images as there is memory for.")
            changed.image = sequence[0]
    status = _fit_status(film, changed)
    film.images[uid] = changed
    association.respond(request, status)


def _fit_status(film: Box, box: ImageBox) -> int:
    """The status of an image in its place. Raises Refusal when it has none there."""
    if box.image is None:
        return SUCCESS
    unseen: NDArray[np.uint8] = np.empty((int(box.image.Rows), int(box.image.Columns)), np.uint8)
    try:
        fit = fit_of(_placement(film, box, unseen), film.cells[box.position - 1], film.sheet)
    except DoesNotFit as refusal:
        raise Refusal(TOO_LARGE, str(refusal)) from refusal
    least, most = DENSITIES
    densities = (box.said.get("MinDensity"), box.said.get("MaxDensity"))
    if any(density is not None and not least <= int(density) <= most for density in densities):
        return DENSITY_OUT_OF_RANGE
    return STATUS_OF_FIT[fit]


def _require_image(image: Dataset) -> None:
    """Its pixels are as many as its attributes say."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelData"):
        if not image.get(keyword):
            raise Refusal(MISSING_ATTRIBUTE, f"{keyword} of the image is required.")
    samples, bits = int(image.SamplesPerPixel), int(image.BitsAllocated)
    size = int(image.Rows) * int(image.Columns) * samples * (bits // 8)
    is_known = (samples, bits) in ((1, 8), (1, 16), (3, 8)) and 0 < int(image.BitsStored) <= bits
    if not is_known or len(image.PixelData) < size:
        raise Refusal(INVALID_ATTRIBUTE_VALUE, "The image is none of 8 or 16 bits, or is cut off.")


def set_annotation(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Annotation Box, N-SET (H.4.6)."""
    said = _said(request)
    uid = request.text("RequestedSOPInstanceUID")
    for film in printing.films.values():
        if uid in film.annotations:
            film.annotations[uid].update(said)
            association.respond(request, SUCCESS)
            return
    raise _missing("annotation box")


def create_lut(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Presentation LUT, N-CREATE (H.4.9)."""
    said = _said(request)
    shape = _text(said, "PresentationLUTShape")
    if shape not in ("", "IDENTITY", "LIN OD") or bool(shape) == bool(said.get("PresentationLUTSequence")):
        raise Refusal(
            INVALID_ATTRIBUTE_VALUE, "A Presentation LUT is a shape (IDENTITY, LIN OD) or a sequence."
        )
    if len(printing.luts) >= MOST_LUTS:
        raise Refusal(PROCESSING_FAILURE, f"There are at most {MOST_LUTS} Presentation LUTs.")
    uid = request.text("AffectedSOPInstanceUID") or new_uid()
    printing.luts[uid] = said
    _respond(association, request, said, AffectedSOPInstanceUID=uid)


def delete_lut(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Presentation LUT, N-DELETE."""
    if printing.luts.pop(request.text("RequestedSOPInstanceUID"), None) is None:
        raise _missing("Presentation LUT")
    association.respond(request, SUCCESS)


def print_session(dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Session, N-ACTION: all films of the session."""
    association.caller.require(STORE_IMAGES)  # again: it may have been taken away since the session began
    _require_session(request, printing)
    _print(dimse, association, request, printing, list(printing.films.values()))


def print_film(dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Basic Film Box, N-ACTION: one film."""
    association.caller.require(STORE_IMAGES)
    _print(dimse, association, request, printing, [_film(request, printing)])


def _print(
    dimse: Dimse, association: Association, request: Message, printing: Printing, films: list[Box]
) -> None:
    """Draw and archive films; answered when they are durable."""
    for _ in request.fragments():
        continue
    if request.number("ActionTypeID") != PRINT:
        raise Refusal(NO_SUCH_ACTION, "Films are printed by action type 1.")
    if not films:
        raise Refusal(NO_FILM, "The film session has no film box.")
    try:
        pictures = [draw_film(_drawn(printing, film), dimse.archive.settings.font) for film in films]
    except DoesNotFit as refusal:
        raise Refusal(TOO_LARGE, str(refusal)) from refusal
    except InvalidFilm as refusal:
        raise Refusal(INVALID_ATTRIBUTE_VALUE, str(refusal)) from refusal
    boxes = [box for film in films for box in film.images.values()]
    texts = [text for film in films for text in _annotations(film)]
    data_sets = [printing.session, *(film.said for film in films), *(box.said for box in boxes)]
    data_sets += [_without_pixels(box.image) for box in boxes if box.image is not None]
    label = _text(printing.session, "FilmSessionLabel") or "Film"
    hints = hints_of(data_sets, [*texts, label])
    archive_films(dimse.archive, association.caller, pictures, films[0].sheet.dpi, hints, label)
    is_empty = not any(box.image is not None for box in boxes)
    empty = EMPTY_FILM_SESSION if request.text("RequestedSOPClassUID") == SESSION else EMPTY_FILM
    job = _job_context(association)
    answer: Dataset | None = None
    if job is not None:
        job_uid = new_uid()
        printing.jobs[job_uid] = _job(dimse, association, printing)
        answer = Dataset()
        answer.ReferencedPrintJobSequence = [_reference(JOB, job_uid)]
    _respond(association, request, answer, empty if is_empty else SUCCESS, ActionTypeID=PRINT)
    if job is not None:
        _tell_job(association, job, job_uid, printing.jobs[job_uid])


def _drawn(printing: Printing, film: Box) -> Film:
    """The film as values, its images as they are to be seen."""
    said = film.said
    images = {
        box.position: _placed(printing, film, box) for box in film.images.values() if box.image is not None
    }
    return Film(
        film.sheet,
        film.cells,
        images,
        any(image.pixels.ndim == 3 for image in images.values()),
        gray_of_density(_text(said, "BorderDensity")),
        gray_of_density(_text(said, "EmptyImageDensity")),
        _text(said, "Trim").upper() == "YES",
        tuple(_annotations(film)),
    )


def _annotations(film: Box) -> list[str]:
    boxes = sorted(film.annotations.values(), key=lambda box: int(box.get("AnnotationPosition") or 0))
    return [text for box in boxes if (text := _text(box, "TextString"))]


def _placed(printing: Printing, film: Box, box: ImageBox) -> PlacedImage:
    image = box.image or Dataset()
    pixels = _octets(image, _lut(printing, film, box))
    if _text(box.said, "Polarity").upper() == "REVERSE":
        pixels = np.uint8(255) - pixels
    densities = [box.said.get(keyword) or film.said.get(keyword) for keyword in ("MinDensity", "MaxDensity")]
    least, most = (None if density is None else int(density) for density in densities)
    return _placement(film, box, within_densities(pixels, least, most))


def _placement(film: Box, box: ImageBox, pixels: NDArray[np.uint8]) -> PlacedImage:
    """Pixels in the place and the size that were asked for."""
    image = box.image or Dataset()
    magnification = _text(box.said, "MagnificationType") or _text(film.said, "MagnificationType")
    ratio = image.get("PixelAspectRatio")
    aspect = float(ratio[0]) / float(ratio[1]) if ratio and len(ratio) == 2 and float(ratio[1]) else 1.0
    smoothing = _text(box.said, "SmoothingType") or _text(film.said, "SmoothingType")
    return PlacedImage(
        pixels,
        min(100.0, max(0.01, aspect)),
        magnification.upper(),
        min(600.0, max(0.0, float(box.said.get("RequestedImageSize") or 0))),
        _text(box.said, "RequestedDecimateCropBehavior").upper() or "DECIMATE",
        smoothing.upper(),
    )


def _lut(printing: Printing, film: Box, box: ImageBox) -> Dataset | None:
    """The Presentation LUT of the image, else of the film (H.4.9.1)."""
    for said in (box.said, film.said):
        references = said.get("ReferencedPresentationLUTSequence")
        if references:
            uid = str(references[0].get("ReferencedSOPInstanceUID", ""))
            if uid not in printing.luts:
                raise InvalidFilm("The Presentation LUT that is referred to is not there.")
            return printing.luts[uid]
    return None


def _octets(image: Dataset, lut: Dataset | None) -> NDArray[np.uint8]:
    """The image in 8 bits, through its Presentation LUT, 0 black."""
    rows, columns, samples = int(image.Rows), int(image.Columns), int(image.SamplesPerPixel)
    if samples == 3:
        color = np.frombuffer(image.PixelData, np.uint8, rows * columns * 3)
        if int(image.get("PlanarConfiguration") or 0):
            return np.ascontiguousarray(color.reshape(3, rows, columns).transpose(1, 2, 0))
        return color.reshape(rows, columns, 3)
    kind: np.dtype[Any] = np.dtype("u1" if int(image.BitsAllocated) == 8 else "<u2")
    most = (1 << int(image.BitsStored)) - 1
    gray: NDArray[Any] = np.frombuffer(image.PixelData, kind, rows * columns)
    gray = gray.reshape(rows, columns) & kind.type(most)
    octets = _through(gray, most, lut)
    is_inverse = str(image.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    return np.uint8(255) - octets if is_inverse else octets


def _through(gray: NDArray[Any], most: int, lut: Dataset | None) -> NDArray[np.uint8]:
    sequence = lut.get("PresentationLUTSequence") if lut is not None else None
    ramp = np.arange(most + 1)
    if sequence:
        descriptor = [int(value) for value in sequence[0].LUTDescriptor]
        data = sequence[0].LUTData
        table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
        if not len(table) or len(descriptor) != 3 or not 8 <= descriptor[2] <= 16:
            raise InvalidFilm("The Presentation LUT cannot be used.")
        at = np.clip(ramp * (len(table) - 1) // max(1, most), 0, len(table) - 1)
        seen = table[at] / ((1 << descriptor[2]) - 1)
    elif lut is not None and _text(lut, "PresentationLUTShape") == "LIN OD":
        seen = _luminance(ramp / max(1, most))
    else:
        seen = ramp / max(1, most)
    octets: NDArray[np.uint8] = np.round(np.clip(seen, 0, 1) * 255).astype(np.uint8)[gray]
    return octets


def _luminance(density: NDArray[Any]) -> NDArray[Any]:
    """How light a film of this density (0 to 1 of a range of 3 OD) looks: by the cube root of its
    transmittance, which is near what the eye does."""
    seen: NDArray[Any] = (np.power(10.0, -density) - 0.1) / 0.9
    return seen


def _without_pixels(image: Dataset | None) -> Dataset:
    kept = Dataset()
    for element in image or ():
        if element.keyword != "PixelData":
            kept.add(element)
    return kept


def _text(said: Dataset, keyword: str) -> str:
    value = said.get(keyword)
    if value is None:
        return ""
    return (
        "\\".join(map(str, value))
        if not isinstance(value, str) and hasattr(value, "__iter__")
        else str(value)
    )


def _job_context(association: Association) -> Context | None:
    return next((each for each in association.contexts.values() if each.sop_class == JOB), None)


def _job(dimse: Dimse, association: Association, printing: Printing) -> Dataset:
    """A print job that is done (H.4.5)."""
    now = dimse.clock.now()
    job = Dataset()
    job.ExecutionStatus, job.ExecutionStatusInfo = "DONE", "NORMAL"
    job.CreationDate, job.CreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    job.PrintPriority = _text(printing.session, "PrintPriority") or "MED"
    job.PrinterName, job.Originator = dimse.settings.ae_title, association.calling
    return job


def _tell_job(association: Association, context: Context, uid: str, job: Dataset) -> None:
    """Print Job, N-EVENT-REPORT: done."""
    told = Dataset()
    told.ExecutionStatusInfo, told.PrinterName = job.ExecutionStatusInfo, job.PrinterName
    _tell(association, context, JOB, uid, JOB_DONE, told)


def _tell(
    association: Association, context: Context, sop_class: str, uid: str, event: int, told: Dataset
) -> None:
    association.tell(
        context,
        {
            "CommandField": Operation.N_EVENT_REPORT,
            "AffectedSOPClassUID": sop_class,
            "AffectedSOPInstanceUID": uid,
            "EventTypeID": event,
        },
        (encode_identifier(told, context.transfer_syntax),),
        lambda _answer: None,
    )


def get_job(_dimse: Dimse, association: Association, request: Message, printing: Printing) -> None:
    """Print Job, N-GET."""
    job = printing.jobs.get(request.text("RequestedSOPInstanceUID"))
    if job is None:
        raise _missing("print job")
    _respond(association, request, _chosen(job, request))


def get_printer(dimse: Dimse, association: Association, request: Message, _printing_: Printing) -> None:
    """Printer, N-GET (H.4.8): its status is whether films can be stored."""
    if request.text("RequestedSOPInstanceUID") != str(PrinterInstance):
        raise _missing("printer")
    printer = Dataset()
    printer.PrinterStatus, printer.PrinterStatusInfo = _printer_status(dimse)
    printer.PrinterName = dimse.settings.ae_title
    printer.Manufacturer, printer.ManufacturerModelName = "cloudfilm", "cloudfilm"
    _respond(association, request, _chosen(printer, request))


def _printer_status(dimse: Dimse) -> tuple[str, str]:
    """Printer Status and Printer Status Info: whether films can be stored."""
    free = dimse.archive.blobs.store.free_bytes()
    is_full = free is not None and free < dimse.archive.blobs.settings.free_bytes
    return ("FAILURE", "SUPPLY EMPTY") if is_full else ("NORMAL", "NORMAL")


def _tell_printer(dimse: Dimse, association: Association, context: Context, printing: Printing) -> None:
    """Printer, N-EVENT-REPORT (H.4.8.2.1): a status that is another one than the client knows of."""
    status, reason = _printer_status(dimse)
    if status == printing.printer_status or context.sop_class not in WITH_PRINTER:
        return
    printing.printer_status = status
    told = Dataset()
    told.PrinterName = dimse.settings.ae_title
    if status != "NORMAL":
        told.PrinterStatusInfo = reason
    _tell(association, context, PRINTER, str(PrinterInstance), PRINTER_EVENTS[status], told)


def get_configuration(dimse: Dimse, association: Association, request: Message, _kept: Printing) -> None:
    """Printer Configuration Retrieval, N-GET (H.4.11)."""
    if request.text("RequestedSOPInstanceUID") != str(PrinterConfigurationRetrievalInstance):
        raise _missing("printer configuration")
    medium = Dataset()
    medium.ItemNumber = 1
    medium.MediumType, medium.FilmDestination = "BLUE FILM", "PROCESSOR"
    medium.FilmSizeID, medium.ImageDisplayFormat = "14INX17IN", "STANDARD\\1,1"
    medium.MinDensity, medium.MaxDensity = 20, 320
    printer = Dataset()
    printer.SOPClassesSupported = [str(BasicGrayscalePrintManagementMeta), COLOR_META, LUT, ANNOTATION, JOB]
    printer.PrinterName, printer.Manufacturer = dimse.settings.ae_title, "cloudfilm"
    printer.MaximumMemoryAllocation = MOST_SESSION_BYTES // 1024
    printer.MemoryBitDepth = 12
    printer.PrintingBitDepth = 8
    printer.MediaInstalledSequence = [medium]
    printer.SupportedImageDisplayFormatsSequence = []
    answer = Dataset()
    answer.PrinterConfigurationSequence = [printer]
    _respond(association, request, _chosen(answer, request))


def _chosen(found: Dataset, request: Message) -> Dataset:
    wanted = request.tags("AttributeIdentifierList")
    kept = Dataset()
    for element in found:
        if not wanted or int(element.tag) in wanted:
            kept.add(element)
    return kept


ACTS: Mapping[tuple[Operation, str], Act] = {
    (Operation.N_CREATE, SESSION): create_session,
    (Operation.N_SET, SESSION): set_session,
    (Operation.N_ACTION, SESSION): print_session,
    (Operation.N_DELETE, SESSION): delete_session,
    (Operation.N_CREATE, FILM_BOX): create_film,
    (Operation.N_SET, FILM_BOX): set_film,
    (Operation.N_ACTION, FILM_BOX): print_film,
    (Operation.N_DELETE, FILM_BOX): delete_film,
    (Operation.N_SET, GRAYSCALE): set_image,
    (Operation.N_SET, COLOR): set_image,
    (Operation.N_SET, ANNOTATION): set_annotation,
    (Operation.N_CREATE, LUT): create_lut,
    (Operation.N_DELETE, LUT): delete_lut,
    (Operation.N_GET, PRINTER): get_printer,
    (Operation.N_GET, CONFIGURATION): get_configuration,
    (Operation.N_GET, JOB): get_job,
}


def on_request(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer a request of a print client, by the SOP class that it names."""
    sop_class = request.text("AffectedSOPClassUID") or request.text("RequestedSOPClassUID")
    act = ACTS.get((Operation(request.operation), sop_class))
    if act is None:
        raise Refusal(NO_SUCH_SOP_CLASS, "This is not done with this SOP class.")
    printing = _printing(association)
    try:
        act(dimse, association, request, printing)
    finally:
        _tell_printer(dimse, association, request.context, printing)


def _service(name: str, standard: str, sop_classes: tuple[str, ...], *operations: Operation) -> Service:
    return Service(name, standard, sop_classes, dict.fromkeys(operations, on_request))


PRINT_SERVICES = (
    _service(
        "Print Management", "PS3.4 H.3",
        (str(BasicGrayscalePrintManagementMeta), COLOR_META),
        Operation.N_CREATE, Operation.N_SET, Operation.N_GET, Operation.N_ACTION, Operation.N_DELETE,
    ),
    _service("Presentation LUT", "PS3.4 H.4.9", (LUT,), Operation.N_CREATE, Operation.N_DELETE),
    _service("Basic Annotation Box", "PS3.4 H.4.6", (ANNOTATION,), Operation.N_SET),
    _service("Printer", "PS3.4 H.4.8", (PRINTER,), Operation.N_GET),
    _service("Printer Configuration Retrieval", "PS3.4 H.4.11", (CONFIGURATION,), Operation.N_GET),
    _service("Print Job", "PS3.4 H.4.5", (JOB,), Operation.N_GET),
)  # fmt: skip
