"""UPS-RS: workitems over HTTP (PS3.18 11, Worklist Service).

The same workitems that modalities see as their worklist and UPS nodes by DIMSE. Every transaction is one
function of the room; what it refuses is answered with the status and the Warning that PS3.18 has for it.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, request
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from access.bearer import current_caller, open_to_all
from access.caller import Action, Caller, Door
from archive.attributes import Document, element, text
from archive.query import InvalidMatch, UnknownAttribute
from archive.room import Archive
from archive.workitem_events import subscribe, suspend, unsubscribe
from archive.workitem_search import search_workitems
from archive.workitems import (
    MOST_BYTES,
    AlreadyCompleted,
    AlreadyInProgress,
    FinalStateNotMet,
    MissingTransactionUid,
    NoLongerUpdatable,
    NotInProgress,
    PerformerUnreachable,
    Remark,
    WrongTransactionUid,
    change_state,
    create_workitem,
    read_workitem,
    request_cancellation,
    update_workitem,
)
from dicomweb.answers import wanted
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MULTIPART, negotiate, parse_accept
from dicomweb.native_xml import from_xml, to_xml
from dicomweb.qido import search_media_type
from dicomweb.service import service_base
from kernel.errors import CloudfilmError, Kind
from kernel.http import base_url, problem, room
from kernel.settings import Settings

blp = Blueprint("ups", __name__)

OFFERED = (DICOM_JSON, JSON, DICOM_XML)
UID = re.compile(r"[0-9][0-9.]{0,63}")
BOUNDARY = "cloudfilm-workitem"
MOST_FOUND = 5000

INCONSISTENT = "The submitted request is inconsistent with the current state of the UPS Instance."
WARNINGS: Mapping[type[CloudfilmError], str] = {  # PS3.18 11.6.3.2, 11.7.3.2 and 11.8.3.2
    MissingTransactionUid: "The Transaction UID is missing.",
    WrongTransactionUid: "The Transaction UID is incorrect.",
    NoLongerUpdatable: INCONSISTENT,
    NotInProgress: INCONSISTENT,
    AlreadyInProgress: INCONSISTENT,
    FinalStateNotMet: INCONSISTENT,
    AlreadyCompleted: "The UPS is already COMPLETED.",
    PerformerUnreachable: "The performer cannot be contacted.",
}


class UnreadableWorkitem(CloudfilmError):
    """A body that is no workitem."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The body {reason}.")


class UnsupportedForm(CloudfilmError):
    """A body of another media type."""

    kind = Kind.UNSUPPORTED

    def __init__(self) -> None:
        super().__init__(f"Send the workitem as one of {', '.join(OFFERED)}.")


class TooLarge(CloudfilmError):
    """A body beyond all reason."""

    kind = Kind.TOO_LARGE

    def __init__(self) -> None:
        super().__init__(f"A workitem has at most {MOST_BYTES} bytes.")


View = Callable[..., Response]


def _transaction(verb: str) -> Callable[[Callable[..., Response]], View]:
    """What all transactions share: the right is asked for first, and refusals carry their Warning."""

    def wrap(view: Callable[..., Response]) -> View:
        @wraps(view)
        def guarded(**path: str) -> Response:
            try:
                caller = current_caller(Door.DICOMWEB)
                caller.require(Action("Workitem", verb))
                return view(room(Archive), caller, **path)
            except CloudfilmError as refusal:
                answer = problem(refusal)
                warning = WARNINGS.get(type(refusal))
                return _warned(answer, warning) if warning else answer

        return guarded

    return wrap


def _warned(answer: Response, warning: str) -> Response:
    answer.headers["Warning"] = f"299 {service_base()}: {warning}"
    return answer


def _remarked(answer: Response, remark: Remark | None) -> Response:
    return _warned(answer, remark.value) if remark else answer


@blp.post("/workitems")
@_transaction("c")
def create(archive: Archive, caller: Caller) -> Response:
    """Create Workitem (PS3.18 11.4). Its UID comes in the query, in the body, or is made."""
    uid = _uid_of_query("workitem", "AffectedSOPInstanceUID")
    created = create_workitem(archive, caller, _body(), uid)
    url = f"{service_base()}/workitems/{created.sop_instance_uid}"
    answer = Response(status=201, headers={"Location": url, "Content-Location": url})
    return _remarked(answer, created.remark)


@blp.get("/workitems/<uid>")
@_transaction("r")
def retrieve(archive: Archive, caller: Caller, uid: str) -> Response:
    """Retrieve Workitem (PS3.18 11.5)."""
    media_type = negotiate(wanted(), OFFERED)
    found = read_workitem(archive, caller, uid)
    if media_type == DICOM_XML:
        return Response(to_xml(found), mimetype=DICOM_XML)
    return Response(json.dumps([found], ensure_ascii=False), mimetype=media_type)


