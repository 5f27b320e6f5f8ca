"""Refusals as OperationOutcome (R4 OperationOutcome, issue-type value set)."""

import json
from collections.abc import Iterable

from flask import Response, request

from kernel.errors import CloudfilmError, Kind
from kernel.http import STATUS, with_challenge
from records.documents import parse_document
from records.issues import InvalidResource, Issue
from records.xml_form import to_xml

JSON = "application/fhir+json"
XML = "application/fhir+xml"

ISSUE_TYPES = {
    Kind.INVALID: "invalid",
    Kind.UNAUTHENTICATED: "login",
    Kind.FORBIDDEN: "forbidden",
    Kind.NOT_FOUND: "not-found",
    Kind.NOT_ALLOWED: "not-supported",
    Kind.NOT_ACCEPTABLE: "not-supported",
    Kind.CONFLICT: "conflict",
    Kind.GONE: "deleted",
    Kind.PRECONDITION: "conflict",
    Kind.TOO_LARGE: "too-long",
    Kind.UNSUPPORTED: "not-supported",
    Kind.UNPROCESSABLE: "business-rule",
    Kind.TOO_MANY: "throttled",
    Kind.UNAVAILABLE: "transient",
    Kind.EXHAUSTED: "no-store",
    Kind.FAULT: "exception",
}


def outcome(severity: str, code: str, diagnostics: str, expression: str = "") -> dict[str, object]:
    """An OperationOutcome with one issue."""
    issue: dict[str, object] = {"severity": severity, "code": code, "diagnostics": diagnostics}
    if expression:
        issue["expression"] = [expression]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def findings_outcome(issues: Iterable[Issue]) -> dict[str, object]:
    """An OperationOutcome of what validation found; of nothing found as well."""
    shown = [each.as_fhir() for each in issues]
    if not shown:
        shown = [{"severity": "information", "code": "informational", "diagnostics": "No issues were found."}]
    return {"resourceType": "OperationOutcome", "issue": shown}


def outcome_of(refusal: CloudfilmError) -> dict[str, object]:
    """A refusal as an OperationOutcome; one of validation with every finding."""
    if isinstance(refusal, InvalidResource):
        return findings_outcome(refusal.issues)
    expression = getattr(refusal, "expression", "")
    issue_type = getattr(refusal, "issue_type", ISSUE_TYPES[refusal.kind])
    return outcome("error", issue_type, str(refusal), expression)


def refuse(refusal: CloudfilmError) -> Response:
    """A refusal in the words of FHIR, as XML for a client that names it first."""
    return with_challenge(_answer(outcome_of(refusal), STATUS[refusal.kind]), refusal)


OF_STATUS = {400: "invalid", 404: "not-found", 405: "not-supported", 413: "too-long"}


def refuse_request(status: int, reason: str) -> Response:
    """What the framework refuses before any interaction is found: a path, a method, a size."""
    return _answer(outcome("error", OF_STATUS.get(status, "processing"), reason), status)


def _answer(document: dict[str, object], status: int) -> Response:
    text = json.dumps(document, ensure_ascii=False)
    asked = request.args.get("_format") or request.headers.get("Accept", "")
    first = min((name for name in ("xml", "json", "*/*") if name in asked), key=asked.index, default="")
    if first == "xml" and "html" not in asked:  # a browser's pages name XML as well
        return Response(to_xml(parse_document(text)), status, mimetype=XML)
    return Response(text, status, mimetype=JSON)
