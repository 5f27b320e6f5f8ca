"""Lists of the certificates that their authorities took back (CRL): who shows one of those comes in nowhere.

Every door that takes a certificate asks here. The files of `access.revocation_lists` are brought
by the site; one that was replaced is read with the next question. Once lists are named, an authority's
certificates count only while a list of it is in force: one that has ended, or cannot be read, closes the door
to them, for nobody can tell any more which of them were stolen.

Standards: RFC 5280 5 (CRL) and 6.3 (which list speaks of which certificate). Complete lists that the
authority itself signed, RSA, EC or SM2; no delta and no indirect ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from access.certificate_authorities import SM2_WITH_SM3, extension_of, public_point
from kernel import sm2
from kernel.errors import Unauthenticated

SUFFIXES = (".crl", ".pem", ".der")  # of the files of a folder
PEM = b"-----BEGIN"
MOST_WARNING = timedelta(days=1)  # before a list ends, or a quarter of its life where that is less
Stamp = tuple[tuple[str, int, int, int], ...]


class CertificateRefused(Unauthenticated):
    """A certificate that its authority took back, or of which nobody can tell."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This certificate is not accepted: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Read:
    """What the files said when they were read."""

    stamp: Stamp
    authorities: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]  # signed by an authority that is known
    issuers: frozenset[x509.Name]  # who has a list here, or is a known authority
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListState:
    """Until when the lists of one authority are in force; None: there is none."""

    issuer: str
    ends_at: datetime | None
    ends_soon: bool


class RevocationLists:
    """The lists of a host.

    paths: files in PEM or DER, and folders of them. authorities: PEM files of who may have signed them; empty
    names are passed over.
    """

    def __init__(self, paths: tuple[str, ...] = (), authorities: tuple[str, ...] = ()) -> None:
        self._paths = tuple(map(Path, paths))
        self._authorities = tuple(Path(each) for each in dict.fromkeys(authorities) if each)
        self._read: _Read | None = None
        self._lock = Lock()

    @property
    def revision(self) -> Stamp:
        """Another one whenever a file has changed; empty where no lists are named."""
        return self._stamp() if self._paths else ()

    def require_good(self, der: bytes, at: datetime, *, is_pinned: bool) -> None:
        """Raise CertificateRefused unless a list in force says nothing against a certificate.

        is_pinned: it is known by its fingerprint, so that its issuer may be nobody we know, who has no list.
        """
        if not self._paths:
            return
        read = self._current()
        try:
            certificate = x509.load_der_x509_certificate(der)
            if certificate in read.authorities:  # where trust begins; who is trusted no more leaves the file
                return
            revoked, is_covered = False, False
            for each in read.lists:
                if each.issuer == certificate.issuer and _is_in_force(each, at):
                    is_covered = is_covered or _speaks_of(each, certificate)
                    revoked = revoked or _has(each, certificate.serial_number)
        except ValueError:
            raise CertificateRefused("it cannot be read") from None
        if revoked:
            raise CertificateRefused(f"its issuer revoked it, number {certificate.serial_number:x}")
        if not is_covered and (certificate.issuer in read.issuers or not is_pinned):
            raise CertificateRefused("no revocation list of its issuer is in force")

    def has_revoked(self, issued: str, at: datetime) -> bool:
        """Whether a list in force has a certificate, by what `issued_by` says of it."""
        if not (self._paths and issued):
            return False
        issuer, _, number = issued.partition(":")
        return any(
            _fingerprint(each.issuer) == issuer and _is_in_force(each, at) and _has(each, int(number, 16))
            for each in self._current().lists
        )

    def states(self, at: datetime) -> tuple[ListState, ...]:
        """How each known authority, and each other that has a list, stands."""
        if not self._paths:
            return ()
        read = self._current()
        return tuple(
            _state_of(name, [each for each in read.lists if each.issuer == name], at)
            for name in sorted(read.issuers, key=lambda name: name.rfc4514_string())
        )

    def complaints(self, at: datetime) -> Iterator[str]:
        """What keeps certificates out, or soon will."""
        if self._paths:
            yield from self._current().complaints
        for state in self.states(at):
            if state.ends_at is None or state.ends_at <= at:
                yield f"No revocation list of {state.issuer} is in force: its certificates are refused."
            elif state.ends_soon:
                yield f"The list of {state.issuer} ends at {state.ends_at.isoformat()}: bring the next one."

    def _current(self) -> _Read:
        stamp = self._stamp()
        read = self._read
        if read is None or read.stamp != stamp:
            with self._lock:
                read = self._read = _read(stamp, self._authorities)
        return read

    def _stamp(self) -> Stamp:
        return tuple(
            _stamp_of(file) for path in (*self._authorities, *self._paths) for file in _files_of(path)
        )