@blp.post("/workitems/<uid>")
@_transaction("u")
def update(archive: Archive, caller: Caller, uid: str) -> Response:
    """Update Workitem (PS3.18 11.6); its performer shows the Transaction UID, in the query or in the body."""
    attributes = _body()
    transaction = _uid_of_query("transaction-uid", "transactionUID") or text(attributes, "TransactionUID")
    update_workitem(archive, caller, uid, attributes, transaction)
    return Response(status=200, headers={"Content-Location": f"{service_base()}/workitems/{uid}"})


@blp.put("/workitems/<uid>/state")
@blp.put("/workitems/<uid>/state/<requester>")
@_transaction("u")
def put_state(archive: Archive, caller: Caller, uid: str, requester: str = "") -> Response:
    """Change Workitem State (PS3.18 11.7): claim, complete or cancel."""
    said = _body()
    remark = change_state(
        archive, caller, uid, text(said, "ProcedureStepState"), text(said, "TransactionUID")
    )
    return _remarked(Response(status=200), remark)


@blp.post("/workitems/<uid>/cancelrequest")
@blp.post("/workitems/<uid>/cancelrequest/<requester>")
@_transaction("u")
def cancel(archive: Archive, caller: Caller, uid: str, requester: str = "") -> Response:
    """Request Workitem Cancellation (PS3.18 11.8)."""
    said = _body() if request.content_length else {}
    remark = request_cancellation(archive, caller, uid, requester or caller.principal.name, said)
    return _remarked(Response(status=202), remark)


@blp.get("/workitems")
@_transaction("s")
def search(archive: Archive, caller: Caller) -> Response:
    """Search (PS3.18 11.9): every attribute is a key, by keyword, tag or path of sequences."""
    media_type = search_media_type()
    keys: Document = {}
    fuzzy, limit, offset = False, MOST_FOUND, 0
    for name, value in request.args.items(multi=True):
        if name == "fuzzymatching":
            fuzzy = _flag(name, value)
        elif name in ("limit", "offset"):
            number = _number(name, value)
            limit, offset = (min(number, MOST_FOUND), offset) if name == "limit" else (limit, number)
        elif name == "includefield":
            for attribute in value.split(","):
                if attribute != "all":
                    _path(attribute)
        elif name not in ("accept", "charset"):
            add_key(keys, name, value)
    found = list(search_workitems(archive, caller, keys, fuzzy=fuzzy, limit=limit + 1, offset=offset))
    has_more, found = len(found) > limit, found[:limit]
    if not found:
        return Response(status=204)
    if media_type == DICOM_XML:
        parts = (
            f"--{BOUNDARY}\r\nContent-Type: {DICOM_XML}\r\n\r\n".encode() + to_xml(each) for each in found
        )
        body = b"\r\n".join((*parts, f"--{BOUNDARY}--\r\n".encode()))
        answer = Response(body, content_type=f'{MULTIPART}; type="{DICOM_XML}"; boundary={BOUNDARY}')
    else:
        answer = Response(json.dumps(found, ensure_ascii=False), mimetype=media_type)
    if has_more:
        return _warned(answer, f"There are more results; ask again with offset={offset + len(found)}.")
    return answer


def add_key(keys: Document, name: str, value: str) -> None:
    """Add a matching key such as `PatientID`, `00100020` or `ScheduledWorkitemCodeSequence.CodeValue`.

    Raises UnknownAttribute.
    """
    *sequences, last = _path(name)
    inside = keys
    for tag in sequences:
        held = inside.setdefault(tag, {"vr": "SQ", "Value": [{}]})
        inside = held["Value"][0]
    keyword = keyword_for_tag(int(last, 16))
    if keyword:
        inside[last] = element(keyword, value)
    else:
        inside[last] = {"vr": "LO", "Value": [value]}


def _path(name: str) -> list[str]:
    tags = []
    for part in name.split("."):
        tag = part.upper() if re.fullmatch(r"[0-9A-Fa-f]{8}", part) else None
        number = tag_for_keyword(part) if tag is None else None
        if tag is None and number is None:
            raise UnknownAttribute(name)
        tags.append(tag or f"{number:08X}")
    for tag in tags[:-1]:
        try:
            is_sequence = dictionary_VR(int(tag, 16)) == "SQ"
        except KeyError:
            is_sequence = False
        if not is_sequence:
            raise UnknownAttribute(name)
    return tags


