"""Certificates that their authorities took back: by lists of OpenSSL, EC and SM2, and of our own making."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from access.revocation_lists import CertificateRefused, RevocationLists, issued_by
from tests.certificates import Authority as RsaAuthority
from tests.x509_authority import ALGORITHMS, Authority

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=2)  # a list that was made just now is in force


def der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture(params=sorted(ALGORITHMS))
def authority(request: pytest.FixtureRequest, tmp_path: Path) -> Authority:
    return authority_in(tmp_path / "authority", request.param)


def authority_in(folder: Path, algorithm: str) -> Authority:
    folder.mkdir()
    return Authority(folder, algorithm)


@pytest.fixture
def rsa(tmp_path: Path) -> RsaAuthority:
    return RsaAuthority(tmp_path / "rsa")


def refuses(
    lists: RevocationLists, certificate: Path, at: datetime | None = None, pinned: bool = True
) -> str:
    """Why a certificate is refused; empty: it is not."""
    try:
        lists.require_good(der(certificate), at or now(), is_pinned=pinned)
    except CertificateRefused as refusal:
        return refusal.reason
    return ""


def test_a_certificate_on_the_list_of_its_authority_is_refused(authority: Authority) -> None:
    doctor, thief = authority.issue("doctor")[0], authority.issue("thief")[0]
    lists = RevocationLists((str(authority.revocation_list(thief)),), (str(authority.certificate),))

    assert refuses(lists, doctor) == ""
    assert "its issuer revoked it, number " in refuses(lists, thief)
    assert list(lists.complaints(now())) == []


def test_a_list_that_was_replaced_holds_from_the_next_question_on(authority: Authority) -> None:
    doctor = authority.issue("doctor")[0]
    lists = RevocationLists((str(authority.revocation_list()),), (str(authority.certificate),))
    assert refuses(lists, doctor) == ""
    before = lists.revision

    authority.revocation_list(doctor)

    assert lists.revision != before
    assert "revoked" in refuses(lists, doctor)


def test_where_the_list_has_ended_nobody_of_its_authority_is_taken(authority: Authority) -> None:
    doctor = authority.issue("doctor")[0]
    lists = RevocationLists((str(authority.revocation_list(hours=24)),), ("", str(authority.certificate)))

    assert list(lists.complaints(now() + 17 * HOUR)) == []
    (warned,) = lists.complaints(now() + 19 * HOUR)
    assert "bring the next one" in warned
    assert refuses(lists, doctor, now() + 23 * HOUR) == ""
    assert refuses(lists, doctor, now() + 24 * HOUR) == "no revocation list of its issuer is in force"
    assert "its certificates are refused" in " ".join(lists.complaints(now() + 24 * HOUR))
    assert refuses(lists, doctor, now() - HOUR) == "no revocation list of its issuer is in force"


def test_a_list_that_another_one_signed_says_nothing(authority: Authority, tmp_path: Path) -> None:
    stranger = authority_in(tmp_path / "stranger", authority.algorithm)  # calls itself the same
    doctor = authority.issue("doctor")[0]
    lists = RevocationLists((str(stranger.revocation_list()),), (str(authority.certificate),))

    assert "no revocation list" in refuses(lists, doctor)
    assert "is signed by no known authority" in " ".join(lists.complaints(now()))


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_a_list_that_is_away_or_broken_closes_the_door(rsa: RsaAuthority, content: bytes | None) -> None:
    file = rsa.folder / "list.crl"
    if content is not None:
        file.write_bytes(content)
    lists = RevocationLists((str(file),), (str(rsa.certificate),))

    assert "no revocation list" in refuses(lists, rsa.issue("doctor").certificate)
    assert f"{file} cannot be read" in " ".join(lists.complaints(now()))


def test_lists_of_several_authorities_lie_in_a_folder(tmp_path: Path) -> None:
    first, second = RsaAuthority(tmp_path / "first"), RsaAuthority(tmp_path / "second")
    folder = tmp_path / "lists"
    folder.mkdir()
    for each in (first, second):
        each.revocation_list(each.issue("thief")).rename(folder / f"{each.folder.name}.crl")
    (folder / "notes.txt").write_text("no list")
    lists = RevocationLists((str(folder),), (str(first.certificate), str(second.certificate)))

    assert [refuses(lists, each.issue("doctor").certificate) for each in (first, second)] == ["", ""]
    assert all("revoked" in refuses(lists, each.issue("thief").certificate) for each in (first, second))
    assert [state.ends_at is not None for state in lists.states(now())] == [True, True]
    (folder / "second.crl").unlink()
    assert "no revocation list" in refuses(lists, second.issue("doctor").certificate)


def test_whoever_is_known_by_a_fingerprint_alone_needs_no_list(rsa: RsaAuthority, tmp_path: Path) -> None:
    lists = RevocationLists((str(rsa.revocation_list()),), (str(rsa.certificate),))
    modality = RsaAuthority(tmp_path / "modality").certificate  # its own authority

    assert refuses(lists, modality, pinned=True) == ""
    assert refuses(lists, modality, pinned=False) == "no revocation list of its issuer is in force"
    assert refuses(lists, rsa.certificate, pinned=False) == ""  # it stands among the authorities


def point(**values: object) -> x509.IssuingDistributionPoint:
    nothing: dict[str, object] = dict.fromkeys(
        (
            "only_contains_user_certs",
            "only_contains_ca_certs",
            "indirect_crl",
            "only_contains_attribute_certs",
        ),
        False,
    )
    named = {"full_name": None, "relative_name": None, "only_some_reasons": None}
    return x509.IssuingDistributionPoint(**nothing | named | values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "extension",
    [
        lambda: x509.DeltaCRLIndicator(1),
        lambda: point(indirect_crl=True),
        lambda: point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})),
        lambda: point(only_contains_ca_certs=True),
        lambda: point(full_name=[x509.UniformResourceIdentifier("http://ca/part-2.crl")]),
    ],
)
def test_a_list_that_speaks_of_others_does_not_do(
    rsa: RsaAuthority, extension: Callable[[], x509.ExtensionType]
) -> None:
    file = rsa.revocation_list(extension=extension())
    lists = RevocationLists((str(file),), (str(rsa.certificate),))

    assert "no revocation list" in refuses(lists, rsa.issue("doctor").certificate)


def test_a_list_of_peoples_certificates_does(rsa: RsaAuthority) -> None:
    file = rsa.revocation_list(rsa.issue("thief"), extension=point(only_contains_user_certs=True))
    lists = RevocationLists((str(file),), (str(rsa.certificate),))

    assert refuses(lists, rsa.issue("doctor").certificate) == ""
    assert "revoked" in refuses(lists, rsa.issue("thief").certificate)


def test_without_lists_nobody_is_asked(rsa: RsaAuthority) -> None:
    lists = RevocationLists((), (str(rsa.certificate),))

    assert refuses(lists, rsa.issue("doctor").certificate) == ""
    assert (lists.revision, lists.states(now()), list(lists.complaints(now()))) == ((), (), [])


def test_what_a_session_began_with_is_looked_up_by_issuer_and_number(rsa: RsaAuthority) -> None:
    thief = x509.load_pem_x509_certificate(rsa.issue("thief").certificate.read_bytes())
    doctor = x509.load_pem_x509_certificate(rsa.issue("doctor").certificate.read_bytes())
    lists = RevocationLists((str(rsa.revocation_list(rsa.issue("thief"))),), (str(rsa.certificate),))

    assert lists.has_revoked(issued_by(thief), now())
    assert not lists.has_revoked(issued_by(doctor), now())
    assert not lists.has_revoked("", now())
