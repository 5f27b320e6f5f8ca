"""Backups that come back: restored beside what runs, on either database, and proven by counts and digests."""

import io
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from access.caller import Caller
from archive.blobs.tiers import COLD
from archive.ingest import ingest
from archive.retrieve import find_instances, instance_bytes
from archive.storage_policy import move_study
from cloudfilm.backup import (
    BackupFailed,
    BackupNotSetUp,
    back_up_when_due,
    create_backup,
    drill,
    last_good,
    restore,
    runs,
    verify_backup,
)
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock
from kernel.settings import BackupSettings, DatabaseSettings, Settings
from tests.builders import ROOT, ct_slice
from tests.conftest import empty_database

SLICES = [ct_slice(instance=number) for number in range(1, 4)]


@pytest.fixture
def kept(settings: Settings, clock: FixedClock, tmp_path: Path, operator: Caller) -> Iterator[Rooms]:
    """A host with three images, whose data directory is not where its backups are."""
    (tmp_path / "password").write_text("long and known to nobody")
    backup = BackupSettings(
        repository=str(tmp_path / "elsewhere"),
        password_file=str(tmp_path / "password"),
        keys_repository=str(tmp_path / "safe"),
    )
    data_dir = tmp_path / "data"
    (data_dir / "run").mkdir(parents=True)
    with empty_database(settings.database.url, data_dir / "cloudfilm.db") as database_url:
        migrate(database_url)
        built = build_rooms(
            replace(
                settings,
                data_dir=data_dir,
                backup=backup,
                database=DatabaseSettings(url=database_url),
                blobs=replace(settings.blobs, url=f"file://{data_dir}/blobs"),
            ),
            clock,
        )
        for data in SLICES:
            ingest(built.archive, operator, io.BytesIO(data))
        yield built
        built.close()


def images(rooms: Rooms, operator: Caller) -> list[bytes]:
    found = find_instances(rooms.archive, operator, f"{ROOT}.1")
    return [b"".join(instance_bytes(rooms.archive, each)) for each in found]


def test_a_lost_host_comes_back_from_its_backup(kept: Rooms, operator: Caller, tmp_path: Path) -> None:
    told = create_backup(kept, operator)
    settings, clock = kept.settings, kept.clock
    ingest(kept.archive, operator, io.BytesIO(ct_slice(study=2)))  # after the backup: it is not in it
    with empty_database(settings.database.url, tmp_path / "back" / "cloudfilm.db") as empty:
        kept.close()
        shutil.rmtree(settings.data_dir)
        manifest = restore(settings, tmp_path / "back", "" if empty.startswith("sqlite") else empty)
        back = build_rooms(
            replace(
                settings,
                data_dir=tmp_path / "back",
                database=DatabaseSettings(url=empty),
                blobs=replace(settings.blobs, url=f"file://{tmp_path}/back/blobs"),
            ),
            clock,
        )
        assert images(back, operator) == SLICES
        assert (manifest.studies, manifest.instances) == (1, 3)
        assert "3 instances" in told
        back.close()


def test_a_host_with_folders_elsewhere_gets_its_images_back(
    kept: Rooms, operator: Caller, tmp_path: Path
) -> None:
    create_backup(kept, operator)
    elsewhere = replace(
        kept.settings,
        data_dir=tmp_path / "another",
        blobs=replace(kept.settings.blobs, url=f"file://{tmp_path}/another/blobs"),
    )
    with empty_database(kept.settings.database.url, tmp_path / "back" / "cloudfilm.db") as empty:
        restore(elsewhere, tmp_path / "back", "" if empty.startswith("sqlite") else empty)
        there = replace(elsewhere.blobs, url=f"file://{tmp_path}/back/blobs")
        back = build_rooms(
            replace(elsewhere, data_dir=tmp_path / "back", database=DatabaseSettings(url=empty), blobs=there)
        )
        assert images(back, operator) == SLICES
        back.close()


