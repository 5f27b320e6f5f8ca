"""Objects in a real S3-compatible store: whole and once, read at any offset, and honest when it is away."""

import hashlib
import io
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest

from access.caller import Caller
from archive.blobs.near import NearStore
from archive.blobs.s3 import S3Store
from archive.blobs.sealed import Blobs
from archive.blobs.store import BlobNotFound, StorageUnavailable
from archive.bounded_folder import BoundedFolder
from archive.ingest import ingest, ingest_all
from archive.placing import Outcome
from archive.retrieve import find_instance, find_instances, frame_pieces, instance_bytes
from archive.sweep import sweep
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock, SystemClock
from kernel.crypto import KeyRing
from kernel.errors import CloudfilmError, InvalidSetting, Kind
from kernel.settings import BlobsSettings, Settings
from tests.builders import ROOT, ct_slice
from tests.servers.seaweedfs import ACCESS_KEY, SECRET_KEY, ObjectStore, object_store_in

ROOT_FOLDER = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store_in(tmp_path_factory.mktemp("s3")) as store:
        store.make_bucket("images")
        yield store


@pytest.fixture
def blobs(object_store: ObjectStore, tmp_path: Path) -> Blobs:
    store = S3Store.at(urlsplit(object_store.url("images", secrets.token_hex(4))), "blobs.url")
    return Blobs(store, KeyRing.load(tmp_path / "ring.json"), SystemClock(), BlobsSettings())


@pytest.fixture
def s3_rooms(object_store: ObjectStore, settings: Settings, clock: FixedClock) -> Iterator[Rooms]:
    url = object_store.url("images", secrets.token_hex(4))
    built = build_rooms(replace(settings, blobs=replace(settings.blobs, url=url)), clock)
    yield built
    built.close()


@pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000, 40_000_000])
def test_an_object_of_any_size_comes_back(blobs: Blobs, size: int) -> None:
    data = secrets.token_bytes(size)
    sealed = blobs.write(data)

    assert hashlib.sha256(b"".join(blobs.stream(sealed.key, sealed.seal))).digest() == sealed.sha256
    assert hashlib.sha256(data).digest() == sealed.sha256
    middle = size // 2
    assert blobs.read(sealed.key, sealed.seal, middle, 5000) == data[middle : middle + 5000]
    with blobs.open(sealed.key, sealed.seal) as file:
        file.seek(max(0, size - 10))
        assert file.read() == data[max(0, size - 10) :]


def test_what_is_not_kept_leaves_nothing(blobs: Blobs) -> None:
    kept = blobs.write(b"kept")
    for finish in (False, True):
        writer = blobs.writer()
        writer.write(secrets.token_bytes(700_000))
        if finish:
            writer.finish()
        writer.discard()

    assert [each.key for each in blobs.store.list()] == [kept.key]


def test_a_lost_object_is_told_as_lost(blobs: Blobs) -> None:
    sealed = blobs.write(b"x" * 1000)
    blobs.delete(sealed.key)
    blobs.delete(sealed.key)  # nothing happens when there is none

    with pytest.raises(BlobNotFound):
        blobs.read(sealed.key, sealed.seal)


def test_instances_are_stored_found_and_swept_in_a_bucket(s3_rooms: Rooms, operator: Caller) -> None:
    archive = s3_rooms.archive
    slices = [ct_slice(instance=number) for number in range(1, 21)]
    receipts = list(ingest_all(archive, operator, (io.BytesIO(data) for data in slices)))
    again = ingest(archive, operator, io.BytesIO(slices[0]))
    stored = [
        b"".join(instance_bytes(archive, each)) for each in find_instances(archive, operator, f"{ROOT}.1")
    ]

    assert {getattr(receipt, "outcome", None) for receipt in receipts} == {Outcome.STORED}
    assert again.outcome is Outcome.DUPLICATE
    assert stored == slices
    assert len(list(archive.blobs.store.list())) == len(slices)
    archive.blobs.write(b"a stray")
    assert sweep(archive, grace=timedelta(days=-10000)) == 1
    assert len(list(archive.blobs.store.list())) == len(slices)


def test_where_no_bucket_is_yet_there_is_nothing_to_remove(object_store: ObjectStore) -> None:
    S3Store.at(urlsplit(object_store.url("not-made-yet")), "blobs.copies").delete("2026/11/29/nothing")


def test_a_wrong_secret_is_told_as_refused(object_store: ObjectStore, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"access_key": "cloudfilm-test", "secret_key": "not-it"}')
    url = f"s3://images/x?endpoint={object_store.endpoint}&credentials={wrong}"
    blobs = Blobs(
        S3Store.at(urlsplit(url), "blobs.url"), KeyRing.load(tmp_path / "k"), SystemClock(), BlobsSettings()
    )

    with pytest.raises(StorageUnavailable, match="credentials"):
        blobs.write(b"x")


@pytest.mark.parametrize("url", ["s3://", "s3://bucket?colour=red", "s3://bucket?credentials=/nowhere.json"])
def test_a_wrong_url_stops_the_start(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"blobs\.url"):
        S3Store.at(urlsplit(url), "blobs.url")


