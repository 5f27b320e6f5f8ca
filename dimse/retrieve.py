"""Retrieve: C-GET and C-MOVE of every model, with their sub-operations (PS3.4 C.4.2 and C.4.3, Y, Z).

The identifier becomes an `archive.retrieve.Selection`; each instance of it is one C-STORE sub-operation, over
the asker's association (C-GET) or over one of ours with the destination (C-MOVE). An instance that fails does
not hold up the others: its UID is on the list of the last response.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CompositeInstanceRetrieveWithoutBulkDataGet,
    CompositeInstanceRootRetrieveGet,
    CompositeInstanceRootRetrieveMove,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelGet,
    PatientStudyOnlyQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from archive.query import InvalidMatch, parse_uids
from archive.retrieve import Selection, StoredInstance, find_selected, survey
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.extraction import FrameRequest, as_frames, parse_frame_request, without_bulk_data
from dimse.identifier import InvalidIdentifier, encode_attributes, read_identifier
from dimse.peers import Sender, UnknownPeer, known_peer, note_sent
from dimse.sending import Counts, Outgoing, as_stored, choose_context, send_instance
from dimse.service import Dimse, Service
from dimse.statuses import (
    CANCELLED,
    MOVE_DESTINATION_UNKNOWN,
    OUT_OF_RESOURCES_SUBOPERATIONS,
    PENDING,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUBOPERATIONS_WARNING,
    SUCCESS,
    Refusal,
)
from kernel.errors import CloudfilmError

log = logging.getLogger(__name__)

MOST_UIDS = 10_000  # in one identifier
MOST_LISTED_BYTES = 65000  # of failed UIDs in a response: explicit VR has two bytes for the length
TELL_EVERY_S = 0.5  # a pending response at most so often, and one at the begin
LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")  # and FRAME, of the composite instance root
LEVEL_KEYS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an identifier asks for: which instances, and in which form each is to go."""

    selection: Selection
    outgoing: Callable[[StoredInstance], Outgoing]


def parse_retrieval(dimse: Dimse, sop_class: str, identifier: Dataset) -> Asked:
    """Read the identifier of a C-GET or C-MOVE. Raises InvalidIdentifier.

    The key of the level is required; keys of levels above narrow it, and may be left out, which is what
    relational retrieval is (PS3.4 C.4.2.2.2).
    """
    level = str(identifier.get("QueryRetrieveLevel", "")).strip()
    frames: FrameRequest | None = None
    if level == "FRAME" and sop_class in FRAME_MODELS:
        frames, level = parse_frame_request(identifier), "IMAGE"
    if level not in LEVELS or (sop_class in INSTANCE_MODELS and level != "IMAGE"):
        raise InvalidIdentifier("has no Query/Retrieve Level that this service knows")
    at = LEVELS.index(level)
    keys = [_uids(identifier, keyword) for keyword in LEVEL_KEYS[: at + 1]]
    keys += [()] * (4 - len(keys))
    if not keys[at]:
        raise InvalidIdentifier(f"has no {LEVEL_KEYS[at]}")
    patient_id, studies, series, instances = keys
    if len(patient_id) > 1:
        raise InvalidIdentifier("has more than one PatientID")
    if frames is not None and len(instances) != 1:
        raise InvalidIdentifier("names frames of more than one instance")
    selection = Selection(patient_id[0] if patient_id else "", studies, series, instances)
    archive = dimse.archive
    if frames is not None:
        wanted = frames
        return Asked(selection, lambda stored: as_frames(archive, stored, wanted))
    if sop_class == WITHOUT_BULK_DATA:
        return Asked(selection, lambda stored: without_bulk_data(archive, stored))
    return Asked(selection, lambda stored: as_stored(archive, stored))


def _uids(identifier: Dataset, keyword: str) -> tuple[str, ...]:
    value = identifier.get(keyword)
    values = [str(each) for each in value] if isinstance(value, MultiValue | list) else [str(value or "")]
    if keyword == "PatientID":
        return tuple(each.strip() for each in values if each.strip())
    try:
        uids = parse_uids(keyword, tuple(values))
    except InvalidMatch as refusal:
        raise InvalidIdentifier(f"has a {keyword} that is none") from refusal
    if len(uids) > MOST_UIDS:
        raise InvalidIdentifier(f"has more than {MOST_UIDS} UIDs")
    return uids


