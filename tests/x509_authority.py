"""A certificate authority of the tests' own, by OpenSSL's command line: over P-256, or over SM2 with SM3."""

import subprocess
from pathlib import Path

from cryptography import x509

ALGORITHMS = {  # how a key is made, the digest of what it signs, and how else
    "P-256": (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "-sha256", ()),
    "SM2": (("-algorithm", "SM2"), "-sm3", ("-sigopt", "distid:1234567812345678")),  # GB/T 35276
}


class Authority:
    """Signs certificates of people and of servers, for a year."""

    def __init__(self, folder: Path, algorithm: str = "P-256") -> None:
        self._folder = folder
        self.algorithm = algorithm
        self._making, self._digest, self._signing = ALGORITHMS[algorithm]
        self.certificate = folder / "authority.pem"
        self._key = self._new_key("authority")
        self._openssl(
            "req", "-x509", self._digest, "-days", "365", "-subj", "/CN=Authority", "-key", str(self._key),
            "-out", str(self.certificate), *self._signing,
        )  # fmt: skip

    def issue(self, name: str, *extensions: str) -> tuple[Path, Path]:
        """A certificate of that name, and its key; extensions as OpenSSL writes them."""
        certificate, request = (self._folder / f"{name}.{kind}" for kind in ("pem", "csr"))
        key = self._new_key(name)
        self._openssl(
            "req", "-new", self._digest, "-subj", f"/CN={name}", "-key", str(key), "-out", str(request)
        )
        self._openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", "365", self._digest, "-out", str(certificate),
            *self._added(extensions), *self._signing,
        )  # fmt: skip
        return certificate, key

    def revocation_list(self, *revoked: Path, hours: int = 24) -> Path:
        """A list of these certificates, in the place of the one before."""
        index, configuration = self._folder / "index.txt", self._folder / "list.cnf"
        index.write_text("".join(map(self._revoked, revoked)))
        configuration.write_text(
            f"[ca]\ndefault_ca=all\n[all]\ndatabase={index}\ndefault_md={self._digest[1:]}\n"
        )
        made, placed = self._folder / "made.crl", self._folder / "list.crl"
        self._openssl(
            "ca", "-gencrl", "-config", str(configuration), "-cert", str(self.certificate), "-keyfile",
            str(self._key), "-crlhours", str(hours), "-out", str(made), *self._signing,
        )  # fmt: skip
        return made.rename(placed)

    @staticmethod
    def _revoked(certificate: Path) -> str:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
        fields = ("R", f"{read.not_valid_after_utc:%y%m%d%H%M%SZ}", "250101000000Z,keyCompromise",
                  f"{read.serial_number:040X}", "unknown", "/CN=revoked")  # fmt: skip
        return "\t".join(fields) + "\n"

    def _added(self, extensions: tuple[str, ...]) -> tuple[str, ...]:
        if not extensions:
            return ()
        file = self._folder / "extensions.cnf"
        file.write_text("\n".join(extensions))
        return ("-extfile", str(file))

    def _new_key(self, name: str) -> Path:
        path = self._folder / f"{name}.key"
        self._openssl("genpkey", *self._making, "-out", str(path))
        return path

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
