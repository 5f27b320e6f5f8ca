"""Images against orders and registrations, both ways; and studies follow the person."""

import json
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select

from access.caller import Caller
from access.grant_model import ShareGrant, ShareItem
from access.grants import Named, Terms, clauses_of, make_grant
from access.model import Institution
from archive.documents import parse_marked
from archive.ingest import ingest
from archive.keys import Level
from archive.model import Study
from archive.query import Query
from archive.reconcile import NoSuchComparison, State, comparisons, decide, undo_decision
from archive.search import search
from cloudfilm.rooms import Rooms
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from mpi.links import unmerge
from mpi.model import MergeEvent, PatientRecord
from records.model import Resource
from tests.builders import ROOT, ct_slice
from tests.builders_hl7 import PID, adt_a04, message, omi_o23, oru_r01
from tests.fhir_server.test_record_operations import Client
from tests.settling import settle

HEADER = {"PatientID": "1001", "PatientBirthDate": "19850612", "IssuerOfPatientID": "HIS"}


def store(rooms: Rooms, operator: Caller, **attributes: str) -> None:
    ingest(rooms.archive, operator, BytesIO(ct_slice(**(HEADER | attributes))))  # type: ignore[arg-type]
    settle(rooms)


def send(rooms: Rooms, operator: Caller, raw: bytes) -> None:
    assert receive(hl7_of(rooms.by_kind()), operator, raw).is_positive
    settle(rooms)


def states(rooms: Rooms, operator: Caller) -> dict[str, list[str]]:
    """The sources' types by state."""
    found = {state: comparisons(rooms.archive, operator, state)[0] for state in State}
    return {
        state: [each.source.partition("/")[0] for each in each_of]
        for state, each_of in found.items()
        if each_of
    }


def patient_of_study(rooms: Rooms) -> str:
    with rooms.database.snapshot() as session:
        return session.scalars(select(Study.patient_logical_id)).one()


def patient_of_record(rooms: Rooms, identifier: str) -> str:
    with rooms.database.snapshot() as session:
        return session.scalars(
            select(PatientRecord.patient_id).where(PatientRecord.identifier == identifier)
        ).one()


def document(rooms: Rooms, type_: str) -> dict[str, object]:
    with rooms.database.snapshot() as session:
        return dict(json.loads(session.scalars(select(Resource.body).where(Resource.type == type_)).one()))


@pytest.mark.parametrize("order_first", [True, False])
def test_a_header_that_agrees_with_its_order_is_bound_to_it(
    rooms: Rooms, operator: Caller, order_first: bool
) -> None:
    if order_first:
        send(rooms, operator, omi_o23())
    store(rooms, operator, AccessionNumber="A0001")
    if not order_first:
        send(rooms, operator, omi_o23())
    assert set(states(rooms, operator)) == {State.AGREES}
    assert "ServiceRequest" in states(rooms, operator)[State.AGREES]
    with rooms.database.snapshot() as session:
        study = session.scalars(select(Study)).one()
        drawn = rooms.records.projections["ImagingStudy"].draw(session, [study.logical_id])
    assert json.loads(drawn[study.logical_id].body)["basedOn"][0]["reference"].startswith("ServiceRequest/")


def test_a_study_says_what_its_order_says_and_is_found_by_it(rooms: Rooms, operator: Caller) -> None:
    send(rooms, operator, omi_o23())
    store(rooms, operator, AccessionNumber="A0001", PerformingPhysicianName="He^Jing=贺^静")
    settle(rooms)
    client = Client(rooms)  # which brings Practitioner/d1 and Encounter/e1

    def studies(query: str) -> list[dict[str, Any]]:
        found = client.get(f"ImagingStudy?{query}")
        return [each["resource"] for each in found.get("entry", ()) if each["search"]["mode"] == "match"]

    order = json.loads(json.dumps(document(rooms, "ServiceRequest")))
    (study,) = studies(f"basedon=ServiceRequest/{order['id']}")
    assert study["procedureCode"][0]["coding"][0]["code"] == "CT01"
    assert study["series"][0]["performer"][0]["actor"] == {"display": "贺静"}
    assert study["endpoint"] == [{"reference": "Endpoint/wado-rs"}]
    order |= {
        "requester": {"reference": "Practitioner/d1"}, "encounter": {"reference": "Encounter/e1"},
        "reasonCode": [{"coding": [{"system": "urn:why", "code": "C"}], "text": "咳嗽"}],
    }  # fmt: skip
    client.put("Practitioner", "d1", name=[{"family": "吴"}])
    answer = client.flask.put(f"/fhir/ServiceRequest/{order['id']}", json=order, headers=client.headers)
    assert answer.status_code == 200, answer.data
    settle(rooms)
    for query in (
        "referrer=Practitioner/d1", "referrer.name=吴", "reason=urn:why|C", "encounter=Encounter/e1",
        f"basedon.identifier={order['identifier'][0]['value']}", "endpoint=Endpoint/wado-rs",
        "basedon:ServiceRequest.requester:Practitioner.family=吴",
    ):  # fmt: skip
        (changed,) = studies(query)
        assert changed["reasonCode"] == order["reasonCode"]
        assert changed["meta"]["versionId"] > study["meta"]["versionId"]
    versions = client.get(f"ImagingStudy/{study['id']}/_history")["entry"]
    assert versions[0]["resource"]["referrer"] == {"reference": "Practitioner/d1"}


