"""Resource/$validate: would this be accepted, and what is wrong with it (R4 Resource-validate)."""

from typing import Any

from flask import Response

from access.bearer import current_caller
from access.caller import Action, Door
from fhir_server.negotiate import document_answer
from fhir_server.operations.given import InvalidParameter, given
from fhir_server.outcomes import findings_outcome
from kernel.http import room
from records.documents import parse_document
from records.issues import Issue
from records.repository import read, require_type
from records.room import Records
from records.validate import findings

MODES = ("", "create", "update", "delete", "profile")


def validate_resource(resource_type: str, logical_id: str = "") -> Response:
    """An OperationOutcome with every finding; 200 whatever they are, for the operation itself succeeded."""
    require_type(resource_type)
    caller, records = current_caller(Door.FHIR), room(Records)
    caller.require(Action(resource_type, "r"))
    said = given(keep_numbers=True)
    mode, profiles = said.text("mode"), list(said.texts("profile"))
    if mode not in MODES:
        raise InvalidParameter("mode", "create, update, delete or profile")
    if mode == "delete":
        return document_answer(findings_outcome([]))
    document = _document(said.resources("resource"), said.document)
    if document is None and logical_id:
        document = parse_document(read(records, caller, resource_type, logical_id).body)
    if document is None:
        raise InvalidParameter("resource", f"a {resource_type}")
    issues = findings(document)
    if document.get("resourceType") != resource_type:
        issues.insert(
            0, Issue("error", "invalid", str(document.get("resourceType")), f"This is no {resource_type}")
        )
    meta = document.get("meta")
    claimed = meta.get("profile") if isinstance(meta, dict) else None
    if isinstance(claimed, list):
        profiles += [each for each in claimed if isinstance(each, str) and each not in profiles]
    with records.database.snapshot() as session:
        issues += records.validation.against(session, document, profiles)
    return document_answer(findings_outcome(issues))


def _document(given_: list[dict[str, Any]], body: dict[str, Any] | None) -> dict[str, Any] | None:
    """The resource given as a parameter, else the body itself unless that is Parameters."""
    if given_:
        return given_[0]
    return body if body is not None and body["resourceType"] != "Parameters" else None
