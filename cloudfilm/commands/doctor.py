"""`cloudfilm doctor`: check this installation and say what is wrong, and what to do."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select

from access.row_care import changed_rows
from archive.blobs.store import BlobNotFound
from archive.blobs.stores import copy_stores
from archive.model import Hold, Instance
from cloudfilm.certificates import certificate_complaints
from cloudfilm.migrate import expected_revision, is_usable, schema_revision
from cloudfilm.rooms import Rooms
from kernel.database import DatabaseUnavailable, said_by_database
from kernel.errors import CloudfilmError, InvalidSetting
from kernel.jobs import JobRow
from kernel.tls import server_context
from portal.ohif_dist import FOLDER, STAMP


@click.command()
@click.pass_obj
def doctor(context: Any) -> None:
    """Check this installation. Exits 1 when something is wrong."""
    rooms, wrong, has_database = context.rooms, 0, True
    for check in CHECKS:
        if check.reads_database and not has_database:
            click.echo(f"?     {check.name}: not looked at, for want of the database")
            continue
        findings = _found_by(check, rooms)
        wrong += len(findings)
        has_database = has_database and not (check.look is _database and findings)
        click.echo(f"{'ok   ' if not findings else 'WRONG'} {check.name}")
        for finding in findings:
            click.echo(f"      {finding}")
    sys.exit(1 if wrong else 0)


def _found_by(check: "Check", rooms: Rooms) -> list[str]:
    """What a check finds, and what keeps it from finding more."""
    findings = []
    try:
        for finding in check.look(rooms):
            findings.append(finding)
    except CloudfilmError as refusal:
        findings.append(str(refusal))
    return findings


def _database(rooms: Rooms) -> Iterator[str]:
    try:
        found, expected = schema_revision(rooms.database), expected_revision()
    except DatabaseUnavailable as failure:
        yield said_by_database(failure)
        return
    if not is_usable(found):
        yield f"The schema is at {found} and this code wants {expected}; run: cloudfilm migrate."
        return
    rooms.database.veils_names()  # raises while names are half way to another form


def _keys(rooms: Rooms) -> Iterator[str]:
    path = rooms.settings.data_dir / "keys" / "ring.json"
    if not path.exists():
        yield f"There is no key ring at {path}; restore it from its backup."
        return
    found = path.stat()
    # A secret that Kubernetes mounts belongs to root, and its pod reads it as one of a group.
    is_ours = found.st_uid == os.geteuid()
    if found.st_mode & (0o077 if is_ours else 0o027):
        yield f"Others may read the key ring; run: chmod 600 {path}"


def _storage(rooms: Rooms) -> Iterator[str]:
    sealed = rooms.archive.blobs.write(b"cloudfilm doctor")
    if rooms.archive.blobs.read(sealed.key, sealed.seal) != b"cloudfilm doctor":
        yield "The storage does not give back what was written."
    rooms.archive.blobs.delete(sealed.key)
    for name, store in copy_stores(rooms.settings.blobs).items():
        try:
            store.check()
        except CloudfilmError as refusal:
            yield f"blobs.copies, {name}: {refusal}"
    free = rooms.archive.blobs.store.free_bytes()
    if free is not None and free < rooms.settings.blobs.free_bytes * 4:
        yield f"Only {free // 2**20} MiB are free."


def _newest_objects(rooms: Rooms) -> Iterator[str]:
    with rooms.database.snapshot() as session:
        keys = session.scalars(select(Instance.blob_key).order_by(Instance.id.desc()).limit(200)).all()
    for key in keys:
        try:
            reader = rooms.archive.blobs.store.open(key)
            reader.pread(1, 0)
            reader.close()
        except BlobNotFound:
            yield f"The stored object {key} is missing; restore the storage from its backup."


def _redis(rooms: Rooms) -> Iterator[str]:
    for name, url in (("queue.url", rooms.settings.queue.url), ("cache.url", rooms.settings.cache.url)):
        if not url.startswith(("redis://", "rediss://")):
            continue
        try:
            with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as redis:
                redis.ping()
        except RedisError as failure:
            yield f"The Redis of {name} does not answer: {failure}"


def _address(rooms: Rooms) -> Iterator[str]:
    web = rooms.settings.web
    if web.host not in ("127.0.0.1", "::1", "localhost") and not web.public_url:
        yield (
            "web.public_url is not set: links and codes that commands make for patients lead to localhost; "
            "write it as https://film.example.org."
        )


def _queue(rooms: Rooms) -> Iterator[str]:
    late = rooms.clock.now() - timedelta(minutes=10)
    with rooms.database.snapshot() as session:
        dead = session.scalar(select(func.count(JobRow.id)).where(JobRow.dead))
        waiting = session.scalar(select(func.count(JobRow.id)).where(~JobRow.dead, JobRow.due < late))
    if dead:
        yield f"{dead} jobs were given up; see their errors in the table job."
    if waiting:
        yield f"{waiting} jobs are late; check that a worker runs: cloudfilm serve worker."


def _holds(rooms: Rooms) -> Iterator[str]:
    with rooms.database.snapshot() as session:
        held = session.scalar(select(func.count(Hold.id)).where(Hold.resolved_at.is_(None)))
    if held:
        yield f"{held} objects are held for review."


def _dicom_tls(rooms: Rooms) -> Iterator[str]:
    settings = rooms.settings.dimse
    if settings.tls_port and not settings.tls_certificate:
        yield "dimse.tls_port is set and dimse.tls_certificate is not: name a certificate and its key."
    if not settings.tls_certificate:
        return
    try:
        server_context("dimse.tls_certificate", settings.tls_certificate, settings.tls_key, settings.tls_ca)
    except InvalidSetting as failure:
        yield f"DICOM under TLS cannot begin: {failure}"
        return
    if settings.tls_port and not settings.tls_ca:
        yield "dimse.tls_ca is not set: no certificate is demanded of nodes that call."


def _certificates(rooms: Rooms) -> Iterator[str]:
    yield from certificate_complaints(rooms.settings, rooms.clock.now())


def _revocation_lists(rooms: Rooms) -> Iterator[str]:
    yield from rooms.access.revocations.complaints(rooms.clock.now())


def _rows(rooms: Rooms) -> Iterator[str]:
    for row in changed_rows(rooms.access):
        yield f"{row.row_name} was changed outside of cloudfilm and does not count."


def _viewer(_rooms: Rooms) -> Iterator[str]:
    if not (FOLDER / STAMP).exists():
        yield "The OHIF viewer is not installed; run: make viewer."


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table of checks."""

    name: str
    look: Callable[[Rooms], Iterator[str]]
    reads_database: bool = False


CHECKS = (
    Check("database", _database),
    Check("key ring", _keys),
    Check("storage", _storage),
    Check("newest objects", _newest_objects, reads_database=True),
    Check("Redis", _redis),
    Check("jobs", _queue, reads_database=True),
    Check("held objects", _holds, reads_database=True),
    Check("address", _address),
    Check("DICOM under TLS", _dicom_tls),
    Check("certificates", _certificates),
    Check("revocation lists", _revocation_lists),
    Check("accounts, apps and nodes", _rows, reads_database=True),
    Check("viewer", _viewer),
)