def on_get(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-GET-RQ: send each instance over this association, then the final response."""
    asked = _asked(dimse, request)
    found = survey(dimse.archive, association.caller, asked.selection)

    def send(outgoing: Outgoing) -> int:
        context = choose_context(association, outgoing)
        if context is None:
            return SOP_CLASS_NOT_SUPPORTED
        try:
            return send_instance(association, context, outgoing)
        except CloudfilmError as refusal:
            log.warning("an instance could not be sent to %s: %s", association.calling, refusal)
            return PROCESSING_FAILURE

    _perform_all(dimse, association, request, asked, Counts(found.instances), send)


def on_move(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-MOVE-RQ: send each instance to the destination, then the final response."""
    asked = _asked(dimse, request)
    destination = request.text("MoveDestination")
    try:
        node = known_peer(dimse, destination)
    except UnknownPeer as unknown:
        raise Refusal(MOVE_DESTINATION_UNKNOWN, "Move destination unknown") from unknown
    found = survey(dimse.archive, association.caller, asked.selection)
    sender = Sender(
        dimse, node, found.forms,
        MoveOriginatorApplicationEntityTitle=association.calling, MoveOriginatorMessageID=request.id,
    )  # fmt: skip
    with sender:
        _perform_all(dimse, association, request, asked, Counts(found.instances), sender.send, destination)


def _asked(dimse: Dimse, request: Message) -> Asked:
    identifier = read_identifier(request.data_set(), request.context.transfer_syntax)
    return parse_retrieval(dimse, request.context.sop_class, identifier)


def _perform_all(
    dimse: Dimse,
    association: Association,
    request: Message,
    asked: Asked,
    counts: Counts,
    send: Callable[[Outgoing], int],
    destination: str = "",
) -> None:
    """Perform the sub-operations one by one, tell of each, and give the final response."""
    instances = find_selected(dimse.archive, association.caller, asked.selection)
    studies: dict[str, None] = {}
    final, comment, told_at = 0, "", 0.0
    for stored in instances:
        if association.is_cancelled(request):
            final = CANCELLED
            break
        studies[stored.study_instance_uid] = None
        try:
            status = send(asked.outgoing(stored))
        except Refusal as refusal:
            final, comment, status = refusal.status, str(refusal), refusal.status
        except CloudfilmError as lost:  # the destination cannot be reached, or not any more
            final, comment = OUT_OF_RESOURCES_SUBOPERATIONS, str(lost)
            for missed in (stored, *instances):
                counts.count(missed.sop_instance_uid, PROCESSING_FAILURE)
            break
        counts.count(stored.sop_instance_uid, status)
        if counts.remaining and time.monotonic() - told_at >= TELL_EVERY_S:
            told_at = time.monotonic()
            association.respond(request, PENDING, None, **counts.elements(remaining=True))
    note_sent(dimse, association.caller, studies, counts, destination or association.calling)
    _finish(association, request, final or _final_status(counts), counts, comment)


def _final_status(counts: Counts) -> int:
    if not counts.failed and not counts.warnings:
        return SUCCESS
    if not counts.completed and not counts.warnings:
        return OUT_OF_RESOURCES_SUBOPERATIONS
    return SUBOPERATIONS_WARNING


def _finish(
    association: Association, request: Message, status: int, counts: Counts, comment: str = ""
) -> None:
    """The final response; what failed is on its list (PS3.4 C.4.2.1.4.2)."""
    elements = counts.elements(remaining=status == CANCELLED)
    if comment:
        elements["ErrorComment"] = comment
    failed = None
    if counts.failed_uids:
        listed, length = [], 0
        for uid in counts.failed_uids:
            length += len(uid) + 1
            if length > MOST_LISTED_BYTES:
                break
            listed.append(uid)
        failed = encode_attributes(
            {"00080058": {"vr": "UI", "Value": listed}}, (), request.context.transfer_syntax
        )
    association.respond(request, status, failed, **elements)


FRAME_MODELS = frozenset({str(CompositeInstanceRootRetrieveGet), str(CompositeInstanceRootRetrieveMove)})
WITHOUT_BULK_DATA = str(CompositeInstanceRetrieveWithoutBulkDataGet)
INSTANCE_MODELS = FRAME_MODELS | {WITHOUT_BULK_DATA}

RETRIEVE = Service(
    "Retrieve",
    "PS3.4 C",
    (
        str(PatientRootQueryRetrieveInformationModelGet),
        str(StudyRootQueryRetrieveInformationModelGet),
        str(PatientStudyOnlyQueryRetrieveInformationModelGet),
    ),
    {Operation.C_GET: on_get},
    extended=b"\x01",  # relational retrieval; no conversion to enhanced multi-frame (PS3.4 C.5.2.1, C.5.3.1)
)
MOVE = Service(
    "Retrieve (move)",
    "PS3.4 C",
    (
        str(PatientRootQueryRetrieveInformationModelMove),
        str(StudyRootQueryRetrieveInformationModelMove),
        str(PatientStudyOnlyQueryRetrieveInformationModelMove),
    ),
    {Operation.C_MOVE: on_move},
    extended=b"\x01",
)
FRAME_RETRIEVE = Service(
    "Instance and Frame Level Retrieve",
    "PS3.4 Y",
    (str(CompositeInstanceRootRetrieveGet),),
    {Operation.C_GET: on_get},
)
FRAME_MOVE = Service(
    "Instance and Frame Level Retrieve (move)",
    "PS3.4 Y",
    (str(CompositeInstanceRootRetrieveMove),),
    {Operation.C_MOVE: on_move},
)
BULKLESS_RETRIEVE = Service(
    "Composite Instance Retrieve Without Bulk Data",
    "PS3.4 Z",
    (WITHOUT_BULK_DATA,),
    {Operation.C_GET: on_get},
)
RETRIEVE_SERVICES = (RETRIEVE, MOVE, FRAME_RETRIEVE, FRAME_MOVE, BULKLESS_RETRIEVE)
