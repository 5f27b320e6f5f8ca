"""URI service (PS3.18 9, WADO-URI): one instance by query parameters, as an object or as rendered."""

import io
from collections.abc import Mapping

from flask import Blueprint, Response, request
from pydicom import dcmread

from access.bearer import current_caller
from access.caller import Caller, Door
from archive.deidentify import deidentify, new_uid_for
from archive.documents import parse_marked
from archive.grayscale import Window, frame_count_of
from archive.image_pixel import whole
from archive.recode import can_recode, recoded_bytes
from archive.render import GIF, PICTURES, Rendering, Viewport, representative_frame
from archive.retrieve import NotFound, StoredInstance, find_instance, instance_document
from archive.room import Archive
from archive.transcode import EXPLICIT_LITTLE, CannotEncode
from archive.video import is_video
from dicomweb.answers import wanted
from dicomweb.media_types import DICOM, NotAcceptable, negotiate, parse_accept, representations
from dicomweb.rendered import offered_types, picture, render_as
from dicomweb.rendering_parameters import parse_annotations, parse_profile, parse_quality
from dicomweb.wado import whole as whole_object
from kernel.errors import CloudfilmError, Kind
from kernel.http import room

blp = Blueprint("wado_uri", __name__)

PURPOSE = b"wado-uri anonymize"


class InvalidParameter(CloudfilmError):
    """A parameter of the URI service that is missing or has a wrong value (PS3.18 9.1.2)."""

    kind = Kind.INVALID

    def __init__(self, name: str, form: str) -> None:
        super().__init__(f"The parameter {name} {form}.")


