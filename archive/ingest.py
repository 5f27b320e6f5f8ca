"""Ingest: the one way an instance enters the archive.

Every door (C-STORE, STOW-RS, upload, folder watcher, migration) hands over a Part 10 stream and the
Caller who brought it. The stream is sealed to storage while it is hashed, its header is read from what was
sealed, the blob is made durable, and one transaction indexes it and records the change (`archive.placing`);
only then does the door acknowledge. A crash, here or of the database, leaves a whole instance, or a stray
blob that the sweeper removes.

Standards: PS3.10 (file format), PS3.4 Annex B (Storage), PS3.18 10.5 (Store).
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from typing_extensions import Buffer

from access.caller import STORE_IMAGES, Caller
from archive.blobs.sealed import Readinto
from archive.header import Header, read_header
from archive.non_patient_keys import CATEGORY_OF_CLASS
from archive.placing import Arrival, Ingested, Outcome
from archive.room import Archive
from kernel.database import OutcomeUnknown
from kernel.errors import CloudfilmError, Kind
from kernel.metrics import BYTES_INGESTED, INSTANCES_INGESTED

MOST_TOGETHER = 50  # instances that one transaction indexes: tiny ones, each a file that is open until then
MOST_BYTES_TOGETHER = 8388608  # or as many bytes: of what is larger, more together save nothing


class UidConflict(CloudfilmError):
    """The path that an object was sent to is not its own (PS3.18 10.5.1.1 and 12.5)."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The object belongs elsewhere than where it was sent to.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects are sent; what belongs elsewhere is refused. Empty: anywhere."""

    study_instance_uid: str = ""
    category: str = ""  # of archive.non_patient_keys
    sop_instance_uid: str = ""

    def require(self, header: Header) -> None:
        """Raise UidConflict unless the object belongs here."""
        category = CATEGORY_OF_CLASS.get(header.sop_class_uid)
        for wanted, own in (
            (self.study_instance_uid, header.study_instance_uid),
            (self.category, category.name if category else ""),
            (self.sop_instance_uid, header.sop_instance_uid),
        ):
            if wanted and wanted != own:
                raise UidConflict


ANYWHERE = Place()


def ingest(archive: Archive, caller: Caller, part10: Readinto, study_instance_uid: str = "") -> Ingested:
    """Store one instance and index it.

    part10: a PS3.10 file, read once from front to back and never held whole in memory.
    study_instance_uid: refuse an object of another study.
    Returns when it is durable. Raises NotPart10 and the other refusals of `archive.header`, UidConflict,
    Forbidden, StorageFull or StorageUnavailable; when it raises, nothing is kept.
    """
    with Incoming(archive, caller) as incoming:
        incoming.read_from(part10)
        return incoming.store(study_instance_uid)


@dataclass(frozen=True, slots=True)
class Refused:
    """What became of an instance that is not kept, and which it was, as far as that could be read."""

    refusal: CloudfilmError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def ingest_all(
    archive: Archive, caller: Caller, parts: Iterable[Readinto], place: Place = ANYWHERE
) -> Iterator[Ingested | Refused]:
    """Store many instances, each as `ingest` does, and tell of each in the order they came.

    They are made durable and indexed some at a time, which waits for the disk once where one by one
    would wait for each. When a receipt comes, its instance is durable.
    """
    caller.require(STORE_IMAGES)
    batch = _Batch(archive, caller)
    try:
        for part10 in parts:
            batch.receive(part10, place)
            if batch.is_full:
                yield from batch.store()
        yield from batch.store()
    finally:
        batch.discard()


