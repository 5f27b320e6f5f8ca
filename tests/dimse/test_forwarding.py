"""Studies go on to other nodes by the site's rules, as real nodes see it."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]
from sqlalchemy import select

from dimse.forwarding import InvalidForwarding, parse_forwarding
from dimse.model import Forwarding
from dimse.schedule import parse_window
from tests.builders import ROOT, ct_slice
from tests.dimse.peers import Storescp, add_node, rooms_beside, storescp
from tests.live import LiveServer, live_server_in

WITHIN_S = 60


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def send(server: LiveServer, calling: str, *instances: tuple[int, int], modality: str = "CT") -> None:
    """Store instances (study, instance) as the node of this AE title."""
    entity = AE(calling)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    assert association.is_established
    for study, instance in instances:
        ds = dcmread(BytesIO(ct_slice(study, 1, instance, Modality=modality)))
        assert association.send_c_store(ds).Status == 0x0000
    association.release()


def sent(server: LiveServer, node: str) -> list[str]:
    """The studies that a node was sent whole."""
    with rooms_beside(server) as rooms, rooms.database.snapshot() as session:
        chosen = select(Forwarding.study_instance_uid).where(
            Forwarding.node == node, Forwarding.state == "sent"
        )
        return list(session.scalars(chosen))


def error_of(server: LiveServer, node: str) -> str:
    """What went wrong with the node last."""
    with rooms_beside(server) as rooms, rooms.database.snapshot() as session:
        return session.scalar(select(Forwarding.error).where(Forwarding.node == node)) or ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose studies come to rest at once."""
    with live_server_in(tmp_path_factory.mktemp("live"), CLOUDFILM_ARCHIVE__REST_AFTER_S="0.3") as running:
        yield running


@pytest.fixture(scope="module")
def target(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storescp]:
    """The node AI1, to which a rule sends every CT."""
    with storescp(tmp_path_factory.mktemp("target") / "in", "AI1") as running:
        add_node(server, "AI1", running.port)
        rules = {"rules": [{"id": "ct-to-ai", "to": "AI1", "modalities": ["CT"]}]}
        path = server.data_dir / "rules.json"
        path.write_text(json.dumps(rules))
        server.command("site", "set", "forwarding", str(path))
        yield running


def test_a_study_goes_where_the_rules_send_it(server: LiveServer, target: Storescp) -> None:
    send(server, "CT1", (1, 1), (1, 2))
    send(server, "MR1", (2, 1), modality="MR")

    eventually(lambda: len(target.received()) == 2, "the study was not forwarded")
    assert {ds.StudyInstanceUID for ds in target.received()} == {f"{ROOT}.1"}
    eventually(lambda: f"{ROOT}.1" in sent(server, "AI1"), "its state was not kept")


def test_what_arrives_later_goes_alone(server: LiveServer, target: Storescp) -> None:
    before = len(target.received())
    send(server, "CT1", (1, 3))

    eventually(lambda: len(target.received()) == before + 1, "the new instance was not forwarded")
    assert "3 sent" in server.command("forward", "list", "--node", "AI1").stdout


def test_nothing_goes_back_to_where_it_came_from(server: LiveServer, target: Storescp) -> None:
    before = len(target.received())
    send(server, "AI1", (5, 1))
    send(server, "CT1", (6, 1))

    eventually(lambda: len(target.received()) == before + 1, "the other study was not forwarded")
    assert f"{ROOT}.5" not in sent(server, "AI1")


def test_a_node_that_is_away_gets_all_once_it_is_back(server: LiveServer, tmp_path: Path) -> None:
    with storescp(tmp_path / "first", "LATE") as first:
        port = first.port
    add_node(server, "LATE", port)
    send(server, "MR1", (8, 1), (8, 2), modality="MR")
    server.command("forward", "add", "LATE", f"{ROOT}.8")
    eventually(lambda: "cannot be reached" in error_of(server, "LATE"), "the failure is not told")
    with storescp(tmp_path / "second", "LATE", port=port) as second:
        listed = server.command("forward", "list", "--node", "LATE").stdout.splitlines()
        (number,) = (line.split()[0] for line in listed if f"{ROOT}.8" in line)
        server.command("forward", "retry", number)
        eventually(lambda: len(second.received()) == 2, "it was not sent again")


def test_rules_that_cannot_be_followed_are_refused_with_their_reason() -> None:
    for text, reason in (
        ('{"rules": [{"id": "a"}]}', "AE title"),
        ('{"rules": [{"id": "a", "to": "X", "colour": "red"}]}', "colour"),
        ('{"rules": [{"id": "a", "to": "X", "hours": "late"}]}', "22:00-06:00"),
        ('{"rules": [{"id": "a", "to": "X"}, {"id": "a", "to": "Y"}]}', "same id"),
        ('{"rules": [{"id": "a", "to": "X", "modalities": "CT"}]}', "list of texts"),
    ):
        with pytest.raises(InvalidForwarding, match=reason):
            parse_forwarding(text)


@pytest.mark.parametrize(
    ("window", "at", "wait_s"),
    [
        ("22:00-06:00", "23:30", 0),
        ("22:00-06:00", "05:59", 0),
        ("22:00-06:00", "06:00", 16 * 3600),
        ("08:00-12:00", "07:00", 3600),
        ("08:00-12:00", "13:00", 19 * 3600),
    ],
)
def test_a_window_says_how_long_until_it_opens(window: str, at: str, wait_s: float) -> None:
    hour, minute = map(int, at.split(":"))
    opened = parse_window(window)
    assert opened is not None
    local = datetime(2026, 3, 2, hour, minute, tzinfo=UTC)

    assert opened.seconds_until_open(local, 0) == wait_s
