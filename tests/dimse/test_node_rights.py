"""What is changed about a node while it holds an association open holds from its next message on."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from sqlalchemy import delete, select

from access.caller import operator
from access.model import AuditEntry, Node
from access.rules import RULES
from access.site_documents import put_document
from tests.builders import ct_slice
from tests.dimse.door import Door

NOT_AUTHORIZED = 0x0124
TITLE = "MODALITY1"


@pytest.fixture
def association(door: Door) -> Iterator[Any]:
    """One that stays open, of a node that may do everything."""
    door.add_node(TITLE, permissions="all", addresses="127.0.0.0/8")
    peer = AE(TITLE)
    for context in (CTImageStorage, StudyRootQueryRetrieveInformationModelFind, Verification):
        peer.add_requested_context(context)
    opened = peer.associate("127.0.0.1", door.dicom_port, ae_title="CLOUDFILM")
    assert opened.is_established
    yield opened
    opened.release()


def store(association: Any, instance: int) -> int:
    return int(association.send_c_store(dcmread(BytesIO(ct_slice(instance=instance)))).Status)


def find(association: Any) -> int:
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", ""
    answers = association.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind)
    return int([status for status, _ in answers][-1].Status)


def test_a_nodes_changed_rights_hold_from_its_next_message_on(door: Door, association: Any) -> None:
    assert (store(association, 1), find(association)) == (0, 0)

    door.add_node(TITLE, permissions="find")
    assert store(association, 2) == NOT_AUTHORIZED
    assert find(association) == 0
    with door.rooms.database.snapshot() as session:
        noted = session.execute(
            select(AuditEntry.subject, AuditEntry.outcome).where(AuditEntry.action == "refuse request")
        ).all()
    assert [tuple(each) for each in noted] == [("C-STORE", "refused")]

    door.add_node(TITLE, permissions="all")
    assert store(association, 3) == 0


def test_a_forgotten_node_is_refused_at_its_next_message(door: Door, association: Any) -> None:
    assert store(association, 4) == 0
    door.add_node(TITLE, addresses="10.0.0.0/8")
    assert (store(association, 5), find(association)) == (NOT_AUTHORIZED, NOT_AUTHORIZED)

    with door.rooms.database.transaction() as session:
        session.execute(delete(Node).where(Node.ae_title == TITLE))
    kept = door.rooms.settings.access.loopback_ae  # this machine itself is known under any title
    assert (store(association, 6) == 0) is kept


def test_a_new_rule_holds_for_an_association_that_is_open(door: Door, association: Any) -> None:
    assert store(association, 7) == 0
    rule = '{"rules": [{"id": "shut", "reason": "Closed.", "when": {}, "deny": ["ImagingStudy.c"]}]}'
    put_document(door.rooms.access, operator(), RULES, rule, "shut")
    try:
        assert store(association, 8) == NOT_AUTHORIZED
    finally:
        put_document(door.rooms.access, operator(), RULES, '{"rules": []}', "open")
    assert store(association, 9) == 0
