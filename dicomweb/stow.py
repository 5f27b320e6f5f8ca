"""Store transaction (PS3.18 10.5, STOW-RS): every object of the body goes through `archive.ingest`.

Objects come as parts, alone, or as metadata with bulk data apart; the body may be chunked.

The answer says of each instance what became of it, and is sent only when all of that is durable.
"""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from flask import Blueprint, Response, request

from access.bearer import current_caller
from access.caller import STORE_IMAGES, Door
from archive.blobs.sealed import Readinto
from archive.ingest import Place, Refused, ingest_all
from archive.non_patient_keys import CATEGORY_OF_CLASS
from archive.placing import Ingested, Outcome
from archive.room import Archive
from dicomweb.answers import wanted
from dicomweb.media_types import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    negotiate,
    parse_accept,
)
from dicomweb.multipart import MultipartReader
from dicomweb.native_xml import to_xml
from dicomweb.service import service_base
from dicomweb.stow_metadata import objects_of
from kernel.errors import CloudfilmError, Kind
from kernel.http import room

blp = Blueprint("stow", __name__)
log = logging.getLogger(__name__)

FAILURE_REASONS = {  # PS3.18 table 10.5.3-1 and PS3.4 table B.2-1; what is not named is a processing failure
    Kind.INVALID: 0xC000,  # cannot understand
    Kind.UNPROCESSABLE: 0xC000,
    Kind.UNSUPPORTED: 0x0122,  # SOP class not supported
    Kind.CONFLICT: 0xA900,  # data set does not match
    Kind.FORBIDDEN: 0x0124,  # not authorized
    Kind.EXHAUSTED: 0xA700,  # out of resources
    Kind.UNAVAILABLE: 0xA700,
    Kind.TOO_LARGE: 0xA700,
}
PROCESSING_FAILURE = 0x0110
OURS = {Kind.UNAVAILABLE: 503, Kind.EXHAUSTED: 507}  # nothing is wrong with what was sent
HELD_FOR_REVIEW = 0xB000  # coercion of data elements: kept, and not yet seen as it is


class UnsupportedBody(CloudfilmError):
    """A request body of a media type that cannot be stored."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__(
            f'Send {MULTIPART} with type="{DICOM}", "{DICOM_JSON}" or "{DICOM_XML}", or one object as '
            f"{DICOM}."
        )


class EncodedBody(CloudfilmError):
    """A body in a content coding; parts are streamed as they come (RFC 9110 8.4)."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__("Send the body as it is, without Content-Encoding.")


@dataclass(slots=True)
class _Answer:
    stored: list[Ingested] = field(default_factory=list)
    failed: list[Refused] = field(default_factory=list)


@blp.post("/studies")
@blp.post("/studies/<study>")
def store(study: str = "") -> Response:
    """Store instances, of any study or of the one in the path (PS3.18 10.5.1)."""
    return store_at(Place(study))


def store_at(place: Place) -> Response:
    """Store what the body holds, and tell of each; what belongs elsewhere is refused."""
    archive, caller = room(Archive), current_caller(Door.DICOMWEB)
    caller.require(STORE_IMAGES)
    media_type = answer_type()
    answer = _Answer()
    for outcome in ingest_all(archive, caller, _objects(), place):
        if isinstance(outcome, Ingested):
            answer.stored.append(outcome)
        else:
            log.info("an instance was refused: %s", outcome.refusal)
            answer.failed.append(outcome)
    return _respond(answer, media_type)


def _objects() -> Iterator[Readinto]:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EncodedBody
    ranges = parse_accept(request.headers.get("Content-Type", ""))
    media_type = ranges[0].type if ranges else ""
    if media_type == DICOM:
        yield cast(Readinto, request.stream)
        return
    if media_type != MULTIPART:
        raise UnsupportedBody
    root = ranges[0].parameters.get("type", DICOM).partition(";")[0].strip().lower()
    if root not in (DICOM, DICOM_JSON, DICOM_XML, "application/json"):
        raise UnsupportedBody
    reader = MultipartReader(cast(Readinto, request.stream), ranges[0].parameters.get("boundary", ""))
    if root == DICOM:
        yield from reader.parts()
    else:
        for made in objects_of(reader.parts()):
            yield io.BytesIO(made)


def answer_type() -> str:
    """What the answer comes as. Raises NotAcceptable, before anything is stored."""
    return negotiate(wanted(), (DICOM_JSON, "application/json", DICOM_XML))


def _respond(answer: _Answer, media_type: str) -> Response:
    """The Store Instances Response (PS3.18 10.5.3, annex I): 200 all, 202 some, 409 none; 503 or 507 when it
    is only we who cannot store them now."""
    base = service_base()
    body: dict[str, Any] = {}
    studies = {receipt.study_instance_uid for receipt in answer.stored}
    if len(studies) == 1 and "" not in studies:
        body["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies.pop()}"]}
    if answer.failed:
        body["00081198"] = {
            "vr": "SQ",
            "Value": [_failed(refused) for refused in answer.failed],
        }
    if answer.stored:
        body["00081199"] = {"vr": "SQ", "Value": [_stored(base, receipt) for receipt in answer.stored]}
    content = to_xml(body) if media_type == DICOM_XML else json.dumps(body).encode()
    return Response(content, _status(answer), mimetype=media_type)


def _status(answer: _Answer) -> int:
    if answer.stored:
        held = any(receipt.outcome is Outcome.HELD for receipt in answer.stored)
        return 202 if answer.failed or held else 200
    kinds = {refused.refusal.kind for refused in answer.failed}
    if not kinds:
        return 400
    return OURS.get(kinds.pop(), 409) if len(kinds) == 1 else 409


def _reference(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    pairs = (("00081150", sop_class_uid), ("00081155", sop_instance_uid))
    return {tag: {"vr": "UI", **({"Value": [uid]} if uid else {})} for tag, uid in pairs}


def _failed(refused: Refused) -> dict[str, Any]:
    reason = FAILURE_REASONS.get(refused.refusal.kind, PROCESSING_FAILURE)
    return {
        **_reference(refused.sop_class_uid, refused.sop_instance_uid),
        "00081197": {"vr": "US", "Value": [reason]},
    }


def _stored(base: str, receipt: Ingested) -> dict[str, Any]:
    if receipt.study_instance_uid:
        url = (
            f"{base}/studies/{receipt.study_instance_uid}/series/{receipt.series_instance_uid}"
            f"/instances/{receipt.sop_instance_uid}"
        )
    else:
        url = f"{base}/{CATEGORY_OF_CLASS[receipt.sop_class_uid].name}/{receipt.sop_instance_uid}"
    item = {
        **_reference(receipt.sop_class_uid, receipt.sop_instance_uid),
        "00081190": {"vr": "UR", "Value": [url]},
    }
    if receipt.outcome is Outcome.HELD:
        item["00081196"] = {"vr": "US", "Value": [HELD_FOR_REVIEW]}
    return item
