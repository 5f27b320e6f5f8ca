"""The command line, as an operator uses it."""

import errno
import os
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from sqlalchemy import delete, insert, select, text

from access.accounts import create_account, list_accounts
from access.caller import Caller, Door
from access.certificate import ensure_certificate
from access.nodes import UnknownNode, find_node, identify_node
from access.revocation_lists import RevocationLists
from access.tokens import ACCESS, caller_of
from cloudfilm.cli import Context, cli, main
from cloudfilm.commands.doctor import CHECKS
from cloudfilm.rooms import Rooms, build_rooms
from kernel.clock import FixedClock
from kernel.database import Database
from kernel.jobs import JobRow
from kernel.settings import Settings
from records.model import IndexWord, Resource
from records.repository import write
from records.sealing import open_documents
from tests.builders import ROOT, ct_slice
from tests.certificates import Authority


@pytest.fixture
def run(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run `cloudfilm` with the test's own rooms."""
    monkeypatch.setattr(Context, "rooms", rooms)
    for name, value in (
        ("DATA_DIR", str(rooms.settings.data_dir)),
        ("DATABASE__URL", rooms.settings.database.url),
        ("BLOBS__URL", rooms.settings.blobs.url),
    ):
        monkeypatch.setenv(f"CLOUDFILM_{name}", value)

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    return command


def test_help_names_every_command(run) -> None:  # type: ignore[no-untyped-def]
    text = run("--help").output

    for name, command in cli.commands.items():
        assert name in text
        assert command.get_short_help_str(), name


def test_files_and_folders_are_imported_and_a_second_run_finds_them_there(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "cd" / "a"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number}").write_bytes(ct_slice(instance=number))
    (folder / "readme.txt").write_text("no image")

    first = run("import", str(tmp_path / "cd"))
    assert first.exit_code == 1
    assert "2 stored, 0 already there, 0 held for review, 1 refused" in first.output
    assert "readme.txt" in first.output
    second = run("import", str(folder / "1"))
    assert (second.exit_code, "0 stored, 1 already there" in second.output) == (0, True)


def test_studies_are_listed_shown_and_checked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in (1, 2, 4):
        (tmp_path / f"{number}.dcm").write_bytes(ct_slice(instance=number))
    run("import", *(str(tmp_path / f"{number}.dcm") for number in (1, 2, 4)))

    assert f"{ROOT}.1" in run("study", "list", "--name", "张*").output
    assert run("study", "list", "--name", "李*").output == ""
    shown = run("study", "show", f"{ROOT}.1").output
    assert "Zhang^Wei=张^伟" in shown
    assert f"{ROOT}.1.1" in shown
    check = run("study", "check", f"{ROOT}.1")
    assert check.exit_code == 1
    assert "missing numbers: 3" in check.output


def test_a_study_is_checked_against_what_its_sender_has(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    slices = {number: ct_slice(instance=number) for number in (1, 2)}
    first, second = (f"{sha256(data).hexdigest()}  影像/{number}.dcm" for number, data in slices.items())
    (tmp_path / "1.dcm").write_bytes(slices[1])
    run("import", str(tmp_path / "1.dcm"))
    listed, saved = tmp_path / "SHA256SUMS", tmp_path / "study.csv"

    listed.write_text(first, "utf-8-sig")
    whole = run("study", "check", f"{ROOT}.1", "--digests", str(listed), "--csv", str(saved))
    assert (whole.exit_code, "compared with 1 digests" in whole.output) == (0, True)
    assert first[:64] in saved.read_text()

    listed.write_text(f"{first}\n{second}\n", "gb18030")
    lacking = run("study", "check", f"{ROOT}.1", "--digests", str(listed))
    assert (lacking.exit_code, f"not in the study: {second[:64]}" in lacking.output) == (1, True)
    assert "NOT complete" in lacking.output


def test_what_is_deleted_is_gone_until_it_is_restored(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "1.dcm").write_bytes(ct_slice())
    run("import", str(tmp_path / "1.dcm"))

    removed = run("study", "delete", f"{ROOT}.1", "--reason", "113001", "--comment", "motion")
    assert (removed.exit_code, "113001 Rejected for Quality Reasons" in removed.output) == (0, True)
    assert run("study", "list").output == ""
    removal = run("study", "removals").output.split()[0]
    assert run("study", "restore", removal).exit_code == 0
    assert f"{ROOT}.1" in run("study", "list").output
    assert "restored" in run("study", "removals").output

    one = run("study", "delete", f"{ROOT}.1", "--series", f"{ROOT}.1.1", "--instance", f"{ROOT}.1.1.1",
              "--reason", "113038")  # fmt: skip
    assert "1 instances" in one.output
    for arguments in (
        ("study", "delete", f"{ROOT}.9", "--reason", "113001"),
        ("study", "delete", f"{ROOT}.1", "--reason", "1"),
        ("study", "restore", removal),
        ("study", "restore", "nothing"),
    ):
        refused = run(*arguments)
        assert refused.exit_code != 0
        assert "Traceback" not in refused.output


def test_a_damaged_object_is_found(run, rooms: Rooms, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "1.dcm").write_bytes(ct_slice())
    run("import", str(tmp_path / "1.dcm"))
    assert run("study", "check", f"{ROOT}.1").exit_code == 0
    (blob,) = (path for path in (rooms.settings.data_dir / "blobs").rglob("*") if path.is_file())
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)

    check = run("study", "check", f"{ROOT}.1")
    assert (check.exit_code, f"damaged: {ROOT}.1.1.1" in check.output) == (1, True)


def test_a_token_lets_in_within_its_scopes(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    secret = run("token", "--scope", "user/ImagingStudy.rs", "--expires", "30m").output.strip()
    caller = caller_of(rooms.access, secret, (ACCESS,), Door.DICOMWEB, "127.0.0.1")

    assert {str(action) for action in caller.permissions.verbs} == {"ImagingStudy.r", "ImagingStudy.s"}
    assert run("token", "--expires", "soon").exit_code != 0
    assert run("token", "--scope", "user/x").exit_code != 0


def test_nodes_are_added_listed_and_removed(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    assert (
        run("node", "add", "CT1", "--host", "10.1.2.3", "--may", "store", "--institution", "H1").exit_code
        == 0
    )
    assert "CT1" in run("node", "list").output
    caller, peer = identify_node(rooms.access, "CT1", "10.1.2.3")
    assert (peer.permissions, caller.principal.institution) == (("store",), "H1")
    for address in ("10.1.2.4", "not an address"):
        with pytest.raises(UnknownNode):
            identify_node(rooms.access, "CT1", address)
    assert run("node", "remove", "CT1").exit_code == 0
    assert run("node", "remove", "CT1").exit_code == 1
    with pytest.raises(UnknownNode):
        identify_node(rooms.access, "CT1", "10.1.2.3")
    assert run("node", "add", "MUCH TOO LONG A TITLE").exit_code != 0
    assert run("node", "add", "CT1", "--may", "anything").exit_code != 0


def test_the_command_keeps_a_node_as_the_page_does_and_checks_it_alike(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    digest = "AB:" * 31 + "AB"
    added = run(
        "node", "add", "PACS", "--host", "10.1.2.3", "--also", "[2001:db8::1]:104", "--also", "b:105",
        "--max-sending", "2", "--certificate", digest,
    )  # fmt: skip
    assert added.exit_code == 0
    peer = find_node(rooms.access, "PACS")
    assert peer is not None
    assert peer.endpoints == (("10.1.2.3", 104), ("2001:db8::1", 104), ("b", 105))
    assert (peer.max_sending, peer.certificate) == (2, "ab" * 32)
    for wrong in (("--also", "b"), ("--also", "b:0"), ("--certificate", "12"), ("--from", "10.0.0.0/99")):
        assert run("node", "add", "PACS", *wrong).exit_code != 0, wrong
    assert find_node(rooms.access, "PACS") == peer


def test_the_doctor_says_what_is_wrong(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    (rooms.settings.data_dir / "keys" / "ring.json").chmod(0o644)

    done = run("doctor")
    assert done.exit_code == 1
    assert "chmod 600" in done.output


def test_a_key_ring_that_kubernetes_mounts_is_well_kept(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    ring = rooms.settings.data_dir / "keys" / "ring.json"
    ring.chmod(0o440)
    if os.geteuid() == 0:
        os.chown(ring, 10001, 10001)  # whose it is that does not run us

    assert ("chmod 600" in run("doctor").output) == (os.geteuid() != 0)
    ring.chmod(0o444)
    assert "chmod 600" in run("doctor").output


def test_the_doctor_goes_on_past_what_does_not_answer(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Database("postgresql://cloudfilm@127.0.0.1:1/cloudfilm")
    queue = replace(rooms.settings.queue, url="redis://127.0.0.1:1/0")
    web = replace(rooms.settings.web, host="0.0.0.0")
    settings = replace(rooms.settings, queue=queue, web=web)
    monkeypatch.setattr(Context, "rooms", replace(rooms, database=nowhere, settings=settings))

    told = run("doctor")
    nowhere.close()

    assert told.exit_code == 1
    assert "Connection refused" in told.output
    assert "newest objects: not looked at" in told.output
    assert "The Redis of queue.url does not answer" in told.output
    assert "web.public_url is not set" in told.output
    assert "viewer" in told.output


def told_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str) -> str:
    """What the console script says of a command that ends with exit status 1."""
    monkeypatch.setattr(sys, "argv", ["cloudfilm", command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_a_command_without_its_database_says_what_the_database_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUDFILM_DATABASE__URL", "postgresql://cloudfilm@127.0.0.1:1/cloudfilm")
    told = told_by(monkeypatch, capsys, "migrate")

    assert told.startswith("cloudfilm: The database does not answer")
    assert "Connection refused" in told
    assert "Check database.url." in told


def test_a_command_of_another_user_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(_settings: Settings) -> Rooms:
        raise PermissionError(errno.EACCES, "Permission denied", "/var/lib/cloudfilm/keys/ring.json")

    monkeypatch.setattr("cloudfilm.cli.build_rooms", closed)
    told = told_by(monkeypatch, capsys, "doctor")

    assert told.startswith("cloudfilm: /var/lib/cloudfilm/keys/ring.json may not be read or written by you")
    assert "sudo -u cloudfilm" in told


def test_the_ring_turns_and_a_job_wraps_anew_when_it_is_asked_to(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    assert "The current key is k2" in run("keys", "rotate").output
    with rooms.database.transaction() as session:
        session.execute(delete(JobRow))

    assert run("keys", "rewrap").output == "Queued: what older keys wrap comes under k2.\n"
    with rooms.database.snapshot() as session:
        assert [job.name for job in session.scalars(select(JobRow))] == ["archive.rewrap.rewrap_seals"]


def test_the_doctor_looks_at_dicom_under_tls(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    ours = authority.issue("server")

    def said(**settings: Any) -> str:
        dimse = replace(rooms.settings.dimse, tls_port=2762, **settings)
        monkeypatch.setattr(Context, "rooms", replace(rooms, settings=replace(rooms.settings, dimse=dimse)))
        return str(run("doctor").output)

    right: dict[str, Any] = {"tls_certificate": str(ours.certificate), "tls_key": str(ours.key)}
    assert "name a certificate" in said()
    assert "cannot begin" in said(**right | {"tls_key": str(authority.certificate)})
    assert "no certificate is demanded" in said(**right)
    assert "no certificate is demanded" not in said(**right, tls_ca=str(authority.certificate))


def test_the_doctor_looks_at_the_certificates_that_are_shown(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = ensure_certificate(tmp_path).certificate  # for a year
    end = x509.load_pem_x509_certificate(ours.read_bytes()).not_valid_after_utc

    def said(days_before: int, **mllp: Any) -> str:
        settings = replace(rooms.settings, mllp=replace(rooms.settings.mllp, **mllp))
        at = FixedClock(end - timedelta(days=days_before))
        monkeypatch.setattr(Context, "rooms", replace(rooms, settings=settings, clock=at))
        return str(run("doctor").output)

    named = {"tls_certificate": str(ours), "tls_key": str(ours)}
    assert "ok    certificates" in said(1)
    assert "ok    certificates" in said(31, **named)
    assert f"The certificate of mllp.tls_certificate ends on {end:%Y-%m-%d}" in said(29, **named)
    assert "mllp.tls_certificate cannot be read" in said(99, tls_certificate=str(tmp_path / "none"))


def test_the_doctor_looks_at_lists_of_revoked_certificates(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")

    def said(at: datetime) -> str:
        lists = RevocationLists((str(authority.revocation_list(at=at)),), (str(authority.certificate),))
        monkeypatch.setattr(Context, "rooms", replace(rooms, access=replace(rooms.access, revocations=lists)))
        return str(run("doctor").output)

    now = rooms.clock.now()
    assert "ok    revocation lists" in said(now - timedelta(hours=1))
    assert "bring the next one" in said(now - timedelta(hours=20))
    assert "its certificates are refused" in said(now - timedelta(hours=25))


def test_what_was_changed_in_the_database_itself_is_listed_and_accepted(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, operator: Caller
) -> None:
    for login in ("zhang", "li"):
        with rooms.database.transaction() as session:
            create_account(rooms.access, session, operator, login, "Right-Horse-9", "physician")
    run("node", "add", "CT1", "--host", "10.1.2.3")
    listed = run("access", "changed")
    assert (listed.exit_code, listed.output) == (0, "")
    with rooms.database.transaction() as session:
        session.execute(text("UPDATE account SET role = 'operator'"))
        session.execute(text("UPDATE node SET permissions = 'all'"))

    listed = run("access", "changed")
    assert (listed.exit_code, listed.output) == (1, "account/li\naccount/zhang\nnode/CT1\n")
    (check,) = (each for each in CHECKS if each.name == "accounts, apps and nodes")
    assert "account/zhang was changed outside of cloudfilm" in " ".join(check.look(rooms))
    assert "changed outside of cloudfilm" in str(
        run("access", "explain", "zhang", "ImagingStudy.r").exception
    )
    assert run("access", "accept", "account").exit_code == 2
    assert run("access", "accept", "node", "CT1").output == "node/CT1 counts as it is.\n"
    accepted = run("access", "accept", "account", "--all").output
    assert accepted == "account/li counts as it is.\naccount/zhang counts as it is.\n"
    assert run("access", "changed").exit_code == 0


def test_documents_in_clear_are_sealed_by_a_command_and_not_while_older_code_runs(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, operator: Caller
) -> None:
    rooms.database.seals = False
    assert "database.seals is off" in run("records", "seal").output
    rooms.database.seals = True
    with rooms.database.transaction() as session:
        write(rooms.records, session, operator, {"resourceType": "Patient"}, logical_id="p1")
        open_documents(session.connection(), rooms.keys)
        key = session.scalar(select(Resource.id))
        session.execute(insert(IndexWord).values(resource_id=key, word="patient", in_narrative=False))

    told = run("records", "seal")

    assert (told.exit_code, told.output) == (0, "All 1 documents are sealed.\n")
    with rooms.database.snapshot() as session:
        kept = session.execute(text("SELECT body FROM resource UNION SELECT body FROM resource_version"))
        assert {str(row.body)[:3] for row in kept} == {"k1."}
        assert session.scalars(select(IndexWord.c.word)).all() == []


def test_names_in_clear_are_sealed_by_a_command_and_not_while_older_code_runs(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, operator: Caller
) -> None:
    rooms.database.seals = False
    assert "database.seals is off" in run("keys", "reseal").output
    rooms.database.seals = True
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator, "zhang", "Right-Horse-9", "physician")
        session.execute(text("UPDATE account SET name = '张伟'"))

    told = run("keys", "reseal")

    assert told.exit_code == 0
    assert told.output.startswith("All is sealed; ")
    with rooms.database.snapshot() as session:
        assert str(session.scalar(text("SELECT name FROM account")))[:4] == "\x7fk1."
    assert [each.name for each in list_accounts(rooms.access, operator)] == ["张伟"]


def test_a_share_by_command_asks_for_its_proof_and_says_where_its_link_leads(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    lacking = run("share", "study", f"{ROOT}.1", "--to", "phone")
    at_home = run("share", "qr", "A-1")

    assert lacking.exit_code == 2
    assert "With --to phone say also --phone." in lacking.output
    assert at_home.exit_code == 0
    assert "opens on this machine only" in at_home.stderr


def test_a_printed_code_leads_to_the_public_address(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CLOUDFILM_WEB__PUBLIC_URL", "https://film.example.org")
    made = run("share", "qr", "A-1")

    assert made.stdout.splitlines()[1].startswith("https://film.example.org/share#")
    assert made.stderr == ""


def test_to_send_what_is_not_here_says_so(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    run("node", "add", "WS7", "--host", "127.0.0.1", "--port", "1")
    done = run("node", "send", "WS7", "1.2.3")

    assert done.exit_code == 1
    assert "None of these studies is here" in done.stderr


def test_a_data_directory_that_is_made_is_for_its_owner_alone(settings: Settings, tmp_path: Path) -> None:
    ours = replace(settings, data_dir=tmp_path / "ours")
    build_rooms(ours).close()
    Database(f"sqlite:///{tmp_path / 'of-a-file' / 'cloudfilm.db'}").close()

    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("ours", "of-a-file")} == {0o700}
