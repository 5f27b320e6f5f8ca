"""The commercial suite end to end: SM4 for what is sealed, SM3 for what is hashed, SM2 for who signs in."""

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from sqlalchemy import select, update

from access.accounts import account_of, create_account, set_certificate, sign_in
from access.audit import ALGORITHMS, COLUMNS
from access.caller import Door, operator
from access.model import Account, AuditEntry, AuditHead, AuditSeal
from access.second_factor import set_phone
from access.tokens import SESSION, caller_of, digest_of
from access.trail import seal_audit, verify_trail
from archive.ingest import ingest
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from kernel.errors import InvalidSetting
from kernel.settings import WebSettings
from kernel.suites import Sm4Gcm, hmac_sm3, pbkdf2_sm3, sm3, sm4_key_unwrap, sm4_key_wrap
from records.cursor import Cursor, InvalidCursor, close_cursor, open_cursor
from tests.builders import ct_slice
from tests.conftest import Host
from tests.x509_authority import Authority

PASSWORD = "Correct-Horse-7"


@pytest.fixture
def rooms(host: Host) -> Iterator[Rooms]:
    """A host that was begun with the commercial suite."""
    behind_proxy = WebSettings(trusted_proxies=("10.9.9.9",))
    with host("commercial", FixedClock(datetime.now(UTC)), suite="commercial", web=behind_proxy) as built:
        yield built


def openssl(*arguments: str, data: bytes) -> bytes:
    """What OpenSSL's command line makes of the same."""
    return subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 1000, "影像".encode()])
def test_sm3_and_hmac_sm3_agree_with_openssl(data: bytes) -> None:
    key = bytes(range(32))
    keyed = ("-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}")

    assert openssl("dgst", "-sm3", "-binary", data=data) == sm3(data)
    assert openssl("dgst", "-sm3", *keyed, "-binary", data=data) == hmac_sm3(key, data)


def test_pbkdf2_over_sm3_agrees_with_openssl() -> None:
    options = ("digest:SM3", "pass:secret", "hexsalt:0011223344556677", "iter:5000")
    asked = [word for option in options for word in ("-kdfopt", option)]
    derived = openssl("kdf", "-keylen", "32", *asked, "-binary", "PBKDF2", data=b"")

    assert derived == pbkdf2_sm3(b"secret", bytes.fromhex("0011223344556677"), 5000)


def test_a_wrapped_key_opens_with_its_key_only_and_whole_only() -> None:
    key = bytes(range(32))
    wrapped = sm4_key_wrap(b"k" * 32, key)

    assert len(wrapped) == 40
    assert sm4_key_unwrap(b"k" * 32, wrapped) == key
    for wrong in (b"\x00" * 40, wrapped[:-8], wrapped[:-1], bytes([wrapped[0] ^ 1]) + wrapped[1:]):
        with pytest.raises(InvalidUnwrap):
            sm4_key_unwrap(b"k" * 32, wrong)
    with pytest.raises(InvalidUnwrap):
        sm4_key_unwrap(b"x" * 32, wrapped)


def test_images_values_passwords_and_tokens_are_kept_by_it(rooms: Rooms) -> None:
    ingest(rooms.archive, operator(), io.BytesIO(ct_slice(study=1)))
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator(), "reader", PASSWORD, "radiologist")
    account = account_of(rooms.access, "reader")
    set_phone(rooms.access, operator(), account.id, "+8613800138000")
    account = account_of(rooms.access, "reader")
    ring = json.loads((rooms.settings.data_dir / "keys" / "ring.json").read_text())

    sealed = [path for path in (rooms.settings.data_dir / "blobs").rglob("*") if path.is_file()]
    assert sealed
    assert all(path.read_bytes()[:5] == b"CFS1\x02" for path in sealed)  # the suite's number: SM4-GCM
    key, phone = bytes.fromhex(ring["keys"]["k1"]), account.phone[3:]  # behind the key's name
    opened = Sm4Gcm(key).decrypt(phone[:12], phone[12:], f"phone {account.id}".encode())
    assert opened == b"+8613800138000"
    assert account.password.startswith("$pbkdf2-sm3$")
    signing = sm3(b"cloudfilm signatures" + key)
    assert digest_of(rooms.access, "secret") == hmac_sm3(signing, b"secret")


