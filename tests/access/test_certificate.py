"""The server's own certificate: made once, renewed in time, and never a site's one replaced."""

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from access.certificate import ensure_certificate, server_tls

NOW = datetime.now(UTC)


def test_a_certificate_is_made_once_and_only_its_owner_reads_the_key(tmp_path: Path) -> None:
    paths = ensure_certificate(tmp_path, "film.example.org")
    first = paths.certificate.read_bytes()

    assert ensure_certificate(tmp_path).certificate.read_bytes() == first
    assert paths.key.stat().st_mode & 0o777 == 0o600
    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "film.example.org" in names.value.get_values_for_type(x509.DNSName)


def test_it_is_made_anew_before_it_ends(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path, now=NOW - timedelta(days=360)).certificate.read_bytes()

    assert ensure_certificate(tmp_path, now=NOW).certificate.read_bytes() != first


@pytest.mark.parametrize(
    ("version", "is_served"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_tls_is_1_2_or_later_with_forward_secrecy(
    tmp_path: Path, version: ssl.TLSVersion, is_served: bool
) -> None:
    paths = ensure_certificate(tmp_path)
    served = server_tls(paths)
    trusting = ssl.create_default_context(cafile=str(paths.certificate))
    trusting.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    trusting.maximum_version = version
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            served.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with trusting.wrap_socket(ours, server_hostname="localhost") as secured:
            cipher = secured.cipher()
        assert is_served
        assert cipher is not None
        assert cipher[0].startswith(("ECDHE", "TLS_"))
    except (ssl.SSLError, OSError):
        assert not is_served
    finally:
        ours.close()
        thread.join()


def test_processes_that_start_at_once_have_one_certificate_and_its_key(tmp_path: Path) -> None:
    """Every role asks for it at the first start; the key of one would not fit the certificate of another."""
    for turn in range(5):
        together = threading.Barrier(8)

        def make(
            _: int, folder: Path = tmp_path / str(turn), together: threading.Barrier = together
        ) -> bytes:
            together.wait()
            paths = ensure_certificate(folder)
            server_tls(paths)  # raises when they do not fit
            return paths.certificate.read_bytes()

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(make, range(8)))) == 1
