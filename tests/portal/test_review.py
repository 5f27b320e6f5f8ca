"""The review pages: what they show, what a decision does, and to whom they stay closed."""

import re
from dataclasses import replace
from datetime import date
from io import BytesIO

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from access.accounts import create_account
from access.caller import Caller
from archive.ingest import ingest
from archive.reconcile import comparisons
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from mpi.demographics import Demographics
from mpi.model import PatientRecord
from mpi.resolve import identify
from mpi.review import open_reviews
from mpi.rules import HOUSEHOLD_RULES, RULES
from mpi.weights import FIELDS
from portal.catalogue import LANGUAGES, texts
from tests.builders import ct_slice
from tests.builders_hl7 import omi_o23
from tests.settling import settle

PASSWORD = "Correct-Horse-7"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
ELDER = Demographics(
    "HIS1", "1", "MAIN", "=李明轩", date(2015, 5, 1), "M", phone="13912345678",
    address="四川省成都市锦江区学府路306号",
)  # fmt: skip
YOUNGER = replace(ELDER, issuer="HIS2", identifier="2", name="=李明浩")


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def enter(rooms: Rooms, browser: FlaskClient, operator: Caller, role: str, institution: str = "MAIN") -> None:
    with rooms.database.transaction() as session:
        create_account(rooms.access, session, operator, role, PASSWORD, role, institution=institution)
    answer = browser.post("/sign-in", data={"login": role, "password": PASSWORD}, headers=OWN_PAGE)
    assert answer.status_code == 303


def twins(rooms: Rooms, operator: Caller) -> None:
    for said in (ELDER, replace(ELDER, issuer="HIS3", identifier="3"), YOUNGER):
        with rooms.database.transaction() as session:
            identify(rooms.mpi, session, operator, said)
    settle(rooms)


def item_of(html: str) -> str:
    found = re.search(r'name="item" value="(\d+)"', html)
    assert found, html
    return found[1]


def persons(rooms: Rooms) -> int:
    with rooms.database.snapshot() as session:
        return len(session.scalars(select(PatientRecord.person_id).distinct()).all())


@pytest.mark.parametrize("verdict", ["same", "apart"])
def test_a_pair_is_shown_side_by_side_and_decided(
    rooms: Rooms, browser: FlaskClient, operator: Caller, verdict: str
) -> None:
    twins(rooms, operator)
    enter(rooms, browser, operator, "technician")
    shown = browser.get("/review/persons").get_data(as_text=True)
    for text in ("李明轩", "李明浩", "双胞胎", "同一人的可能性", 'data-key="s"'):
        assert text in shown
    data = {"item": item_of(shown), "verdict": verdict}
    assert browser.post("/review/persons?at=0", data=data, headers=OWN_PAGE).status_code == 303
    assert persons(rooms) == (1 if verdict == "same" else 2)
    assert open_reviews(rooms.mpi, operator)[1] == 0
    again = browser.post("/review/persons?at=0", data=data, headers=OWN_PAGE)
    assert "已经处理过" in again.get_data(as_text=True)
    assert "没有需要核对" in browser.get("/review/persons").get_data(as_text=True)


def test_a_record_is_split_off_the_person_that_it_was_linked_to(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    twins(rooms, operator)
    enter(rooms, browser, operator, "technician")
    shown = browser.get("/review/persons?lang=en").get_data(as_text=True)
    assert "Split off" in shown
    patient = re.search(r'name="patient" value="([^"]+)"', shown)
    assert patient
    data = {"item": item_of(shown), "patient": patient[1], "verdict": "split"}
    assert browser.post("/review/persons?at=0", data=data, headers=OWN_PAGE).status_code == 303
    assert persons(rooms) == 3


def test_a_held_study_is_given_to_the_patient_of_its_order(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    receive(hl7_of(rooms.by_kind()), operator, omi_o23())
    ingest(
        rooms.archive, operator, BytesIO(ct_slice(PatientID="5", PatientName="Li^Na=李^娜", PatientSex="F"))
    )
    settle(rooms)
    enter(rooms, browser, operator, "technician")
    shown = browser.get("/review/images").get_data(as_text=True)
    assert "李 娜" in shown
    data = {"item": item_of(shown), "verdict": "same"}
    assert browser.post("/review/images", data=data, headers=OWN_PAGE).status_code == 303
    assert comparisons(rooms.archive, operator)[1] == 0
    decided = browser.get("/review/images?lang=en").get_data(as_text=True)
    assert "Take back" in decided
    undo = {"item": item_of(decided), "verdict": "undo"}
    assert browser.post("/review/images", data=undo, headers=OWN_PAGE).status_code == 303
    assert comparisons(rooms.archive, operator)[1] == 1


def test_a_pair_of_another_hospital_is_neither_shown_nor_decided(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    twins(rooms, operator)
    item = open_reviews(rooms.mpi, operator)[0][0].id
    enter(rooms, browser, operator, "technician", "ELSEWHERE")
    assert "李明轩" not in browser.get("/review/persons").get_data(as_text=True)
    browser.post("/review/persons", data={"item": item, "verdict": "same"}, headers=OWN_PAGE)
    assert persons(rooms) == 2


@pytest.mark.parametrize("role", ["physician", "system_administrator"])
def test_who_may_not_change_patients_does_not_see_the_queue(
    rooms: Rooms, browser: FlaskClient, operator: Caller, role: str
) -> None:
    enter(rooms, browser, operator, role)
    assert browser.get("/review/persons").status_code == 403


def test_every_field_level_and_rule_has_its_words() -> None:
    words = {f"review.level.{level}" for field in FIELDS for level in field.levels}
    words |= {f"review.field.{field.name}" for field in FIELDS} | {
        f"review.rule.{rule[0]}" for rule in (*RULES, *HOUSEHOLD_RULES)
    }
    for language in LANGUAGES:
        assert words <= texts(language).keys()
