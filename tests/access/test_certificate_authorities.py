"""Certificates are looked at by this server itself, EC and SM2, with OpenSSL as the one who issues."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from access.certificate_authorities import is_trusted, public_point
from kernel import sm2
from kernel.errors import InvalidSetting
from tests.x509_authority import ALGORITHMS, Authority

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture(scope="module", params=sorted(ALGORITHMS))
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), request.param)


@pytest.fixture(scope="module")
def stranger(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that calls itself the same."""
    return Authority(tmp_path_factory.mktemp("stranger"), authority.algorithm)


def test_who_a_known_authority_certified_is_trusted_and_nobody_else(
    authority: Authority, stranger: Authority
) -> None:
    known = str(authority.certificate)

    assert is_trusted(read(authority.issue("doctor")[0]), known, now())
    assert not is_trusted(read(stranger.issue("doctor")[0]), known, now())
    assert not is_trusted(read(authority.certificate), known, now())  # an authority is nobody who signs in
    assert not is_trusted(read(authority.issue("late")[0]), known, now() + 366 * DAY)


@pytest.mark.parametrize(
    ("extension", "is_for_this"),
    [
        ("extendedKeyUsage=clientAuth", True),
        ("keyUsage=critical,digitalSignature", True),
        ("extendedKeyUsage=serverAuth", False),
        ("keyUsage=critical,keyEncipherment", False),
        ("basicConstraints=critical,CA:TRUE", False),
    ],
)
def test_a_certificate_is_good_for_what_it_was_made_for(
    authority: Authority, extension: str, is_for_this: bool
) -> None:
    certificate = read(authority.issue("doctor", extension)[0])

    assert is_trusted(certificate, str(authority.certificate), now()) == is_for_this


def test_somebody_with_a_certificate_is_no_authority(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = authority.issue("doctor")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes())

    assert not is_trusted(read(certificate), str(both), now())


def test_a_file_that_cannot_be_read_is_named(authority: Authority) -> None:
    with pytest.raises(InvalidSetting):
        is_trusted(read(authority.issue("doctor")[0]), "/nowhere.pem", now())


def test_an_sm2_signature_is_verified_as_openssl_makes_it(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "SM2").issue("doctor")
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"who I am")
    subprocess.run(
        ["openssl", "pkeyutl", "-sign", "-inkey", str(key), "-rawin", "-digest", "sm3", "-in", str(message),
         "-out", str(signature), "-pkeyopt", "distid:1234567812345678"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    point, made = public_point(read(certificate)), signature.read_bytes()

    assert sm2.verify(point, b"who I am", made)
    assert not sm2.verify(point, b"who I am not", made)
    assert not sm2.verify(point, b"who I am", made[:-1] + bytes([made[-1] ^ 1]))
    assert not sm2.verify(point, b"who I am", b"nonsense")
    assert not sm2.verify(point[:-1] + bytes([point[-1] ^ 1]), b"who I am", made)
    assert not sm2.verify(b"", b"who I am", made)
    assert not sm2.verify(point, b"who I am", made, b"another id")
