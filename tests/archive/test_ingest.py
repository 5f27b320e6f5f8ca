"""Ingest: what is acknowledged is there, whole and once; what contradicts is held; what is refused
leaves nothing."""

import errno
import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from sqlalchemy import delete, func, select, text, update

from access.audit import note, verify
from access.caller import EVERYTHING, Caller, Clause, Door, Permissions, Principal, PrincipalKind, Reach
from access.model import AuditEntry
from archive.blobs.disk import DiskStore
from archive.blobs.store import StorageFull
from archive.bundles import draw_bundle
from archive.ingest import ANYWHERE, MOST_TOGETHER, Incoming, Refused, UidConflict, ingest, ingest_all
from archive.keys import KEY_BY_TAG, TAG_BY_KEYWORD, Level
from archive.model import Hold, Instance, Series, Study
from archive.placing import Arrival, Ingested, Outcome
from archive.query import Match, Query
from archive.rest import rest_study
from archive.retrieve import find_instance, find_instances, frame_bytes, instance_bytes
from archive.room import Archive
from archive.search import search
from archive.sweep import sweep
from cloudfilm.rooms import Rooms, build_rooms
from kernel.changes import ChangeRow
from kernel.database import Database, OutcomeUnknown, Overtaken
from kernel.errors import CloudfilmError, Forbidden, Kind
from kernel.settings import Settings
from mpi.model import BlockKey, PatientRecord
from tests.builders import ROOT, ct_slice, dataset, part10


@pytest.fixture
def archive(rooms: Rooms) -> Archive:
    return rooms.archive


def store(archive: Archive, caller: Caller, data: bytes) -> Outcome:
    return ingest(archive, caller, io.BytesIO(data)).outcome


def found(archive: Archive, caller: Caller, **keys: str) -> int:
    matches = tuple(Match(KEY_BY_TAG[TAG_BY_KEYWORD[keyword]], (value,)) for keyword, value in keys.items())
    return len(search(archive, caller, Query(Level.STUDY, matches)).rows)


def rows(archive: Archive) -> tuple[int, ...]:
    with archive.database.snapshot() as session:
        return tuple(
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Study, Series, Instance, Hold)
        )


def blobs(archive: Archive) -> int:
    return len(list(archive.blobs.store.list()))


