"""Bulk export and import behind the door: NDJSON files, sealed, made and read page by page (Bulk Data 2.0).

An export runs with the permissions and the reach of who asked, as they stood then; memory does not grow
with it.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from access.kept_caller import caller_from
from access.outbound_http import Unreachable, request
from archive.blobs.sealed import Sealed
from fhir_server.room import Fhir
from kernel.crypto import Seal
from kernel.errors import CloudfilmError
from kernel.jobs import job
from records.bulk_model import BulkFile, BulkJob
from records.documents import parse_document
from records.indexing import is_in_patient_compartment
from records.model import IndexCompartment, Resource
from records.parameters import resource_types
from records.query import Criterion, Search, parse_search
from records.reach import within
from records.repository import bodies, rows_by_id, write
from records.search import search_in

PAGE = 500
KEPT_FOR = timedelta(days=1)
BATCH, MOST_LINE = 100, 16 * 1024 * 1024
LEFT_OUT = frozenset({"AuditEvent", "Bundle", "Parameters", "OperationOutcome"})


@job(queue="bulk", retries=2)
def run_bulk_export(fhir: Fhir, job_id: str) -> None:
    """Make the files of an export; begun again, it makes them anew."""
    begun = begin_bulk(fhir, job_id)
    if begun is None:
        return
    caller, asked = begun
    try:
        for type_ in _types(caller, asked):
            if not still_wanted(fhir, job_id, f"exporting {type_}"):
                return
            _export_type(fhir, job_id, caller, asked, type_)
    except CloudfilmError as refused:
        end_bulk(fhir, job_id, "failed", str(refused))
        return
    end_bulk(fhir, job_id, "done")


def begin_bulk(fhir: Fhir, job_id: str) -> tuple[Caller, dict[str, Any]] | None:
    """Who asked, and for what; None when it is not to be done any more."""
    with fhir.records.database.transaction() as session:
        row = session.get(BulkJob, job_id, with_for_update=True)
        if row is None or row.state not in ("accepted", "running"):
            return None
        row.state = "running"
        for file in session.scalars(
            select(BulkFile).where(BulkFile.job_id == job_id, BulkFile.what == "output")
        ).all():
            session.delete(file)  # of a run that was cut short; the sweeper takes the bytes
        return caller_from(row.owner), json.loads(row.asked)


def _types(caller: Caller, asked: dict[str, Any]) -> list[str]:
    """The types that are exported: those asked for, else all that the caller may read."""
    named = asked["types"]
    found = []
    for type_ in sorted(resource_types()):
        if (named and type_ not in named) or (not named and type_ in LEFT_OUT):
            continue
        if asked["level"] != "system" and not is_in_patient_compartment(type_):
            continue
        if caller.may(Action(type_, "r")) and caller.may(Action(type_, "s")):
            found.append(type_)
    return found


def still_wanted(fhir: Fhir, job_id: str, progress: str) -> bool:
    """Say how far it is; whether it was not cancelled meanwhile."""
    with fhir.records.database.transaction() as session:
        changed = session.execute(
            update(BulkJob)
            .where(BulkJob.id == job_id, BulkJob.state == "running")
            .values(progress=progress[:100])
        )
        return bool(cast(Any, changed).rowcount)


def end_bulk(fhir: Fhir, job_id: str, state: str, error: str = "") -> None:
    """It is done, or failed."""
    now = fhir.records.clock.now()
    with fhir.records.database.transaction() as session:
        row = session.get(BulkJob, job_id, with_for_update=True)
        if row is None or row.state == "cancelled":
            return
        row.state, row.progress, row.error, row.done_at = state, state, error, now
        note(session, fhir.records.clock, caller_from(row.owner), f"{row.kind} Bulk", job_id, detail=state)


def _export_type(fhir: Fhir, job_id: str, caller: Caller, asked: dict[str, Any], type_: str) -> None:
    writer = fhir.blobs.writer()
    count = 0
    try:
        for body in _bodies(fhir, caller, asked, type_):
            writer.write(body.encode() + b"\n")
            count += 1
        if not count:
            writer.discard()
            return
        sealed = writer.finish()
        writer.commit()
    except BaseException:
        writer.discard()
        raise
    keep_file(fhir, job_id, type_, "output", count, sealed)


def keep_file(fhir: Fhir, job_id: str, type_: str, what: str, count: int, sealed: Sealed) -> None:
    """Let a file be one of those that a job made."""
    with fhir.records.database.transaction() as session:
        session.add(
            BulkFile(
                job_id=job_id, resource_type=type_, what=what, count=count, size_bytes=sealed.size_bytes,
                blob_key=sealed.key, seal=sealed.seal.pack(),
            )
        )  # fmt: skip


def _bodies(fhir: Fhir, caller: Caller, asked: dict[str, Any], type_: str) -> Iterator[str]:
    filters = [each.partition("?")[2] for each in asked["filters"] if each.partition("?")[0] == type_]
    if filters:
        yield from _filtered(fhir, caller, asked, type_, filters)
        return
    last = 0
    while True:
        statement = select(Resource.id).where(
            Resource.type == type_, Resource.deleted.is_(False), Resource.id > last
        )
        if asked["since"]:
            statement = statement.where(Resource.updated_at >= datetime.fromisoformat(asked["since"]))
        if asked["patients"] is not None:
            members = select(IndexCompartment.c.resource_id).where(
                IndexCompartment.c.patient.in_(asked["patients"])
            )
            statement = statement.where(Resource.id.in_(members))
        for verb in "rs":
            statement = within(statement, caller.reach_for(verb), type_)
        statement = statement.order_by(Resource.id).limit(PAGE)
        with fhir.records.database.snapshot() as session:
            ids = session.scalars(statement).all()
            page = bodies(fhir.records, session, rows_by_id(session, ids))
        for stored in page:
            yield stored.body
        if len(ids) < PAGE:
            return
        last = ids[-1]


def _filtered(
    fhir: Fhir, caller: Caller, asked: dict[str, Any], type_: str, filters: list[str]
) -> Iterator[str]:
    """What any of the type's filters finds (`_typeFilter`), each document once."""
    seen: set[str] = set()
    for query in filters:
        wanted = parse_search(type_, parse_qsl(query, keep_blank_values=True))
        criteria = list(wanted.criteria)
        if asked["since"]:
            criteria.append(Criterion("_lastUpdated", (f"ge{asked['since']}",)))
        cursor = ""
        while True:
            asking = Search(type_, tuple(criteria), count=PAGE, types=(type_,), cursor=cursor)
            with fhir.records.database.snapshot() as session:
                found = search_in(fhir.records, session, caller, asking)
                members = _of_patients(session, type_, found.matches, asked["patients"])
            for stored in found.matches:
                if stored.logical_id not in seen and (members is None or stored.logical_id in members):
                    seen.add(stored.logical_id)
                    yield stored.body
            cursor = found.next_cursor
            if not cursor:
                break


