"""`cloudfilm doctor`: check this installation and say what is wrong, and what to do."""

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from sqlalchemy import func, select

from archive.blobs.store import BlobNotFound
from archive.model import Hold, Instance
from cloudfilm.migrate import expected_revision, is_usable, schema_revision
from cloudfilm.rooms import Rooms
from kernel.errors import InvalidSetting
from kernel.jobs import JobRow
from kernel.tls import server_context
from portal.ohif_dist import FOLDER, STAMP

EXPIRES_SOON = timedelta(days=30)


@click.command()
@click.pass_obj
def doctor(context: Any) -> None:
    """Check this installation. Exits 1 when something is wrong."""
    rooms, wrong = context.rooms, 0
    for name, check in CHECKS:
        findings = list(check(rooms))
        wrong += len(findings)
        click.echo(f"{'ok   ' if not findings else 'WRONG'} {name}")
        for finding in findings:
            click.echo(f"      {finding}")
    sys.exit(1 if wrong else 0)


def _database(rooms: Rooms) -> Iterator[str]:
    if not rooms.database.is_alive():
        yield "The database does not answer; check database.url and that its server runs."
        return
    found, expected = schema_revision(rooms.database), expected_revision()
    if not is_usable(found):
        yield f"The schema is at {found} and this code wants {expected}; run: cloudfilm migrate."


def _keys(rooms: Rooms) -> Iterator[str]:
    path = rooms.settings.data_dir / "keys" / "ring.json"
    if not path.exists():
        yield f"There is no key ring at {path}; restore it from its backup."
    elif path.stat().st_mode & 0o077:
        yield f"Others may read the key ring; run: chmod 600 {path}"


def _storage(rooms: Rooms) -> Iterator[str]:
    sealed = rooms.archive.blobs.write(b"cloudfilm doctor")
    if rooms.archive.blobs.read(sealed.key, sealed.seal) != b"cloudfilm doctor":
        yield "The storage does not give back what was written."
    rooms.archive.blobs.delete(sealed.key)
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
        certificate = x509.load_pem_x509_certificate(Path(settings.tls_certificate).read_bytes())
    except (InvalidSetting, OSError, ValueError) as failure:
        yield f"DICOM under TLS cannot begin: {failure}"
        return
    left = certificate.not_valid_after_utc - rooms.clock.now()
    if left < EXPIRES_SOON:
        yield (
            f"The certificate of DICOM under TLS ends on {certificate.not_valid_after_utc:%Y-%m-%d}: put a "
            "new one in its place and start the server again."
        )
    if settings.tls_port and not settings.tls_ca:
        yield "dimse.tls_ca is not set: no certificate is demanded of nodes that call."


def _viewer(_rooms: Rooms) -> Iterator[str]:
    if not (FOLDER / STAMP).exists():
        yield "The OHIF viewer is not installed; run: make viewer."


CHECKS: tuple[tuple[str, Callable[[Rooms], Iterator[str]]], ...] = (
    ("database", _database),
    ("key ring", _keys),
    ("storage", _storage),
    ("newest objects", _newest_objects),
    ("jobs", _queue),
    ("held objects", _holds),
    ("DICOM under TLS", _dicom_tls),
    ("viewer", _viewer),
)
