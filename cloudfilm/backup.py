"""Backup, verification, restore and drill, on restic: encrypted, deduplicated, each backup whole by itself.

The order makes a backup consistent without stopping anything: objects never change and are removed only an
hour after the last row that names them, so the database is dumped first and the objects are copied after,
and every object that the dump names is among them, those of a cold store in a folder too. Objects in an S3
bucket are not carried through here: `blobs.copies` keeps them a second time, and a drill proves that those
copies fit the dump.

The key ring goes to a repository of its own, for whoever holds both data and keys holds everything. A drill
restores beside what runs, opens it with the restored keys, and compares counts and digests.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import create_engine, func, insert, make_url, select, text
from sqlalchemy.exc import ProgrammingError

from access.audit import note
from access.caller import Action, Caller, system
from archive.blobs.sealed import Blobs
from archive.blobs.store import BlobNotFound
from archive.model import Instance, Study
from cloudfilm.backup_model import BackupRun
from cloudfilm.migrate import schema_revision
from cloudfilm.rooms import Rooms, build_rooms
from kernel.crypto import DamagedBlob, Seal
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job
from kernel.settings import BlobsSettings, Settings
from records.model import Resource

MANIFEST, DATABASE_FILE, DATABASE_DUMP = "manifest.json", "cloudfilm.db", "cloudfilm.dump"
MAIN, COLD = "blobs", "cold"  # folders of objects in what was restored
TAG = "cloudfilm"
INSUFFICIENT_PRIVILEGE = "42501"  # PostgreSQL, appendix A


class BackupFailed(CloudfilmError):
    """A backup, a restore or a drill that did not come to a good end."""

    kind = Kind.FAULT


class BackupNotSetUp(CloudfilmError):
    """Something that the settings or the host lack for backups."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was there when the database was dumped; a drill compares with it."""

    made_at: str
    schema: str
    database: str  # sqlite or postgresql
    objects: str  # file: among the backup; s3: in the stores of blobs.copies
    studies: int
    instances: int
    documents: int
    bytes: int
    folders: dict[str, str] = field(default_factory=dict)  # of objects, as they lay; code before wrote none


@dataclass(frozen=True, slots=True)
class Repository:
    """A restic repository."""

    url: str
    password_file: str

    def run(self, *arguments: str) -> str:
        """Run restic; returns what it printed. Raises BackupFailed or BackupNotSetUp."""
        environment = {
            **os.environ,
            "RESTIC_REPOSITORY": self.url,
            "RESTIC_PASSWORD_FILE": self.password_file,
        }
        return _run(["restic", *arguments], environment, "apt-get install restic")

    def prepare(self) -> None:
        """Make the repository unless it is there."""
        try:
            self.run("cat", "config")
        except BackupFailed:
            self.run("init")


def _run(command: list[str], environment: dict[str, str], remedy: str) -> str:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise BackupNotSetUp(f"{command[0]} is not installed here: {remedy}.") from None
    if done.returncode:
        raise BackupFailed(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _repository(settings: Settings) -> Repository:
    backup = settings.backup
    if not (backup.repository and backup.password_file):
        raise BackupNotSetUp("Set backup.repository and backup.password_file.")
    return Repository(backup.repository, backup.password_file)


def _keys_repository(settings: Settings) -> Repository | None:
    backup = settings.backup
    if not backup.keys_repository:
        return None
    return Repository(backup.keys_repository, backup.keys_password_file or backup.password_file)


@job(queue="backup", retries=2, every=timedelta(hours=1))
def back_up_when_due(rooms: Rooms) -> None:
    """Make a backup when the last good one is older than `backup.every_h`."""
    settings = rooms.settings.backup
    if not settings.repository:
        return
    last = last_good(rooms, "backup")
    if last is None or rooms.clock.now() - last >= timedelta(hours=settings.every_h):
        create_backup(rooms, system("backup"))


def last_good(rooms: Rooms, kind: str) -> datetime | None:
    """When the last good run of a kind began."""
    with rooms.database.snapshot() as session:
        return session.scalar(
            select(BackupRun.began_at)
            .where(BackupRun.kind == kind, BackupRun.good)
            .order_by(BackupRun.id.desc())
            .limit(1)
        )


def create_backup(rooms: Rooms, caller: Caller) -> str:
    """Make a backup. Returns what it holds, for people. Raises Forbidden, BackupFailed or BackupNotSetUp."""
    return _recorded(rooms, caller, "backup", lambda: _create(rooms))


def verify_backup(rooms: Rooms, caller: Caller, percent: int = 5) -> str:
    """Check the repository's structure and read a share of its data."""
    repository = _repository(rooms.settings)

    def verify() -> str:
        repository.run("check", f"--read-data-subset={percent}%")
        return f"The repository is sound; {percent}% of its data was read."

    return _recorded(rooms, caller, "verify", verify)


def drill(rooms: Rooms, caller: Caller, sample: int = 500) -> str:
    """Restore the newest backup beside what runs and prove it: counts, and digests of up to `sample`
    objects."""
    return _recorded(rooms, caller, "drill", lambda: _drill(rooms, sample))


def _recorded(rooms: Rooms, caller: Caller, kind: str, act: Callable[[], str]) -> str:
    caller.require(Action("Job", "c"))
    began_at, began = rooms.clock.now(), time.monotonic()
    good, detail = False, ""
    try:
        detail = act()
        good = True
        return detail
    except CloudfilmError as failure:
        detail = str(failure)
        raise
    finally:
        with rooms.database.transaction() as session:
            session.execute(
                insert(BackupRun).values(
                    kind=kind,
                    began_at=began_at,
                    seconds=round(time.monotonic() - began),
                    good=good,
                    detail=detail,
                )
            )
            note(
                session, rooms.clock, caller, f"{kind} Archive", outcome="done" if good else "failed",
                detail=detail[:500],
            )  # fmt: skip


def _create(rooms: Rooms) -> str:
    repository = _repository(rooms.settings)
    repository.prepare()
    staging = (
        rooms.settings.data_dir / "run" / "backup"
    )  # the same path each time, so that restic knows it again
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True, mode=0o700)
    try:
        manifest = _manifest(rooms)
        (staging / MANIFEST).write_text(json.dumps(asdict(manifest)))
        dump_database(rooms.settings.database.url, staging)
        folders = _object_folders(rooms.settings)
        if MAIN not in folders and not rooms.settings.blobs.copies:
            raise BackupNotSetUp("The objects are in a bucket and nowhere else; set blobs.copies.")
        lie = [str(folder) for folder in folders.values() if folder.exists()]
        repository.run("backup", "--quiet", "--tag", TAG, str(staging), *lie)
        keys = _keys_repository(rooms.settings)
        if keys is not None:
            keys.prepare()
            keys.run("backup", "--quiet", "--tag", TAG, str(rooms.settings.data_dir / "keys"))
        kept = rooms.settings.backup
        repository.run(
            "forget", "--quiet", "--tag", TAG, "--keep-last", "2", "--keep-daily", str(kept.keep_daily),
            "--keep-monthly", str(kept.keep_monthly), "--prune",
        )  # fmt: skip
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return (
        f"{manifest.studies} studies, {manifest.instances} instances, {manifest.documents} documents, "
        f"{manifest.bytes} bytes of images; key ring {'too' if keys else 'NOT: keep your own copy'}."
    )


