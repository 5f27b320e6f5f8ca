"""Whether a study is whole: what modalities said they made (MPPS), gaps in the numbers, the bytes themselves.

The report is for people who must trust the archive: it says what is missing and what is damaged, and names
the instance. Checking reads every object once and compares it with the digests taken on arrival.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import func, select

from access.caller import Caller
from archive.blobs.store import BlobNotFound
from archive.model import Hold
from archive.performed_steps import expected_instances
from archive.retrieve import StoredInstance, find_instances, instance_bytes
from archive.room import Archive
from kernel.crypto import DamagedBlob


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """One series of the report."""

    series_instance_uid: str
    instances: int
    missing_numbers: tuple[int, ...]  # gaps between the lowest and the highest instance number


@dataclass(frozen=True, slots=True)
class CompletenessReport:
    """What was found."""

    study_instance_uid: str
    series: tuple[SeriesReport, ...]
    damaged: tuple[str, ...]  # SOP Instance UIDs whose bytes are lost or changed
    held: int  # objects of this study that wait for review
    not_arrived: tuple[str, ...] = ()  # SOP Instance UIDs that a modality said it made, and that are not here

    @property
    def is_complete(self) -> bool:
        """Nothing missing and nothing damaged."""
        gaps_in = any(series.missing_numbers for series in self.series)
        return not (self.damaged or self.not_arrived or gaps_in)

    def as_text(self) -> str:
        """For people."""
        lines = [f"Study {self.study_instance_uid}"]
        for series in self.series:
            lines.append(f"  series {series.series_instance_uid}: {series.instances} instances")
            if series.missing_numbers:
                lines.append(f"    missing numbers: {', '.join(map(str, series.missing_numbers[:50]))}")
        lines += [f"  damaged: {uid}" for uid in self.damaged]
        if self.not_arrived:
            lines.append(f"  performed and not arrived: {len(self.not_arrived)}")
            lines += [f"    {uid}" for uid in self.not_arrived[:50]]
        if self.held:
            lines.append(f"  held for review: {self.held}")
        lines.append("  complete" if self.is_complete else "  NOT complete")
        return "\n".join(lines)


def check_completeness(archive: Archive, caller: Caller, study_instance_uid: str) -> CompletenessReport:
    """Check a study. Raises NotFound."""
    numbers: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    damaged = []
    present = set()
    for stored in find_instances(archive, caller, study_instance_uid):
        present.add(stored.sop_instance_uid)
        counts[stored.series_instance_uid] += 1
        if stored.instance_number is not None:
            numbers[stored.series_instance_uid].append(stored.instance_number)
        if not is_undamaged(archive, stored):
            damaged.append(stored.sop_instance_uid)
    with archive.database.snapshot() as session:
        held = session.scalar(
            select(func.count(Hold.id)).where(
                Hold.study_instance_uid == study_instance_uid, Hold.resolved_at.is_(None)
            )
        )
        expected = expected_instances(session, study_instance_uid)
    not_arrived = sorted(uid for uids in expected.values() for uid in uids if uid not in present)
    series = tuple(SeriesReport(uid, count, gaps(numbers[uid])) for uid, count in counts.items())
    return CompletenessReport(study_instance_uid, series, tuple(damaged), held or 0, tuple(not_arrived))


def is_undamaged(archive: Archive, stored: StoredInstance) -> bool:
    """Whether an object's bytes are those that arrived."""
    digest = hashlib.sha256()
    try:
        for piece in instance_bytes(archive, stored):
            digest.update(piece)
    except (BlobNotFound, DamagedBlob):
        return False
    return digest.digest() == stored.sha256


def gaps(numbers: list[int], most: int = 10000) -> tuple[int, ...]:
    """The numbers that are missing between the lowest and the highest; nothing when they are too far apart to
    have been counted one by one."""
    if not numbers or max(numbers) - min(numbers) > most:
        return ()
    return tuple(sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers)))
