"""Whether a study is whole: what modalities said they made (MPPS), what a sender has, gaps in the numbers,
the bytes themselves.

The report is for people who must trust the archive: it says what is missing and what is damaged, and names
the instance. Checking reads every object once, compares it with the SHA-256 taken on arrival, and takes MD5
beside it for senders who have no other.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sqlalchemy import func, select

from access.caller import Caller
from archive.blobs.store import BlobNotFound
from archive.model import Hold
from archive.performed_steps import expected_instances
from archive.retrieve import StoredInstance, find_instances, instance_bytes
from archive.room import Archive
from kernel.crypto import DamagedBlob
from kernel.csv_lines import csv_line
from kernel.errors import CloudfilmError, Kind

DIGEST = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")  # MD5, SHA-256


class InvalidDigests(CloudfilmError):
    """A list of digests with a line that has none."""

    kind = Kind.INVALID

    def __init__(self, number: int) -> None:
        super().__init__(
            f"Line {number} does not begin with an MD5 or SHA-256: write lines as md5sum and sha256sum do."
        )


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """One series of the report."""

    series_instance_uid: str
    instances: int
    missing_numbers: tuple[int, ...]  # gaps between the lowest and the highest instance number


@dataclass(frozen=True, slots=True)
class CheckedObject:
    """One object of the report, as it was read."""

    sop_instance_uid: str
    size_bytes: int
    sha256: str  # hexadecimal; empty as `md5` is when the bytes are lost or changed
    md5: str


@dataclass(frozen=True, slots=True)
class CompletenessReport:
    """What was found."""

    study_instance_uid: str
    series: tuple[SeriesReport, ...]
    objects: tuple[CheckedObject, ...]
    held: int  # objects of this study that wait for review
    not_arrived: tuple[str, ...]  # SOP Instance UIDs that a modality said it made, and that are not here
    compared: int  # digests of the sender's list
    not_here: tuple[str, ...]  # the lines of that list whose digest no object has

    @property
    def damaged(self) -> tuple[str, ...]:
        """SOP Instance UIDs whose bytes are lost or changed."""
        return tuple(each.sop_instance_uid for each in self.objects if not each.sha256)

    @property
    def is_complete(self) -> bool:
        """Nothing missing and nothing damaged."""
        gaps_in = any(series.missing_numbers for series in self.series)
        return not (self.damaged or self.not_arrived or self.not_here or gaps_in)

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
        if self.compared:
            lines.append(f"  compared with {self.compared} digests of the sender")
            lines += [f"    not in the study: {line}" for line in self.not_here]
        if self.held:
            lines.append(f"  held for review: {self.held}")
        lines.append("  complete" if self.is_complete else "  NOT complete")
        return "\n".join(lines)

    def as_csv(self) -> str:
        """For a sender to compare: every object that is here, and what should be."""
        lines = [csv_line(("sop_instance_uid", "size_bytes", "sha256", "md5", "state"))]
        for each in self.objects:
            state = "whole" if each.sha256 else "damaged"
            lines.append(csv_line((each.sop_instance_uid, each.size_bytes, each.sha256, each.md5, state)))
        lines += [csv_line((uid, "", "", "", "not arrived")) for uid in self.not_arrived]
        return "".join(lines)


def parse_digests(lines: Iterable[str]) -> dict[str, str]:
    """A sender's list, as `sha256sum` and `md5sum` write it: digest, spaces, name. Returns the lines by their
    digests. Raises InvalidDigests."""
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line:
            digest = line.split()[0].removeprefix("\\").lower()  # which stands before a name that was escaped
            if not DIGEST.fullmatch(digest):
                raise InvalidDigests(number)
            found[digest] = line
    return found


def check_completeness(
    archive: Archive, caller: Caller, study_instance_uid: str, sent: Mapping[str, str] = MappingProxyType({})
) -> CompletenessReport:
    """Check a study. sent: what its sender has, as `parse_digests` returns it. Raises NotFound."""
    numbers: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    objects = []
    for stored in find_instances(archive, caller, study_instance_uid):
        objects.append(_read(archive, stored))
        counts[stored.series_instance_uid] += 1
        if stored.instance_number is not None:
            numbers[stored.series_instance_uid].append(stored.instance_number)
    with archive.database.snapshot() as session:
        held = session.scalar(
            select(func.count(Hold.id)).where(
                Hold.study_instance_uid == study_instance_uid, Hold.resolved_at.is_(None)
            )
        )
        expected = expected_instances(session, study_instance_uid)
    present = {each.sop_instance_uid for each in objects}
    digests = {digest for each in objects for digest in (each.sha256, each.md5)}
    not_arrived = sorted(uid for uids in expected.values() for uid in uids if uid not in present)
    series = tuple(SeriesReport(uid, count, gaps(numbers[uid])) for uid, count in counts.items())
    return CompletenessReport(
        study_instance_uid, series, tuple(objects), held or 0, tuple(not_arrived), len(sent),
        tuple(line for digest, line in sent.items() if digest not in digests),
    )  # fmt: skip


def _read(archive: Archive, stored: StoredInstance) -> CheckedObject:
    damaged = CheckedObject(stored.sop_instance_uid, stored.size_bytes, "", "")
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        for piece in instance_bytes(archive, stored):
            sha256.update(piece)
            md5.update(piece)
    except (BlobNotFound, DamagedBlob):
        return damaged
    if sha256.digest() != stored.sha256:
        return damaged
    return replace(damaged, sha256=sha256.hexdigest(), md5=md5.hexdigest())


def gaps(numbers: list[int], most: int = 10000) -> tuple[int, ...]:
    """The numbers that are missing between the lowest and the highest; nothing when they are too far apart to
    have been counted one by one."""
    if not numbers or max(numbers) - min(numbers) > most:
        return ()
    return tuple(sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers)))
