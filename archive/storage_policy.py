"""Storage tiers: which studies leave the fast store or are packed, and when. A site document, applied every
night.

The first rule that fits a study says where it belongs, and whether it is packed there; what none fits belongs
to the main store, as it came. A study is moved object by object: the sealed bytes are written to the other
place (packed, or unpacked, under a new key where the form changes) and to the stores of copies, and proven;
then the row names them; then the sweeper removes what no row names any more. Reading works from either,
packed or not, range by range, so nobody waits for a recall.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller, system
from access.document_kind import DocumentKind, current_document
from archive.blobs.store import BlobStore
from archive.blobs.tiers import COLD, PACKED_SUFFIX, key_in, tier_of
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
PACKED = "packed"
PLACES = {  # what a rule or an operator says -> Study.tier
    ("main", False): "", ("cold", False): COLD, ("main", True): PACKED, ("cold", True): f"{COLD} {PACKED}",
}  # fmt: skip
TIERS = ("main", "cold")
NAMES = {place: tier + (f", {PACKED}" if packs else "") for (tier, packs), place in PLACES.items()}


class InvalidStoragePolicy(CloudfilmError):
    """A storage policy that cannot be read."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class TierRule:
    """Where studies belong that are older than some days since they arrived; empty sets fit every study."""

    older_than_days: int
    place: str  # of PLACES
    modalities: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()


def parse_storage_policy(text: str) -> tuple[TierRule, ...]:
    """Read `{"rules": [{"older_than_days": 365, "tier": "cold", "compress": true, "modalities": ["CT"]}]}`.

    Raises InvalidStoragePolicy.
    """
    try:
        rules = json.loads(text).get("rules", [])
        return tuple(_rule(rule) for rule in rules)
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise InvalidStoragePolicy(f"The storage policy cannot be read: {failure}") from None


def _rule(rule: dict[str, Any]) -> TierRule:
    unknown = rule.keys() - {"older_than_days", "tier", "compress", "modalities", "institutions"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not known")
    days = rule["older_than_days"]
    if not isinstance(days, int) or isinstance(days, bool) or days < 0:
        raise ValueError("older_than_days is a whole number of days")
    if rule["tier"] not in TIERS:
        raise ValueError(f"tier is one of {', '.join(TIERS)}")
    packs = rule.get("compress", False)
    if not isinstance(packs, bool):
        raise ValueError("compress is true or false")
    lists = {name: rule.get(name, []) for name in ("modalities", "institutions")}
    if not all(
        isinstance(each, list) and all(isinstance(value, str) for value in each) for each in lists.values()
    ):
        raise ValueError("modalities and institutions are lists of texts")
    return TierRule(
        days, PLACES[rule["tier"], packs], tuple(lists["modalities"]), tuple(lists["institutions"])
    )


STORAGE_POLICY = DocumentKind(
    "storage",
    "Which studies move to the cold store or are compressed, by age, modality and institution.",
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
                .where(Study.tier != rule.place, wanted)
                .order_by(Study.created_at)
                .limit(A_NIGHT)
            ).all()
            for study in found:
                enqueue(session, archive.clock, move_study, study, rule.place, key=f"move {study}")


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
def move_study(archive: Archive, study_instance_uid: str, place: str) -> None:
    """Bring every object of a study to a place. Raises StorageUnavailable, StorageFull or DamagedBlob."""
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
        if _place_of(row.blob_key) == place:
            continue
        key, seal = _brought(archive, row.blob_key, Seal.unpack(row.seal), row.sha256, place)
        with archive.database.transaction() as session:
            session.execute(
                update(Instance)
                .where(Instance.id == row.id, Instance.blob_key == row.blob_key)
                .values(blob_key=key, seal=seal.pack())
            )
        moved += 1
    with archive.database.transaction() as session:
        session.execute(update(Study).where(Study.id == study.id).values(tier=place))
        if place.startswith(COLD):
            forget_renditions(session, study.id)  # what is seldom looked at is made when it is asked for
        if moved:
            note(
                session, archive.clock, system("storage policy"), "move ImagingStudy", study_instance_uid,
                detail=NAMES[place],
            )  # fmt: skip


def _place_of(key: str) -> str:
    return PLACES[tier_of(key) or "main", key.endswith(PACKED_SUFFIX)]


def _brought(archive: Archive, key: str, seal: Seal, sha256: bytes, place: str) -> tuple[str, Seal]:
    """An object at another place: its key and seal there, proven in the store and in those of copies."""
    tier, packs = next(at for at, each in PLACES.items() if each == place)
    blobs, tier = archive.blobs, "" if tier == "main" else tier
    if bool(seal.packed_bytes) == packs:
        there = key_in(tier, key)
        transfer(blobs.store, key, blobs.store, there, seal)
        _require_sound(archive, blobs.store, there, seal, sha256)
        return there, seal
    writer = blobs.writer(tier, packs)
    try:
        for piece in blobs.stream(key, seal):
            writer.write(piece)
        sealed = writer.finish()
        writer.commit()
    except BaseException:
        writer.discard()
        raise
    _require_sound(archive, blobs.store, sealed.key, sealed.seal, sha256)
    for store in blobs.copies.values():  # what is in them under the old key goes with it
        copied = key_in("", sealed.key)
        transfer(blobs.store, sealed.key, store, copied, sealed.seal)
        _require_sound(archive, store, copied, sealed.seal, sha256)
    return sealed.key, sealed.seal


def _require_sound(archive: Archive, store: BlobStore, key: str, seal: Seal, sha256: bytes) -> None:
    if not is_sound(store, key, archive.blobs.keys, seal, sha256):
        store.delete(key)
        raise DamagedBlob(f"The object {key} did not arrive whole in its other place.")


def follow_arrivals(session: Session, change: Change) -> None:
    """What arrives for a study that was moved lies in the main store: the policy looks at the study again."""
    strays = [
        and_(Study.tier == place, ~Instance.blob_key.like(_pattern(tier, packs)))
        for (tier, packs), place in PLACES.items()
        if place
    ]
    late = exists().where(Instance.study_id == Study.id, or_(*strays)).correlate(Study)
    session.execute(
        update(Study)
        .where(Study.study_instance_uid == change.subject, Study.tier != "", late)
        .values(tier="")
    )


def _pattern(tier: str, packs: bool) -> str:
    return (f"{COLD}:%" if tier == COLD else "%") + (PACKED_SUFFIX if packs else "")


def recall(archive: Archive, caller: Caller, study_instance_uid: str, place: str = "") -> None:
    """Queue a move of one study by hand. Raises Forbidden or NotFound."""
    caller.require(Action("Job", "c"))
    with archive.database.transaction() as session:
        if session.scalar(select(Study.id).where(Study.study_instance_uid == study_instance_uid)) is None:
            raise NotFound("The study")
        enqueue(
            session, archive.clock, move_study, study_instance_uid, place, key=f"move {study_instance_uid}"
        )
