"""Codes for reports on paper reach the RIS that prints them, once, and are kept nowhere afterwards."""

import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image
from sqlalchemy import select

from access.grant_model import ShareGrant
from access.phone_codes import begin_opening
from cloudfilm.rooms import Rooms
from hl7_listener.model import Hl7Outbound, Hl7Subscription
from hl7_listener.outbound import SEALED, deliver
from hl7_listener.share_codes import TOPIC
from tests.builders_hl7 import omi_o23
from tests.hl7_listener.conftest import Sender
from tests.hl7_listener.test_outbound import Listener, node
from tests.sharing import secret_of


@pytest.fixture
def ris(rooms: Rooms) -> Iterator[Listener]:
    """A RIS that asked for codes."""
    listener = Listener()
    with rooms.database.transaction() as session:
        session.add(node(listener.port))
        session.add(Hl7Subscription(node="EMR", topic=TOPIC))
    yield listener
    listener.close()


def test_an_order_gives_a_code_to_print_before_there_are_images(
    sender: Sender, rooms: Rooms, ris: Listener
) -> None:
    for raw in (
        omi_o23(),
        omi_o23("XO"),
        omi_o23(accession="A0002").replace(b"P1^HIS|F1^RIS", b"P2^HIS|F2^RIS"),
    ):
        assert sender.send(raw) == ["AA"]
    sender.settle()
    deliver(rooms.access, "EMR")

    first, second = ris.received  # the changed order has its code already
    assert [each.first("OBR").get(18) for each in (first, second)] == ["A0001", "A0002"]
    assert first.first("PID").get(3, 1) == "1001"
    assert (first.first("OBR").get(25), first.first("ORC").get(2)) == ("S", "P1")
    link, picture, until = first.all("OBX")
    assert begin_opening(rooms.access, secret_of(link.get(5, 1)), "10.0.0.1").step == "phone"
    assert [picture.get(5, at) for at in (2, 3, 4)] == ["IM", "PNG", "Base64"]
    assert Image.open(io.BytesIO(base64.b64decode(picture.get(5, 5)))).format == "PNG"
    assert until.get(5) == "20270301"


def test_a_code_is_forgotten_when_the_ris_has_it(sender: Sender, rooms: Rooms, ris: Listener) -> None:
    sender.send(omi_o23())
    sender.settle()
    deliver(rooms.access, "EMR")

    with rooms.database.snapshot() as session:
        (row,) = session.scalars(select(Hl7Outbound)).all()
        assert row.state == "sent"
        assert rooms.keys.open_bytes(row.sealed, SEALED) == b""
        (grant,) = session.scalars(select(ShareGrant)).all()
    assert (grant.binding, grant.made_by_name) == ("patient", "share codes")


def test_an_order_that_is_called_off_gets_no_code(sender: Sender, rooms: Rooms, ris: Listener) -> None:
    sender.send(omi_o23())
    sender.send(omi_o23("CA"))
    sender.settle()

    with rooms.database.snapshot() as session:
        assert session.scalars(select(ShareGrant)).all() == []
