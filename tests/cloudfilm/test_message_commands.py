"""`cloudfilm hl7` and `cloudfilm mpi`, as an operator types them."""

import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from access.caller import Caller
from access.model import Node
from archive.ingest import ingest
from cloudfilm.commands.hl7 import hl7
from cloudfilm.commands.institution import institution
from cloudfilm.commands.mpi import mpi
from cloudfilm.commands.reconcile import reconcile
from cloudfilm.rooms import Rooms
from hl7_listener.mllp import frame
from hl7_listener.model import Hl7Outbound
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from kernel.clock import FixedClock, new_id
from kernel.errors import InvalidSetting
from kernel.jobs import JobRow
from kernel.settings import MpiSettings
from mpi.bulk import identify_all
from mpi.csv_records import UnreadableRecords
from mpi.model import PatientRecord
from mpi.resolve import Identified
from mpi.weights import UnusableWeights, weights_of
from tests.builders import ct_slice
from tests.builders_hl7 import PID, adt_a04, omi_o23
from tests.settling import settle

CSV = """source,local_id,name,name_pinyin,sex,birth_date,id_no,mi_no,phone,address,cluster_id
H01,1,张伟,,M,19850612,,5104123,13912345678,四川省成都市锦江区学府路306号,A
H02,2,張偉,,M,19850612,,5104123,13912345678,成都市锦江区学府路306号,A
H02,3,李娜,,F,19900203,,,13712345678,,B
"""


def run(rooms: Rooms, group: click.Group, *arguments: str) -> Result:
    return CliRunner().invoke(group, arguments, obj=SimpleNamespace(rooms=rooms))


def test_a_message_is_sent_listed_shown_and_replayed(rooms: Rooms, tmp_path: Path) -> None:
    cancel, order, register = (tmp_path / name for name in ("cancel", "order", "register"))
    cancel.write_bytes(omi_o23("CA", control_id="CANCEL"))
    order.write_bytes(omi_o23(control_id="ORDER"))
    register.write_bytes(adt_a04(PID.replace("1001", "5"), control_id="REGISTER"))
    assert run(rooms, hl7, "send", str(cancel)).exit_code == 1
    dead = run(rooms, hl7, "list", "--state", "failed").output
    assert "CANCEL" in dead
    assert "no order" in dead
    assert run(rooms, hl7, "send", str(order)).exit_code == 0
    assert run(rooms, hl7, "replay", "--failed").exit_code == 0
    assert run(rooms, hl7, "send", str(register)).exit_code == 0
    assert "PID|1||5^^^HIS" in run(rooms, hl7, "show", "3").output
    assert run(rooms, hl7, "show", "99").exit_code == 1


def test_a_file_of_several_messages_is_sent_one_by_one(rooms: Rooms, tmp_path: Path) -> None:
    file = tmp_path / "several.hl7"
    file.write_bytes(adt_a04(control_id="M1") + b"\n" + frame(adt_a04(control_id="M2")) + omi_o23("CA"))
    sent = run(rooms, hl7, "send", str(file))
    assert re.findall(r"MSA\|(..)", sent.output) == ["AA", "AA", "AE"]
    assert sent.exit_code == 1


@pytest.mark.parametrize(
    ("to", "told"),
    [("nowhere", "HOST:PORT"), ("host:port", "HOST:PORT"), ("127.0.0.1:1", "does not take messages")],
)
def test_who_cannot_be_sent_to_is_said(rooms: Rooms, tmp_path: Path, to: str, told: str) -> None:
    file = tmp_path / "message.hl7"
    file.write_bytes(adt_a04())
    sent = run(rooms, hl7, "send", str(file), "--to", to)
    assert sent.exit_code != 0
    assert told in sent.output
    file.write_bytes(b"\r\n")
    assert "nothing in" in run(rooms, hl7, "send", str(file)).output


def test_an_operator_subscribes_a_node_that_there_is(rooms: Rooms, clock: FixedClock) -> None:
    mistyped = run(rooms, hl7, "subscribe", "EMR", "reports")
    assert (mistyped.exit_code, "no node EMR" in mistyped.output) == (1, True)
    with rooms.database.transaction() as session:
        session.add(Node(ae_title="EMR", host="127.0.0.1", port=1, created_at=clock.now()))
    assert run(rooms, hl7, "subscribe", "EMR", "reports").exit_code == 0
    assert run(rooms, hl7, "subscribe", "EMR", "nonsense").exit_code == 2
    assert run(rooms, hl7, "subscriptions").output == "EMR  reports\n"
    assert run(rooms, hl7, "subscribe", "EMR", "reports", "--off").exit_code == 0
    assert run(rooms, hl7, "subscriptions").output == ""
    assert run(rooms, hl7, "outbound").output == ""


