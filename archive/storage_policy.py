"""Storage tiers: which studies leave the fast store, and when. A site document, applied every night.

The first rule that fits a study says where it belongs; one that none fits belongs to the main store. A study
is moved object by object: the sealed bytes are written to the other tier and proven, then the row names
them, then the sweeper removes what no row names any more. Reading works from either, so nobody waits for a
recall.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller, system
from access.document_kind import DocumentKind, current_document
from archive.blobs.tiers import COLD, key_in, tier_of
from archive.blobs.transfer import is_sound, transfer
from archive.model import Instance, Series, Study
from archive.renditions import forget_renditions
from archive.retrieve import NotFound
from archive.room import Archive
from kernel.changes import Change
from kernel.clock import Clock
from kernel.crypto import DamagedBlob, Seal
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job

A_NIGHT = 2000  # studies that one run queues
TIERS = {"main": "", "cold": COLD}


class InvalidStoragePolicy(CloudfilmError):
    """A storage policy that cannot be read."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class TierRule:
    """Where studies belong that are older than some days since they arrived; empty sets fit every study."""

    older_than_days: int
    tier: str
    modalities: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()


def parse_storage_policy(text: str) -> tuple[TierRule, ...]:
    """Read `{"rules": [{"older_than_days": 365, "tier": "cold", "modalities": ["CT"]}]}`.

    Raises InvalidStoragePolicy.
    """
    try:
        rules = json.loads(text).get("rules", [])
        return tuple(_rule(rule) for rule in rules)
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise InvalidStoragePolicy(f"The storage policy cannot be read: {failure}") from None


def _rule(rule: dict[str, Any]) -> TierRule:
    unknown = rule.keys() - {"older_than_days", "tier", "modalities", "institutions"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not known")
    days = rule["older_than_days"]
    if not isinstance(days, int) or isinstance(days, bool) or days < 0:
        raise ValueError("older_than_days is a whole number of days")
    if rule["tier"] not in TIERS:
        raise ValueError(f"tier is one of {', '.join(TIERS)}")
    lists = {name: rule.get(name, []) for name in ("modalities", "institutions")}
    if not all(
        isinstance(each, list) and all(isinstance(value, str) for value in each) for each in lists.values()
    ):
        raise ValueError("modalities and institutions are lists of texts")
    return TierRule(days, TIERS[rule["tier"]], tuple(lists["modalities"]), tuple(lists["institutions"]))


STORAGE_POLICY = DocumentKind(
    "storage",
    "Which studies move to the cold store, by age, modality and institution.",
    parse_storage_policy,
    '{"rules": []}',
)


@job(queue="archive", every=timedelta(days=1))
def apply_storage_policy(archive: Archive) -> None:
    """Queue a move for each study that is not where the policy wants it."""
    with archive.database.snapshot() as session:
        rules = parse_storage_policy(current_document(session, STORAGE_POLICY))
    for position, rule in enumerate(rules):
        wanted = and_(
            _fits(rule, archive.clock), *(~_fits(before, archive.clock) for before in rules[:position])
        )
        with archive.database.transaction() as session:
            found = session.scalars(
                select(Study.study_instance_uid)
                .where(Study.tier != rule.tier, wanted)
                .order_by(Study.created_at)
                .limit(A_NIGHT)
            ).all()
            for study in found:
                enqueue(session, archive.clock, move_study, study, rule.tier, key=f"move {study}")


def _fits(rule: TierRule, clock: Clock) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [
        Study.created_at < clock.now() - timedelta(days=rule.older_than_days)
    ]
    if rule.institutions:
        conditions.append(Study.institution.in_(rule.institutions))
    if rule.modalities:
        conditions.append(exists().where(Series.study_id == Study.id, Series.modality.in_(rule.modalities)))
    return and_(*conditions)


@job(queue="archive", retries=10)
def move_study(archive: Archive, study_instance_uid: str, tier: str) -> None:
    """Bring every object of a study into a tier. Raises StorageUnavailable, StorageFull or DamagedBlob."""
    with archive.database.snapshot() as session:
        study = session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))
        if study is None:
            return
        rows = session.execute(
            select(Instance.id, Instance.blob_key, Instance.seal, Instance.sha256).where(
                Instance.study_id == study.id
            )
        ).all()
    moved = 0
    for row in rows:
        if tier_of(row.blob_key) == tier:
            continue
        key, seal = key_in(tier, row.blob_key), Seal.unpack(row.seal)
        transfer(archive.blobs.store, row.blob_key, archive.blobs.store, key, seal)
        if not is_sound(archive.blobs.store, key, archive.blobs.keys, seal, row.sha256):
            archive.blobs.store.delete(key)
            raise DamagedBlob(f"The object {row.blob_key} did not arrive whole in the other tier.")
        with archive.database.transaction() as session:
            session.execute(
                update(Instance)
                .where(Instance.id == row.id, Instance.blob_key == row.blob_key)
                .values(blob_key=key)
            )
        moved += 1
    with archive.database.transaction() as session:
        session.execute(update(Study).where(Study.id == study.id).values(tier=tier))
        if tier:
            forget_renditions(session, study.id)  # what is seldom looked at is made when it is asked for
        if moved:
            note(
                session, archive.clock, system("storage policy"), "move ImagingStudy", study_instance_uid,
                detail=tier or "main",
            )  # fmt: skip


def follow_arrivals(session: Session, change: Change) -> None:
    """What arrives for a study that was moved lies in the main store: the policy looks at the study again."""
    late = exists().where(Instance.study_id == Study.id, ~Instance.blob_key.like(f"{COLD}:%"))
    session.execute(
        update(Study)
        .where(Study.study_instance_uid == change.subject, Study.tier != "", late)
        .values(tier="")
    )


def recall(archive: Archive, caller: Caller, study_instance_uid: str, tier: str = "") -> None:
    """Queue a move of one study by hand. Raises Forbidden or NotFound."""
    caller.require(Action("Job", "c"))
    with archive.database.transaction() as session:
        if session.scalar(select(Study.id).where(Study.study_instance_uid == study_instance_uid)) is None:
            raise NotFound("The study")
        enqueue(
            session, archive.clock, move_study, study_instance_uid, tier, key=f"move {study_instance_uid}"
        )
