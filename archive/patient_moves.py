"""What a patient has follows the person: when a record is merged into another, studies, documents and shares
go along.

A move is written down with its cause, so that taking the merge back brings exactly that home again. The
objects' bytes stay as they came; where a study belongs is the index's word. IHE PIR; HL7 v2 A40.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import system
from access.grants import readdress_grant, readdress_grants
from archive.model import Study
from archive.reconcile_model import PatientMove
from archive.room import Archive
from kernel.changes import Change, record_change
from mpi.model import PatientRecord
from records.hashing import hash_of
from records.identifiers import present_document
from records.model import IndexReference, Resource
from records.repository import write

MOVER = system("patient moves")
SHARE = "Share/"
NOT_MOVED = frozenset({"Patient", "ImagingStudy", "Provenance", "AuditEvent", "Person"})
"""Types that say of a Patient what stays true of it, or that are drawn from elsewhere."""


def follow_merges(archive: Archive, session: Session, change: Change) -> None:
    """A record was merged into another, or a merge was taken back."""
    cause = f"merge Patient/{change.subject}"
    if change.kind == "patient-unmerged":
        undo_moves(archive, session, cause)
        return
    target = session.scalar(
        select(PatientRecord).where(PatientRecord.patient_id == str(change.data.get("into")))
    )
    source = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == change.subject))
    if target is None or source is None or source.replaced_by is None:  # taken back in the meantime
        return
    for study in session.scalars(select(Study).where(Study.patient_logical_id == source.patient_id)):
        move_study(archive, session, study, target, cause)
    for type_, logical_id in _documents_of(session, source.patient_id):
        _move_document(archive, session, type_, logical_id, source.patient_id, target.patient_id, cause)
    for name in readdress_grants(session, source.patient_id, target.patient_id):
        _write_down(archive, session, f"{SHARE}{name}", source.patient_id, target.patient_id, cause)
        record_change(session, archive.clock, "share-changed", name.partition("/")[0])


def move_study(archive: Archive, session: Session, study: Study, target: PatientRecord, cause: str) -> None:
    """Give a study to another patient, and write down why."""
    if study.patient_record_id == target.id:
        return
    before = study.patient_logical_id
    study.patient_record_id, study.patient_logical_id = target.id, target.patient_id
    study.changed_at = archive.clock.now()
    _write_down(archive, session, study.study_instance_uid, before, target.patient_id, cause)
    session.flush()
    record_change(
        session, archive.clock, "study-patient-changed", study.study_instance_uid,
        patient=target.patient_id, previous=before,
    )  # fmt: skip


def undo_moves(archive: Archive, session: Session, cause: str) -> None:
    """Bring home what moved for this cause, unless it has moved on since."""
    moves = session.scalars(
        select(PatientMove)
        .where(PatientMove.cause == cause, PatientMove.undone_at.is_(None))
        .order_by(PatientMove.id.desc())
    ).all()
    for move in moves:
        move.undone_at = archive.clock.now()
        if move.subject.startswith(SHARE):
            name = move.subject.removeprefix(SHARE)
            readdress_grant(session, name, move.to_patient, move.from_patient)
            record_change(session, archive.clock, "share-changed", name.partition("/")[0])
            continue
        if "/" in move.subject:
            type_, _, logical_id = move.subject.partition("/")
            _readdress(archive, session, type_, logical_id, move.to_patient, move.from_patient)
            continue
        study = session.scalar(select(Study).where(Study.study_instance_uid == move.subject))
        home = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == move.from_patient))
        if study is None or home is None or study.patient_logical_id != move.to_patient:
            continue
        study.patient_record_id, study.patient_logical_id = home.id, home.patient_id
        study.changed_at = archive.clock.now()
        session.flush()
        record_change(
            session, archive.clock, "study-patient-changed", study.study_instance_uid,
            patient=home.patient_id, previous=move.to_patient,
        )  # fmt: skip


def _documents_of(session: Session, patient_id: str) -> list[tuple[str, str]]:
    """What refers to a Patient, each document once."""
    rows = session.execute(
        select(Resource.type, Resource.logical_id)
        .join(IndexReference, IndexReference.c.resource_id == Resource.id)
        .where(
            IndexReference.c.target == hash_of(f"Patient/{patient_id}"),
            Resource.type.not_in(NOT_MOVED),
            Resource.body != "",  # what is drawn follows its home
            ~Resource.deleted,
        )
        .distinct()
    )
    return [(type_, logical_id) for type_, logical_id in rows]


def _move_document(
    archive: Archive, session: Session, type_: str, logical_id: str, before: str, after: str, cause: str
) -> None:
    if _readdress(archive, session, type_, logical_id, before, after):
        _write_down(archive, session, f"{type_}/{logical_id}", before, after, cause)


def _readdress(
    archive: Archive, session: Session, type_: str, logical_id: str, before: str, after: str
) -> bool:
    """A new version of a document that names another Patient. Returns whether it named this one."""
    document = present_document(session, type_, logical_id)
    if document is None:
        return False
    changed = _with_reference(document, f"Patient/{before}", f"Patient/{after}")
    if changed == document:
        return False
    institution = session.scalar(
        select(Resource.institution).where(Resource.type == type_, Resource.logical_id == logical_id)
    )
    write(
        archive.mpi.records, session, MOVER, changed,
        logical_id=logical_id, institution=institution or "",
    )  # fmt: skip
    return True


def _with_reference(value: Any, before: str, after: str) -> Any:
    if isinstance(value, dict):
        return {
            key: after if key == "reference" and each == before else _with_reference(each, before, after)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_with_reference(each, before, after) for each in value]
    return value


def _write_down(
    archive: Archive, session: Session, subject: str, before: str, after: str, cause: str
) -> None:
    session.add(
        PatientMove(
            subject=subject, from_patient=before, to_patient=after, cause=cause, at=archive.clock.now()
        )
    )
