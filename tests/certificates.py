"""Certificates that tests make for themselves: an authority, and what it issues."""

import datetime
import hashlib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path
    sha256: str  # of the certificate's DER form


class Authority:
    """One authority in a folder of its own; `certificate` is what others trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        self._issued: dict[str, Issued] = {}
        built = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "authority.pem"
        self.certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(),
            now - datetime.timedelta(hours=1), now + datetime.timedelta(days=1),
        )  # fmt: skip

    def revocation_list(
        self,
        *revoked: Issued,
        at: datetime.datetime | None = None,
        extension: x509.ExtensionType | None = None,
    ) -> Path:
        """A list of these certificates that is in force for a day, in the place of the one before.

        extension: a critical one, as lists have that speak of some certificates only.
        """
        began = at or datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
        built = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(began)
            .next_update(began + datetime.timedelta(days=1))
        )
        for each in revoked:
            number = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(began).build()
            built = built.add_revoked_certificate(entry)
        if extension is not None:
            built = built.add_extension(extension, critical=True)
        placed = self.folder / "list.crl"
        made = placed.with_suffix(".new")
        made.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
        return made.rename(placed)

    def issue(self, name: str) -> Issued:
        """The certificate of this name for 127.0.0.1, made at the first call."""
        if name not in self._issued:
            key = rsa.generate_private_key(65537, 2048)
            built = (
                self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
                .add_extension(
                    x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
                )
                .sign(self._key, hashes.SHA256())
            )
            paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
            paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
            paths[1].write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.TraditionalOpenSSL,
                    serialization.NoEncryption(),
                )
            )
            digest = hashlib.sha256(built.public_bytes(serialization.Encoding.DER)).hexdigest()
            self._issued[name] = Issued(*paths, digest)
        return self._issued[name]