def _of_patients(
    session: Session, type_: str, found: Iterable[Any], patients: list[str] | None
) -> set[str] | None:
    if patients is None:
        return None
    ids = [each.logical_id for each in found]
    members = select(IndexCompartment.c.resource_id).where(IndexCompartment.c.patient.in_(patients))
    statement = select(Resource.logical_id).where(
        Resource.type == type_, Resource.logical_id.in_(ids), Resource.id.in_(members)
    )
    return set(session.scalars(statement))


@job(queue="bulk", retries=0)
def run_bulk_import(fhir: Fhir, job_id: str) -> None:
    """Write what the files of an import hold, in batches; lines that are refused go into an error file."""
    begun = begin_bulk(fhir, job_id)
    if begun is None:
        return
    caller, asked = begun
    refused: list[str] = []
    written = 0
    try:
        for source in _sources(fhir, job_id, asked):
            batch: list[bytes] = []
            for line in source:
                batch.append(line)
                if len(batch) >= BATCH:
                    written += _write(fhir, caller, batch, refused)
                    batch = []
                    if not still_wanted(fhir, job_id, f"{written} written, {len(refused)} refused"):
                        return
            written += _write(fhir, caller, batch, refused)
    except CloudfilmError as failure:
        end_bulk(fhir, job_id, "failed", str(failure))
        return
    if refused:
        sealed = fhir.blobs.write("".join(f"{each}\n" for each in refused).encode())
        keep_file(fhir, job_id, "OperationOutcome", "error", len(refused), sealed)
    with fhir.records.database.transaction() as session:
        session.execute(
            update(BulkJob)
            .where(BulkJob.id == job_id)
            .values(progress=f"{written} written, {len(refused)} refused")
        )
    end_bulk(fhir, job_id, "done")


def _sources(fhir: Fhir, job_id: str, asked: dict[str, Any]) -> Iterator[Iterator[bytes]]:
    for stream in inputs(fhir, job_id):
        yield _lines(stream)
    for url in asked.get("urls", ()):
        with request("GET", url, fhir.trusted_hosts, {"Accept": "application/fhir+ndjson"}) as answer:
            if answer.status != 200:
                raise Unreachable(f"it answered {answer.status}")
            yield _lines(iter(lambda: answer.read(65536), b""))


def inputs(fhir: Fhir, job_id: str) -> Iterator[Iterable[bytes]]:
    """What came with the request, as it came."""
    with fhir.records.database.snapshot() as session:
        given = session.scalars(
            select(BulkFile).where(BulkFile.job_id == job_id, BulkFile.what == "input").order_by(BulkFile.id)
        ).all()
    for file in given:
        yield fhir.blobs.stream(file.blob_key, Seal.unpack(file.seal))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, none longer than a limit."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > MOST_LINE:
            raise Unreachable("a line of it is too long")
    if rest.strip():
        yield rest


def _write(fhir: Fhir, caller: Caller, lines: list[bytes], refused: list[str]) -> int:
    """Write each line as an update under its own id, or as a new document; returns how many were taken."""
    written = 0
    for line in lines:
        try:
            document = parse_document(line)
            with fhir.records.database.transaction() as session:
                write(fhir.records, session, caller, document, logical_id=str(document.get("id", "")))
            written += 1
        except CloudfilmError as refusal:
            issue = {"severity": "error", "code": "processing", "diagnostics": str(refusal)}
            refused.append(
                json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}, ensure_ascii=False)
            )
    return written


@job(queue="bulk", retries=1, every=timedelta(hours=6))
def forget_bulk_data(fhir: Fhir) -> None:
    """Remove exports and imports, and their files, a day after they ended."""
    before = fhir.records.clock.now() - KEPT_FOR
    with fhir.records.database.snapshot() as session:
        old = session.scalars(
            select(BulkJob.id).where(or_(BulkJob.done_at < before, BulkJob.made_at < before - 6 * KEPT_FOR))
        ).all()
    for job_id in old:
        drop_bulk_job(fhir, job_id)


def drop_bulk_job(fhir: Fhir, job_id: str) -> None:
    """Remove one with its files."""
    with fhir.records.database.transaction() as session:
        files = session.scalars(select(BulkFile).where(BulkFile.job_id == job_id)).all()
        keys = [file.blob_key for file in files]
        for file in files:
            session.delete(file)
        session.flush()
        row = session.get(BulkJob, job_id)
        if row is not None:
            session.delete(row)
    for key in keys:
        fhir.blobs.delete(key)
