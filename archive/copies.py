"""Copies: every object is also in each of the stores that `blobs.copies` names (another disk, another
region).

When a study comes to rest, or something of it is held, a job copies what is missing, sealed as it is. It can
run twice, goes on where it was, and is tried until it is done; how far behind it is shows in the figures. A
read that the main store cannot serve comes from a copy (`archive.blobs.sealed`), and scrubbing mends either
from the other.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive.blobs.tiers import key_in
from archive.blobs.transfer import is_there, transfer
from archive.model import Hold, Instance, Study
from archive.non_patient import STORED_CHANGE
from archive.non_patient_model import NonPatientInstance
from archive.room import Archive
from kernel.changes import Change
from kernel.crypto import Seal
from kernel.jobs import enqueue, job

ENDLESSLY = 1_000_000
PAGE = 200


def follow_for_copies(archive: Archive, session: Session, change: Change) -> None:
    """Queue the copying of a study: subscribed to studies at rest, to what is held, to what is no
    patient's."""
    if not archive.blobs.copies:
        return
    if change.kind == STORED_CHANGE:
        enqueue(session, archive.clock, copy_non_patient, change.subject, key=f"copy {change.subject}")
        return
    study = change.subject if change.kind == "study-rested" else str(change.data.get("study", ""))
    if study:
        enqueue(session, archive.clock, copy_study, study, key=f"copy {study}")


@job(queue="archive", retries=ENDLESSLY)
def copy_study(archive: Archive, study_instance_uid: str) -> None:
    """Bring every object of a study into every store of copies that lacks it. Raises StorageUnavailable."""
    for model in (Instance, Hold):
        last = 0
        while True:
            with archive.database.snapshot() as session:
                statement = select(model.id, model.blob_key, model.seal).where(model.id > last)
                if model is Instance:
                    statement = statement.join(Study, Study.id == Instance.study_id).where(
                        Study.study_instance_uid == study_instance_uid
                    )
                else:
                    statement = statement.where(Hold.study_instance_uid == study_instance_uid)
                rows = session.execute(statement.order_by(model.id).limit(PAGE)).all()
            for row in rows:
                _copy(archive, row.blob_key, Seal.unpack(row.seal))
                last = row.id
            if len(rows) < PAGE:
                break


@job(queue="archive", retries=ENDLESSLY)
def copy_non_patient(archive: Archive, sop_instance_uid: str) -> None:
    """Bring a non-patient instance into every store of copies that lacks it. Raises StorageUnavailable."""
    with archive.database.snapshot() as session:
        row = session.execute(
            select(NonPatientInstance.blob_key, NonPatientInstance.seal).where(
                NonPatientInstance.sop_instance_uid == sop_instance_uid
            )
        ).first()
    if row is not None:
        _copy(archive, row.blob_key, Seal.unpack(row.seal))


def _copy(archive: Archive, key: str, seal: Seal) -> None:
    for store in archive.blobs.copies.values():
        if not is_there(store, key_in("", key), seal):
            transfer(archive.blobs.store, key, store, key_in("", key), seal)
