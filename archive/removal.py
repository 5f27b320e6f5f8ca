"""Removal: objects leave every view at once, with reason and audit, and can be brought back until they are
purged.

A removed object's rows go, so no search, retrieval or count can show it; its bytes stay sealed where they are
until the retention is over. Bringing it back indexes the same bytes again. What is gone is gone for every
door, also for one that is written later.

IHE RAD Imaging Object Change Management (rejection), PS3.16 CID 7011 (reasons).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, false, func, insert, or_, select, true, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import DELETE_IMAGES, Caller, Clause, system
from archive.blobs.sealed import Sealed
from archive.documents import dump_marked, parse_marked
from archive.model import Instance, Series, Study
from archive.placing import place_again
from archive.reach import within
from archive.removal_model import Removal, RemovedInstance
from archive.rest import rest_study
from archive.retention import kept_until
from archive.retrieve import NotFound
from archive.room import Archive
from kernel.changes import record_change
from kernel.clock import new_id
from kernel.crypto import Seal
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job

REASONS = {  # PS3.16 CID 7011
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
EXPIRED = "113039"
MOST_COMMENT = 1000
BATCH = 500


class InvalidReason(CloudfilmError):
    """A removal without one of the reasons that the standard knows."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        known = ", ".join(f"{code} ({meaning})" for code, meaning in REASONS.items())
        super().__init__(f"Say why, by one of these codes: {known}.")


class RetentionNotOver(CloudfilmError):
    """A study is to be removed as expired, and has to be kept still."""

    kind = Kind.CONFLICT

    def __init__(self, until: datetime) -> None:
        super().__init__(f"The study has to be kept until {until:%Y-%m-%d}: give another reason, or wait.")


class NotRestorable(CloudfilmError):
    """A removal that is over: brought back already, or purged."""

    kind = Kind.GONE

    def __init__(self) -> None:
        super().__init__("This removal is over: its objects were brought back or purged.")


@dataclass(frozen=True, slots=True)
class Removed:
    """A removal, for pages and answers."""

    id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    reason: str
    comment: str
    instances: int
    removed_by: str
    removed_at: datetime
    purge_at: datetime
    end: str


def remove(
    archive: Archive,
    caller: Caller,
    reason: str,
    study_instance_uid: str,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
    comment: str = "",
) -> Removed:
    """Take a study, a series or an instance out of the archive.

    reason: a code of CID 7011, with or without `^DCM`. What has to be kept (`archive.retention`) leaves every
    view too, and its bytes stay until its time is over. Raises InvalidReason, Forbidden, NotFound or
    RetentionNotOver.
    """
    caller.require(DELETE_IMAGES)
    code = reason.removesuffix("^DCM")
    if code not in REASONS:
        raise InvalidReason
    with archive.database.transaction() as session:
        study = session.scalar(
            within(
                select(Study).where(Study.study_instance_uid == study_instance_uid), caller.reach_for("d")
            ).with_for_update(of=Study)
        )
        rows = [] if study is None else _chosen(session, study.id, series_instance_uid, sop_instance_uid)
        if study is None or not rows:
            raise NotFound("The study, series or instance")
        now, kept = archive.clock.now(), kept_until(session, study)
        if code == EXPIRED and kept and kept > now:
            raise RetentionNotOver(kept)
        purge_at = now + timedelta(days=archive.settings.removed_days)
        removal = Removal(
            id=new_id(), study_instance_uid=study_instance_uid, series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid, patient_logical_id=study.patient_logical_id,
            institution=study.institution, reason=code, comment=comment[:MOST_COMMENT], instances=len(rows),
            size_bytes=sum(row.size_bytes for row in rows), removed_by=caller.principal.id, removed_at=now,
            purge_at=max(purge_at, kept) if kept else purge_at,
        )  # fmt: skip
        session.add(removal)
        session.flush()
        _move(session, removal.id, rows)
        _recount(archive, session, study)
        note(
            session, archive.clock, caller, "delete ImagingStudy", study_instance_uid,
            patient_id=removal.patient_logical_id, detail=f"{code} {REASONS[code]}; {len(rows)} instances",
        )  # fmt: skip
        return _as_value(removal)


def _chosen(session: Session, study_id: int, series: str, instance: str) -> list[Instance]:
    statement = select(Instance).where(Instance.study_id == study_id)
    if series:
        statement = statement.join(Series, Series.id == Instance.series_id).where(
            Series.series_instance_uid == series
        )
    if instance:
        statement = statement.where(Instance.sop_instance_uid == instance)
    return list(session.scalars(statement))


def _move(session: Session, removal_id: str, rows: list[Instance]) -> None:
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        session.execute(
            insert(RemovedInstance),
            [
                {
                    "removal_id": removal_id,
                    "sop_instance_uid": row.sop_instance_uid,
                    "size_bytes": row.size_bytes,
                    "sha256": row.sha256,
                    "blob_key": row.blob_key,
                    "seal": row.seal,
                }
                for row in batch
            ],
        )
        session.execute(delete(Instance).where(Instance.id.in_([row.id for row in batch])))
    session.expire_all()


