"""Ingest: the one way an instance enters the archive.

Every door (C-STORE, STOW-RS, upload, folder watcher, migration) hands over a Part 10 stream and the
Caller who brought it. The stream is sealed to storage while it is hashed, its header is read from what was
sealed, the blob is made durable, and one transaction indexes it and records the change; only then does the
door acknowledge. A crash leaves a whole instance, or a stray blob that the sweeper removes.

Standards: PS3.10 (file format), PS3.4 Annex B (Storage), PS3.18 10.5 (Store).
"""

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session
from typing_extensions import Buffer

from access.audit import Noted, note, note_all
from access.caller import STORE_IMAGES, Caller
from access.site import patient_id_issuer
from archive.blobs.sealed import Sealed
from archive.documents import close_document, dump_marked, parse_marked
from archive.folding import fold, fold_name, pinyin
from archive.header import Header, read_header
from archive.indexed_values import index_values
from archive.keys import (
    INDEX_VERSION,
    INSTANCE_PATHS,
    INSTANCE_TAGS,
    RETRIEVE_URL,
    SERIES_PATHS,
    SERIES_TAGS,
    STUDY_PATHS,
    STUDY_TAGS,
)
from archive.model import Hold, Instance, Series, Study
from archive.non_patient import place_non_patient
from archive.non_patient_keys import CATEGORY_OF_CLASS
from archive.query import normal_time
from archive.reach import within
from archive.rest import rest_study
from archive.room import Archive
from kernel.changes import record_change, record_changes
from kernel.clock import new_id
from kernel.database import DatabaseUnavailable, table_of
from kernel.errors import CloudfilmError, Forbidden, Kind
from kernel.jobs import enqueue
from kernel.metrics import BYTES_INGESTED, INSTANCES_INGESTED
from mpi.demographics import Demographics
from mpi.resolve import identify

CHUNK = 262144
MOST_TOGETHER = 16  # instances that one transaction indexes
MOST_BYTES_TOGETHER = 67108864  # or as many bytes