def test_the_trail_is_chained_and_sealed_by_sm3(rooms: Rooms) -> None:
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator(), "reader", PASSWORD, "radiologist")
    caller_of(rooms.access, sign_in(rooms.access, "reader", PASSWORD, "").secret, (SESSION,), Door.WEB, "")
    clock = rooms.clock
    assert isinstance(clock, FixedClock)
    clock.advance(timedelta(days=1))
    seal_audit(rooms.access)

    with rooms.database.snapshot() as session:
        assert session.scalars(select(AuditHead.algorithm)).one() == "sm3"
        assert session.scalars(select(AuditSeal)).all()
        assert verify_trail(rooms.access, session).fault == ""
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).first()
        assert entry is not None
        values: dict[str, Any] = {name: getattr(entry, name) for name in COLUMNS}
        values["at"] = values["at"].isoformat(timespec="microseconds")
        text = json.dumps(["", values], sort_keys=True, ensure_ascii=False).encode()
        assert openssl("dgst", "-sm3", "-binary", data=text).hex() == entry.hash
        assert set(ALGORITHMS) == {"sha256", "sm3"}
    with rooms.database.transaction() as session:
        session.execute(update(AuditEntry).where(AuditEntry.seq == 1).values(principal_id="another"))
    with rooms.database.snapshot() as session:
        assert verify_trail(rooms.access, session).fault


def test_cursors_of_pages_are_signed_by_sm3(rooms: Rooms) -> None:
    cursor = close_cursor(rooms.keys, "Patient?name=x", Cursor(("a", "1")))
    ring = json.loads((rooms.settings.data_dir / "keys" / "ring.json").read_text())
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))

    signing = sm3(b"cloudfilm signatures" + bytes.fromhex(ring["keys"]["k1"]))
    assert raw[:16] == hmac_sm3(signing, b"Patient?name=x\0" + raw[16:])[:16]
    assert open_cursor(rooms.keys, "Patient?name=x", cursor) == Cursor(("a", "1"))
    with pytest.raises(InvalidCursor):
        open_cursor(rooms.keys, "Patient?name=y", cursor)


def test_an_sm2_certificate_that_the_proxy_verified_signs_its_account_in(
    rooms: Rooms, tmp_path: Path
) -> None:
    folder = tmp_path / "authority"
    folder.mkdir()
    assert isinstance(rooms.clock, FixedClock)
    rooms.clock.advance(timedelta(hours=1))  # so that certificates that are made now are in force
    authority = Authority(folder, "SM2")
    certificate, _ = authority.issue("doctor")
    with rooms.database.transaction() as session:
        account_id = create_account(rooms.access, session, operator(), "doctor", PASSWORD, "radiologist")
    set_certificate(rooms.access, operator(), "doctor", certificate.read_bytes())
    headers = {
        "Sec-Fetch-Site": "same-origin", "X-SSL-Client-Verify": "SUCCESS", "X-Forwarded-For": "10.1.1.1",
        "X-SSL-Client-Cert": quote(certificate.read_text()),
    }  # fmt: skip
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for trusted, status in ((authority, 303), (Authority(stranger, "SM2"), 401)):
        named = replace(rooms.settings.access, certificate_authorities=str(trusted.certificate))
        browser = create_app(replace(rooms, access=replace(rooms.access, settings=named))).test_client()
        answer = browser.post(
            "/sign-in/certificate", headers=headers, environ_overrides={"REMOTE_ADDR": "10.9.9.9"}
        )
        assert answer.status_code == status

    with rooms.database.snapshot() as session:
        assert session.get_one(Account, account_id).certificate


def test_an_installation_stays_with_the_suite_that_it_was_begun_with(rooms: Rooms) -> None:
    with pytest.raises(InvalidSetting):
        build_rooms(replace(rooms.settings, suite="international"))
