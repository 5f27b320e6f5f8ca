"""`cloudfilm hl7` and `cloudfilm mpi`, as an operator types them."""

import json
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from cloudfilm.commands.hl7 import hl7
from cloudfilm.commands.mpi import mpi
from cloudfilm.rooms import Rooms
from mpi.model import PatientRecord
from tests.builders_hl7 import PID, adt_a04, omi_o23

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


def test_an_operator_subscribes_a_node(rooms: Rooms) -> None:
    assert run(rooms, hl7, "subscribe", "EMR", "reports").exit_code == 0
    assert run(rooms, hl7, "subscribe", "EMR", "nonsense").exit_code == 2
    assert run(rooms, hl7, "outbound").output == ""


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
    assert run(rooms, mpi, "unlink", second).exit_code == 0
    assert run(rooms, mpi, "link", first, second).exit_code == 0
    assert run(rooms, mpi, "review").exit_code == 0


def test_weights_are_trained_and_evaluated(rooms: Rooms, people: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.json"
    weights.write_text(run(rooms, mpi, "train", str(people), "--version", "mine").output)
    assert json.loads(weights.read_text())["version"] == "mine"
    evaluated = run(rooms, mpi, "evaluate", str(people), "--weights", str(weights)).output
    assert "1 true pairs" in evaluated
    assert "F1" in evaluated