class _Batch:
    """Instances that were received and are to be stored together."""

    def __init__(self, archive: Archive, caller: Caller) -> None:
        self._archive = archive
        self._caller = caller
        self._waiting: list[tuple[Incoming, Arrival] | Refused] = []
        self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to store them."""
        return len(self._waiting) >= MOST_TOGETHER or self._size_bytes >= MOST_BYTES_TOGETHER

    def receive(self, part10: Readinto, place: Place) -> None:
        """Take one more, sealed and read."""
        incoming = Incoming(self._archive, self._caller)
        try:
            incoming.read_from(part10)
            arrival = incoming.arrival(place)
        except CloudfilmError as refusal:
            incoming.close()
            header = incoming.header
            named = (header.sop_class_uid, header.sop_instance_uid) if header else ()
            self._waiting.append(Refused(refusal, *named))
        except BaseException:
            incoming.close()
            raise
        else:
            self._waiting.append((incoming, arrival))
            self._size_bytes += arrival.sealed.size_bytes

    def store(self) -> Iterator[Ingested | Refused]:
        """Make what waits durable, then place it; each refusal is of one alone."""
        received = [each for each in self._waiting if not isinstance(each, Refused)]
        try:
            synced: set[str] = set()
            if len(received) > 1:
                for incoming, _ in received:
                    incoming.begin_commit()
            for incoming, _ in received:
                incoming.commit(synced)
            placed = self._archive.arrivals.run_all([arrival for _, arrival in received])
        except CloudfilmError as refusal:  # of the storage: it is that of all
            placed = [refusal] * len(received)
        waiting, self._waiting, self._size_bytes = self._waiting, [], 0
        outcomes: list[Ingested | Refused] = []
        unexpected: list[Exception] = []
        left = iter(placed)
        for each in waiting:
            if isinstance(each, Refused):
                outcomes.append(each)
                continue
            incoming, arrival = each
            outcome = next(left)
            incoming.settle(outcome)
            if isinstance(outcome, Ingested):
                outcomes.append(outcome)
            elif isinstance(outcome, CloudfilmError):
                header = arrival.header
                outcomes.append(Refused(outcome, header.sop_class_uid, header.sop_instance_uid))
            else:
                unexpected.append(outcome)
        if unexpected:
            raise unexpected[0]
        yield from outcomes

    def discard(self) -> None:
        """Take back what was received and not stored."""
        for each in self._waiting:
            if not isinstance(each, Refused):
                each[0].close()


class Incoming(io.RawIOBase):
    """An instance that is being received: write its Part 10 bytes, then `store`. Unless stored, it
    leaves nothing."""

    def __init__(self, archive: Archive, caller: Caller) -> None:
        super().__init__()
        caller.require(STORE_IMAGES)
        self._archive = archive
        self._caller = caller
        self._writer = archive.blobs.writer()
        self._kept = False
        self.header: Header | None = None  # once it was read

    def writable(self) -> bool:
        """Whether it takes bytes: always."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Append bytes. Raises StorageFull or StorageUnavailable."""
        return self._writer.write(data)

    def read_from(self, source: Readinto) -> None:
        """Append what a source has, to its end. Raises as `write`."""
        self._writer.read_from(source)

    def store(self, study_instance_uid: str = "") -> Ingested:
        """Index what was received; see `ingest`."""
        arrival = self.arrival(Place(study_instance_uid))
        self.commit(set())
        (outcome,) = self._archive.arrivals.run_all([arrival])
        self.settle(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def arrival(self, place: Place) -> Arrival:
        """What was received, sealed and read, and not yet durable."""
        sealed = self._writer.finish()
        with self._writer.reader() as reader:
            header = self.header = read_header(reader, sealed.size_bytes)
        place.require(header)
        return Arrival.of(self._archive, self._caller, header, sealed)

    def begin_commit(self) -> None:
        """Have the disk begin, with those of others."""
        self._writer.begin_commit()

    def commit(self, synced: set[str]) -> None:
        """Make the bytes durable; `synced` as of `BlobWriter.commit`. A row may name them from here on, so
        that they go only with an outcome that rules it out; what else is left of them is the sweeper's."""
        self._writer.commit(synced)
        self._kept = True

    def settle(self, outcome: Ingested | Exception) -> None:
        """End with this outcome: the bytes go if no row names them for certain, and stay if one may."""
        if isinstance(outcome, Ingested):
            self._kept = outcome.outcome is not Outcome.DUPLICATE
            _count_arrival(self._caller, outcome)
        else:
            self._kept = not isinstance(outcome, CloudfilmError) or isinstance(outcome, OutcomeUnknown)
        self.close()

    def close(self) -> None:
        """Take back what was not stored."""
        if not self.closed and not self._kept:
            self._writer.discard()
        super().close()


def _count_arrival(caller: Caller, receipt: Ingested) -> None:
    INSTANCES_INGESTED.labels(caller.door.value, receipt.outcome.value).inc()
    BYTES_INGESTED.labels(caller.door.value).inc(receipt.size_bytes)
