"""Associations of our own: further addresses, limits, and studies that wait for their hours."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import select

from access.caller import Caller
from access.site_documents import put_document
from archive.ingest import ingest
from archive.retrieve import Selection
from cloudfilm.rooms import Rooms
from dimse.forwarding import FORWARDING, forward, request_forwarding
from dimse.model import Forwarding
from dimse.peers import PeerBusy, PeerUnavailable, echo, known_peer, proposals_for, send_selection
from tests.builders import ROOT, ct_slice
from tests.dimse.door import Door, listening
from tests.dimse.peers import storescp
from tests.live import free_ports

CT, JPEG, EXPLICIT, IMPLICIT = (
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2",
)  # fmt: skip


def test_a_node_is_reached_at_its_further_addresses(rooms: Rooms, operator: Caller, tmp_path: Path) -> None:
    ingest(rooms.archive, operator, BytesIO(ct_slice()))
    (closed,) = free_ports(1)
    with storescp(tmp_path / "in", "AWAY") as target:
        Door(rooms, 0).add_node("AWAY", closed, alternates=f"127.0.0.1:{closed},127.0.0.1:{target.port}")
        counts = send_selection(
            rooms.dimse, operator, known_peer(rooms.dimse, "AWAY"), Selection(studies=(f"{ROOT}.1",))
        )
        assert (counts.completed, counts.failed, len(target.received())) == (1, 0, 1)


def test_no_more_associations_are_opened_to_a_node_than_its_limit(rooms: Rooms) -> None:
    with listening(rooms, free_ports(1)[0]) as port:
        Door(rooms, port).add_node("CLOUDFILM", port, max_sending=1)
        node = known_peer(rooms.dimse, "CLOUDFILM")
        held = rooms.dimse.slots.take("to CLOUDFILM", 1)
        assert held is not None
        with pytest.raises(PeerBusy):
            echo(rooms.dimse, node)
        held.free()
        assert echo(rooms.dimse, node) > 0


def test_what_speaks_no_dicom_is_said_to_be_unavailable(rooms: Rooms) -> None:
    (closed,) = free_ports(1)
    Door(rooms, 0).add_node("NOTHING", closed)

    with pytest.raises(PeerUnavailable, match="NOTHING cannot be reached"):
        echo(rooms.dimse, known_peer(rooms.dimse, "NOTHING"))


def test_a_node_is_offered_what_is_stored_and_what_anybody_takes(rooms: Rooms) -> None:
    Door(rooms, 0).add_node("ANY", 104)
    Door(rooms, 0).add_node("PLAIN", 104, transfer_syntaxes=IMPLICIT)
    forms = [(CT, JPEG), (CT, EXPLICIT)]

    assert proposals_for(known_peer(rooms.dimse, "ANY"), forms) == [
        (CT, (EXPLICIT, IMPLICIT)), (CT, (JPEG,)), (CT, (EXPLICIT,)),
    ]  # fmt: skip
    assert proposals_for(known_peer(rooms.dimse, "PLAIN"), forms) == [(CT, (IMPLICIT,))]


def test_a_study_waits_for_the_hours_of_its_rule(rooms: Rooms, operator: Caller, tmp_path: Path) -> None:
    """It is 16:30 in China: what may go from 22:00 on is due then, and goes then."""
    ingest(rooms.archive, operator, BytesIO(ct_slice()))
    rule = {"id": "night", "to": "NIGHT", "hours": "22:00-06:00"}
    put_document(rooms.access, operator, FORWARDING, json.dumps({"rules": [rule]}))
    with storescp(tmp_path / "in", "NIGHT") as target:
        Door(rooms, 0).add_node("NIGHT", target.port)
        with rooms.database.transaction() as session:
            request_forwarding(rooms.dimse, session, f"{ROOT}.1", "NIGHT", "night")
        forward(rooms.dimse, "NIGHT")
        with rooms.database.snapshot() as session:
            row = session.scalars(select(Forwarding)).one()
        assert (row.state, row.due) == ("waiting", datetime(2026, 3, 1, 14, 0, tzinfo=UTC))
        assert target.received() == []

        rooms.clock.at = row.due  # type: ignore[attr-defined]
        forward(rooms.dimse, "NIGHT")
        with rooms.database.snapshot() as session:
            assert session.scalars(select(Forwarding.state)).one() == "sent"
        assert len(target.received()) == 1


def test_a_node_that_is_away_puts_off_all_that_waits_for_it(
    rooms: Rooms, operator: Caller, tmp_path: Path
) -> None:
    for study in (1, 2):
        ingest(rooms.archive, operator, BytesIO(ct_slice(study)))
    (port,) = free_ports(1)
    Door(rooms, 0).add_node("LATE", port)
    with rooms.database.transaction() as session:
        for study in (1, 2):
            request_forwarding(rooms.dimse, session, f"{ROOT}.{study}", "LATE", "")
    forward(rooms.dimse, "LATE")
    with rooms.database.snapshot() as session:
        rows = session.scalars(select(Forwarding).order_by(Forwarding.id)).all()
    assert [row.state for row in rows] == ["waiting", "waiting"]
    assert all(row.due > rooms.clock.now() for row in rows)
    assert "cannot be reached" in rows[0].error

    rooms.clock.at = max(row.due for row in rows)  # type: ignore[attr-defined]
    with storescp(tmp_path / "in", "LATE", port=port) as target:
        forward(rooms.dimse, "LATE")
        assert len(target.received()) == 2