class Outcome(Enum):
    """What became of an instance that was received whole."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same bytes were already there
    HELD = "held"  # kept apart for review: it contradicts what is there


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


@dataclass(frozen=True, slots=True)
class Ingested:
    """The receipt for one instance."""

    study_instance_uid: str  # empty: of no patient
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    size_bytes: int
    outcome: Outcome
    detail: str = ""  # why it is held


def ingest(archive: Archive, caller: Caller, part10: BinaryIO, study_instance_uid: str = "") -> Ingested:
    """Store one instance and index it.

    part10: a PS3.10 file, read once from front to back and never held whole in memory.
    study_instance_uid: refuse an object of another study.
    Returns when it is durable. Raises NotPart10 and the other refusals of `archive.header`, UidConflict,
    Forbidden, StorageFull or StorageUnavailable; when it raises, nothing is kept.
    """
    with Incoming(archive, caller) as incoming:
        while piece := part10.read(CHUNK):
            incoming.write(piece)
        return incoming.store(study_instance_uid)


@dataclass(frozen=True, slots=True)
class Refused:
    """What became of an instance that is not kept, and which it was, as far as that could be read."""

    refusal: CloudfilmError
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def ingest_all(
    archive: Archive, caller: Caller, parts: Iterable[BinaryIO], place: Place = ANYWHERE
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
        self._waiting: list[tuple[Incoming, _Arrival] | Refused] = []
        self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to store them."""
        return len(self._waiting) >= MOST_TOGETHER or self._size_bytes >= MOST_BYTES_TOGETHER

    def receive(self, part10: BinaryIO, place: Place) -> None:
        """Take one more, sealed and read."""
        incoming = Incoming(self._archive, self._caller)
        try:
            while piece := part10.read(CHUNK):
                incoming.write(piece)
            arrival = incoming.arrival(place)
        except CloudfilmError as refusal:
            incoming.close()
            self._waiting.append(Refused(refusal))
        except BaseException:
            incoming.close()
            raise
        else:
            self._waiting.append((incoming, arrival))
            self._size_bytes += arrival.sealed.size_bytes

    def store(self) -> Iterator[Ingested | Refused]:
        """Make what waits durable, then index it in one transaction, in which each refusal is undone by
        itself."""
        received = [each for each in self._waiting if not isinstance(each, Refused)]
        try:
            synced: set[str] = set()
            for incoming, _ in received:
                incoming.commit(synced)
            arrivals = [arrival for _, arrival in received]
            placed = iter(self._archive.commits.run(lambda session: self._place_all(session, arrivals)))
        except CloudfilmError as refusal:  # of the storage or of the database: it is that of all
            placed = iter([arrival.refused(refusal) for _, arrival in received])
        waiting, self._waiting, self._size_bytes = self._waiting, [], 0
        outcomes = [each if isinstance(each, Refused) else each[0].settle(next(placed)) for each in waiting]
        yield from outcomes

    def _place_all(self, session: Session, arrivals: "list[_Arrival]") -> list[Ingested | Refused]:
        outcomes: list[Ingested | Refused] = []
        tally = _Tally()
        for arrival in arrivals:
            try:
                if (
                    arrival.header.study_instance_uid in tally.studies
                ):  # nothing is left that could be refused
                    outcomes.append(_place(self._archive, session, self._caller, arrival, tally))
                    continue
                with session.begin_nested():
                    outcomes.append(_place(self._archive, session, self._caller, arrival, tally))
            except DatabaseUnavailable:
                raise
            except CloudfilmError as refusal:
                outcomes.append(arrival.refused(refusal))
        _settle_tally(self._archive, session, self._caller, tally)
        return outcomes

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

    def writable(self) -> bool:
        """Whether it takes bytes: always."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Append bytes. Raises StorageFull or StorageUnavailable."""
        return self._writer.write(data)

    def store(self, study_instance_uid: str = "") -> Ingested:
        """Index what was received; see `ingest`."""
        arrival = self.arrival(Place(study_instance_uid))
        self.commit(set())
        archive, caller = self._archive, self._caller
        receipt = archive.commits.run(lambda session: _place_one(archive, session, caller, arrival))
        self._kept = receipt.outcome is not Outcome.DUPLICATE
        _count_arrival(caller, receipt)
        return receipt

    def arrival(self, place: Place) -> "_Arrival":
        """What was received, sealed and read, and not yet durable."""
        sealed = self._writer.finish()
        with self._writer.reader() as reader:
            header = read_header(reader, sealed.size_bytes)
        place.require(header)
        document = close_document(self._archive.blobs.keys, dump_marked(header.attributes))
        return _Arrival(header, sealed, document)

    def commit(self, synced: set[str]) -> None:
        """Make the bytes durable; `synced` as of `BlobWriter.commit`."""
        self._writer.commit(synced)

    def settle(self, outcome: Ingested | Refused) -> Ingested | Refused:
        """End with this outcome: the bytes stay if they are named now, and go if not."""
        if isinstance(outcome, Ingested):
            self._kept = outcome.outcome is not Outcome.DUPLICATE
            _count_arrival(self._caller, outcome)
        self.close()
        return outcome

    def close(self) -> None:
        """Take back what was not stored."""
        if not self.closed and not self._kept:
            self._writer.discard()
        super().close()


def _count_arrival(caller: Caller, receipt: Ingested) -> None:
    INSTANCES_INGESTED.labels(caller.door.value, receipt.outcome.value).inc()
    BYTES_INGESTED.labels(caller.door.value).inc(receipt.size_bytes)


@dataclass(frozen=True, slots=True)
class _Arrival:
    header: Header
    sealed: Sealed
    document: bytes

    def refused(self, refusal: CloudfilmError) -> Refused:
        """The refusal of this instance."""
        return Refused(refusal, self.header.sop_class_uid, self.header.sop_instance_uid)


@dataclass(slots=True)
class _StudyTally:
    """What a transaction has stored into one study."""

    id: int
    patient_id: str
    issuer_of_patient_id: str
    is_new: bool
    instances: int = 0
    new_series: int = 0
    size_bytes: int = 0
    series: dict[str, list[int]] = field(default_factory=dict)  # by UID: row, instances


@dataclass(slots=True)
class _Tally:
    """What a transaction has stored so far: counts, changes and jobs are written once for all of it."""

    studies: dict[str, _StudyTally] = field(default_factory=dict)
    changes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