@blp.post("/workitems/<uid>/subscribers/<ae_title>")
@_transaction("r")
def add_subscriber(archive: Archive, caller: Caller, uid: str, ae_title: str) -> Response:
    """Subscribe (PS3.18 11.10); the answer says where the event reports are heard."""
    lock = _flag("deletionlock", request.args.get("deletionlock", "false"))
    keys: Document = {}
    for part in filter(None, request.args.get("filter", "").split(",")):
        name, _, value = part.partition("=")
        add_key(keys, name, value)
    subscribe(archive, caller, ae_title, uid, lock, keys)
    return Response(status=201, headers={"Content-Location": push_url(ae_title)})


@blp.delete("/workitems/<uid>/subscribers/<ae_title>")
@_transaction("r")
def remove_subscriber(archive: Archive, caller: Caller, uid: str, ae_title: str) -> Response:
    """Unsubscribe (PS3.18 11.11)."""
    unsubscribe(archive, caller, ae_title, uid)
    return Response(status=200)


@blp.post("/workitems/<uid>/subscribers/<ae_title>/suspend")
@_transaction("r")
def suspend_subscriber(archive: Archive, caller: Caller, uid: str, ae_title: str) -> Response:
    """Suspend Global Subscription (PS3.18 11.12)."""
    suspend(archive, caller, ae_title, uid)
    return Response(status=200)


@blp.get("/subscribers/<ae_title>")
@open_to_all
def listen(ae_title: str) -> Response:
    """Where the event reports are: a WebSocket, which another process serves (PS3.18 8.10)."""
    where = push_url(ae_title)
    return Response(
        f"Open a WebSocket at {where}\n", 426,
        {"Upgrade": "websocket", "Connection": "Upgrade", "Content-Location": where}, "text/plain",
    )  # fmt: skip


def push_url(ae_title: str) -> str:
    """The WebSocket of a subscriber."""
    settings = room(Settings)
    if settings.push.public_url:
        base = settings.push.public_url.rstrip("/")
    else:
        web = urlsplit(base_url(settings.web.public_url))
        host = f"[{web.hostname}]" if ":" in (web.hostname or "") else web.hostname
        scheme = "wss" if web.scheme == "https" else "ws"
        base = f"{scheme}://{web.netloc if settings.web.public_url else f'{host}:{settings.push.port}'}"
    return f"{base}/ws/dicomweb/subscribers/{ae_title}"


def _body() -> Document:
    """The data set of a request: JSON (one object, alone or in an array) or XML."""
    ranges = parse_accept(request.headers.get("Content-Type", ""))
    media_type = ranges[0].type if ranges else DICOM_JSON
    if media_type not in OFFERED:
        raise UnsupportedForm
    data = request.stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise TooLarge
    return from_xml(data) if media_type == DICOM_XML else parse_workitem(data)


def parse_workitem(data: bytes) -> Document:
    """Read DICOM JSON and look at its form. Raises UnreadableWorkitem."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableWorkitem("is not JSON") from None
    if isinstance(said, list):
        if len(said) != 1:
            raise UnreadableWorkitem("has not exactly one data set")
        said = said[0]
    return _checked(said)


def _checked(said: Any, depth: int = 0) -> Document:
    if not isinstance(said, dict) or depth > 16:
        raise UnreadableWorkitem("is no data set of the DICOM JSON model")
    kept: Document = {}
    for tag, value in said.items():
        if not re.fullmatch(r"[0-9A-Fa-f]{8}", tag) or not isinstance(value, dict):
            raise UnreadableWorkitem("has an attribute that is not written as the DICOM JSON model has it")
        vr, values = value.get("vr"), value.get("Value", [])
        if not isinstance(vr, str) or not re.fullmatch("[A-Z]{2}", vr) or not isinstance(values, list):
            raise UnreadableWorkitem(f"has no VR, or no list of values, for {tag.upper()}")
        if vr == "SQ":
            value = {"vr": vr, "Value": [_checked(each, depth + 1) for each in values]}
        elif not all(_is_value(vr, each) for each in values):
            raise UnreadableWorkitem(f"has a value that is none of {vr} for {tag.upper()}")
        kept[tag.upper()] = value
    return kept


def _is_value(vr: str, value: Any) -> bool:
    if value is None:
        return True
    if vr == "PN":
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _uid_of_query(*names: str) -> str:
    """A UID under one of these names, or alone in the query as PS3.18 also writes it (`?1.2.3`)."""
    for name in names:
        if request.args.get(name):
            return request.args[name]
    return next((name for name, value in request.args.items() if not value and UID.fullmatch(name)), "")


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidMatch(name, "write true or false")
    return value.lower() == "true"


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value):
        raise InvalidMatch(name, "write a whole number, 0 or more")
    return int(value)
