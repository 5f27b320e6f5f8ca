"""What others are told, and that nothing of it is lost when they do not listen."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from access.model import Node
from cloudfilm.rooms import Rooms
from hl7_listener.acknowledgement import ERROR, Refusal, acknowledge, header_of
from hl7_listener.er7 import Message, parse
from hl7_listener.mllp import Framer, frame
from hl7_listener.model import Hl7Outbound, Hl7Subscription
from hl7_listener.outbound import TOPICS, NodeSilent, deliver
from tests.builders_hl7 import PID, adt_a04, message, omi_o23, oru_r01
from tests.hl7_listener.conftest import Sender

CLOCK = datetime(2026, 3, 1, tzinfo=UTC)


class Listener:
    """Another hospital's system: keeps what it is told."""

    def __init__(self, refuses: bool = False) -> None:
        self.received: list[Message] = []
        self.raw: list[bytes] = []
        self.refusal = Refusal(ERROR, "207", "MSH", "not today") if refuses else None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            framer = Framer(10_000_000)
            with client:
                while data := client.recv(65536):
                    for raw in framer.feed(data):
                        self.raw.append(raw)
                        self.received.append(parse(raw))
                        header = header_of(self.received[-1])
                        client.sendall(frame(acknowledge(header, CLOCK, self.refusal)))

    def close(self) -> None:
        self._server.close()


@pytest.fixture(params=[False, True])
def listener(request: pytest.FixtureRequest, rooms: Rooms) -> Iterator[Listener]:
    """One that listens, and one that refuses."""
    found = Listener(request.param)
    subscribe(rooms, found.port)
    yield found
    found.close()


def node(port: int) -> Node:
    return Node(ae_title="EMR", host="127.0.0.1", port=port, created_at=CLOCK)


def subscribe(rooms: Rooms, port: int) -> None:
    with rooms.database.transaction() as session:
        session.add(node(port))
        session.add_all(Hl7Subscription(node="EMR", topic=topic) for topic in TOPICS)


def states(rooms: Rooms) -> list[tuple[str, str]]:
    with rooms.database.snapshot() as session:
        rows = session.scalars(select(Hl7Outbound).order_by(Hl7Outbound.id)).all()
    return [(row.message_type, row.state) for row in rows]


def test_reports_orders_and_links_are_told_in_order(sender: Sender, rooms: Rooms, listener: Listener) -> None:
    for raw in (omi_o23(), oru_r01(), adt_a04(PID.replace("1001^^^HIS", "77^^^EMR2"))):
        assert sender.send(raw) == ["AA"]
    sender.send(message("ADT^A40^ADT_A39", "EVN", PID.replace("1001", "1002"), "MRG|1001^^^HIS"))
    sender.settle()
    deliver(rooms.access, "EMR")
    told = [each.message_code + "^" + each.trigger_event for each in listener.received]
    assert told[:4] == ["ORM^O01", "OMI^O23", "ORU^R01", "ADT^A31"]
    assert "ADT^A40" in told
    assert "77^^^EMR2" in listener.received[3].first("PID").raw(3)
    assert listener.received[2].first("OBR").get(18) == "A0001"
    assert listener.received[1].first("IPC").get(1) == "A0001"
    assert listener.received[1].first("IPC").get(5) == "CT"
    assert {state for _, state in states(rooms)} == {"refused" if listener.refusal else "sent"}


def test_what_a_silent_node_should_know_waits(sender: Sender, rooms: Rooms) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    subscribe(rooms, port)
    sender.send(oru_r01())
    sender.settle()
    with pytest.raises(NodeSilent):
        deliver(rooms.access, "EMR")
    assert states(rooms) == [("ORU^R01^ORU_R01", "waiting")]
