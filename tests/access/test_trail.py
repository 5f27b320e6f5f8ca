"""The audit trail as auditors use it: searched, exported, sealed, sent."""

import csv
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from access.audit import COLUMNS, entry_hash, note
from access.audit_message import syslog_message
from access.caller import Caller, Permissions, system
from access.certificate import ensure_certificate, server_tls
from access.model import AuditEntry, AuditHead, AuditSeal
from access.resealing import reseal_rows
from access.tokens import Access
from access.trail import (
    CollectorUnreachable,
    TrailQuery,
    csv_lines,
    export_trail,
    seal_audit,
    search_trail,
    seen_by,
    send_audit,
    verify_trail,
)
from kernel.clock import FixedClock
from kernel.database import Database
from kernel.errors import Forbidden


@pytest.fixture
def trail(access: Access, operator: Caller) -> Access:
    for number, action in enumerate(("read ImagingStudy", "read Patient", "delete ImagingStudy"), 1):
        with access.database.transaction() as session:
            note(session, access.clock, operator, action, f"1.2.{number}", patient_id=f"p{number}")
    return access


def test_entries_are_found_by_what_is_known_of_them_and_the_search_is_noted(
    trail: Access, operator: Caller
) -> None:
    assert [row.subject for row in search_trail(trail, operator, TrailQuery(action="read"))] == [
        "1.2.2",
        "1.2.1",
    ]
    assert [row.subject for row in search_trail(trail, operator, TrailQuery(patient="p3"))] == ["1.2.3"]
    assert search_trail(trail, operator, TrailQuery(action="search"))[0].detail == "1 found"


def test_only_who_may_reads_the_trail(trail: Access, operator: Caller) -> None:
    with pytest.raises(Forbidden):
        search_trail(trail, replace(operator, permissions=Permissions.of(all="cruds")), TrailQuery())


def test_a_patient_sees_who_saw_its_own_images_and_nothing_else(trail: Access, operator: Caller) -> None:
    assert [row.patient_id for row in seen_by(trail, operator, frozenset({"p1"}))] == ["p1"]
    assert seen_by(trail, operator, frozenset()) == ()


def test_an_export_has_every_entry_and_no_formula(trail: Access, operator: Caller) -> None:
    with trail.database.transaction() as session:
        note(session, trail.clock, operator, "read Patient", "=cmd|' /C calc'!A0")
    rows = list(csv.DictReader(csv_lines(export_trail(trail, operator, TrailQuery()))))

    assert len(rows) == 5
    assert rows[3]["subject"].startswith("'=")


def rewrite_everything(access: Access) -> None:
    """What somebody with the whole database in hand could do: change an entry and chain all anew."""
    with access.database.transaction() as session:
        previous = ""
        session.execute(update(AuditEntry).where(AuditEntry.seq == 2).values(principal_id="somebody else"))
        for row in session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all():
            row.hash = entry_hash(previous, {name: getattr(row, name) for name in COLUMNS})
            previous = row.hash
        session.execute(update(AuditHead).values(hash=previous))


def test_a_daily_seal_shows_what_the_chain_alone_does_not(trail: Access, clock: FixedClock) -> None:
    clock.advance(timedelta(days=1))
    seal_audit(trail)
    seal_audit(trail)
    with trail.database.snapshot() as session:
        assert verify_trail(trail, session).fault == ""
        assert len(session.scalars(select(AuditSeal)).all()) == 1

    rewrite_everything(trail)

    with trail.database.snapshot() as session:
        assert "does not fit the seal" in verify_trail(trail, session).fault
    with trail.database.transaction() as session:
        hashed = session.scalar(select(AuditEntry.hash).where(AuditEntry.seq == 3))
        session.execute(update(AuditSeal).values(hash=hashed))
    with trail.database.snapshot() as session:
        assert "is not ours" in verify_trail(trail, session).fault


def test_entries_from_before_names_were_sealed_are_sealed_and_stay_what_they_were(
    access: Access, operator: Caller, database_url: str
) -> None:
    clerk = replace(operator, principal=replace(operator.principal, id="c1", name="诸葛亮"))
    before = Database(database_url, keys=access.keys, seals=False)
    for database in (before, access.database):
        with database.transaction() as session:
            note(session, access.clock, clerk, "read Patient", "p1", detail="为会诊")
    before.close()

    def told() -> list[str]:
        with access.database.snapshot() as session:
            assert verify_trail(access, session).fault == ""
        found = search_trail(access, operator, TrailQuery(principal="诸葛亮"))
        assert [each.seq for each in found] == [2, 1]
        return [syslog_message(each) for each in found]

    def in_clear() -> int:
        with access.database.snapshot() as session:
            kept = session.execute(text("SELECT principal_name, detail FROM audit_entry")).all()
        return sum(row[0] == "诸葛亮" and row[1] == "为会诊" for row in kept)

    first = told()
    assert in_clear() == 1
    reseal_rows(access)
    assert (told(), in_clear()) == (first, 0)
    access.keys.rotate()
    reseal_rows(access)
    assert (told(), in_clear()) == (first, 0)


def test_new_entries_go_to_the_collector_over_tls_once(
    trail: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ensure_certificate(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def collect() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with server_tls(paths).wrap_socket(connection, server_side=True) as secured:
                while True:
                    try:
                        data = secured.recv(65536)
                    except ssl.SSLError:
                        break
                    if not data:
                        break
                    received.append(data)
                with suppress(OSError):
                    secured.unwrap()

    thread = threading.Thread(target=collect)
    thread.start()
    url = f"tls://localhost:{listener.getsockname()[1]}"
    settings = replace(trail.settings, audit_collector=url, audit_collector_ca=str(paths.certificate))
    sending = replace(trail, settings=settings)
    monkeypatch.setattr("access.trail.SENT_AT_ONCE", 2)
    send_audit(sending)  # all three, however few go at once
    thread.join()
    listener.close()

    text = b"".join(received).decode()
    assert text.count("<AuditMessage>") == 3
    length, _, rest = b"".join(received).partition(b" ")
    assert rest[: int(length)].endswith(b"</AuditMessage>")
    send_audit(sending)  # nothing new, so nobody is called
    with sending.database.transaction() as session:
        note(session, sending.clock, system("test"), "read Patient")
    with pytest.raises(CollectorUnreachable):
        send_audit(sending)
