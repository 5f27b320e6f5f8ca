"""Whether a person's certificate is of an authority that the site trusts: RSA, EC or SM2.

TLS libraries of most proxies know no SM2; with `access.certificate_authorities` this server looks at the
certificate itself, whoever handed it over. The authority that issued it stands in that file; it need not be a
root. Whether the authority took it back since: `access.revocation_lists`.

RFC 5280 6.1 (validation, one step), GB/T 20518 (SM2 certificates).
"""

from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from kernel import sm2
from kernel.errors import InvalidSetting

SM2_WITH_SM3 = "1.2.156.10197.1.501"
SETTING = "access.certificate_authorities"
Kind = TypeVar("Kind", bound=x509.ExtensionType)
VERSION, PUBLIC_KEY = 0xA0, 5  # the first field of a tbsCertificate if at all; the key's place behind it


def is_trusted(certificate: x509.Certificate, authorities: str, at: datetime) -> bool:
    """Whether one of the authorities in a PEM file issued it, and both are in force and made for this.

    Raises InvalidSetting when the file cannot be read.
    """
    try:
        known = x509.load_pem_x509_certificates(Path(authorities).read_bytes())
    except (OSError, ValueError):
        raise InvalidSetting(SETTING, authorities, "name a PEM file of certificates") from None
    try:
        return _signs_in(certificate) and any(
            each.subject == certificate.issuer
            and each.not_valid_before_utc <= at <= each.not_valid_after_utc
            and _issues(each)
            and _signed(each, certificate)
            for each in known
        )
    except (ValueError, x509.DuplicateExtension):  # extensions that cannot be read
        return False


def _signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    if certificate.signature_algorithm_oid.dotted_string == SM2_WITH_SM3:
        key = public_point(authority)
        return sm2.verify(key, certificate.tbs_certificate_bytes, certificate.signature)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issues(authority: x509.Certificate) -> bool:
    """Whether it may issue certificates (RFC 5280 4.2.1.3 and 4.2.1.9)."""
    constraints, usage = (
        extension_of(authority, x509.BasicConstraints),
        extension_of(authority, x509.KeyUsage),
    )
    return constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)


def _signs_in(certificate: x509.Certificate) -> bool:
    """Whether its holder may prove with it who it is: no authority, for signatures, for clients."""
    constraints = extension_of(certificate, x509.BasicConstraints)
    usage, purposes = (
        extension_of(certificate, x509.KeyUsage),
        extension_of(certificate, x509.ExtendedKeyUsage),
    )
    return (
        (constraints is None or not constraints.ca)
        and (usage is None or usage.digital_signature)
        and (purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH in purposes)
    )


def extension_of(certificate: x509.Certificate, kind: type[Kind]) -> Kind | None:
    """The extension of this kind, if it has one. Raises ValueError for extensions that cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def public_point(certificate: x509.Certificate) -> bytes:
    """The public key's point as it stands in a certificate (04, x, y); empty when there is none.

    The library that reads the rest knows the curve of SM2 by no name, so the structure is walked here.
    """
    try:
        fields = _values(_values(certificate.tbs_certificate_bytes)[0][1])
        key = [content for tag, content in fields if tag != VERSION][PUBLIC_KEY]
        return _values(key)[1][1][1:]  # of a BIT STRING, behind its count of unused bits
    except (IndexError, ValueError):
        return b""


def _values(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the DER values that stand one after the other."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count]), at + count
        if at + length > len(data):
            raise ValueError
        found.append((tag, data[at : at + length]))
        at += length
    return found
