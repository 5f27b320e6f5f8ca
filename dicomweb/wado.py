"""Retrieve transaction (PS3.18 10.4, WADO-RS): studies, series and instances as objects, alone, as parts, or
in a ZIP file.

What is stored is sent as it is stored, straight from the sealed object, whenever the request accepts that;
another transfer syntax is written on the way.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import Caller, Door
from archive.media import zip_of
from archive.recode import can_recode, recoded_bytes
from archive.retrieve import (
    Extent,
    StoredInstance,
    find_extent,
    find_instance,
    find_instances,
    instance_bytes,
)
from archive.room import Archive
from archive.transcode import CODECS, EXPLICIT_LITTLE, UNCOMPRESSED
from archive.video import is_video
from dicomweb.answers import (
    Part,
    conditional,
    is_known,
    long_answer,
    multipart,
    not_modified,
    ranged,
    wanted,
)
from dicomweb.media_types import DICOM, NotAcceptable, Representation, accepted
from dicomweb.service import INSTANCE, SERIES, STUDY
from kernel.http import room

blp = Blueprint("wado", __name__)

ZIP = "application/zip"
MOST_LISTED = 1000  # objects whose rows are held at once; how long an answer of more is shows at its end


@blp.get(STUDY)
@blp.get(SERIES)
@blp.get(INSTANCE)
def retrieve(study: str, series: str = "", instance: str = "") -> Response:
    """Retrieve a study, a series or an instance as PS3.10 objects (PS3.18 10.4.1.1.1)."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    if instance:
        stored = find_instance(archive, caller, study, series, instance)
        return _one(archive, caller, stored)
    extent = find_extent(archive, caller, study, series)
    for form in wanted():
        syntax = _syntax_for(form)
        if form.takes(True, DICOM, syntax) and all(
            _can_be_had(own, pixels, syntax) for own, pixels in extent.transfer_syntaxes
        ):
            return _many(archive, caller, study, series, syntax, extent)
        if form.takes(False, ZIP, form.transfer_syntax):
            return _zipped(archive, caller, study, series, extent.tag)
    raise NotAcceptable((f'multipart/related; type="{DICOM}"', f'multipart/related; type="{DICOM}"; '
                         "transfer-syntax=*", ZIP))  # fmt: skip


def _syntax_for(form: Representation) -> str:
    """The transfer syntax that a form asks for: `*` as stored; none named is Explicit VR Little Endian
    (PS3.18 table 8.7.3-3), unless the client takes anything at all."""
    if form.transfer_syntax:
        return form.transfer_syntax
    return EXPLICIT_LITTLE if form.media_type == DICOM else "*"


def _can_be_had(own: str, has_pixels: bool, syntax: str) -> bool:
    """Whether objects of a transfer syntax can be had in another, as far as that alone tells."""
    if syntax in ("*", own):
        return True
    if has_pixels:
        target = CODECS.get(syntax)
        if syntax == EXPLICIT_LITTLE and (is_video(own) or own not in CODECS):
            return True  # it has no other form than its own, which its part then says
        return own in CODECS and target is not None and target.encode is not None
    return syntax in CODECS


def _many(archive: Archive, caller: Caller, study: str, series: str, syntax: str, extent: Extent) -> Response:
    tag = f"{extent.tag}.{syntax}"
    if is_known(tag):
        return not_modified(tag, weak=True)
    stored = find_instances(archive, caller, study, series)
    listed = list(islice(stored, MOST_LISTED))
    parts: Iterable[Part] = [_part(archive, each, syntax) for each in listed]
    if len(listed) == MOST_LISTED:
        parts = chain(parts, (_part(archive, each, syntax) for each in stored))
    return conditional(multipart(DICOM, parts), tag, weak=True)