def _place_one(archive: Archive, session: Session, caller: Caller, arrival: _Arrival) -> Ingested:
    tally = _Tally()
    receipt = _place(archive, session, caller, arrival, tally)
    _settle_tally(archive, session, caller, tally)
    return receipt


def _place(archive: Archive, session: Session, caller: Caller, arrival: _Arrival, tally: _Tally) -> Ingested:
    """Put an instance where it belongs, or beside it for review. Runs in the shared transaction.

    What it adds to the tally it adds last, so an instance that is refused leaves nothing there.
    """
    header = arrival.header
    if not header.study_instance_uid:
        is_new = place_non_patient(archive, session, caller, header, arrival.sealed, arrival.document)
        return _receipt(arrival, Outcome.STORED if is_new else Outcome.DUPLICATE)
    connection = session.connection()
    known = connection.execute(_KNOWN_INSTANCE, {"uid": header.sop_instance_uid}).first()
    if known is not None:
        if known.sha256 == arrival.sealed.sha256:
            return _receipt(arrival, Outcome.DUPLICATE)
        return _hold(archive, session, caller, arrival, "different-bytes")
    mine = (header.text("00100020"), header.text("00100021"))
    study = tally.studies.get(header.study_instance_uid)
    if study is None:
        study = _study_of(archive, session, caller, header)
    if not study.is_new and (study.patient_id, study.issuer_of_patient_id) != mine:
        return _hold(archive, session, caller, arrival, "patient-conflict")
    series = study.series.get(header.series_instance_uid)
    new_series = False
    if series is None:
        row, new_series = _series_of(session, header, study.id)
        series = [row, 0]
    _new_instance(archive, session, caller, arrival, study.id, series[0])
    if not study.instances and study.is_new:
        tally.changes.append(("study-created", header.study_instance_uid, {}))
    tally.changes.append(("instance-stored", header.sop_instance_uid, {"study": header.study_instance_uid}))
    series[1] += 1
    study.series[header.series_instance_uid] = series
    study.instances += 1
    study.new_series += int(new_series)
    study.size_bytes += arrival.sealed.size_bytes
    tally.studies[header.study_instance_uid] = study
    return _receipt(arrival, Outcome.STORED)


def _study_of(archive: Archive, session: Session, caller: Caller, header: Header) -> _StudyTally:
    """The study of an instance, made when it is new, locked until the transaction ends. Raises Forbidden."""
    known = session.connection().execute(_KNOWN_STUDY, {"uid": header.study_instance_uid}).first()
    if known is None:
        study_id = _new_study(archive, session, caller, header)
        study = _StudyTally(study_id, header.text("00100020"), header.text("00100021"), True)
    else:
        study = _StudyTally(known.id, known.patient_id, known.issuer_of_patient_id, False)
        mine = (header.text("00100020"), header.text("00100021"))
        if (study.patient_id, study.issuer_of_patient_id) != mine:
            return study  # to be held, whoever may reach it
    _require_reach(session, caller, study.id)
    return study


def _settle_tally(archive: Archive, session: Session, caller: Caller, tally: _Tally) -> None:
    """Write what follows from all that was stored: counts, the change feed, the coming rest, the audit."""
    for uid, study in tally.studies.items():
        _count(archive, session, study)
        enqueue(
            session, archive.clock, rest_study, uid,
            delay_s=archive.settings.rest_after_s, key=f"rest {uid}",
        )  # fmt: skip
    if tally.changes:
        record_changes(session, archive.clock, tally.changes)
    who = (caller.principal.id, caller.grant, "store")
    unseen = [uid for uid in tally.studies if not archive.recently.seen(*who, uid)]
    note_all(session, archive.clock, caller, [Noted("store ImagingStudy", uid) for uid in unseen])
    for uid in unseen:
        archive.recently.mark(*who, uid)


def place_again(archive: Archive, session: Session, caller: Caller, sealed: Sealed) -> Ingested:
    """Index an object whose bytes are in the store already, within the caller's transaction."""
    with archive.blobs.open(sealed.key, sealed.seal) as reader:
        header = read_header(reader, sealed.size_bytes)
    document = close_document(archive.blobs.keys, dump_marked(header.attributes))
    return _place_one(archive, session, caller, _Arrival(header, sealed, document))


