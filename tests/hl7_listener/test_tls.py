"""MLLP under TLS, with client certificates demanded, and what the listener does not put up with."""

import asyncio
import datetime
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from access.model import AuditEntry
from access.revocation_lists import RevocationLists
from hl7_listener.mllp import MllpServer, frame, tls_context
from hl7_listener.room import Hl7
from kernel.clock import SystemClock
from kernel.database import Database
from kernel.errors import InvalidSetting
from kernel.settings import MllpSettings
from tests.builders_hl7 import adt_a04
from tests.certificates import Authority


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(paths[0]), str(paths[1])


@contextmanager
def listening(hl7: Hl7, **changes: object) -> Iterator[int]:
    """A listener on a port of its own."""
    server = MllpServer(replace(hl7, settings=MllpSettings(port=0, **changes)))  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def exchange(port: int, raw: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Send bytes, return all that comes until an answer is whole or the connection ends."""

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(raw)
        received = b""
        with suppress(ConnectionError):
            while b"\x1c\r" not in received and (piece := await reader.read(65536)):
                received += piece
        writer.close()
        return received

    return asyncio.run(run())


def trusting(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


def test_a_client_with_a_certificate_is_served_and_one_without_is_not(
    hl7: Hl7, certificate: tuple[str, str]
) -> None:
    file, key = certificate
    with listening(hl7, tls_certificate=file, tls_key=key, tls_client_ca=file) as port:
        known = trusting(file)
        known.load_cert_chain(file, key)
        assert b"MSA|AA" in exchange(port, frame(adt_a04()), known)
        answer = b""
        with suppress(ssl.SSLError, ConnectionError):  # or the connection just ends, as TLS 1.3 has it
            answer = exchange(port, frame(adt_a04()), trusting(file))
        assert answer == b""


def test_a_sender_whose_certificate_was_revoked_is_refused(hl7: Hl7, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs, thief = (authority.issue(name) for name in ("server", "his", "thief"))
    lists = RevocationLists((str(authority.revocation_list(thief)),), (str(authority.certificate),))
    door = replace(hl7, access=replace(hl7.access, revocations=lists, clock=SystemClock()))
    tls = {"tls_certificate": str(ours.certificate), "tls_key": str(ours.key)}
    with listening(door, **tls, tls_client_ca=str(authority.certificate)) as port:
        for sender, code in ((theirs, b"MSA|AA"), (thief, b"MSA|AR")):
            context = trusting(str(authority.certificate))
            context.load_cert_chain(sender.certificate, sender.key)
            assert code in exchange(port, frame(adt_a04()), context)
    with hl7.database.snapshot() as session:
        refused = session.scalars(select(AuditEntry.detail).where(AuditEntry.outcome == "refused")).all()
    assert ["certificate: its issuer revoked it" in each for each in refused] == [True]


def test_a_database_that_is_away_does_not_make_a_sender_unknown(hl7: Hl7) -> None:
    away = Database("postgresql://cloudfilm@127.0.0.1:1/none")
    with listening(replace(hl7, access=replace(hl7.access, database=away))) as port:
        answer = exchange(port, frame(adt_a04()))
    assert b"MSA|AR" in answer
    assert b"does not answer" in answer
    assert b"not known" not in answer


def test_a_certificate_that_cannot_be_read_stops_the_start() -> None:
    with pytest.raises(InvalidSetting):
        tls_context(MllpSettings(tls_certificate="/nowhere.pem"))


@pytest.mark.parametrize(
    ("changes", "sent", "ends"),
    [
        ({"max_message_bytes": 1000}, lambda: b"\x0b" + b"x" * 5000, b"MSA|AR"),
        ({"idle_timeout_s": 0.2}, lambda: b"\x0bMSH", b""),
        ({"max_connections": 0}, lambda: frame(adt_a04()), b""),
    ],
)
def test_size_silence_and_numbers_are_limited(
    hl7: Hl7, changes: dict[str, object], sent: Callable[[], bytes], ends: bytes
) -> None:
    with listening(hl7, **changes) as port:
        received = exchange(port, sent())
    assert ends in received
    assert b"MSA|AA" not in received


def test_a_stranger_is_refused(hl7: Hl7) -> None:
    strict = replace(
        hl7, access=replace(hl7.access, settings=replace(hl7.access.settings, loopback_ae=False))
    )
    with listening(strict) as port:
        assert b"MSA|AR" in exchange(port, frame(adt_a04()))