def test_an_outage_refuses_and_loses_nothing(
    tmp_path: Path, settings: Settings, clock: FixedClock, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.blobs.s3.GIVE_UP_AFTER", timedelta(seconds=2))
    with object_store_in(tmp_path / "s3") as server:
        server.make_bucket("images")
        rooms = build_rooms(replace(settings, blobs=replace(settings.blobs, url=server.url("images"))), clock)
        before, during = ct_slice(instance=1), ct_slice(instance=2)
        ingest(rooms.archive, operator, io.BytesIO(before))
        server.kill()
        with pytest.raises(CloudfilmError) as refused:
            ingest(rooms.archive, operator, io.BytesIO(during))
        server.start()
        retried = ingest(rooms.archive, operator, io.BytesIO(during))
        found = [
            b"".join(instance_bytes(rooms.archive, each))
            for each in find_instances(rooms.archive, operator, f"{ROOT}.1")
        ]
        assert refused.value.kind is Kind.UNAVAILABLE
        assert retried.outcome is Outcome.STORED
        assert found == [before, during]
        rooms.close()


def test_a_read_that_the_store_cannot_serve_comes_from_a_copy(
    object_store: ObjectStore, settings: Settings, clock: FixedClock, operator: Caller, tmp_path: Path
) -> None:
    copies = (f"near=file://{tmp_path}/copies",)
    url = object_store.url("images", secrets.token_hex(4))
    rooms = build_rooms(replace(settings, blobs=replace(settings.blobs, url=url, copies=copies)), clock)
    data = ct_slice()
    ingest(rooms.archive, operator, io.BytesIO(data))
    stored = find_instance(rooms.archive, operator, f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")
    sealed = bytes(obstore.get(rooms.archive.blobs.store._bucket, stored.blob_key).bytes())  # type: ignore[attr-defined]
    copy = tmp_path / "copies" / stored.blob_key
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(sealed)
    rooms.archive.blobs.store.delete(stored.blob_key)

    assert b"".join(instance_bytes(rooms.archive, stored)) == data
    rooms.close()


@pytest.fixture
def near(blobs: Blobs, tmp_path: Path) -> Blobs:
    return replace(blobs, near=NearStore(blobs.store, BoundedFolder(tmp_path / "near", 64 << 20)))


def kept_near(folder: Path) -> list[Path]:
    return [path for path in (folder / "near").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [1, 262_144, 524_288, 3_000_000])
def test_what_was_read_of_a_distant_store_is_near(near: Blobs, tmp_path: Path, size: int) -> None:
    data = secrets.token_bytes(size)
    sealed = near.write(data)
    for offset, length in ((0, size), (size // 2, 300_000), (size - 1, 1)):
        assert near.read(sealed.key, sealed.seal, offset, length) == data[offset : offset + length]
    near.store.delete(sealed.key)  # behind its back: what is asked now was kept

    for offset, length in ((0, size), (size // 3, 300_000)):
        assert near.read(sealed.key, sealed.seal, offset, length) == data[offset : offset + length]
    assert size < 64 or not any(data[:64] in path.read_bytes() for path in kept_near(tmp_path))


def test_what_is_near_and_damaged_is_read_from_where_it_lies(near: Blobs, tmp_path: Path) -> None:
    data = secrets.token_bytes(1_000_000)
    sealed = near.write(data)
    for harm in (b"", b"cut off", bytes(524_288)):
        assert near.read(sealed.key, sealed.seal) == data
        kept = kept_near(tmp_path)
        assert kept
        for path in kept:
            path.write_bytes(harm)
        assert near.read(sealed.key, sealed.seal, 10, 700_000) == data[10:700_010]
        assert near.read(sealed.key, sealed.seal) == data


def test_what_is_deleted_is_not_near(near: Blobs, tmp_path: Path) -> None:
    sealed = near.write(b"x" * 1000)
    near.read(sealed.key, sealed.seal)
    near.delete(sealed.key)

    assert not kept_near(tmp_path)
    with pytest.raises(BlobNotFound):
        near.read(sealed.key, sealed.seal)


def test_what_is_near_stays_within_its_limit(blobs: Blobs, tmp_path: Path) -> None:
    near = replace(blobs, near=NearStore(blobs.store, BoundedFolder(tmp_path / "near", 8 << 20)))
    for _ in range(30):
        sealed = near.write(secrets.token_bytes(600_000))
        near.read(sealed.key, sealed.seal)

    assert 0 < sum(path.stat().st_size for path in kept_near(tmp_path)) <= (8 << 20) * 17 // 16 + 1_200_000


def test_a_region_reads_an_image_from_its_store_once(s3_rooms: Rooms, operator: Caller) -> None:
    receipt = ingest(s3_rooms.archive, operator, io.BytesIO(ct_slice()))
    named = (receipt.study_instance_uid, receipt.series_instance_uid, receipt.sop_instance_uid)
    stored = find_instance(s3_rooms.archive, operator, *named)
    first = b"".join(frame_pieces(s3_rooms.archive, stored, 1))
    s3_rooms.archive.blobs.store.delete(stored.blob_key)

    assert b"".join(frame_pieces(s3_rooms.archive, stored, 1)) == first


def test_the_store_takes_the_rule_that_ends_uploads_which_a_crash_cut_off(object_store: ObjectStore) -> None:
    """By the command of docs/operations.md."""
    guide = (ROOT_FOLDER / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"^curl --aws-sigv4 .*?lifecycle='$", guide, re.MULTILINE | re.DOTALL)
    command = command.replace("https://objects.example.org", object_store.endpoint)
    keys = {"KEY": ACCESS_KEY, "SECRET": SECRET_KEY}
    ask = command.replace("--upload-file docker/lifecycle.xml", "")
    said = [
        subprocess.run(
            each.replace("curl ", "curl --fail --silent --show-error "),
            shell=True, cwd=ROOT_FOLDER, env=os.environ | keys, capture_output=True, text=True, timeout=60,
            check=True,
        ).stdout
        for each in (command, ask)
    ]  # fmt: skip

    assert said[0] == ""
    assert "AbortIncompleteMultipartUpload" in said[1]