def _receipt(arrival: _Arrival, outcome: Outcome, detail: str = "") -> Ingested:
    header = arrival.header
    return Ingested(
        header.study_instance_uid,
        header.series_instance_uid,
        header.sop_instance_uid,
        header.sop_class_uid,
        arrival.sealed.size_bytes,
        outcome,
        detail,
    )


def _require_reach(session: Session, caller: Caller, study_id: int) -> None:
    """A caller adds only to studies that it may know of, and its own new ones are among them."""
    if caller.reach_for("c").is_everywhere:
        return
    if (
        session.execute(within(select(Study.id).where(Study.id == study_id), caller.reach_for("c"))).first()
        is None
    ):
        raise Forbidden("store ImagingStudy", "The study lies outside of what you may reach.")


def _hold(archive: Archive, session: Session, caller: Caller, arrival: _Arrival, reason: str) -> Ingested:
    """Keep an object apart, where nobody sees it until it is reviewed. The same bytes are held once."""
    header, sealed = arrival.header, arrival.sealed
    held = session.scalar(
        select(Hold.id).where(
            Hold.sop_instance_uid == header.sop_instance_uid,
            Hold.sha256 == sealed.sha256,
            Hold.resolved_at.is_(None),
        )
    )
    if held is not None:
        return _receipt(arrival, Outcome.DUPLICATE, reason)
    session.execute(
        insert(Hold).values(
            reason=reason,
            study_instance_uid=header.study_instance_uid,
            sop_instance_uid=header.sop_instance_uid,
            institution=caller.principal.institution or archive.institution,
            blob_key=sealed.key,
            seal=sealed.seal.pack(),
            sha256=sealed.sha256,
            detail="",
            source=caller.principal.id,
            received_at=archive.clock.now(),
            resolution="",
        )
    )
    record_change(
        session, archive.clock, "instance-held", header.sop_instance_uid, reason=reason,
        study=header.study_instance_uid,
    )  # fmt: skip
    note(session, archive.clock, caller, "hold ImagingStudy", header.study_instance_uid, detail=reason)
    return _receipt(arrival, Outcome.HELD, reason)


def demographics_of(header: Header, institution: str, issuer: str) -> Demographics:
    """What the header says of the patient, for the master patient index. `issuer` gave an ID that names
    none."""
    return Demographics(
        issuer=header.text("00100021") or issuer,
        identifier=header.text("00100020"),
        institution=institution,
        name=header.text("00100010"),
        birth_date=header.date("00100030"),
        sex=header.text("00100040"),
    )