@blp.get("/wado")
def wado() -> Response:
    """Retrieve one instance by parameters (PS3.18 9.4 and 9.5)."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    arguments = request.args
    if arguments.get("requestType", "").upper() != "WADO":
        raise InvalidParameter("requestType", "must be WADO")
    uids = [arguments.get(name, "") for name in ("studyUID", "seriesUID", "objectUID")]
    for name, uid in zip(("studyUID", "seriesUID", "objectUID"), uids, strict=True):
        if not uid:
            raise InvalidParameter(name, "is missing")
    stored = find_instance(archive, caller, *uids)
    media_type, parameters = _content_type(archive, stored)
    if media_type == DICOM:
        return _object(archive, stored, arguments, parameters)
    return _rendered(archive, caller, stored, media_type, arguments)


def _content_type(archive: Archive, stored: StoredInstance) -> tuple[str, dict[str, str]]:
    """The media type that is wanted, and its parameters. Raises NotAcceptable."""
    ranges = parse_accept(request.args.get("contentType", "").replace("%2C", ","))
    try:
        offered = offered_types(archive, stored)
    except NotAcceptable:
        offered = ()
    every = (*offered, DICOM)
    if ranges:
        found = negotiate(representations(ranges), every)
        parameters = next((range_.parameters for range_ in ranges if range_.covers(found)), {})
        return found, parameters
    if request.args.get("anonymize") or request.args.get("transferSyntax"):
        return DICOM, {}
    try:
        return negotiate(wanted(), every), {}
    except NotAcceptable:
        return (offered or (DICOM,))[0], {}


def _object(
    archive: Archive, stored: StoredInstance, arguments: Mapping[str, str], parameters: Mapping[str, str]
) -> Response:
    """The object, by default in Explicit VR Little Endian (PS3.18 9.4.1.2.2)."""
    for name in ("annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality"):
        if arguments.get(name):
            raise InvalidParameter(name, "is for rendered images; leave it out with application/dicom")
    asked = arguments.get("transferSyntax") or parameters.get("transfer-syntax", "")
    target = asked or EXPLICIT_LITTLE
    if target == "*" or (not asked and not can_recode(archive, stored, target)):
        target = stored.transfer_syntax_uid
    if not can_recode(archive, stored, target):
        raise CannotEncode(target)
    anonymize = arguments.get("anonymize", "")
    if anonymize not in ("", "yes"):
        raise InvalidParameter("anonymize", "must be yes, or be left out")
    if anonymize:
        return _anonymous(archive, stored, target)
    tag = f"{stored.sha256.hex()}.{target}" if target != stored.transfer_syntax_uid else stored.sha256.hex()
    return whole_object(archive, stored, target, tag)


def _anonymous(archive: Archive, stored: StoredInstance, target: str) -> Response:
    """The object without what identifies (PS3.18 9.4.1.2.1, PS3.15 E)."""
    key = archive.blobs.keys.blind_index(PURPOSE.decode()).encode()
    dataset = dcmread(io.BytesIO(b"".join(recoded_bytes(archive, stored, target))))
    deidentify(dataset, key)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    answer = Response(file.getvalue(), content_type=f"{DICOM}; transfer-syntax={target}")
    name = new_uid_for(stored.sop_instance_uid, key)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.dcm"'
    return answer


def _rendered(
    archive: Archive, caller: Caller, stored: StoredInstance, media_type: str, arguments: Mapping[str, str]
) -> Response:
    """The instance as a picture, a video or a document (PS3.18 9.5)."""
    if arguments.get("anonymize"):
        raise InvalidParameter("anonymize", "is for application/dicom; leave out annotation=patient instead")
    if media_type not in PICTURES:
        return render_as(archive, stored, media_type)
    attributes = parse_marked(instance_document(archive, stored))
    frames = frame_count_of(attributes) if is_video(stored.transfer_syntax_uid) else stored.number_of_frames
    numbers: tuple[int, ...] = (representative_frame(attributes, frames),)
    if arguments.get("frameNumber"):
        number = _number(arguments, "frameNumber", 1, 10**9)
        if not 1 <= number <= frames:
            raise NotFound(f"Frame {number}")
        numbers = (number,)
    elif media_type == GIF and stored.number_of_frames > 1:
        numbers = tuple(range(1, stored.number_of_frames + 1))
    size = whole(attributes, "00280011"), whole(attributes, "00280010")
    rendering = rendering_of_uri(arguments, media_type, size)
    state = _state(archive, caller, stored, arguments)
    return picture(archive, stored, numbers, rendering, state)


def rendering_of_uri(arguments: Mapping[str, str], media_type: str, size: tuple[int, int]) -> Rendering:
    """The rendering parameters of the URI service (PS3.18 9.5.1.2). size: columns and rows of the image."""
    window = None
    given = [name for name in ("windowCenter", "windowWidth") if arguments.get(name)]
    if len(given) == 1:
        raise InvalidParameter(given[0], "needs windowCenter and windowWidth together")
    if given:
        if arguments.get("presentationUID"):
            raise InvalidParameter("windowCenter", "and presentationUID exclude each other")
        window = Window(_decimal(arguments, "windowCenter"), _decimal(arguments, "windowWidth"))
        if window.width <= 0:
            raise InvalidParameter("windowWidth", "must be above 0")
    return Rendering(
        media_type=media_type,
        window=window,
        viewport=_viewport(arguments, size),
        quality=parse_quality(arguments["imageQuality"]) if arguments.get("imageQuality") else 90,
        annotations=parse_annotations(arguments.get("annotation", "")),
        icc_profile=parse_profile(arguments["iccprofile"]) if arguments.get("iccprofile") else "",
    )


def _viewport(arguments: Mapping[str, str], size: tuple[int, int]) -> Viewport | None:
    """`rows`, `columns` and `region` (PS3.18 9.5.1.2.4): the region in parts of the image, 0 to 1."""
    columns, rows = size
    region = None
    if arguments.get("region"):
        try:
            region = [float(part) for part in arguments["region"].split(",")]
        except ValueError:
            region = []
        if len(region) != 4 or not (0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1):
            raise InvalidParameter("region", "is left,top,right,bottom, each from 0.0 to 1.0")
    if region is None and not arguments.get("rows") and not arguments.get("columns"):
        return None
    left, top, right, bottom = region or (0.0, 0.0, 1.0, 1.0)
    wide, high = (right - left) * columns, (bottom - top) * rows
    has_rows, has_columns = bool(arguments.get("rows")), bool(arguments.get("columns"))
    height = _number(arguments, "rows", 1, 8192) if has_rows else 8192 if has_columns else round(high)
    width = _number(arguments, "columns", 1, 8192) if has_columns else 8192 if has_rows else round(wide)
    return Viewport(max(1, width), max(1, height), left * columns, top * rows, wide, high)


def _state(
    archive: Archive, caller: Caller, stored: StoredInstance, arguments: Mapping[str, str]
) -> StoredInstance | None:
    """The presentation state that is named (PS3.18 9.5.1.2.6 and 7)."""
    named = arguments.get("presentationUID", ""), arguments.get("presentationSeriesUID", "")
    if not any(named):
        return None
    if not all(named):
        raise InvalidParameter("presentationUID", "needs presentationSeriesUID, and the other way round")
    return find_instance(archive, caller, stored.study_instance_uid, named[1], named[0])


def _number(arguments: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = arguments.get(name, "")
    if not (text.isascii() and text.isdigit()) or not least <= int(text[:12]) <= most:
        raise InvalidParameter(name, f"must be a whole number from {least} to {most}")
    return int(text)


def _decimal(arguments: Mapping[str, str], name: str) -> float:
    try:
        value = float(arguments.get(name, ""))
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise InvalidParameter(name, "must be a decimal number")
    return value