def test_what_a_node_refused_is_sent_again(rooms: Rooms, clock: FixedClock) -> None:
    with rooms.database.transaction() as session:
        for node, state in (("EMR", "refused"), ("EMR", "sent"), ("RIS", "refused"), ("RIS", "refused")):
            session.add(
                Hl7Outbound(
                    node=node, message_type="ORU^R01", control_id=new_id(), sealed=b"", state=state,
                    error="AE", created_at=clock.now(),
                )
            )  # fmt: skip
    assert run(rooms, hl7, "resend").exit_code == 2
    assert run(rooms, hl7, "resend", "2").exit_code == 1
    assert run(rooms, hl7, "resend", "1").output == "1 message will be sent again.\n"
    assert run(rooms, hl7, "outbound", "--state", "refused", "--node", "RIS").output.count("AE") == 2
    assert run(rooms, hl7, "resend", "--refused").output == "2 messages will be sent again.\n"
    assert run(rooms, hl7, "outbound", "--state", "refused").output == ""
    with rooms.database.snapshot() as session:
        queued = session.scalars(select(JobRow.arguments).where(JobRow.name.endswith("deliver"))).all()
    assert sorted(queued) == ['["EMR"]', '["RIS"]']


def test_a_house_says_of_whom_its_patient_ids_are(rooms: Rooms) -> None:
    assert (
        run(rooms, institution, "set", "H1", "--name", "First", "--patient-id-issuer", "HIS").exit_code == 0
    )
    assert run(rooms, institution, "set", "H1", "--name", "The First").exit_code == 0
    assert run(rooms, institution, "list").output.split() == ["H1", "HIS", "The", "First"]
    assert run(rooms, institution, "set", "H" * 40).exit_code == 1


def test_a_held_study_is_decided_and_the_decision_taken_back(rooms: Rooms, operator: Caller) -> None:
    receive(hl7_of(rooms.by_kind()), operator, omi_o23())
    ingest(rooms.archive, operator, BytesIO(ct_slice(PatientID="5", PatientName="Li^Na", PatientSex="F")))
    settle(rooms)
    number = run(rooms, reconcile, "list").output.split()[0]
    assert "name=different" in run(rooms, reconcile, "list").output
    assert run(rooms, reconcile, "decide", number, "--same").exit_code == 0
    assert run(rooms, reconcile, "decide", number, "--other").exit_code == 1
    assert run(rooms, reconcile, "list", "--state", "confirmed").output.startswith(number)
    assert run(rooms, reconcile, "undo", number).exit_code == 0
    assert run(rooms, reconcile, "list").output.startswith(number)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three labelled records of two people."""
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def test_records_are_loaded_linked_explained_and_parted(rooms: Rooms, people: Path) -> None:
    assert run(rooms, mpi, "load", str(people)).output == "linked 1  new 2\n"
    assert run(rooms, mpi, "load", str(people)).output == "known 3\n"
    with rooms.database.snapshot() as session:
        first, second, _ = session.scalars(select(PatientRecord.patient_id).order_by(PatientRecord.id))
    explained = run(rooms, mpi, "explain", first, second).output
    assert "name+birth_date: same+same" in explained
    assert "insurance: same" in explained
    assert "score by operator" in run(rooms, mpi, "explain", second).output
    assert "There is no Patient nobody." in run(rooms, mpi, "explain", first, "nobody").output
    assert run(rooms, mpi, "unlink", second).exit_code == 0
    assert run(rooms, mpi, "link", first, second).exit_code == 0
    assert run(rooms, mpi, "review").exit_code == 0


@pytest.mark.parametrize(("conflicts", "output"), [(1, "linked 1  new 2\n"), (9, "Load the file again.\n")])
def test_a_batch_of_which_others_brought_a_number_is_tried_again(
    rooms: Rooms, people: Path, monkeypatch: pytest.MonkeyPatch, conflicts: int, output: str
) -> None:
    left = [IntegrityError("INSERT", {}, Exception())] * conflicts

    def contested(*arguments: Any) -> list[Identified]:
        if left:
            raise left.pop()
        return identify_all(*arguments)

    monkeypatch.setattr("cloudfilm.commands.mpi.identify_all", contested)
    assert run(rooms, mpi, "load", str(people)).output.endswith(output)


def test_weights_are_trained_and_evaluated(rooms: Rooms, people: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.json"
    weights.write_text(run(rooms, mpi, "train", str(people), "--version", "mine").output)
    assert json.loads(weights.read_text())["version"] == "mine"
    evaluated = run(rooms, mpi, "evaluate", str(people), "--weights", str(weights)).output
    assert "of 1 true pairs" in evaluated
    assert re.findall(r"weights (.*)", evaluated) == ["learnt from the file", "mine"]
    assert evaluated.count("F1") == 4
    (tmp_path / "nonsense.json").write_text('{"version": "x", "terms": {}}')
    for wrong in (tmp_path / "nonsense.json", people):
        refused = run(rooms, mpi, "evaluate", str(people), "--weights", str(wrong))
        assert isinstance(refused.exception, UnusableWeights)
    people.write_text(CSV.replace(",A\n", ",\n"))
    assert isinstance(run(rooms, mpi, "evaluate", str(people)).exception, UnreadableRecords)
    people.write_text("a,b\n1,2\n")
    for command in (("load",), ("train", "--version", "x"), ("evaluate",)):
        assert isinstance(run(rooms, mpi, *command, str(people)).exception, UnreadableRecords)


def test_an_installation_goes_by_its_own_weights(rooms: Rooms, people: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(run(rooms, mpi, "train", str(people), "--version", "mine").output)
    own = replace(rooms.settings, mpi=MpiSettings(weights=str(path)))
    assert weights_of(own.mpi).version == "mine"
    path.write_text(path.read_text().replace('"link": 2.0', '"link": -9'))
    with pytest.raises(InvalidSetting, match=r"mpi\.weights"):
        weights_of(own.mpi)