def test_a_backup_that_says_not_where_objects_lay_is_not_restored_without_them(
    kept: Rooms, operator: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:  # code of before wrote no folders
        older.setattr("cloudfilm.backup.asdict", lambda manifest: asdict(manifest) | {"folders": {}})
        create_backup(kept, operator)
    elsewhere = replace(
        kept.settings, blobs=replace(kept.settings.blobs, url=f"file://{tmp_path}/another/blobs")
    )
    with (
        empty_database(kept.settings.database.url, tmp_path / "back" / "cloudfilm.db") as empty,
        pytest.raises(BackupFailed, match=r"set CLOUDFILM_DATA_DIR, or blobs\.url"),
    ):
        restore(elsewhere, tmp_path / "back", "" if empty.startswith("sqlite") else empty)


def test_what_is_in_a_cold_store_of_this_host_is_backed_up_too(
    kept: Rooms, operator: Caller, tmp_path: Path
) -> None:
    cold = replace(kept.settings.blobs, cold_url=f"file://{tmp_path}/cold-store")
    tiered = build_rooms(replace(kept.settings, blobs=cold), kept.clock)
    move_study(tiered.archive, f"{ROOT}.1", COLD)
    create_backup(tiered, operator)
    told = drill(tiered, operator)
    shutil.rmtree(tmp_path / "cold-store")

    with empty_database(kept.settings.database.url, tmp_path / "back" / "cloudfilm.db") as empty:
        restore(tiered.settings, tmp_path / "back", "" if empty.startswith("sqlite") else empty)
        there = replace(cold, url=f"file://{tmp_path}/back/blobs", cold_url=f"file://{tmp_path}/back/cold")
        back = build_rooms(
            replace(
                kept.settings, data_dir=tmp_path / "back", database=DatabaseSettings(url=empty), blobs=there
            )
        )
        assert images(back, operator) == SLICES
        back.close()
    tiered.close()
    assert "3 objects read" in told


def test_a_drill_proves_the_newest_backup_and_leaves_nothing(kept: Rooms, operator: Caller) -> None:
    create_backup(kept, operator)
    told = drill(kept, operator)

    assert "3 objects read, all with the digest of their arrival" in told
    assert list((kept.settings.data_dir / "run").iterdir()) == []
    assert "sound" in verify_backup(kept, operator, percent=100)
    assert [(run.kind, run.good) for run in runs(kept, operator)] == [
        ("verify", True),
        ("drill", True),
        ("backup", True),
    ]


def test_a_drill_finds_an_object_that_was_damaged_before_the_backup(kept: Rooms, operator: Caller) -> None:
    (victim, *_) = (path for path in (kept.settings.data_dir / "blobs").rglob("*") if path.is_file())
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    create_backup(kept, operator)

    with pytest.raises(BackupFailed, match="1 of 3 objects"):
        drill(kept, operator)
    assert [(run.kind, run.good) for run in runs(kept, operator)] == [("drill", False), ("backup", True)]


def test_a_repository_says_nothing_of_what_it_holds(kept: Rooms, operator: Caller, tmp_path: Path) -> None:
    create_backup(kept, operator)
    files = [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]

    assert files
    assert all(b"CITIZEN" not in path.read_bytes() for path in files)
    assert all(path.name != "ring.json" for path in files)


def test_the_worker_makes_a_backup_when_one_is_due(kept: Rooms, clock: FixedClock) -> None:
    back_up_when_due(kept)
    first = last_good(kept, "backup")
    back_up_when_due(kept)
    assert last_good(kept, "backup") == first == clock.now()


def test_without_a_repository_it_says_what_to_set(rooms: Rooms, operator: Caller) -> None:
    back_up_when_due(rooms)  # nothing is due
    with pytest.raises(BackupNotSetUp, match=r"backup\.repository"):
        create_backup(rooms, operator)


def test_nothing_is_restored_over_what_is_there(kept: Rooms, operator: Caller) -> None:
    create_backup(kept, operator)
    with pytest.raises(BackupFailed, match="not empty"):
        restore(kept.settings, kept.settings.data_dir)


def test_objects_in_a_bucket_need_copies_of_their_own(kept: Rooms, operator: Caller) -> None:
    settings = replace(kept.settings, blobs=replace(kept.settings.blobs, url="s3://somewhere"))
    with pytest.raises(BackupNotSetUp, match=r"blobs\.copies"):
        create_backup(replace(kept, settings=settings), operator)


def test_a_drill_says_what_the_database_does_not_let_it_do(kept: Rooms, operator: Caller) -> None:
    if kept.database.is_sqlite:  # a file needs nobody's leave
        create_backup(kept, operator)
        assert "3 objects read" in drill(kept, operator)
        return
    role = f"without_createdb_{uuid.uuid4().hex[:12]}"
    with kept.database.transaction() as session:
        session.execute(text(f"CREATE ROLE {role} LOGIN"))
    limited = make_url(kept.settings.database.url).set(username=role).render_as_string(hide_password=False)
    try:
        with pytest.raises(BackupNotSetUp, match=f"ALTER ROLE {role} CREATEDB"):
            drill(
                replace(kept, settings=replace(kept.settings, database=DatabaseSettings(url=limited))),
                operator,
            )
    finally:
        with kept.database.transaction() as session:
            session.execute(text(f"DROP ROLE {role}"))
