"""Refusals as OperationOutcome (R4 OperationOutcome, issue-type value set)."""

import json

from flask import Response

from kernel.errors import CloudfilmError, Kind
from kernel.http import STATUS, with_challenge

JSON = "application/fhir+json"

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


def outcome(severity: str, code: str, diagnostics: str) -> dict[str, object]:
    """An OperationOutcome with one issue."""
    issue = {"severity": severity, "code": code, "diagnostics": diagnostics}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def refuse(refusal: CloudfilmError) -> Response:
    """A refusal in the words of FHIR."""
    body = outcome("error", getattr(refusal, "issue_type", ISSUE_TYPES[refusal.kind]), str(refusal))
    answer = Response(json.dumps(body, ensure_ascii=False), STATUS[refusal.kind], mimetype=JSON)
    return with_challenge(answer, refusal)