def _new_study(archive: Archive, session: Session, caller: Caller, header: Header) -> int:
    institution = caller.principal.institution or archive.institution
    said = demographics_of(header, institution, patient_id_issuer(session, institution))
    identified = identify(archive.mpi, session, caller, said)
    now = archive.clock.now()
    groups = [fold_name(group) for group in [*header.text("00100010").split("="), "", ""][:3]]
    answer = {tag: value for tag, value in header.attributes.items() if tag in STUDY_TAGS}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    answer["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [f"\x01/studies/{header.study_instance_uid}"]}
    for (
        tag,
        vr,
    ) in STUDY_TYPE_2.items():  # required in the answer, with no value if need be (PS3.18 10.6.3.3.1)
        answer.setdefault(tag, {"vr": vr})
    values = {
        "study_instance_uid": header.study_instance_uid,
        "logical_id": new_id(),
        "patient_record_id": identified.patient_record_id,
        "patient_logical_id": identified.patient_id,
        "institution": institution,
        "department": caller.principal.department,
        "patient_id": header.text("00100020"),
        "issuer_of_patient_id": header.text("00100021"),
        "name_alphabetic": groups[0],
        "name_ideographic": groups[1],
        "name_phonetic": groups[2],
        "name_pinyin": pinyin(groups[1] or groups[0]),
        "patient_birth_date": header.date("00100030"),
        "patient_sex": header.text("00100040"),
        "study_date": header.date("00080020"),
        "study_time": _time(header.text("00080030")),
        "accession_number": header.text("00080050"),
        "study_id": header.text("00200010"),
        "study_description": fold(header.text("00081030")),
        "referring_physician_name": fold_name(header.text("00080090")),
        "attributes": dump_marked(answer),
        "created_at": now,
        "changed_at": now,
        "number_of_series": 0,
        "number_of_instances": 0,
        "size_bytes": 0,
        "revision": 0,
        "rested_revision": -1,
        "indexed_version": INDEX_VERSION,
    }
    connection = session.connection()
    study_id = int(connection.execute(_ADD_STUDY, _cut(Study, values)).scalar_one())
    index_values(connection, header.attributes, STUDY_PATHS, study_id)
    return study_id


STUDY_TYPE_2 = {
    "00080020": "DA", "00080030": "TM", "00080050": "SH", "00080090": "PN", "00100010": "PN",
    "00100020": "LO", "00100030": "DA", "00100040": "CS", "00200010": "SH",
}  # fmt: skip


def _series_of(session: Session, header: Header, study_id: int) -> tuple[int, bool]:
    """The row of the series, made when it is new; and whether it is."""
    connection = session.connection()
    found = connection.execute(_KNOWN_SERIES, {"study": study_id, "uid": header.series_instance_uid}).scalar()
    if found is not None:
        return int(found), False
    answer = {tag: value for tag, value in header.attributes.items() if tag in SERIES_TAGS}
    answer["0020000D"] = {"vr": "UI", "Value": [header.study_instance_uid]}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    url = f"\x01/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [url]}
    answer.setdefault("00080060", {"vr": "CS"})
    answer.setdefault("00200011", {"vr": "IS"})
    values = {
        "study_id": study_id,
        "series_instance_uid": header.series_instance_uid,
        "modality": header.text("00080060"),
        "series_number": header.number("00200011"),
        "series_description": fold(header.text("0008103E")),
        "body_part_examined": header.text("00180015"),
        "series_date": header.date("00080021"),
        "station_name": header.text("00081010"),
        "manufacturer": header.text("00080070"),
        "performed_procedure_step_start_date": header.date("00400244"),
        "performed_procedure_step_start_time": _time(header.text("00400245")),
        "attributes": dump_marked(answer),
        "number_of_instances": 0,
        "revision": 0,
        "bundle_revision": -1,
    }
    series_id = int(connection.execute(_ADD_SERIES, _cut(Series, values)).scalar_one())
    index_values(connection, header.attributes, SERIES_PATHS, study_id, series_id)
    return series_id, True


def _new_instance(
    archive: Archive, session: Session, caller: Caller, arrival: _Arrival, study_id: int, series_id: int
) -> None:
    header, sealed = arrival.header, arrival.sealed
    answer = {tag: value for tag, value in header.attributes.items() if tag in INSTANCE_TAGS}
    answer["0020000D"] = {"vr": "UI", "Value": [header.study_instance_uid]}
    answer["0020000E"] = {"vr": "UI", "Value": [header.series_instance_uid]}
    answer["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    answer["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    answer["00083002"] = {"vr": "UI", "Value": [header.transfer_syntax_uid]}
    url = f"\x01/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
    answer[RETRIEVE_URL] = {"vr": "UR", "Value": [f"{url}/instances/{header.sop_instance_uid}"]}
    values = {
        "study_id": study_id,
        "series_id": series_id,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "instance_number": header.number("00200013"),
        "number_of_frames": header.frames.count,
        "content_date": header.date("00080023"),
        "rows": header.number("00280010") or 0,
        "columns": header.number("00280011") or 0,
        "size_bytes": sealed.size_bytes,
        "sha256": sealed.sha256,
        "md5": sealed.md5,
        "blob_key": sealed.key,
        "seal": sealed.seal.pack(),
        "frames": header.frames.packed,
        "bulk": json.dumps(
            {path: [value.offset, value.length, value.vr] for path, value in header.bulk.items()}
        ),
        "attributes": dump_marked(dict(sorted(answer.items()))),
        "document": arrival.document,
        "repairs": "\n".join((*header.repairs, *header.warnings)),
        "source": caller.principal.id,
        "door": caller.door.value,
        "received_at": archive.clock.now(),
    }
    connection = session.connection()
    if not any(path[:8] in header.attributes for path in INSTANCE_PATHS):
        connection.execute(_ADD_INSTANCE, _cut(Instance, values))
        return
    added = connection.execute(_ADD_INSTANCE.returning(Instance.id), _cut(Instance, values))
    index_values(connection, header.attributes, INSTANCE_PATHS, study_id, series_id, int(added.scalar_one()))


def _count(archive: Archive, session: Session, study: _StudyTally) -> None:
    """Bring the counts, and the ready-made answers that carry them, up to date."""
    connection = session.connection()
    for row, more in study.series.values():
        instances, attributes = connection.execute(_COUNT_SERIES, {"row": row, "more": more}).one()
        answer = parse_marked(attributes)
        answer["00201209"] = {"vr": "IS", "Value": [instances]}
        connection.execute(_ANSWER_SERIES, {"row": row, "answer": dump_marked(dict(sorted(answer.items())))})
    counted = {
        "row": study.id,
        "more": study.instances,
        "more_series": study.new_series,
        "more_bytes": study.size_bytes,
        "now": archive.clock.now(),
    }
    instances, series, attributes = connection.execute(_COUNT_STUDY, counted).one()
    answer = parse_marked(attributes)
    if study.new_series:
        modalities = connection.execute(_MODALITIES, {"row": study.id}).scalars()
        answer["00080061"] = {"vr": "CS", "Value": sorted({modality for modality in modalities if modality})}
    answer["00201206"] = {"vr": "IS", "Value": [series]}
    answer["00201208"] = {"vr": "IS", "Value": [instances]}
    connection.execute(_ANSWER_STUDY, {"row": study.id, "answer": dump_marked(dict(sorted(answer.items())))})


# Built once: these run for every instance, and building a statement costs more than running it.
_STUDY, _SERIES, _INSTANCE = table_of(Study), table_of(Series), table_of(Instance)
_KNOWN_INSTANCE = select(Instance.sha256).where(Instance.sop_instance_uid == bindparam("uid"))
_KNOWN_STUDY = (
    select(Study.id, Study.patient_id, Study.issuer_of_patient_id)
    .where(Study.study_instance_uid == bindparam("uid"))
    .with_for_update()
)
_KNOWN_SERIES = select(Series.id).where(
    Series.study_id == bindparam("study"), Series.series_instance_uid == bindparam("uid")
)
_ADD_STUDY = insert(_STUDY).returning(Study.id)
_ADD_SERIES = insert(_SERIES).returning(Series.id)
_ADD_INSTANCE = insert(_INSTANCE)
_COUNT_SERIES = (
    update(_SERIES)
    .where(Series.id == bindparam("row"))
    .values(number_of_instances=Series.number_of_instances + bindparam("more"), revision=Series.revision + 1)
    .returning(Series.number_of_instances, Series.attributes)
)
_ANSWER_SERIES = update(_SERIES).where(Series.id == bindparam("row")).values(attributes=bindparam("answer"))
_COUNT_STUDY = (
    update(_STUDY)
    .where(Study.id == bindparam("row"))
    .values(
        number_of_instances=Study.number_of_instances + bindparam("more"),
        number_of_series=Study.number_of_series + bindparam("more_series"),
        size_bytes=Study.size_bytes + bindparam("more_bytes"),
        revision=Study.revision + 1,
        changed_at=bindparam("now"),
    )
    .returning(Study.number_of_instances, Study.number_of_series, Study.attributes)
)
_ANSWER_STUDY = update(_STUDY).where(Study.id == bindparam("row")).values(attributes=bindparam("answer"))
_MODALITIES = select(Series.modality).where(Series.study_id == bindparam("row"))


def _time(text: str) -> str:
    try:
        return normal_time(text)
    except ValueError:
        return ""


def _cut(table: type[Study | Series | Instance], values: dict[str, Any]) -> dict[str, Any]:
    """Searched texts cut to their columns: what is longer than the standard allows is found by its
    beginning."""
    columns = table.__table__.columns
    lengths = {name: getattr(columns[name].type, "length", None) for name in values}
    return {
        name: value[: lengths[name]] if isinstance(value, str) and lengths[name] else value
        for name, value in values.items()
    }
