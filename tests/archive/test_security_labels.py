"""A study is as confidential as its order: consents and rules about security labels hold for images."""

import json
from io import BytesIO

import pytest

from access.caller import Caller, Door, Principal, PrincipalKind
from access.consents import CONFIDENTIALITY, Consent, Provision
from access.policy import Site, decide
from access.rules import parse_rules
from archive.documents import parse_marked
from archive.ingest import ingest
from archive.keys import Level
from archive.query import Query
from archive.retrieve import NotFound, find_instances
from archive.search import search
from archive.workitem_search import search_workitems
from cloudfilm.rooms import Rooms
from records.repository import ResourceNotFound, read, write
from tests.archive.test_reconcile import HEADER, document, send
from tests.builders import ct_slice
from tests.builders_hl7 import omi_o23
from tests.settling import settle

RESTRICTED = {"system": CONFIDENTIALITY, "code": "R"}
NAME = f"{CONFIDENTIALITY}|R"


def reader(rooms: Rooms, site: Site) -> Caller:
    principal = Principal(
        PrincipalKind.ACCOUNT, "a1", "Reader", rooms.settings.access.institution, "", "radiologist"
    )
    return decide(principal, Door.DICOMWEB, site=site).caller


@pytest.mark.parametrize("by", ["consent", "rule"])
def test_images_of_a_restricted_order_are_closed_to_whom_the_label_is(
    rooms: Rooms, operator: Caller, by: str
) -> None:
    for number, accession_number in ((1, "A0001"), (2, "A0002")):
        study = ct_slice(number, **(HEADER | {"AccessionNumber": accession_number}))  # type: ignore[arg-type]
        ingest(rooms.archive, operator, BytesIO(study))
    send(rooms, operator, omi_o23())  # of A0001
    patient = document(rooms, "ServiceRequest")["subject"]["reference"].partition("/")[2]  # type: ignore[index]
    denied = Consent(patient, Provision("permit"), (Provision("deny", labels=frozenset({NAME})),))
    rule = {"id": "vip", "reason": "Restricted.", "only": [{"except_labels": [NAME]}]}
    site = Site((), (denied,)) if by == "consent" else Site(parse_rules(json.dumps({"rules": [rule]})))
    caller = reader(rooms, site)

    def studies() -> dict[str, str]:
        said = [parse_marked(row) for row in search(rooms.archive, caller, Query(Level.STUDY)).rows]
        return {each["00080050"]["Value"][0]: each["0020000D"]["Value"][0] for each in said}

    before = studies()
    assert sorted(before) == ["A0001", "A0002"]

    order = document(rooms, "ServiceRequest")
    order["meta"] = {"security": [RESTRICTED]}
    with rooms.database.transaction() as session:
        write(rooms.records, session, operator, order, logical_id=str(order["id"]))
    settle(rooms)

    assert sorted(studies()) == ["A0002"]
    with pytest.raises(NotFound):
        next(find_instances(rooms.archive, caller, before["A0001"]))
    assert next(find_instances(rooms.archive, caller, before["A0002"]))
    with pytest.raises(ResourceNotFound):
        read(rooms.records, caller, "ServiceRequest", str(order["id"]))
    assert not list(search_workitems(rooms.archive, caller, {}))
