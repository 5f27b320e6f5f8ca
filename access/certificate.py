"""TLS of the web server: a certificate of our own for the first start, so that nothing goes in the clear.
A site replaces it with its own.

X.509 v3 with subject alternative names (RFC 5280), ECDSA P-256, one year; made anew when it is about to end.
"""

import fcntl
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kernel.settings import WebSettings
from kernel.tls import server_context

LIFE = timedelta(days=365)
RENEWED_BEFORE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """PEM files of a certificate and of its key."""

    certificate: Path
    key: Path


def ensure_certificate(data_dir: Path, host: str = "", now: datetime | None = None) -> CertificatePaths:
    """The certificate in `data_dir/tls`, made if there is none or it is about to end.

    host: the name that clients use, beside this machine's own and localhost. What a site put there itself,
    signed by somebody else, is left alone for ever.
    """
    folder = data_dir / "tls"
    paths = CertificatePaths(folder / "certificate.pem", folder / "key.pem")
    at = now or datetime.now(UTC)
    if _is_good(paths, at):
        return paths
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:  # every role asks at the first start: one makes it, for all
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_good(paths, at):
            key = ec.generate_private_key(ec.SECP256R1())
            made = _certificate(key, host, at).public_bytes(serialization.Encoding.PEM)
            _write(paths.key, _key_pem(key), 0o600)
            _write(paths.certificate, made, 0o644)
    return paths


def _is_good(paths: CertificatePaths, at: datetime) -> bool:
    """Whether there is one that serves: not ours, or ours and not about to end."""
    if not (paths.certificate.exists() and paths.key.exists()):
        return False
    current = x509.load_pem_x509_certificate(paths.certificate.read_bytes())
    is_ours = current.issuer == current.subject
    return not is_ours or current.not_valid_after_utc > at + RENEWED_BEFORE


def _certificate(key: ec.EllipticCurvePrivateKey, host: str, at: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (host or socket.gethostname())[:64])])
    names = dict.fromkeys([host, socket.gethostname(), "localhost", "127.0.0.1", "::1"])
    alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names if each])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(minutes=5))
        .not_valid_after(at + LIFE)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(server, critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text.encode("idna").decode())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, readable by whom it is meant for from the start."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)


def speaks_tls(web: WebSettings) -> bool:
    """Whether the web server itself speaks TLS: behind a proxy or on this machine alone it need not."""
    if web.tls != "auto":
        return web.tls == "on"
    return not web.trusted_proxies and not is_loopback(web.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address that is listened on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def web_certificate(web: WebSettings, data_dir: Path) -> CertificatePaths:
    """The site's own certificate, else ours, made when there is none. Raises InvalidSetting."""
    if not web.tls_certificate:
        host = urlsplit(web.public_url).hostname or ("" if web.host in ("0.0.0.0", "::") else web.host)  # noqa: S104
        return ensure_certificate(data_dir, host)
    paths = CertificatePaths(Path(web.tls_certificate), Path(web.tls_key or web.tls_certificate))
    server_tls(paths, web.tls_client_ca)
    return paths


def server_tls(paths: CertificatePaths, client_authority: str = "") -> ssl.SSLContext:
    """What the web server listens with. Raises InvalidSetting.

    client_authority: PEM file of who signs clients' certificates; with it a client may show one.
    """
    return server_context(
        "web.tls_certificate", str(paths.certificate), str(paths.key), client_authority, is_demanded=False
    )
