"""Records and Patient documents follow each other, and come to rest."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

from sqlalchemy import select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from mpi.demographics import Authority, Demographics, Identifier
from mpi.model import PatientRecord
from mpi.patient_document import demographics_of_patient, patient_document
from mpi.resolve import identify, record_of
from mpi.sealing import demographics_of
from records.identifiers import present_document
from records.repository import write
from tests.settling import settle

SAID = Demographics(
    "HIS", "1", "MAIN", "Zhang^Wei=张^伟", date(1985, 6, 12), "M", "51010419850612001X", "5104123",
    "13912345678", "成都市", (Identifier("1.2.3", "77", "PI"),), Authority.REGISTRATION,
)  # fmt: skip


def put(rooms: Rooms, caller: Caller, document: dict[str, Any], logical_id: str = "") -> str:
    with rooms.database.transaction() as session:
        return write(rooms.records, session, caller, document, logical_id=logical_id).logical_id


def patient(rooms: Rooms, logical_id: str) -> dict[str, Any]:
    with rooms.database.snapshot() as session:
        return present_document(session, "Patient", logical_id) or {}


def test_what_a_record_says_comes_back_from_its_document() -> None:
    assert demographics_of_patient(patient_document(SAID, {}), {}, "MAIN") == SAID


def test_a_record_gets_one_document_and_a_change_one_version(rooms: Rooms, operator: Caller) -> None:
    with rooms.database.transaction() as session:
        found = identify(rooms.mpi, session, operator, SAID)
    settle(rooms)
    assert patient(rooms, found.patient_id)["meta"]["versionId"] == "1"
    with rooms.database.transaction() as session:
        identify(rooms.mpi, session, operator, replace(SAID, phone="13700000001"))
    settle(rooms)
    document = patient(rooms, found.patient_id)
    assert (document["meta"]["versionId"], document["telecom"][0]["value"]) == ("2", "13700000001")


def test_a_patient_that_a_client_writes_becomes_a_record_and_stays_as_written(
    rooms: Rooms, operator: Caller
) -> None:
    document = patient_document(replace(SAID, identifier="9"), {}) | {"maritalStatus": {"text": "已婚"}}
    logical_id = put(rooms, operator, document)
    settle(rooms)
    with rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "9")
        assert row is not None
        assert row.patient_id == logical_id
    assert patient(rooms, logical_id)["meta"]["versionId"] == "1"
    put(rooms, operator, json.loads(json.dumps(document).replace("13912345678", "13700000001")), logical_id)
    settle(rooms)
    with rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "9")
        assert row is not None
        assert demographics_of(rooms.mpi, row).phone == "13700000001"
    stored = patient(rooms, logical_id)
    assert (stored["meta"]["versionId"], stored["maritalStatus"]) == ("2", {"text": "已婚"})


def test_a_client_says_that_one_patient_was_replaced_by_another(rooms: Rooms, operator: Caller) -> None:
    old, new = (put(rooms, operator, patient_document(replace(SAID, identifier=each), {})) for each in "89")
    settle(rooms)
    link = [{"other": {"reference": f"Patient/{new}"}, "type": "replaced-by"}]
    replaced = patient_document(replace(SAID, identifier="8"), {}) | {"active": False, "link": link}
    put(rooms, operator, replaced, old)
    settle(rooms)
    with rooms.database.snapshot() as session:
        row = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == old))
        survivor = record_of(session, "HIS", "8")
    assert row is not None
    assert survivor is not None
    assert survivor.patient_id == new