def test_an_instance_comes_back_bit_for_bit(archive: Archive, operator: Caller) -> None:
    data = ct_slice()
    receipt = ingest(archive, operator, io.BytesIO(data))
    stored = find_instance(archive, operator, f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")

    assert receipt.outcome is Outcome.STORED
    assert b"".join(instance_bytes(archive, stored)) == data
    assert stored.sha256 == hashlib.sha256(data).digest()
    assert frame_bytes(archive, stored, 1) == dataset().PixelData


def test_what_lies_on_the_disk_is_sealed(archive: Archive, operator: Caller) -> None:
    store(archive, operator, ct_slice(PatientName="Findme^Plainly"))
    (blob,) = archive.blobs.store.list()
    reader = archive.blobs.store.open(blob.key)

    assert b"Findme" not in reader.pread(1 << 20, 0)
    reader.close()


def test_a_second_copy_of_an_instance_is_kept_once(archive: Archive, operator: Caller) -> None:
    assert store(archive, operator, ct_slice()) is Outcome.STORED
    assert store(archive, operator, ct_slice()) is Outcome.DUPLICATE
    assert rows(archive) == (1, 1, 1, 0)
    assert blobs(archive) == 1


def test_other_bytes_under_the_same_uid_are_held_and_never_replace_the_first(
    archive: Archive, operator: Caller
) -> None:
    first, other = ct_slice(), ct_slice(StudyDescription="other")
    store(archive, operator, first)

    assert store(archive, operator, other) is Outcome.HELD
    assert store(archive, operator, other) is Outcome.DUPLICATE
    stored = next(find_instances(archive, operator, f"{ROOT}.1"))
    assert b"".join(instance_bytes(archive, stored)) == first
    assert rows(archive) == (1, 1, 1, 1)
    assert blobs(archive) == 2


def test_an_instance_of_another_patient_in_the_same_study_is_held(archive: Archive, operator: Caller) -> None:
    store(archive, operator, ct_slice(instance=1))

    assert store(archive, operator, ct_slice(instance=2, PatientID="P2")) is Outcome.HELD
    assert rows(archive) == (1, 1, 1, 1)


def test_of_two_objects_with_one_uid_that_come_together_the_first_begins_its_study(
    archive: Archive, operator: Caller
) -> None:
    uid = f"{ROOT}.1.1.1"
    objects = [
        ct_slice(study=study, PatientName=f"Of^{study}", PatientID=f"P{study}", SOPInstanceUID=uid)
        for study in (1, 2)
    ] + [ct_slice(study=3, PatientID="P3")]
    outcomes = list(ingest_all(archive, operator, map(io.BytesIO, objects)))

    assert [each.outcome for each in outcomes if isinstance(each, Ingested)] == [
        Outcome.STORED, Outcome.HELD, Outcome.STORED,
    ]  # fmt: skip
    with archive.database.snapshot() as session:
        names = session.execute(select(Study.study_instance_uid, Study.name_alphabetic)).all()
    assert (f"{ROOT}.1", "of^1") in [tuple(row) for row in names]


def test_counts_and_modalities_follow_what_is_stored(archive: Archive, operator: Caller) -> None:
    for series, modality in ((1, "CT"), (2, "SR")):
        for instance in (1, 2):
            store(archive, operator, ct_slice(series=series, instance=instance, Modality=modality))
    (row,) = search(archive, operator, Query(Level.STUDY)).rows

    assert b'"00080061":{"vr":"CS","Value":["CT","SR"]}' in row
    assert b'"00201206":{"vr":"IS","Value":[2]}' in row
    assert b'"00201208":{"vr":"IS","Value":[4]}' in row


@pytest.mark.parametrize(
    "name", ["zhang*", "ZHANG^WEI", "张*", "张^伟", "*伟", "ｚｈａｎｇ*", "Zhang^W?i", "zhang^wei=张^伟"]
)
def test_a_chinese_name_is_found_by_any_group_without_regard_to_case_and_width(
    archive: Archive, operator: Caller, name: str
) -> None:
    store(archive, operator, ct_slice())

    assert found(archive, operator, PatientName=name) == 1


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("GB18030", "张^伟"), ("GBK", "李^娜"), ("ISO_IR 192", "王^芳"), (["", "ISO 2022 IR 58"], "张^伟")],
)
def test_chinese_names_of_every_character_set_are_stored_and_found(
    archive: Archive, operator: Caller, character_set: str | list[str], name: str
) -> None:
    store(archive, operator, ct_slice(SpecificCharacterSet=character_set, PatientName=f"X^Y={name}"))

    assert found(archive, operator, PatientName=name[0] + "*") == 1
    (row,) = search(archive, operator, Query(Level.STUDY)).rows
    assert f'"Ideographic":"{name}"'.encode() in row


def test_a_refused_object_leaves_nothing_behind(archive: Archive, operator: Caller) -> None:
    for bad in (b"", b"not dicom" * 100, ct_slice()[:300], part10(dataset(StudyInstanceUID=None))):
        with pytest.raises(CloudfilmError):
            store(archive, operator, bad)

    assert rows(archive) == (0, 0, 0, 0)
    assert blobs(archive) == 0


def test_an_object_sent_to_another_study_is_refused(archive: Archive, operator: Caller) -> None:
    with pytest.raises(UidConflict):
        ingest(archive, operator, io.BytesIO(ct_slice()), "1.2.3")

    assert blobs(archive) == 0


def test_a_sender_that_breaks_off_leaves_nothing_behind(archive: Archive, operator: Caller) -> None:
    with Incoming(archive, operator) as incoming:
        incoming.write(ct_slice()[:500])

    assert blobs(archive) == 0


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
@pytest.mark.parametrize("more", [-1, 0, 1, 700])
def test_what_is_sealed_opens_the_same_whatever_its_size_and_the_pieces_it_came_in(
    archive: Archive, chunks: int, more: int
) -> None:
    data = random.Random(chunks).randbytes(max(0, chunks * archive.blobs.settings.chunk_bytes + more))
    at_once, in_pieces = archive.blobs.writer(), archive.blobs.writer()
    at_once.read_from(io.BytesIO(data))
    for at in range(0, len(data), 100_003):
        in_pieces.write(data[at : at + 100_003])
    for writer in (at_once, in_pieces):
        sealed = writer.finish()
        with writer.reader() as reader:
            assert reader.read(100) == data[:100]
        writer.commit()

        assert (sealed.size_bytes, sealed.sha256) == (len(data), hashlib.sha256(data).digest())
        assert archive.blobs.read(sealed.key, sealed.seal) == data


