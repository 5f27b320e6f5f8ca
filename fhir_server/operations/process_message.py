"""$process-message: the Mobile Patient Identity Feed (R4 MessageHeader; IHE PMIR ITI-93)."""

from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.negotiate import document_answer, fhir_base, request_document, require_json
from kernel.clock import new_id
from kernel.http import room
from mpi.feed import FeedEntry, InvalidFeed, take_feed
from mpi.room import Mpi
from records.documents import document_text, plain

FEED = "urn:ihe:iti:pmir:2019:patient-feed"


def process_message() -> Response:
    """Take a feed message and answer with a response message."""
    require_json()
    caller = current_caller(Door.FHIR)
    message = plain(request_document())
    header, bundle = _parts(message)
    take_feed(room(Mpi), caller, _entries(bundle), f"FHIR message {header.get('id', '')}"[:128])
    answer = {
        "resourceType": "MessageHeader",
        "id": new_id(),
        "eventUri": FEED,
        "source": {"name": "cloudfilm", "endpoint": f"{fhir_base()}/$process-message"},
        "response": {"identifier": str(header.get("id") or message.get("id") or "-"), "code": "ok"},
    }
    whole = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": answer}]}
    return document_answer(document_text(whole))


def _parts(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the history Bundle of a feed. Raises InvalidFeed."""
    if message.get("resourceType") != "Bundle" or message.get("type") != "message":
        raise InvalidFeed("send a Bundle of the type message")
    resources = [each["resource"] for each in _list(message.get("entry")) if _is_object(each.get("resource"))]
    header = resources[0] if resources else {}
    if header.get("resourceType") != "MessageHeader" or header.get("eventUri") != FEED:
        raise InvalidFeed(f"the first entry is a MessageHeader with the event {FEED}")
    bundle = next((each for each in resources[1:] if each.get("resourceType") == "Bundle"), None)
    if bundle is None or bundle.get("type") != "history":
        raise InvalidFeed("the message holds a Bundle of the type history")
    return header, bundle


def _entries(bundle: dict[str, Any]) -> list[FeedEntry]:
    found = []
    for each in _list(bundle.get("entry")):
        request = each.get("request")
        method = str(request.get("method", "")) if isinstance(request, dict) else ""
        if method not in ("POST", "PUT", "DELETE"):
            raise InvalidFeed("each entry has a request by POST, PUT or DELETE")
        patient = each.get("resource")
        found.append(
            FeedEntry(
                str(each.get("fullUrl", "")),
                method,
                str(request.get("url", "")) if isinstance(request, dict) else "",
                patient if _is_object(patient) else None,
            )
        )
    return found


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