def _recount(archive: Archive, session: Session, study: Study) -> None:
    """Bring counts and ready-made answers up to date; what became empty goes."""
    uid, study_id = study.study_instance_uid, study.id
    counted = session.execute(
        select(Instance.series_id, func.count())
        .where(Instance.study_id == study_id)
        .group_by(Instance.series_id)
    )
    counts: dict[int, int] = {row[0]: row[1] for row in counted}
    modalities = set()
    for series in session.scalars(select(Series).where(Series.study_id == study_id)).all():
        if series.id not in counts:
            session.execute(delete(Series).where(Series.id == series.id))
            continue
        modalities.add(series.modality)
        if series.number_of_instances != counts[series.id]:
            answer = parse_marked(series.attributes)
            answer["00201209"] = {"vr": "IS", "Value": [counts[series.id]]}
            series.attributes = dump_marked(dict(sorted(answer.items())))
            series.number_of_instances = counts[series.id]
            series.revision += 1
    if not counts:
        record_change(session, archive.clock, "study-removed", uid, logical_id=study.logical_id)
        session.execute(delete(Study).where(Study.id == study_id))
        return
    answer = parse_marked(study.attributes)
    answer["00080061"] = {"vr": "CS", "Value": sorted(code for code in modalities if code)}
    answer["00201206"] = {"vr": "IS", "Value": [len(counts)]}
    answer["00201208"] = {"vr": "IS", "Value": [sum(counts.values())]}
    study.attributes = dump_marked(dict(sorted(answer.items())))
    study.number_of_series, study.number_of_instances = len(counts), sum(counts.values())
    study.size_bytes = (
        session.scalar(select(func.sum(Instance.size_bytes)).where(Instance.study_id == study_id)) or 0
    )
    study.revision += 1
    study.changed_at = archive.clock.now()
    record_change(session, archive.clock, "instances-removed", uid)
    enqueue(
        session, archive.clock, rest_study, uid,
        delay_s=archive.settings.rest_after_s, key=f"rest {uid}",
    )  # fmt: skip


def restore(archive: Archive, caller: Caller, removal_id: str) -> Removed:
    """Bring back what a removal took out, as if it had never gone. Raises NotFound or NotRestorable."""
    caller.require(DELETE_IMAGES)
    with archive.database.transaction() as session:
        removal = session.scalar(
            select(Removal).where(Removal.id == removal_id, *_reached(caller)).with_for_update()
        )
        if removal is None:
            raise NotFound("The removal")
        if removal.end:
            raise NotRestorable
        rows = session.scalars(
            select(RemovedInstance)
            .where(RemovedInstance.removal_id == removal_id)
            .order_by(RemovedInstance.id)
        ).all()
        for row in rows:
            sealed = Sealed(row.blob_key, Seal.unpack(row.seal), row.sha256)
            place_again(archive, session, caller, sealed)
        session.execute(delete(RemovedInstance).where(RemovedInstance.removal_id == removal_id))
        removal.end, removal.ended_at = "restored", archive.clock.now()
        note(
            session, archive.clock, caller, "restore ImagingStudy", removal.study_instance_uid,
            patient_id=removal.patient_logical_id, detail=f"removal {removal_id}; {len(rows)} instances",
        )  # fmt: skip
        return _as_value(removal)


def removals(archive: Archive, caller: Caller, most: int = 200) -> tuple[Removed, ...]:
    """Removals within the caller's reach, the newest first."""
    caller.require(DELETE_IMAGES)
    with archive.database.snapshot() as session:
        found = session.scalars(
            select(Removal).where(*_reached(caller)).order_by(Removal.removed_at.desc()).limit(most)
        )
        return tuple(_as_value(removal) for removal in found)


def _reached(caller: Caller) -> list[ColumnElement[bool]]:
    """The study itself is gone, so the reach is that of its institution: what else limits a caller hides all
    removals."""
    return [or_(false(), *map(_clause, limit)) for limit in caller.reach_for("d").limits]


def _clause(clause: Clause) -> ColumnElement[bool]:
    if clause == Clause():
        return true()
    if clause != Clause(institutions=clause.institutions):
        return false()
    return and_(Removal.institution.in_(clause.institutions or ()))


@job(queue="archive", every=timedelta(hours=6))
def purge_removed(archive: Archive) -> None:
    """Let go for good what was removed and is past its retention: rows first, then the bytes."""
    caller = system("purge")
    while True:
        with archive.database.transaction() as session:
            removal = session.scalar(
                select(Removal)
                .where(Removal.ended_at.is_(None), Removal.purge_at <= archive.clock.now())
                .limit(1)
                .with_for_update()
            )
            if removal is None:
                return
            keys = session.scalars(
                select(RemovedInstance.blob_key).where(RemovedInstance.removal_id == removal.id)
            ).all()
            session.execute(delete(RemovedInstance).where(RemovedInstance.removal_id == removal.id))
            session.execute(
                update(Removal)
                .where(Removal.id == removal.id)
                .values(end="purged", ended_at=archive.clock.now())
            )
            note(
                session, archive.clock, caller, "purge ImagingStudy", removal.study_instance_uid,
                patient_id=removal.patient_logical_id, detail=f"removal {removal.id}; {len(keys)} instances",
            )  # fmt: skip
        for key in keys:
            archive.blobs.delete(key)


def _as_value(removal: Removal) -> Removed:
    return Removed(
        removal.id, removal.study_instance_uid, removal.series_instance_uid, removal.sop_instance_uid,
        removal.reason, removal.comment, removal.instances, removal.removed_by, removal.removed_at,
        removal.purge_at, removal.end,
    )  # fmt: skip