def test_many_senders_at_once_store_everything_once(archive: Archive, operator: Caller) -> None:
    objects = [ct_slice(instance=number) for number in range(1, 25)]
    outcomes: list[Outcome] = []

    def send(order: list[bytes]) -> None:
        for data in order:
            outcomes.append(store(archive, operator, data))

    threads = [threading.Thread(target=send, args=(objects[at:] + objects[:at],)) for at in (0, 6, 12, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(Outcome.STORED) == 24
    assert outcomes.count(Outcome.DUPLICATE) == 72
    assert rows(archive) == (1, 1, 24, 0)
    assert blobs(archive) == 24


def test_of_two_patients_in_one_new_study_the_second_is_held(archive: Archive, operator: Caller) -> None:
    parts = [ct_slice(instance=1), ct_slice(instance=2, PatientID="P2"), ct_slice(instance=3)]
    told = [each.outcome for each in ingest_all(archive, operator, map(io.BytesIO, parts)) if receipt(each)]

    assert told == [Outcome.STORED, Outcome.HELD, Outcome.STORED]
    assert rows(archive) == (1, 1, 2, 1)


def receipt(each: Ingested | Refused) -> TypeGuard[Ingested]:
    return isinstance(each, Ingested)


def test_who_is_refused_harms_nobody_who_stores_at_the_same_time(archive: Archive) -> None:
    store(archive, technician("A"), ct_slice(instance=1))
    arrivals = [
        arrival(archive, technician(institution), ct_slice(instance=number, StudyDescription="x"))
        for number, institution in enumerate("ABA", 2)
    ]
    mine, other, second = archive.arrivals.run_all(arrivals)

    assert isinstance(mine, Ingested)
    assert isinstance(other, Forbidden)
    assert isinstance(second, Ingested)
    assert rows(archive) == (1, 1, 3, 0)


def test_patients_who_come_together_are_matched_as_if_they_came_one_by_one(
    archive: Archive, operator: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "archive.placing")
    said: dict[str, Any] = {
        "PatientName": "Ouyang^Xiuzhen=欧阳^秀珍",
        "PatientBirthDate": "19710203",
        "PatientSex": "F",
    }
    brought: list[dict[str, Any]] = [
        {"PatientID": "A1", **said},
        {"PatientID": "B1", "PatientName": "Li^Ming", "PatientBirthDate": "20000101", "PatientSex": "M"},
        {"PatientID": "A2", **said},  # the same person under another number
        {"PatientID": "A1", "PatientName": "Wang^Wu", "PatientBirthDate": "19990909", "PatientSex": "M"},
        {"PatientID": "", **said},
    ]

    def persons_of(studies: range) -> list[tuple[str, int]]:
        """Of each study, whose number, and the first of them that is of the same person."""
        uids = [f"{ROOT}.{number}" for number in studies]
        with archive.database.snapshot() as session:
            found = {
                uid: (identifier, person)
                for uid, identifier, person in session.execute(
                    select(Study.study_instance_uid, PatientRecord.identifier, PatientRecord.person_id)
                    .join(PatientRecord, PatientRecord.id == Study.patient_record_id)
                    .where(Study.study_instance_uid.in_(uids))
                )
            }
        persons = [found[uid][1] for uid in uids]
        return [(found[uid][0][-12:], persons.index(found[uid][1])) for uid in uids]

    def objects(first: int, issuer: str) -> list[bytes]:
        return [ct_slice(first + at, IssuerOfPatientID=issuer, **each) for at, each in enumerate(brought)]

    for data in objects(100, "one by one"):
        store(archive, operator, data)
    one_by_one = persons_of(range(100, 105))
    with archive.database.transaction() as session:  # who is there already would be found as well
        session.execute(delete(BlockKey))
    together = archive.arrivals.run_all([arrival(archive, operator, data) for data in objects(200, "all")])

    assert all(isinstance(each, Ingested) for each in together)
    assert not caplog.messages  # none was placed by itself
    assert persons_of(range(200, 205)) == one_by_one
    assert [person for _, person in one_by_one][:4] == [0, 1, 0, 3]


def test_who_stores_together_is_named_each_in_the_trail(archive: Archive) -> None:
    callers = [technician("A", name=name) for name in ("one", "two", "one")]
    archive.arrivals.run_all(
        [arrival(archive, caller, ct_slice(instance=number)) for number, caller in enumerate(callers)]
    )
    with archive.database.snapshot() as session:
        stored = select(AuditEntry.principal_id).where(AuditEntry.action == "store ImagingStudy")

        assert session.scalars(stored).all() == ["one", "two"]
        assert verify(session).fault == ""


def arrival(archive: Archive, caller: Caller, data: bytes) -> Arrival:
    incoming = Incoming(archive, caller)
    incoming.write(data)
    return incoming.arrival(ANYWHERE)


def test_processes_that_begin_one_study_at_once_store_everything(
    settings: Settings, operator: Caller
) -> None:
    hosts = [build_rooms(settings) for _ in range(3)]
    outcomes: list[Outcome] = []

    def send(host: Rooms, first: int) -> None:
        for study in range(8):
            for number in (first, first + 1):
                outcomes.append(store(host.archive, operator, ct_slice(study, 1, number)))

    threads = [threading.Thread(target=send, args=(host, at)) for at, host in enumerate(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = rows(hosts[0].archive)
    for host in hosts:
        host.close()

    assert (outcomes.count(Outcome.STORED), outcomes.count(Outcome.DUPLICATE)) == (32, 16)
    assert counted == (8, 8, 32, 0)


def test_whom_the_database_undoes_for_another_is_placed_once_more(
    settings: Settings, archive: Archive, operator: Caller
) -> None:
    """Another process holds the end of the audit trail, then wants the study: a deadlock on PostgreSQL."""
    store(archive, operator, ct_slice(instance=1))
    other = Database(settings.database.url, keys=archive.blobs.keys)
    holds = threading.Event()

    def is_waited_for() -> bool:  # elsewhere than on PostgreSQL nobody waits for a row
        waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted AND transactionid IS NOT NULL")
        with other.snapshot() as session:
            return other.is_sqlite or session.scalar(waiting) == 1

    def stand_in_the_way() -> None:
        with suppress(Overtaken), other.transaction() as session:  # it may also be who is undone
            note(session, archive.clock, operator, "read ImagingStudy")
            session.flush()
            holds.set()
            deadline = time.monotonic() + 20
            while not is_waited_for() and time.monotonic() < deadline:
                time.sleep(0.01)
            session.execute(update(Study).values(revision=Study.revision + 1))

    thread = threading.Thread(target=stand_in_the_way)
    thread.start()
    holds.wait()
    somebody = Principal(PrincipalKind.ACCOUNT, "somebody")  # of whose storing the trail has yet to tell
    outcome = store(archive, Caller(somebody, Door.WEB, EVERYTHING, Reach.everywhere()), ct_slice(instance=2))
    thread.join()
    other.close()

    assert outcome is Outcome.STORED
    assert rows(archive) == (1, 1, 2, 0)


@pytest.mark.parametrize("together", [1, 3])
def test_what_a_database_committed_before_it_went_away_keeps_its_bytes(
    archive: Archive, operator: Caller, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    objects = [ct_slice(instance=number) for number in range(1, together + 1)]
    dialect = archive.database.engine.dialect
    commit = dialect.do_commit

    def commit_and_go_away(connection: Any) -> None:
        commit(connection)
        monkeypatch.undo()
        raise dialect.loaded_dbapi.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", commit_and_go_away)
    lost = list(ingest_all(archive, operator, map(io.BytesIO, objects)))
    assert [type(each.refusal) for each in lost if isinstance(each, Refused)] == [OutcomeUnknown] * together

    again = list(ingest_all(archive, operator, map(io.BytesIO, objects)))
    assert [each.outcome for each in again if isinstance(each, Ingested)] == [Outcome.DUPLICATE] * together
    found = find_instances(archive, operator, f"{ROOT}.1")
    assert sorted(b"".join(instance_bytes(archive, each)) for each in found) == sorted(objects)
    assert blobs(archive) == together


def test_studies_come_to_rest_together_and_one_that_moved_on_rests_again(
    archive: Archive, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rested() -> list[str]:
        with archive.database.snapshot() as session:
            found = session.execute(
                select(ChangeRow.subject).where(ChangeRow.kind == "study-rested").order_by(ChangeRow.seq)
            )
            return list(found.scalars())

    def moves_on(archive: Archive, series_id: int) -> dict[str, Any] | None:
        monkeypatch.undo()
        drawn = draw_bundle(archive, series_id)
        store(archive, operator, ct_slice(study=1, instance=2, PatientID="P1"))
        return drawn

    one, other = f"{ROOT}.1", f"{ROOT}.2"
    for study in (1, 2):
        store(archive, operator, ct_slice(study=study, PatientID=f"P{study}"))
    monkeypatch.setattr("archive.rest.draw_bundle", moves_on)

    rest_study(archive, one, other, f"{ROOT}.3")
    assert rested() == [other]
    rest_study(archive, one, other)
    assert rested() == [other, one]
    with archive.database.snapshot() as session:
        assert not session.scalar(
            select(func.count()).select_from(Series).where(Series.revision != Series.bundle_revision)
        )


def test_a_stray_blob_is_swept_and_what_is_named_stays(archive: Archive, operator: Caller) -> None:
    from datetime import timedelta

    store(archive, operator, ct_slice())
    store(archive, operator, ct_slice(StudyDescription="held"))
    archive.blobs.write(b"what a crash left behind")

    assert sweep(archive, grace=timedelta(days=-36500)) == 1
    assert blobs(archive) == 2


def technician(institution: str, permissions: Permissions = EVERYTHING, name: str = "t") -> Caller:
    reach = Reach.everywhere().narrowed(Clause(institutions=frozenset({institution})))
    return Caller(
        Principal(PrincipalKind.ACCOUNT, name, institution=institution), Door.WEB, permissions, reach
    )


def test_a_caller_without_the_right_to_store_is_refused_before_a_byte_is_kept(archive: Archive) -> None:
    with pytest.raises(Forbidden):
        store(archive, technician("A", Permissions.of(ImagingStudy="rs")), ct_slice())

    assert blobs(archive) == 0


def test_nobody_adds_to_or_finds_a_study_of_another_institution(archive: Archive) -> None:
    store(archive, technician("A"), ct_slice(instance=1))

    with pytest.raises(Forbidden):
        store(archive, technician("B"), ct_slice(instance=2))
    assert found(archive, technician("B")) == 0
    assert found(archive, technician("A")) == 1
    assert blobs(archive) == 1


def test_storing_and_reading_are_audited_in_an_unbroken_chain(archive: Archive, operator: Caller) -> None:
    store(archive, operator, ct_slice())
    list(find_instances(archive, operator, f"{ROOT}.1"))
    with archive.database.snapshot() as session:
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq)).all()

        assert verify(session).fault == ""
    assert actions[-2:] == ["store ImagingStudy", "read ImagingStudy"]


def test_of_many_each_is_told_in_order_and_a_refused_one_harms_no_other(
    archive: Archive, operator: Caller
) -> None:
    objects = [ct_slice(instance=number) for number in range(1, 41)]
    objects[3] = b"not dicom"
    objects[20] = ct_slice(instance=2)
    told = list(ingest_all(archive, operator, map(io.BytesIO, objects)))

    assert [at for at, each in enumerate(told) if isinstance(each, Refused)] == [3]
    assert isinstance(told[20], Ingested)
    assert told[20].outcome is Outcome.DUPLICATE
    assert rows(archive) == (1, 1, 38, 0)
    assert blobs(archive) == 38


def test_of_many_one_outside_of_the_reach_is_refused_by_name(archive: Archive) -> None:
    store(archive, technician("A"), ct_slice(study=1, instance=1))
    parts = [ct_slice(study=1, instance=2), ct_slice(study=2, instance=1, PatientID="P2")]
    refused, stored = ingest_all(archive, technician("B"), map(io.BytesIO, parts))

    assert isinstance(refused, Refused)
    assert (refused.refusal.kind, refused.sop_instance_uid) == (Kind.FORBIDDEN, f"{ROOT}.1.1.2")
    assert isinstance(stored, Ingested)
    assert rows(archive) == (2, 2, 2, 0)


def test_a_batch_that_the_disk_does_not_take_is_refused_whole_and_leaves_nothing(
    archive: Archive, operator: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    archive = replace(archive, blobs=replace(archive.blobs, store=DiskStore(tmp_path / "disk")))
    monkeypatch.setattr("archive.blobs.disk.os.fdatasync", refuse)
    objects = [ct_slice(instance=number) for number in range(1, 21)]
    told = ingest_all(archive, operator, map(io.BytesIO, objects))
    refused = [each for each in told if isinstance(each, Refused)]

    assert [type(each.refusal) for each in refused] == [StorageFull] * 20
    assert rows(archive)[2] == blobs(archive) == 0

    monkeypatch.undo()
    assert all(isinstance(each, Ingested) for each in ingest_all(archive, operator, map(io.BytesIO, objects)))
    assert rows(archive)[2] == blobs(archive) == 20


def test_a_sender_of_many_that_breaks_off_leaves_only_what_was_told(
    archive: Archive, operator: Caller
) -> None:
    def parts() -> Iterator[io.BytesIO]:
        for number in range(1, MOST_TOGETHER + 5):
            yield io.BytesIO(ct_slice(instance=number))
        raise ConnectionResetError

    told: list[Ingested | Refused] = []
    with pytest.raises(ConnectionResetError):
        told.extend(ingest_all(archive, operator, parts()))

    assert rows(archive)[2] == blobs(archive) == MOST_TOGETHER