def test_a_small_difference_is_noted_and_bound(rooms: Rooms, operator: Caller) -> None:
    send(rooms, operator, omi_o23())
    store(rooms, operator, PatientName="Zhang^Wei=章^伟", PatientBirthDate="19850621")
    (noted, *_), _ = comparisons(rooms.archive, operator, State.DIFFERS)
    levels = {each.field: each.level for each in noted.fields}
    assert levels == {"patient_id": "same", "name": "sound", "birth_date": "typo", "sex": "same"}


def test_a_mistyped_patient_id_is_linked_when_all_else_agrees(rooms: Rooms, operator: Caller) -> None:
    send(rooms, operator, omi_o23())
    store(rooms, operator, PatientID="1OO1")
    assert State.CONFLICT not in states(rooms, operator)
    with rooms.database.snapshot() as session:
        persons = session.scalars(select(PatientRecord.person_id).distinct()).all()
    assert len(persons) == 1


@pytest.mark.parametrize("order_first", [True, False])
def test_a_conflict_is_held_shown_decided_and_taken_back(
    rooms: Rooms, operator: Caller, order_first: bool
) -> None:
    if order_first:
        send(rooms, operator, omi_o23())
    store(rooms, operator, PatientID="555", PatientName="Li^Na=李^娜", PatientSex="F")
    if not order_first:
        send(rooms, operator, omi_o23())
    (held,), total = comparisons(rooms.archive, operator)
    assert total == 1
    assert (held.fields[1].header, held.fields[1].other) == ("Li Na 李 娜", "Zhang Wei 张 伟")
    before = patient_of_study(rooms)
    send(rooms, operator, oru_r01())
    assert "imagingStudy" not in document(rooms, "DiagnosticReport")
    decide(rooms.archive, operator, held.id, same_patient=True)
    settle(rooms)
    assert patient_of_study(rooms) == patient_of_record(rooms, "1001")
    assert "imagingStudy" in document(rooms, "DiagnosticReport")
    with pytest.raises(NoSuchComparison):
        decide(rooms.archive, operator, held.id, same_patient=False)
    undo_decision(rooms.archive, operator, held.id)
    assert patient_of_study(rooms) == before
    assert comparisons(rooms.archive, operator)[1] == 1


def test_studies_reports_and_orders_follow_a_merge_and_come_home(rooms: Rooms, operator: Caller) -> None:
    send(rooms, operator, omi_o23())
    store(rooms, operator)
    send(rooms, operator, oru_r01())
    old = patient_of_record(rooms, "1001")
    send(rooms, operator, message("ADT^A40^ADT_A39", "EVN", PID.replace("1001", "2002"), "MRG|1001^^^HIS"))
    new = patient_of_record(rooms, "2002")
    assert patient_of_study(rooms) == new
    subjects = [document(rooms, each)["subject"] for each in ("DiagnosticReport", "ServiceRequest")]
    assert subjects == [{"reference": f"Patient/{new}"}] * 2
    with rooms.database.transaction() as session:
        unmerge(rooms.mpi, session, operator, session.scalars(select(MergeEvent.id)).one())
    settle(rooms)
    assert patient_of_study(rooms) == old
    assert document(rooms, "DiagnosticReport")["subject"] == {"reference": f"Patient/{old}"}


def test_a_share_goes_on_reaching_its_study_when_its_patient_is_merged(
    rooms: Rooms, operator: Caller
) -> None:
    send(rooms, operator, adt_a04())
    store(rooms, operator)
    old, uid = patient_of_record(rooms, "1001"), f"{ROOT}.1"
    with rooms.database.transaction() as session:
        named = Named(rooms.settings.access.institution, old, studies=((uid, old),))
        made = make_grant(rooms.access, session, operator, "link", named, Terms(binding="bearer"))

    def reached() -> tuple[str, set[str]]:
        with rooms.database.snapshot() as session:
            grant = session.get_one(ShareGrant, made.id)
            items = session.execute(
                select(ShareItem.kind, ShareItem.identifier, ShareItem.patient).where(
                    ShareItem.grant_id == made.id
                )
            ).all()
        visitor = operator.narrowed(*clauses_of(tuple(items)))
        found = search(rooms.archive, visitor, Query(Level.STUDY)).rows
        return grant.patient, {parse_marked(row)["0020000D"]["Value"][0] for row in found}

    send(rooms, operator, message("ADT^A40^ADT_A39", "EVN", PID.replace("1001", "2002"), "MRG|1001^^^HIS"))
    assert reached() == (patient_of_record(rooms, "2002"), {uid})
    with rooms.database.transaction() as session:
        unmerge(rooms.mpi, session, operator, session.scalars(select(MergeEvent.id)).one())
    settle(rooms)
    assert reached() == (old, {uid})


def test_an_id_without_an_issuer_is_of_whom_the_institution_says(rooms: Rooms, operator: Caller) -> None:
    with rooms.database.transaction() as session:
        session.add(Institution(code=rooms.settings.access.institution, patient_id_issuer="HIS"))
    send(rooms, operator, adt_a04())
    store(rooms, operator, IssuerOfPatientID="")
    assert patient_of_study(rooms) == patient_of_record(rooms, "1001")