def issued_by(certificate: x509.Certificate) -> str:
    """By what a list names a certificate: its issuer (as a hash) and its number."""
    return f"{_fingerprint(certificate.issuer)}:{certificate.serial_number:x}"


def _fingerprint(name: x509.Name) -> str:
    return sha256(name.public_bytes()).hexdigest()


def _files_of(path: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(each for each in path.iterdir() if each.suffix in SUFFIXES))
    except OSError:  # a file, or nothing
        return (path,)


def _stamp_of(file: Path) -> tuple[str, int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns


def _read(stamp: Stamp, authority_files: tuple[Path, ...]) -> _Read:
    authorities: list[x509.Certificate] = []
    lists: list[x509.CertificateRevocationList] = []
    issuers: set[x509.Name] = set()
    complaints: list[str] = []
    for file in authority_files:
        try:
            authorities += x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError):
            complaints.append(f"The authorities in {file} cannot be read.")
    issuers |= {each.subject for each in authorities}
    for name, *_ in stamp:
        file = Path(name)
        if file in authority_files:
            continue
        try:
            data = file.read_bytes()
            found = (x509.load_pem_x509_crl if PEM in data else x509.load_der_x509_crl)(data)
            issuers.add(found.issuer)
            complaint = _complaint_of(found, authorities)
        except (OSError, ValueError):
            complaint = "cannot be read"
        if complaint:
            complaints.append(f"The revocation list {file} {complaint}.")
        else:
            lists.append(found)
    return _Read(stamp, tuple(authorities), tuple(lists), frozenset(issuers), tuple(complaints))


def _complaint_of(found: x509.CertificateRevocationList, authorities: list[x509.Certificate]) -> str:
    """What speaks against using a list; empty: nothing."""
    if found.next_update_utc is None:
        return "does not say until when it is in force (nextUpdate)"
    scope = _scope_of(found)
    is_partial = scope is not None and (
        scope.indirect_crl or scope.only_contains_attribute_certs or scope.only_some_reasons is not None
    )
    unknown = [
        each
        for each in found.extensions
        if each.critical and not isinstance(each.value, x509.IssuingDistributionPoint)
    ]
    if is_partial or unknown:
        return "is no complete one (delta, indirect, or of some reasons only)"
    if not any(_signed(each, found) for each in authorities):
        return "is signed by no known authority"
    return ""


def _signed(authority: x509.Certificate, found: x509.CertificateRevocationList) -> bool:
    usage = extension_of(authority, x509.KeyUsage)
    if authority.subject != found.issuer or not (usage is None or usage.crl_sign):
        return False
    if found.signature_algorithm_oid.dotted_string == SM2_WITH_SM3:
        return sm2.verify(public_point(authority), found.tbs_certlist_bytes, found.signature)
    try:
        return found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # others are refused
    except (TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False


def _scope_of(found: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return found.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _is_in_force(found: x509.CertificateRevocationList, at: datetime) -> bool:
    ends_at = found.next_update_utc
    return ends_at is not None and found.last_update_utc <= at < ends_at


def _has(found: x509.CertificateRevocationList, number: int) -> bool:
    return found.get_revoked_certificate_by_serial_number(number) is not None


def _speaks_of(found: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether a list would have a certificate of its issuer that was taken back (RFC 5280 6.3.3 b 2)."""
    scope = _scope_of(found)
    if scope is None:
        return True
    if scope.only_contains_ca_certs or scope.relative_name is not None:
        return False
    if scope.full_name is None:
        return True
    points = extension_of(certificate, x509.CRLDistributionPoints)
    named = {name for point in points or () for name in point.full_name or ()}
    return not named.isdisjoint(scope.full_name)


def _state_of(name: x509.Name, lists: list[x509.CertificateRevocationList], at: datetime) -> ListState:
    ending = [(each.next_update_utc, each.last_update_utc) for each in lists if each.last_update_utc <= at]
    ends_at, began_at = max(((end, began) for end, began in ending if end), default=(None, at))
    if ends_at is None:
        return ListState(name.rfc4514_string(), None, ends_soon=False)
    warned = min(MOST_WARNING, (ends_at - began_at) / 4)
    return ListState(name.rfc4514_string(), ends_at, ends_soon=ends_at - at <= warned)
