"""A batch: each entry goes the way of a request of its own (R4 3.1.0.11.1)."""

import base64
import json
from collections.abc import Sequence

from flask import Response, current_app, g, request

from access.caller import Caller
from fhir_server.bundles import Entry, bundle_answer
from fhir_server.interactions.bundle_entry import BundleEntry
from fhir_server.interactions.patch import JSON_PATCH
from fhir_server.negotiate import ROOT
from fhir_server.outcomes import JSON, outcome_of
from kernel.http import STATUS
from records.documents import document_text

HEADERS = {
    "ifMatch": "If-Match",
    "ifNoneMatch": "If-None-Match",
    "ifNoneExist": "If-None-Exist",
    "ifModifiedSince": "If-Modified-Since",
}
NOT_MODIFIED = 304
ALSO = ("Prefer",)  # headers of the whole request that hold for each of its entries


def run_batch(entries: Sequence[BundleEntry], caller: Caller) -> Response:
    """Carry out each entry by itself; one that is refused does not stop the others."""
    return bundle_answer("batch-response", [run_entry(entry, caller) for entry in entries], [])


def run_entry(entry: BundleEntry, caller: Caller) -> Entry:
    """What the request of one entry is answered."""
    if entry.fault is not None:
        text = json.dumps(outcome_of(entry.fault), ensure_ascii=False)
        return Entry("", response={"status": str(STATUS[entry.fault.kind])}, outcome=text)
    headers = {HEADERS[name]: value for name, value in entry.conditions.items()}
    headers |= {name: request.headers[name] for name in ALSO if name in request.headers}
    headers |= {"Accept": JSON, "Content-Type": JSON}
    body = b""
    if entry.document is not None:
        body = document_text(entry.document).encode()
        if entry.method == "PATCH" and entry.document["resourceType"] == "Binary":
            body, headers["Content-Type"] = _json_patch(entry), JSON_PATCH
    path, _, query = entry.url.partition("?")
    with current_app.test_request_context(
        f"{ROOT}/{path}", method=entry.method, query_string=query, headers=headers, data=body,
        base_url=request.host_url, environ_base={"REMOTE_ADDR": request.remote_addr or ""},
    ):  # fmt: skip
        g.caller = caller
        return _entry(current_app.full_dispatch_request(), entry.method)


def _json_patch(entry: BundleEntry) -> bytes:
    """A JSON Patch travels in a Binary, whose data it is (R4 3.1.0.11.2)."""
    try:
        return base64.b64decode(str((entry.document or {}).get("data", "")), validate=True)
    except ValueError:
        return b""


def _entry(answer: Response, method: str) -> Entry:
    response: dict[str, object] = {"status": str(answer.status_code)}
    for header, name in (("Location", "location"), ("ETag", "etag")):
        if header in answer.headers:
            response[name] = answer.headers[header]
    body = "" if method == "HEAD" or answer.status_code == NOT_MODIFIED else answer.get_data(as_text=True)
    if not body or not answer.is_json:
        return Entry("", response=response)
    if answer.status_code >= 400 or '"resourceType":"OperationOutcome"' in body[:60].replace(" ", ""):
        return Entry("", response=response, outcome=body)
    return Entry("", body, response=response)
