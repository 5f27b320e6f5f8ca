"""$export and $import: kick-off, status, files, cancellation (Bulk Data Access 2.0; R4 asynchronous pattern
3.1.6)."""

import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from flask import Response, request
from sqlalchemy import select

from access.bearer import current_caller
from access.caller import Action, Door
from access.outbound_http import require_allowed
from fhir_server.asynchronous import begin_later, principal_of
from fhir_server.bulk import drop_bulk_job, run_bulk_export, run_bulk_import
from fhir_server.negotiate import document_answer, fhir_base, prefers
from fhir_server.operations.everything import types_of
from fhir_server.operations.given import Given, InvalidParameter, given
from fhir_server.outcomes import outcome
from fhir_server.room import Fhir
from kernel.crypto import Seal
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from records.bulk_model import BulkFile, BulkJob
from records.documents import instant
from records.everything import members
from records.parameters import resource_types
from records.query import parse_search
from records.repository import read, require_type

NDJSON = "application/fhir+ndjson"
FORMATS = frozenset({"", NDJSON, "application/ndjson", "ndjson"})
KNOWN = frozenset({"_outputFormat", "_since", "_type", "_typeFilter", "patient", "_format"})


class NotAsynchronous(CloudfilmError):
    """Bulk operations are asked for with `Prefer: respond-async`."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Ask for it with the header Prefer: respond-async.")


class BulkNotFound(CloudfilmError):
    """No such export or import, or one of somebody else; the two look alike on purpose."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("There is no such export or import; they are kept for a day.")


def export_everything() -> Response:
    """Of every patient, and of what belongs to none."""
    return _kick_off("system", None)


def export_patients() -> Response:
    """Of every patient."""
    return _kick_off("patient", None)


def export_group(logical_id: str) -> Response:
    """Of a group's members."""
    caller = current_caller(Door.FHIR)
    group = read(room(Fhir).records, caller, "Group", logical_id)
    return _kick_off("group", members(group))


def _kick_off(level: str, patients: list[str] | None) -> Response:
    caller = current_caller(Door.FHIR)
    caller.require(Action("Group" if level == "group" else "Patient", "r"))
    said = given()
    if "respond-async" not in request.headers.get("Prefer", ""):
        raise NotAsynchronous
    if said.text("_outputFormat") not in FORMATS:
        raise InvalidParameter("_outputFormat", NDJSON)
    unknown = set(request.args) - KNOWN
    if unknown and prefers("handling") != "lenient":
        raise InvalidParameter(sorted(unknown)[0], "one that is supported")
    named = [each.get("reference", "") for each in said.structures("patient", "Reference")]
    if named:
        wanted = [str(each).removeprefix("Patient/") for each in named]
        patients = [each for each in wanted if patients is None or each in patients]
    types = list(types_of(said))
    for type_ in types:
        require_type(type_)
    asked = {
        "level": level,
        "types": types,
        "since": _since(said),
        "filters": _filters(said),
        "patients": patients,
    }
    return begin_later("export", run_bulk_export, caller, asked)


def _since(said: Given) -> str:
    text = said.text("_since")
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().isoformat() if text else ""
    except ValueError:
        raise InvalidParameter("_since", "an instant") from None


def _filters(said: Given) -> list[str]:
    """`_typeFilter`: searches, each written Type?parameter=value."""
    found = []
    for text in said.texts("_typeFilter"):
        type_, question, query = text.partition("?")
        if not question or type_ not in resource_types():
            raise InvalidParameter("_typeFilter", "Type?parameter=value")
        parse_search(type_, parse_qsl(query, keep_blank_values=True))
        found.append(text)
    return found


def import_data() -> Response:
    """$import: NDJSON as the body, or a manifest that names where it is to be fetched from."""
    caller = current_caller(Door.FHIR)
    caller.require(Action("*", "c"))
    caller.require(Action("*", "u"))
    if request.mimetype in (NDJSON, "application/ndjson", "application/x-ndjson"):
        return begin_later("import", run_bulk_import, caller, {"urls": []}, request.get_data())
    fhir = room(Fhir)
    if request.mimetype == "application/json":
        manifest = request.get_json(silent=True)
        inputs = manifest.get("input") if isinstance(manifest, dict) else None
        urls = [str(each.get("url", "")) for each in inputs or () if isinstance(each, dict)]
    else:
        urls = [part.text("url") for part in given().parts("input")]
    if not urls:
        raise InvalidParameter("input", "given: NDJSON as the body, or a list of URLs")
    for url in urls:
        require_allowed(url, fhir.trusted_hosts)
    return begin_later("import", run_bulk_import, caller, {"urls": urls})


def bulk_status(job_id: str) -> Response:
    """Whether it is done: 202 with the progress, the manifest, or what went wrong."""
    fhir, row = room(Fhir), _job(job_id)
    if row.state in ("accepted", "running"):
        answer = Response(status=202)
        answer.headers["X-Progress"] = row.progress
        answer.headers["Retry-After"] = "5"
        return answer
    if row.state == "failed":
        return document_answer(outcome("error", "processing", row.error), 422)
    with fhir.records.database.snapshot() as session:
        files = session.scalars(select(BulkFile).where(BulkFile.job_id == job_id).order_by(BulkFile.id)).all()
    base = fhir_base()

    def shown(what: str) -> list[dict[str, Any]]:
        return [
            {"type": file.resource_type, "url": f"{base}/$bulk-data/{job_id}/{file.id}", "count": file.count}
            for file in files
            if file.what == what
        ]

    manifest = {
        "transactionTime": instant(row.made_at),
        "request": row.request,
        "requiresAccessToken": True,
        "output": shown("output"),
        "error": shown("error"),
    }
    if row.kind == "import":
        manifest["extension"] = {"progress": row.progress}
    return Response(json.dumps(manifest), mimetype="application/json")


def cancel_bulk(job_id: str) -> Response:
    """End it, and remove what it made."""
    fhir, row = room(Fhir), _job(job_id)
    with fhir.records.database.transaction() as session:
        kept = session.get(BulkJob, row.id, with_for_update=True)
        if kept is not None:
            kept.state = "cancelled"
    drop_bulk_job(fhir, row.id)
    return Response(status=202)


def bulk_file(job_id: str, file_id: str) -> Response:
    """One file."""
    fhir = room(Fhir)
    _job(job_id)
    with fhir.records.database.snapshot() as session:
        file = session.get(BulkFile, int(file_id)) if file_id.isdecimal() and len(file_id) < 18 else None
    if file is None or file.job_id != job_id or file.what == "input":
        raise BulkNotFound
    answer = Response(fhir.blobs.stream(file.blob_key, Seal.unpack(file.seal)), mimetype=NDJSON)
    answer.headers["Content-Length"] = str(file.size_bytes)
    return answer


def _job(job_id: str) -> BulkJob:
    """An export or import of the caller's own. Raises BulkNotFound."""
    caller = current_caller(Door.FHIR)
    with room(Fhir).records.database.snapshot() as session:
        row = session.get(BulkJob, job_id[:40])
    if row is None or row.principal != principal_of(caller) or row.state == "cancelled":
        raise BulkNotFound
    return row