def _part(archive: Archive, stored: StoredInstance, syntax: str) -> Part:
    """An object as a part, in the syntax asked for; one that cannot be had so, as it is."""
    target = stored.transfer_syntax_uid if syntax == "*" else syntax
    if target != stored.transfer_syntax_uid:
        if not stored.number_of_frames and target not in UNCOMPRESSED:
            target = EXPLICIT_LITTLE  # a compressed syntax is about pixels
        if not can_recode(archive, stored, target):
            target = stored.transfer_syntax_uid
    headers = {"Content-Type": f"{DICOM}; transfer-syntax={target}"}
    if target == stored.transfer_syntax_uid:
        headers["Content-Length"] = str(stored.size_bytes)
        return headers, instance_bytes(archive, stored)
    return headers, recoded_bytes(archive, stored, target)


def _one(archive: Archive, caller: Caller, stored: StoredInstance) -> Response:
    """One object, alone or as the only part."""
    own = stored.transfer_syntax_uid
    for form in wanted():
        if form.media_type == ZIP and not form.multipart:
            uids = stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
            return _zipped(archive, caller, uids[0], uids[1], stored.sha256.hex(), uids[2])
        syntax = _syntax_for(form)
        target = own if syntax == "*" else syntax
        ways = [way for way in form.ways if form.takes(way, DICOM, target)]
        if not ways:
            continue
        if target == EXPLICIT_LITTLE != own and not can_recode(archive, stored, target):
            target = own if not form.transfer_syntax else target
        if not can_recode(archive, stored, target):
            continue
        tag = stored.sha256.hex() if target == own else f"{stored.sha256.hex()}.{target}"
        if is_known(tag):
            return not_modified(tag)
        if ways[0]:
            return conditional(multipart(DICOM, [_part(archive, stored, target)]), tag, weak=True)
        return whole(archive, stored, target, tag)
    raise NotAcceptable((DICOM, f'multipart/related; type="{DICOM}"', f"{DICOM}; transfer-syntax={own}", ZIP))


def whole(archive: Archive, stored: StoredInstance, target: str, tag: str) -> Response:
    """One object alone, as a file to keep."""
    content_type = f"{DICOM}; transfer-syntax={target}"
    if target == stored.transfer_syntax_uid:
        answer = ranged(
            lambda offset, length: instance_bytes(archive, stored, offset, length),
            stored.size_bytes,
            content_type,
            tag,
        )
    else:
        answer = conditional(Response(recoded_bytes(archive, stored, target), content_type=content_type), tag)
    answer.headers["Content-Disposition"] = f'attachment; filename="{stored.sop_instance_uid}.dcm"'
    return answer


def _zipped(
    archive: Archive, caller: Caller, study: str, series: str, tag: str, instance: str = ""
) -> Response:
    """Everything in a ZIP file; with a DICOMDIR when that is asked for."""
    ranges = accepted(request.headers.get("Accept"), request.args.get("accept"))
    asked = [request.args.get("dicomdir", "")]
    asked += [range_.parameters.get("dicomdir", "") for range_ in ranges if range_.type == ZIP]
    with_dicomdir = "true" in (text.lower() for text in asked)
    syntaxes = [range_.parameters.get("transfer-syntax", "*") for range_ in ranges if range_.type == ZIP]
    syntax = syntaxes[0] if syntaxes else "*"
    files: Iterator[tuple[StoredInstance, str, Iterable[bytes]]] = (
        _file(archive, stored, syntax) for stored in find_instances(archive, caller, study, series, instance)
    )
    answer = long_answer(zip_of(archive, files, with_dicomdir), ZIP)
    answer.headers["Content-Disposition"] = f'attachment; filename="{instance or series or study}.zip"'
    answer.set_etag(f"{tag}.zip{int(with_dicomdir)}", weak=True)
    return answer


def _file(
    archive: Archive, stored: StoredInstance, syntax: str
) -> tuple[StoredInstance, str, Iterable[bytes]]:
    headers, content = _part(archive, stored, syntax)
    return stored, headers["Content-Type"].partition("transfer-syntax=")[2], content
