"""Objects are kept in several places, proven, mended, and moved: and at no moment is one lost."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from access.caller import Caller
from access.model import AuditEntry
from access.site_documents import put_document
from archive.blobs.disk import DiskStore
from archive.blobs.store import StorageUnavailable
from archive.blobs.tiers import COLD
from archive.ingest import ingest
from archive.kept import NAMING
from archive.model import Instance, Study
from archive.renditions_model import Rendition
from archive.retrieve import find_instances, instance_bytes
from archive.rewrap import rewrap_seals
from archive.scrub import damaged_objects, scrub, scrub_rounds, scrub_share
from archive.space import ALARM, room_left, watch_space
from archive.storage_policy import (
    STORAGE_POLICY,
    InvalidStoragePolicy,
    apply_storage_policy,
    parse_storage_policy,
    recall,
)
from archive.sweep import sweep
from cloudfilm.jobs import JOBS, bundle_for
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock
from kernel.errors import CloudfilmError
from kernel.jobs import Worker
from kernel.settings import Settings
from tests.builders import ROOT, ct_slice
from tests.settling import settle

SLICES = [ct_slice(instance=number) for number in range(1, 6)]


@pytest.fixture
def many(settings: Settings, clock: FixedClock, tmp_path: Path) -> Iterator[Rooms]:
    """A host with a cold store and two stores of copies."""
    copies = (f"near=file://{tmp_path}/near", f"far=file://{tmp_path}/far")
    blobs = replace(settings.blobs, cold_url=f"file://{tmp_path}/cold", copies=copies)
    built = build_rooms(replace(settings, blobs=blobs), clock)
    yield built
    built.close()


def work(rooms: Rooms) -> None:
    """What the worker does until a minute from now."""
    assert isinstance(rooms.clock, FixedClock)
    worker = Worker(rooms.database, rooms.clock, JOBS, lambda job: bundle_for(rooms, job))
    for _ in range(3):
        settle(rooms)
        while worker.run_one():
            continue
        rooms.clock.advance(timedelta(seconds=20))


def store(rooms: Rooms, operator: Caller) -> None:
    for data in SLICES:
        ingest(rooms.archive, operator, io.BytesIO(data))
    work(rooms)


def read_back(rooms: Rooms, operator: Caller) -> list[bytes]:
    found = find_instances(rooms.archive, operator, f"{ROOT}.1")
    return [b"".join(instance_bytes(rooms.archive, each)) for each in found]


def files(store: object) -> list[Path]:
    assert isinstance(store, DiskStore)
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def prove_all(rooms: Rooms) -> None:
    for table in NAMING:
        scrub(rooms.archive, table, 1_000_000)


def test_every_object_is_soon_in_every_store_of_copies(many: Rooms, operator: Caller, tmp_path: Path) -> None:
    store(many, operator)
    held = ct_slice(instance=1, StudyDescription="other bytes under a known UID")
    ingest(many.archive, operator, io.BytesIO(held))
    work(many)

    for name in ("near", "far"):
        assert len(files(many.archive.blobs.copies[name])) == len(SLICES) + 1
    with many.database.snapshot() as session:  # what can be made again has no copies
        renditions = {key.rpartition("/")[2] for key in session.scalars(select(Rendition.blob_key))}
    primary = {
        path.name: path.read_bytes()
        for path in files(DiskStore(tmp_path / "blobs"))
        if path.name not in renditions
    }
    assert {path.name: path.read_bytes() for path in files(many.archive.blobs.copies["far"])} == primary


def test_what_the_main_store_lost_or_damaged_is_read_from_a_copy(
    many: Rooms, operator: Caller, tmp_path: Path
) -> None:
    store(many, operator)
    lost, damaged, *_ = files(DiskStore(tmp_path / "blobs"))
    lost.unlink()
    flip_a_bit(damaged)

    assert read_back(many, operator) == SLICES


def test_scrubbing_mends_every_store_from_a_good_one(many: Rooms, operator: Caller, tmp_path: Path) -> None:
    store(many, operator)
    main, near, far = (DiskStore(tmp_path / name) for name in ("blobs", "near", "far"))
    whole = {path.name: path.read_bytes() for path in files(main)}
    files(main)[0].unlink()
    flip_a_bit(files(main)[1])
    files(near)[2].unlink()
    flip_a_bit(files(far)[3])
    scrub(many.archive, "instance", len(SLICES))

    for each in (main, near, far):
        assert {path.name: path.read_bytes() for path in files(each)} == whole
    assert damaged_objects(many.archive, operator) == []
    rounds = {each.naming: each for each in scrub_rounds(many.archive, operator)}
    assert rounds["instance"].mended == 4


def test_what_no_store_has_whole_is_listed_until_it_is_restored(
    many: Rooms, operator: Caller, tmp_path: Path
) -> None:
    store(many, operator)
    stores = [DiskStore(tmp_path / name) for name in ("blobs", "near", "far")]
    kept = files(stores[0])[0].read_bytes()
    for each in stores:
        flip_a_bit(files(each)[0])
    prove_all(many)
    listed = damaged_objects(many.archive, operator)
    files(stores[0])[0].write_bytes(kept)
    prove_all(many)

    assert [each.blob_key.rpartition("/")[2] for each in listed] == [files(stores[0])[0].name]
    assert damaged_objects(many.archive, operator) == []
    assert read_back(many, operator) == SLICES


def test_an_hours_share_goes_on_where_the_last_one_ended(rooms: Rooms, operator: Caller) -> None:
    store(rooms, operator)
    scrub(rooms.archive, "instance", 2)
    scrub(rooms.archive, "instance", 2)
    half = scrub_rounds(rooms.archive, operator)[0].checked
    scrub_share(rooms.archive)  # the rest, and the round ends

    assert half == 4
    ended = {each.naming: each for each in scrub_rounds(rooms.archive, operator)}["instance"]
    assert (ended.checked, ended.finished_at) == (0, rooms.clock.now())


def policy(rooms: Rooms, operator: Caller, text: str) -> None:
    put_document(rooms.access, operator, STORAGE_POLICY, text)
    apply_storage_policy(rooms.archive)
    work(rooms)


def test_old_studies_move_to_the_cold_store_and_back_and_are_read_from_either(
    many: Rooms, operator: Caller, clock: FixedClock, tmp_path: Path
) -> None:
    store(many, operator)
    cold, main = DiskStore(tmp_path / "cold"), DiskStore(tmp_path / "blobs")
    rule = '{"rules": [{"older_than_days": 30, "tier": "cold", "modalities": ["CT"]}]}'
    policy(many, operator, rule)
    assert files(cold) == []
    clock.advance(timedelta(days=31))
    policy(many, operator, rule)
    sweep(many.archive, timedelta(days=-10000))

    assert (len(files(cold)), len(files(main))) == (len(SLICES), 0)
    assert read_back(many, operator) == SLICES
    recall(many.archive, operator, f"{ROOT}.1")
    work(many)
    sweep(many.archive, timedelta(days=-10000))
    assert (len(files(cold)), len(files(main))) == (0, len(SLICES))
    assert read_back(many, operator) == SLICES


def test_what_arrives_late_for_a_moved_study_follows_it(
    many: Rooms, operator: Caller, clock: FixedClock
) -> None:
    store(many, operator)
    clock.advance(timedelta(days=31))
    rule = '{"rules": [{"older_than_days": 30, "tier": "cold"}]}'
    policy(many, operator, rule)
    ingest(many.archive, operator, io.BytesIO(ct_slice(instance=9)))
    work(many)
    policy(many, operator, rule)

    with many.database.snapshot() as session:
        study = session.query(Study).one()
    keys = {each.blob_key.partition(":")[0] for each in find_instances(many.archive, operator, f"{ROOT}.1")}
    assert (study.tier, keys) == (COLD, {COLD})


@pytest.mark.parametrize("tier", ["main", "cold"])
def test_old_studies_are_packed_read_in_any_range_and_unpacked_again(
    tier: str, many: Rooms, operator: Caller, clock: FixedClock, tmp_path: Path
) -> None:
    store(many, operator)
    places = [DiskStore(tmp_path / name) for name in ("blobs" if tier == "main" else "cold", "near", "far")]
    before = sum(each.size_bytes for each in find_instances(many.archive, operator, f"{ROOT}.1"))
    clock.advance(timedelta(days=31))
    policy(many, operator, f'{{"rules": [{{"older_than_days": 30, "tier": "{tier}", "compress": true}}]}}')
    with many.database.snapshot() as session:
        named = set(session.scalars(select(Instance.blob_key)))
    sweep(many.archive, timedelta(days=-10000))

    assert all(key.endswith(".z") and key.startswith("cold:") == (tier == "cold") for key in named)
    for each in places:  # packed in every store of copies too, and what was there before has gone
        packed = [path for path in files(each) if path.name.endswith(".z")]
        assert len(packed) == len(SLICES)
        assert sum(path.stat().st_size for path in packed) < 0.8 * before
    assert len(files(places[1])) == len(files(places[2])) == len(SLICES)
    assert read_back(many, operator) == SLICES
    first = next(iter(find_instances(many.archive, operator, f"{ROOT}.1")))
    assert many.archive.blobs.read(first.blob_key, first.seal, 100, 700) == SLICES[0][100:800]
    flip_a_bit(packed[0])
    (places[0].root / first.blob_key.removeprefix("cold:")).unlink()
    prove_all(many)
    assert damaged_objects(many.archive, operator) == []
    recall(many.archive, operator, f"{ROOT}.1")
    work(many)
    assert {each.blob_key.endswith(".z") for each in find_instances(many.archive, operator, f"{ROOT}.1")} == {
        False
    }
    assert read_back(many, operator) == SLICES


def test_the_copies_of_what_was_moved_outlive_the_sweeper(
    many: Rooms, operator: Caller, clock: FixedClock, tmp_path: Path
) -> None:
    store(many, operator)
    clock.advance(timedelta(days=31))
    policy(many, operator, '{"rules": [{"older_than_days": 30, "tier": "cold"}]}')
    sweep(many.archive, timedelta(days=-10000))
    for path in files(DiskStore(tmp_path / "cold")):
        path.unlink()

    assert read_back(many, operator) == SLICES


def test_a_packing_that_breaks_off_leaves_every_object_readable(
    many: Rooms, operator: Caller, clock: FixedClock, tmp_path: Path
) -> None:
    store(many, operator)
    clock.advance(timedelta(days=31))
    broken = tmp_path / "far"
    broken.rename(tmp_path / "away")
    broken.write_text("no folder")  # the store of copies is away: nothing of what there was is given up
    policy(many, operator, '{"rules": [{"older_than_days": 30, "tier": "cold", "compress": true}]}')
    with pytest.raises(StorageUnavailable):
        sweep(many.archive, timedelta(days=-10000))
    assert read_back(many, operator) == SLICES
    broken.unlink()
    (tmp_path / "away").rename(broken)
    clock.advance(timedelta(hours=2))
    work(many)

    assert all(each.blob_key.endswith(".z") for each in find_instances(many.archive, operator, f"{ROOT}.1"))
    assert read_back(many, operator) == SLICES


def test_a_study_that_a_rule_does_not_name_stays(many: Rooms, operator: Caller, clock: FixedClock) -> None:
    store(many, operator)
    clock.advance(timedelta(days=400))
    policy(
        many,
        operator,
        '{"rules": [{"older_than_days": 100, "tier": "main", "modalities": ["CT"]},'
        ' {"older_than_days": 30, "tier": "cold"}]}',
    )
    policy(
        many, operator, '{"rules": [{"older_than_days": 30, "tier": "cold", "institutions": ["ELSEWHERE"]}]}'
    )

    assert {each.blob_key.count(":") for each in find_instances(many.archive, operator, f"{ROOT}.1")} == {0}


@pytest.mark.parametrize(
    "text",
    [
        '{"rules": [{"older_than_days": "old", "tier": "cold"}]}',
        '{"rules": [{"older_than_days": 1, "tier": "attic"}]}',
        '{"rules": [{"older_than_days": 1, "tier": "cold", "colour": "red"}]}',
        '{"rules": [{"tier": "cold"}]}',
        '{"rules": [{"older_than_days": 1, "tier": "cold", "compress": "yes"}]}',
        '{"rules": [1]}',
        '{"rules": [{"older_than_days": 1, "tier": "cold", "modalities": "CT"}]}',
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidStoragePolicy):
        parse_storage_policy(text)


def test_little_room_in_any_store_is_noted_once_a_day(
    many: Rooms, operator: Caller, clock: FixedClock, tmp_path: Path
) -> None:
    settings = replace(many.archive.blobs.settings, low_bytes=1 << 62)
    full = replace(many.archive, blobs=replace(many.archive.blobs, settings=settings))

    def noted() -> list[str]:
        with many.database.snapshot() as session:
            return sorted(session.scalars(select(AuditEntry.subject).where(AuditEntry.action == ALARM)))

    watch_space(many.archive)
    assert noted() == []
    watch_space(full)
    watch_space(full)
    assert noted() == ["cold", "far", "main", "near"] == sorted(room_left(full))
    clock.advance(timedelta(days=1, seconds=1))
    watch_space(full)
    assert len(noted()) == 8


def test_a_study_that_is_not_there_is_not_moved(many: Rooms, operator: Caller) -> None:
    with pytest.raises(CloudfilmError, match="not found"):
        recall(many.archive, operator, "1.2.3")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_after_the_ring_has_turned_every_row_is_wrapped_anew_and_everything_opens(
    many: Rooms, operator: Caller, settings: Settings, clock: FixedClock
) -> None:
    store(many, operator)
    other, worker = (
        build_rooms(many.settings, clock) for _ in range(2)
    )  # they read the ring before it turned
    key_id = many.keys.rotate()
    ingest(many.archive, operator, io.BytesIO(ct_slice(instance=9)))
    assert len(read_back(other, operator)) == len(SLICES) + 1
    rewrap_seals(worker.archive)

    wraps = {each.seal.key_id for each in find_instances(many.archive, operator, f"{ROOT}.1")}
    assert wraps == {key_id}
    assert read_back(other, operator)[: len(SLICES)] == SLICES
    other.close()
    worker.close()
