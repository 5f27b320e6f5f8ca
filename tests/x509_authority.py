"""A certificate authority of the tests' own, by OpenSSL's command line: over P-256, or over SM2 with SM3."""

import subprocess
from pathlib import Path

ALGORITHMS = {
    "P-256": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"),
    "SM2": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:SM2", "-sm3"),
}


class Authority:
    """Signs certificates of people and of servers, for a year."""

    def __init__(self, folder: Path, algorithm: str = "P-256") -> None:
        self._folder, self._algorithm = folder, ALGORITHMS[algorithm]
        self.certificate, self._key = folder / "authority.pem", folder / "authority.key"
        self._openssl(
            "req", "-x509", "-nodes", *self._algorithm, "-days", "365", "-subj", "/CN=Authority",
            "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate of that name, and its key."""
        certificate, key, request = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        self._openssl(
            "req",
            "-nodes",
            *self._algorithm,
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(key),
            "-out",
            str(request),
        )
        self._openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", "365", self._algorithm[-1], "-out", str(certificate),
        )  # fmt: skip
        return certificate, key

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