def _manifest(rooms: Rooms) -> Manifest:
    with rooms.database.snapshot() as session:
        return Manifest(
            rooms.clock.now().isoformat(),
            schema_revision(rooms.database),
            make_url(rooms.settings.database.url).get_backend_name(),
            urlsplit(rooms.settings.blobs.url).scheme,
            session.scalar(select(func.count(Study.id))) or 0,
            session.scalar(select(func.count(Instance.id))) or 0,
            session.scalar(select(func.count(Resource.id))) or 0,
            int(session.scalar(select(func.coalesce(func.sum(Instance.size_bytes), 0))) or 0),
            {name: str(folder) for name, folder in _object_folders(rooms.settings).items()},
        )


def dump_database(url: str, folder: Path) -> None:
    """Write one state of the database into a folder, while it is in use."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with (
            closing(sqlite3.connect(str(parsed.database))) as source,
            closing(sqlite3.connect(folder / DATABASE_FILE)) as target,
        ):
            source.backup(target, pages=4096)
        return
    command = ["pg_dump", "--format=custom", f"--file={folder / DATABASE_DUMP}", _libpq(url)]
    _run(command, dict(os.environ), "apt-get install postgresql-client")


def load_database(folder: Path, url: str) -> None:
    """Bring a dump into an empty database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not (folder / DATABASE_FILE).exists():
            raise BackupFailed("The backup was made of a PostgreSQL database; name one to restore into.")
        shutil.copyfile(folder / DATABASE_FILE, str(parsed.database))
        return
    if not (folder / DATABASE_DUMP).exists():
        raise BackupFailed("The backup was made of an SQLite database; it goes into a file, not a server.")
    _run(
        [
            "pg_restore",
            "--no-owner",
            "--exit-on-error",
            f"--dbname={_libpq(url)}",
            str(folder / DATABASE_DUMP),
        ],
        dict(os.environ),
        "apt-get install postgresql-client",
    )


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _object_folders(settings: Settings) -> dict[str, Path]:
    """The folders of this host that hold objects, by the name that each has below a restored data directory.

    Resolved, for of a link restic would keep the link.
    """
    urls = {MAIN: urlsplit(settings.blobs.url), COLD: urlsplit(settings.blobs.cold_url)}
    return {name: Path(url.path).resolve() for name, url in urls.items() if url.scheme == "file"}


