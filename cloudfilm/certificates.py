"""The certificates that this host shows to others, and when each of them ends."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from access.certificate import RENEWED_BEFORE, speaks_tls
from kernel.settings import Settings

EXPIRES_SOON = timedelta(days=30)
OWN = "the web's own"  # that the server makes, and makes anew when it starts shortly before its end


def shown_certificates(settings: Settings) -> dict[str, Path]:
    """PEM files by the settings that name them; the web's own one where it serves."""
    named = {
        "web.tls_certificate": settings.web.tls_certificate,
        "dimse.tls_certificate": settings.dimse.tls_certificate,
        "mllp.tls_certificate": settings.mllp.tls_certificate,
    }
    found = {name: Path(path) for name, path in named.items() if path}
    own = settings.data_dir / "tls" / "certificate.pem"
    if speaks_tls(settings.web) and "web.tls_certificate" not in found and own.exists():
        found[OWN] = own
    return found


def ends_at(certificate: Path) -> datetime:
    """When a certificate ends: the first of a chain. Raises OSError or ValueError for what is none."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def certificate_complaints(settings: Settings, now: datetime) -> Iterator[str]:
    """What is wrong with them, or soon will be, and what to do."""
    for name, path in shown_certificates(settings).items():
        try:
            end = ends_at(path)
        except (OSError, ValueError) as failure:
            yield f"The certificate of {name} cannot be read: {failure}"
            continue
        if end < now + (RENEWED_BEFORE if name == OWN else EXPIRES_SOON):
            mend = "start" if name == OWN else "put a new one in its place and start"
            yield f"The certificate of {name} ends on {end:%Y-%m-%d}: {mend} the server again."
