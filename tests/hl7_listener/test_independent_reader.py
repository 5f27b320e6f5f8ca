"""What the server sends is read, and held against the standard's message structures, by hl7apy."""

import re

import pytest
from hl7apy.core import Message
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from cloudfilm.rooms import Rooms
from hl7_listener.outbound import deliver
from hl7_listener.receiving import receive
from tests.builders_hl7 import PID, adt_a04, message, omi_o23, oru_r01
from tests.hl7_listener.conftest import Sender
from tests.hl7_listener.test_outbound import Listener, subscribe

QUERIES = {
    "RSP^K23^RSP_K23": message("QBP^Q23^QBP_Q21", "QPD|IHE PIX Query|Q1|1001^^^HIS|^^^EMR2", "RCP|I"),
    "RSP^K22^RSP_K21": message("QBP^Q22^QBP_Q21", "QPD|IHE PDQ Query|Q2|@PID.5.1^张", "RCP|I"),
}


QPD_OWN = re.compile(r"(?m)(?<=\r)(QPD(?:\|[^|\r]*){3})[^\r]*")  # the query's own follow (5.5.4)
CHOOSES = {"ORM_O01"}  # one of several segments, of which hl7apy wants the first


def read(raw: bytes) -> Message:
    """A message with its groups, which must be those of its structure. Raises HL7apyException."""
    found = parse_message(QPD_OWN.sub(r"\1", raw.decode()).strip("\r"), find_groups=True)
    if found.name not in CHOOSES:
        Validator.validate(found)
    return found


@pytest.mark.parametrize(("structure", "query"), QUERIES.items(), ids=list(QUERIES))
def test_an_answer_to_a_query_is_one(sender: Sender, structure: str, query: bytes) -> None:
    for number in ("1001^^^HIS", "77^^^EMR2"):
        sender.send(adt_a04(PID.replace("1001^^^HIS", number)))
    (answer,) = receive(sender.hl7, sender.caller, query).messages

    found = read(answer)

    assert found.msh.msh_9.to_er7() == structure
    assert "张" in answer.decode() or "77" in answer.decode()


@pytest.mark.parametrize("raw", [adt_a04(), omi_o23(), oru_r01()], ids=["ADT", "OMI", "ORU"])
def test_an_acknowledgement_is_one(sender: Sender, raw: bytes) -> None:
    (answer,) = receive(sender.hl7, sender.caller, raw).messages

    assert read(answer).msa.msa_1.value == "AA"


def test_what_others_are_told_is_read(sender: Sender, rooms: Rooms) -> None:
    listener = Listener()
    subscribe(rooms, listener.port)
    for raw in (omi_o23(), oru_r01(), adt_a04(PID.replace("1001^^^HIS", "77^^^EMR2"))):
        sender.send(raw)
    sender.send(message("ADT^A40^ADT_A39", "EVN", PID.replace("1001", "1002"), "MRG|1001^^^HIS"))
    sender.settle()
    deliver(rooms.access, "EMR")
    listener.close()

    read_by_it = [read(each) for each in listener.raw]

    assert {each.name for each in read_by_it} >= {"ORM_O01", "OMI_O23", "ORU_R01", "ADT_A05", "ADT_A39"}