def restore(settings: Settings, into: Path, database_url: str = "", snapshot: str = "latest") -> Manifest:
    """Restore a backup into an empty folder, and into the database of the URL; without one, a file beside.

    The folder is then a data directory: point CLOUDFILM_DATA_DIR at it, database.url at that database, and
    blobs.cold_url at its folder `cold` when there is one. Where objects lay on the host that was lost is
    read from the backup; the settings here need only name the repositories.
    Raises BackupFailed or BackupNotSetUp.
    """
    if into.exists() and any(into.iterdir()):
        raise BackupFailed(f"{into} is not empty; restore into a new folder.")
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    repository, keys = _repository(settings), _keys_repository(settings)
    with tempfile.TemporaryDirectory(dir=into, prefix=".restoring-") as name:
        unpacked = Path(name)
        repository.run("restore", snapshot, "--tag", TAG, "--target", str(unpacked))
        staging = next(unpacked.rglob(MANIFEST), None)
        if staging is None:
            raise BackupFailed("The snapshot holds no backup of cloudfilm.")
        manifest = Manifest(**json.loads(staging.read_text()))
        load_database(staging.parent, database_url or f"sqlite:///{into / DATABASE_FILE}")
        lay = manifest.folders or {name: str(folder) for name, folder in _object_folders(settings).items()}
        for name, folder in lay.items():
            found = unpacked / Path(folder).relative_to("/")
            if found.exists():
                shutil.move(found, into / name)
        if manifest.objects == "file" and manifest.instances and not (into / MAIN).exists():
            raise BackupFailed(
                f"The backup holds no objects of {lay.get(MAIN, 'a folder')}: set CLOUDFILM_DATA_DIR, or "
                "blobs.url, as it was when the backup was made, and restore into a new folder."
            )
        if keys is not None:
            keys.run("restore", "latest", "--tag", TAG, "--target", str(unpacked))
            shutil.move(next(unpacked.rglob("ring.json")).parent, into / "keys")
    return manifest


def _drill(rooms: Rooms, sample: int) -> str:
    settings = rooms.settings
    if _keys_repository(settings) is None:
        raise BackupNotSetUp("Set backup.keys_repository: without the key ring nothing restored opens.")
    rehearsals = settings.data_dir / "run"
    rehearsals.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=rehearsals, prefix="drill-") as folder,
        _scratch_database(settings.database.url, Path(folder)) as database_url,
    ):
        into = Path(folder) / "restored"
        manifest = restore(settings, into, database_url)
        restored = replace(
            settings,
            data_dir=into,
            database=replace(settings.database, url=database_url),
            blobs=_objects_to_prove(settings, into),
        )
        proven = build_rooms(restored)
        try:
            return _prove(proven, manifest, sample)
        finally:
            proven.close()


def _objects_to_prove(settings: Settings, into: Path) -> BlobsSettings:
    folders, blobs = _object_folders(settings), settings.blobs
    url = f"file://{into / MAIN}" if MAIN in folders else blobs.copies[0].partition("=")[2]
    cold_url = f"file://{into / COLD}" if COLD in folders else blobs.cold_url
    return replace(blobs, url=url, cold_url=cold_url, copies=())


@contextmanager
def _scratch_database(url: str, folder: Path) -> Iterator[str]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        yield f"sqlite:///{folder / DATABASE_FILE}"
        return
    name = f"cloudfilm_drill_{uuid.uuid4().hex[:12]}"
    engine = create_engine(parsed.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    try:
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        except ProgrammingError as failure:
            if getattr(failure.orig, "pgcode", None) != INSUFFICIENT_PRIVILEGE:
                raise
            raise BackupNotSetUp(
                f"A drill makes a database of its own; let it: ALTER ROLE {parsed.username} CREATEDB."
            ) from None
        try:
            yield parsed.set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def _prove(rooms: Rooms, manifest: Manifest, sample: int) -> str:
    found = _manifest(rooms)
    expected = (manifest.schema, manifest.studies, manifest.instances, manifest.documents, manifest.bytes)
    if (found.schema, found.studies, found.instances, found.documents, found.bytes) < expected:
        raise BackupFailed(f"What was restored is less than what was backed up: {found} of {manifest}.")
    with rooms.database.snapshot() as session:
        rows = session.execute(
            select(Instance.sop_instance_uid, Instance.blob_key, Instance.seal, Instance.sha256)
            .order_by(func.random())
            .limit(sample)
        ).all()
    bad = [
        row.sop_instance_uid
        for row in rows
        if not _is_whole(rooms.archive.blobs, row.blob_key, row.seal, row.sha256)
    ]
    if bad:
        raise BackupFailed(f"{len(bad)} of {len(rows)} objects do not come back whole, as {bad[0]}.")
    return (
        f"Restored {found.studies} studies, {found.instances} instances and {found.documents} documents; "
        f"{len(rows)} objects read, all with the digest of their arrival."
    )


def _is_whole(blobs: Blobs, key: str, seal: bytes, sha256: bytes) -> bool:
    digest = hashlib.sha256()
    try:
        for piece in blobs.stream(key, Seal.unpack(seal)):
            digest.update(piece)
    except (BlobNotFound, DamagedBlob):
        return False
    return digest.digest() == sha256


def runs(rooms: Rooms, caller: Caller, most: int = 20) -> list[BackupRun]:
    """The newest runs, the last first."""
    caller.require(Action("Job", "s"))
    with rooms.database.snapshot() as session:
        return list(session.scalars(select(BackupRun).order_by(BackupRun.id.desc()).limit(most)))
