"""The commands for accounts, rules, apps and the audit trail, as an operator uses them."""

import io
import json
from copy import deepcopy
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, update

from access.caller import operator
from access.model import AuditEntry
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.cli import Context, cli
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from tests.builders import ct_slice

PASSWORD = "Correct-Horse-7\nCorrect-Horse-7\n"


@pytest.fixture
def run(rooms: Rooms):  # type: ignore[no-untyped-def]
    """Runs one command on the rooms of the test."""
    context = Context(rooms.settings)
    context._rooms = rooms

    def invoke(*arguments: str, text: str = "") -> Result:
        name, *rest = arguments
        command = deepcopy(cli.commands[name])  # click remembers the help options of a command's first run
        return CliRunner().invoke(command, rest, obj=context, input=text)

    return invoke


def test_an_account_is_added_changed_and_listed(run) -> None:  # type: ignore[no-untyped-def]
    assert run("account", "add", "reader", "--role", "radiologist", text=PASSWORD).exit_code == 0
    assert run("account", "change", "reader", "--department", "CT").exit_code == 0

    listed = run("account", "list").output
    assert "reader" in listed
    assert "CT" in listed


def test_who_is_added_by_command_changes_the_password_at_the_first_sign_in(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    run("account", "add", "reader", "--role", "radiologist", text=PASSWORD)
    browser = create_app(rooms).test_client()

    answer = browser.post(
        "/sign-in",
        data={"login": "reader", "password": PASSWORD.partition("\n")[0]},
        headers={"Sec-Fetch-Site": "same-origin"},
    )

    assert answer.headers["Location"] == "/my/password?must=1"


def test_a_refusal_is_explained_by_the_rule_that_makes_it(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("account", "add", "reader", "--role", "radiologist", text=PASSWORD)
    assert run("access", "explain", "reader", "ImagingStudy.r").exit_code == 0
    rules = tmp_path / "rules.json"
    rules.write_text(
        json.dumps(
            {"rules": [{"id": "house", "reason": "Inside only.", "when": {"outside": ["10.0.0.0/8"]},
                        "deny": ["ImagingStudy.r"]}]}
        )
    )  # fmt: skip
    said = run("site", "set", "rules", str(rules), "--comment", "house").output
    assert said == "Version 1 of rules is in force.\n"

    inside = run("access", "explain", "reader", "ImagingStudy.r", "--from", "10.1.1.1")
    outside = run("access", "explain", "reader", "ImagingStudy.r", "--from", "1.1.1.1")

    assert inside.exit_code == 0
    assert outside.exit_code == 1
    assert "REFUSES  rule:house" in outside.output
    assert "Inside only." in outside.output
    assert json.loads(run("site", "show", "rules").output)["rules"][0]["id"] == "house"
    assert "house" in run("site", "history", "rules").output


def test_a_study_that_looks_as_if_it_were_not_there_is_explained_by_the_step_that_hides_it(  # type: ignore[no-untyped-def]
    run, rooms: Rooms, tmp_path: Path
) -> None:
    ingest(rooms.archive, operator(rooms.settings.access.institution), io.BytesIO(ct_slice(study=1)))
    with rooms.database.snapshot() as session:
        study = str(session.scalar(select(Study.study_instance_uid)))
    for login, role in (("reader", "radiologist"), ("guest", "referrer")):
        run("account", "add", login, "--role", role, text=PASSWORD)
    asked = ("ImagingStudy.r", "--study", study)

    assert run("access", "explain", "reader", *asked).output.endswith(
        "reader may do ImagingStudy.r with this study.\n"
    )
    guest = run("access", "explain", "guest", *asked)
    assert guest.exit_code == 1
    assert guest.output.startswith("HIDES    role")
    rules = tmp_path / "rules.json"
    rule = {"id": "secret", "reason": "Not this one.", "only": [{"except_studies": [study]}]}
    rules.write_text(json.dumps({"rules": [rule]}))
    run("site", "set", "rules", str(rules), "--comment", "one")
    reader = run("access", "explain", "reader", *asked)
    assert reader.exit_code == 1
    assert "allows   role" in reader.output
    assert "HIDES    rule:secret" in reader.output
    assert run("access", "explain", "reader", "ImagingStudy.r").exit_code == 0
    nowhere = run("access", "explain", "reader", "ImagingStudy.r", "--study", "1.2")
    assert str(nowhere.exception) == "Study 1.2 was not found."


def test_what_a_node_is_refused_is_explained_too(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("node", "add", "CT1", "--host", "10.1.2.3", "--may", "store")
    rules = tmp_path / "rules.json"
    rule = {
        "id": "ct",
        "reason": "It is broken.",
        "when": {"principals": ["CT1"]},
        "deny": ["ImagingStudy.c"],
    }
    rules.write_text(json.dumps({"rules": [rule]}))
    assert run("access", "explain", "CT1", "ImagingStudy.c").exit_code == 0
    assert run("access", "explain", "CT1", "ImagingStudy.s").output.startswith("REFUSES  role")

    run("site", "set", "rules", str(rules), "--comment", "ct")

    assert (
        "REFUSES  rule:ct" in run("access", "explain", "CT1", "ImagingStudy.c", "--from", "10.1.2.3").output
    )
    elsewhere = run("access", "explain", "CT1", "ImagingStudy.c", "--from", "10.9.9.9")
    assert "is not a known node" in str(elsewhere.exception)
    assert str(run("access", "explain", "CT2", "ImagingStudy.c").exception) == "No account has this name."


def test_site_documents_go_out_and_come_back_and_older_versions_too(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept = tmp_path / "site.json"
    assert run("site", "export", str(kept)).exit_code == 0
    night = {"id": "night", "reason": "No.", "when": {"hours": ["20:00", "07:00"]}, "deny": ["*.d"]}
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({"rules": {"rules": [night]}}))

    assert run("site", "import", str(changed)).output == "Changed: rules.\n"
    assert run("site", "import", str(changed)).output == "Changed: nothing.\n"
    assert run("site", "import", str(kept)).output == "Changed: rules.\n"
    assert json.loads(run("site", "show", "rules").output) == {"rules": []}
    assert run("site", "rollback", "rules", "1").exit_code == 0
    assert json.loads(run("site", "show", "rules").output)["rules"][0]["id"] == "night"
    assert json.loads(run("site", "show", "rules", "--version", "2").output) == {"rules": []}
    assert "rules" in run("site", "list").output
    wrong: object
    for wrong in ({"nonsense": {}}, {"rules": {"rules": [1]}}, []):
        changed.write_text(json.dumps(wrong))
        assert run("site", "import", str(changed)).exit_code == 1


def test_an_app_is_registered_listed_and_removed(run) -> None:  # type: ignore[no-untyped-def]
    added = run(
        "access", "client", "add", "Viewer", "--redirect", "https://a.example/cb",
        "--method", "client_secret_post",
    )  # fmt: skip
    said = json.loads(added.output)

    assert said["client_secret"]
    assert said["client_id"] in run("access", "client", "list").output
    assert run("access", "client", "remove", said["client_id"]).exit_code == 0
    assert run("access", "client", "remove", said["client_id"]).exit_code == 1


def test_the_trail_is_searched_exported_and_proven(run, rooms: Rooms) -> None:  # type: ignore[no-untyped-def]
    run("account", "add", "reader", "--role", "radiologist", text=PASSWORD)

    assert "create Account" in run("audit", "search", "--action", "create").output
    assert run("audit", "export").output.startswith("seq,at,")
    events = [json.loads(line) for line in run("audit", "export", "--form", "fhir").output.splitlines()]
    assert {event["resourceType"] for event in events} == {"AuditEvent"}
    assert "are sound" in run("audit", "verify").output
    with rooms.database.transaction() as session:
        session.execute(update(AuditEntry).where(AuditEntry.seq == 1).values(subject="other"))
    broken = run("audit", "verify")
    assert broken.exit_code == 1
