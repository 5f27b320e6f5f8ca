"""Requests that are carried out later: the client goes on, and fetches the answer when it is there.

What reads may be asked so (`Prefer: respond-async`): a read, a search, a history, an operation; and a batch
or transaction. The request is kept as it came, with who made it, and a job sends it through the same views.
Of a search every page is walked; the answer is NDJSON, a file for each resource type, made page by page.
R4 3.1.6 (Asynchronous Request Patterns).
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, g, request

from access.bearer import current_caller
from access.caller import Caller, Door
from access.kept_caller import caller_text
from fhir_server.bulk import begin_bulk, end_bulk, inputs, keep_file, still_wanted
from fhir_server.negotiate import ROOT, fhir_base, request_body
from fhir_server.outcomes import JSON, XML
from fhir_server.room import Doors, Fhir
from kernel.clock import new_id
from kernel.errors import CloudfilmError
from kernel.http import room
from kernel.jobs import enqueue, job
from records.bulk_model import BulkFile, BulkJob
from records.documents import document_text, parse_document
from records.xml_form import from_xml

OWN = ("$export", "$import", "$bulk-status", "$bulk-data", "$graphql", "metadata")
"""What is asynchronous by itself, or never."""
PAGED = frozenset({"searchset", "history"})


def principal_of(caller: Caller) -> str:
    """Who may ask for what a job made."""
    return f"{caller.principal.kind.value} {caller.principal.id}"[:160]


def accepted(job_id: str) -> Response:
    """202: where to ask how it stands."""
    answer = Response(status=202)
    answer.headers["Content-Location"] = f"{fhir_base()}/$bulk-status/{job_id}"
    return answer


def respond_later() -> Response | None:
    """Keep a request whose client does not wait for the answer; None for one that is answered at once."""
    if "respond-async" not in request.headers.get("Prefer", ""):
        return None
    parts = request.path.strip("/").split("/")[1:]
    if any(part in OWN for part in parts):
        return None
    is_asked = any(part.startswith("$") for part in parts) or parts[-1:] == ["_search"] or not parts
    if request.method != "GET" and not (request.method == "POST" and is_asked):
        return None
    asked = {
        "method": request.method,
        "url": request.full_path.rstrip("?"),
        "base": request.host_url,
        "content_type": request.content_type or JSON,
        "preferences": _without_async(request.headers["Prefer"]),
    }
    return begin_later("request", run_request, current_caller(Door.FHIR), asked, request_body())


def begin_later(
    kind: str, run: Callable[..., None], caller: Caller, asked: dict[str, Any], body: bytes = b""
) -> Response:
    """Keep what is asked, with who asks and the body, for a job `run(job_id)`. Returns 202."""
    fhir, job_id = room(Fhir), new_id()
    sealed = fhir.blobs.write(body) if body else None
    with fhir.records.database.transaction() as session:
        session.add(
            BulkJob(
                id=job_id, kind=kind, owner=caller_text(caller), principal=principal_of(caller),
                request=request.url, asked=json.dumps(asked), made_at=fhir.records.clock.now(),
            )
        )  # fmt: skip
        session.flush()
        if sealed is not None:
            session.add(
                BulkFile(
                    job_id=job_id, resource_type="", what="input", size_bytes=sealed.size_bytes,
                    blob_key=sealed.key, seal=sealed.seal.pack(),
                )
            )  # fmt: skip
        enqueue(session, fhir.records.clock, run, job_id)
    return accepted(job_id)


def _without_async(preferences: str) -> str:
    kept = [each.strip() for each in preferences.split(",") if each.strip() != "respond-async"]
    return ", ".join(kept)


@job(queue="bulk", retries=0)
def run_request(doors: Doors, job_id: str) -> None:
    """Carry out one request, and keep what it is answered."""
    fhir: Fhir = doors.bundles[Fhir]
    begun = begin_bulk(fhir, job_id)
    if begun is None:
        return
    caller, asked = begun
    files = _Files(fhir, job_id)
    try:
        for text in _resources(doors, fhir, job_id, caller, asked):
            files.add(text)
        files.keep()
    except CloudfilmError as refused:
        end_bulk(fhir, job_id, "failed", str(refused))
        return
    finally:
        files.discard()
    end_bulk(fhir, job_id, "done")


class _Refused(CloudfilmError):
    """What the request itself was refused with."""


def _resources(
    doors: Doors, fhir: Fhir, job_id: str, caller: Caller, asked: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The resources of the answer: of a search or history the entries of every page, else the answer."""
    app = _app(doors)
    method, url, body = asked["method"], asked["url"], _body_of(fhir, job_id)
    count = 0
    while url:
        headers = {"Content-Type": asked["content_type"], "Accept": JSON, "Prefer": asked["preferences"]}
        with app.test_request_context(url, method=method, headers=headers, data=body, base_url=asked["base"]):
            g.caller = caller
            answer, base = app.full_dispatch_request(), fhir_base()
            document = _document(answer)
        if answer.status_code >= 400 or document is None:
            raise _Refused(_said(document) or f"It was answered {answer.status_code}.")
        if document["resourceType"] != "Bundle" or document.get("type") not in PAGED:
            yield document
            return
        for entry in document.get("entry", ()):
            if "resource" in entry:
                yield entry["resource"]
                count += 1
        if not still_wanted(fhir, job_id, f"{count} resources"):
            return
        links = {each["relation"]: each["url"] for each in document.get("link", ())}
        following = links.get("next", "")
        method, body, url = "GET", b"", f"{ROOT}{following.removeprefix(base)}" if following else ""


def _document(answer: Response) -> dict[str, Any] | None:
    text = answer.get_data()
    if answer.mimetype == XML:  # which the URL asked for
        return from_xml(text)
    return parse_document(text) if answer.is_json and text else None


def _said(outcome: dict[str, Any] | None) -> str:
    return " ".join(str(each.get("diagnostics", "")) for each in (outcome or {}).get("issue", ())).strip()


def _body_of(fhir: Fhir, job_id: str) -> bytes:
    return b"".join(chunk for stream in inputs(fhir, job_id) for chunk in stream)


def _app(doors: Doors) -> Flask:
    """The door's views alone, in a process that serves nobody."""
    from fhir_server.routes import blp  # the routes name this module's views

    app = Flask("cloudfilm.fhir", static_folder=None)
    app.extensions["cloudfilm"] = doors.bundles
    app.url_map.strict_slashes = False
    app.register_blueprint(blp, url_prefix="/fhir")
    return app


class _Files:
    """NDJSON files, one for each resource type, written as the resources come."""

    def __init__(self, fhir: Fhir, job_id: str) -> None:
        self._fhir, self._job_id = fhir, job_id
        self._writers: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, document: dict[str, Any]) -> None:
        """One more resource."""
        type_ = str(document["resourceType"])
        if type_ not in self._writers:
            self._writers[type_] = self._fhir.blobs.writer()
        self._writers[type_].write(document_text(document).encode() + b"\n")
        self._counts[type_] = self._counts.get(type_, 0) + 1

    def keep(self) -> None:
        """Seal all of them."""
        for type_ in sorted(self._writers):
            writer = self._writers[type_]
            sealed = writer.finish()
            writer.commit()
            del self._writers[type_]
            keep_file(self._fhir, self._job_id, type_, "output", self._counts[type_], sealed)

    def discard(self) -> None:
        """Let go of those that were not kept."""
        for writer in self._writers.values():
            writer.discard()
