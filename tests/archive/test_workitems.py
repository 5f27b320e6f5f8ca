"""Workitems: from an order to the modality worklist, and the states of the Unified Procedure Step."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from access.caller import Caller, Clause, operator
from access.site_documents import put_document
from archive.attributes import Document, code, document, item, text, values
from archive.modality_worklist import worklist_item
from archive.scheduling import SCHEDULING, InvalidScheduling, parse_scheduling
from archive.workitem_events import (
    CHANGE,
    FILTERED_WORKLIST,
    GLOBAL_WORKLIST,
    NotAWorklist,
    subscribe,
    suspend,
    unsubscribe,
)
from archive.workitem_reach import parse_reach, reach_text
from archive.workitem_search import search_workitems
from archive.workitems import (
    AlreadyCompleted,
    AlreadyInProgress,
    DuplicateWorkitem,
    FinalStateNotMet,
    InvalidWorkitem,
    MissingAttribute,
    MissingTransactionUid,
    NoLongerUpdatable,
    NoSuchWorkitem,
    NotInProgress,
    NotScheduled,
    PerformerUnreachable,
    Remark,
    WrongTransactionUid,
    change_state,
    create_workitem,
    read_workitem,
    request_cancellation,
    update_workitem,
)
from cloudfilm.commands.worklist import add_entry
from cloudfilm.rooms import Rooms
from kernel.changes import ChangeRow
from mpi.demographics import Authority, Demographics
from mpi.resolve import identify
from records.identifiers import present_document
from records.orders import Number, Order, OrderAction, place_order
from records.repository import write
from tests.settling import settle

TRANSACTION = "1.2.3.99"


def scheduled(**attributes: Any) -> Document:
    """What a UPS has at its creation."""
    return document(
        **{
            "PatientName": "Zhang^Wei=张^伟",
            "PatientID": "P1",
            "ProcedureStepLabel": "CT read",
            "WorklistLabel": "Reading",
            "ScheduledProcedureStepPriority": "MEDIUM",
            "ScheduledProcedureStepStartDateTime": "20260301090000",
            "InputReadinessState": "READY",
            "ProcedureStepState": "SCHEDULED",
        }
        | attributes
    )


def performed() -> Document:
    """What it needs to have been done."""
    done = document(
        PerformedStationNameCodeSequence=[code("WS1", "99AET", "WS1")],
        PerformedProcedureStepStartDateTime="20260301090100",
        PerformedWorkitemCodeSequence=[code("110005", "DCM", "Interpretation")],
        PerformedProcedureStepEndDateTime="20260301091500",
        OutputInformationSequence=[],
    )
    return document(UnifiedProcedureStepPerformedProcedureSequence=[done])


def events(rooms: Rooms) -> list[tuple[int, list[str]]]:
    """Every event that was reported, in order: its type and receivers."""
    with rooms.database.snapshot() as session:
        rows = session.query(ChangeRow).filter(ChangeRow.kind == CHANGE).order_by(ChangeRow.seq).all()
    return [(data["event"], data["receivers"]) for data in (json.loads(row.data) for row in rows)]


def items_of(rooms: Rooms, caller: Caller | None = None, **keys: Any) -> list[Document]:
    """The modality worklist."""
    found = search_workitems(
        rooms.archive, caller or operator(), document(**keys), view=worklist_item, worklist_only=True
    )
    return list(found)


def place(rooms: Rooms, action: OrderAction = OrderAction.PLACE, **order: Any) -> str:
    """An order as HL7 v2 brings it; returns the id of its ServiceRequest."""
    owner = order.pop("institution", "MAIN")
    with rooms.database.transaction() as session:
        said = Demographics(owner, "P1", owner, "Zhang^Wei=张^伟", sex="M", authority=Authority.ORDER)
        patient = identify(rooms.mpi, session, operator(), said).patient_id
        values_: dict[str, Any] = {
            "placer": Number("PL1"),
            "modality": "CT",
            "accession_number": "A1",
        } | order
        placed = place_order(rooms.records, session, operator(), Order(action, patient, owner, **values_))
    settle(rooms)
    return placed.service_request_id


def test_an_order_stands_on_the_worklist_as_it_was_placed(rooms: Rooms) -> None:
    place(
        rooms,
        requested_procedure_id="RP1",
        scheduled_procedure_step_id="SPS1",
        study_instance_uid="1.2.3",
        scheduled_at=datetime(2026, 3, 1, 1, 30, tzinfo=UTC),
        scheduled_ae_titles=("CT01",),
        location="Room 1",
        performing_physician="Li^Na",
        admission_id="V9",
        filler=Number("FL1"),
        document={"code": {"text": "胸部 CT 平扫"}, "priority": "stat"},
    )

    found = items_of(rooms)
    assert len(found) == 1
    step = item(found[0], "ScheduledProcedureStepSequence")
    root = ("PatientName", "PatientID", "PatientSex", "AccessionNumber", "StudyInstanceUID", "AdmissionID",
            "RequestedProcedureID", "RequestedProcedureDescription", "RequestedProcedurePriority",
            "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest")  # fmt: skip
    assert [text(found[0], keyword) for keyword in root] == [
        "Zhang^Wei=张^伟", "P1", "M", "A1", "1.2.3", "V9", "RP1", "胸部 CT 平扫", "STAT", "PL1", "FL1",
    ]  # fmt: skip
    of_step = ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate",
               "ScheduledProcedureStepStartTime", "ScheduledProcedureStepID",
               "ScheduledProcedureStepLocation", "ScheduledPerformingPhysicianName",
               "ScheduledProcedureStepStatus")  # fmt: skip
    assert [text(step, keyword) for keyword in of_step] == [
        "CT", "CT01", "20260301", "093000", "SPS1", "Room 1", "Li^Na", "SCHEDULED",
    ]  # fmt: skip


def test_an_order_that_is_changed_or_cancelled_changes_or_leaves(rooms: Rooms) -> None:
    place(rooms)
    place(rooms, OrderAction.CHANGE, location="Room 2")
    changed = items_of(rooms)
    place(rooms, OrderAction.CANCEL)

    step = item(changed[0], "ScheduledProcedureStepSequence")
    assert text(step, "ScheduledProcedureStepLocation") == "Room 2"
    assert items_of(rooms) == []
    states = [text(each, "ProcedureStepState") for each in search_workitems(rooms.archive, operator(), {})]
    assert states == ["CANCELED"]


def test_an_order_on_hold_is_not_shown_until_it_is_released(rooms: Rooms) -> None:
    place(rooms)
    place(rooms, OrderAction.CHANGE, document={"status": "on-hold"})
    assert items_of(rooms) == []
    place(rooms, OrderAction.CHANGE, document={"status": "active"})
    assert len(items_of(rooms)) == 1


def test_a_service_request_of_fhir_makes_an_entry_and_one_that_is_not_of_imaging_does_not(
    rooms: Rooms,
) -> None:
    place(rooms)
    subject = {"reference": "Patient/" + _patient(rooms)}
    with rooms.database.transaction() as session:
        request = {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": subject,
        }
        chest = {"system": "http://loinc.org", "code": "24627-2", "display": "Chest CT"}
        imaging = {
            "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "363679005"}]}],
            "code": {"coding": [chest]},
            "occurrenceDateTime": "2026-03-02",
        }
        write(rooms.records, session, operator(), request | imaging)
        write(rooms.records, session, operator(), request | {"code": {"text": "Blood count"}})
    settle(rooms)

    codes = [text(item(each, "RequestedProcedureCodeSequence"), "CodeValue") for each in items_of(rooms)]
    assert codes == ["", "24627-2"]


def _patient(rooms: Rooms) -> str:
    with rooms.database.transaction() as session:
        said = Demographics("MAIN", "P1", "MAIN", "Zhang^Wei=张^伟", sex="M", authority=Authority.ORDER)
        return identify(rooms.mpi, session, operator(), said).patient_id


def test_corrected_demographics_reach_the_worklist(rooms: Rooms) -> None:
    place(rooms)
    patient = _patient(rooms)
    with rooms.database.transaction() as session:
        known = present_document(session, "Patient", patient)
        assert known is not None
        write(rooms.records, session, operator(), known | {"birthDate": "1970-01-31"}, logical_id=patient)
    settle(rooms)

    assert text(items_of(rooms)[0], "PatientBirthDate") == "19700131"


def test_the_site_decides_where_an_order_is_done_unless_it_says(rooms: Rooms) -> None:
    rules = {
        "zone": "Asia/Urumqi",
        "rules": [
            {"when": {"modality": "CT", "location": "emergency*"}, "stations": ["CT_ER"], "room": "ER 2"},
            {"when": {"modality": "CT"}, "stations": ["CT01", "CT02"], "station_name": "CT"},
        ],
    }
    put_document(rooms.access, operator(), SCHEDULING, json.dumps(rules))
    place(rooms, scheduled_at=datetime(2026, 3, 1, 0, 0, tzinfo=UTC))
    place(rooms, placer=Number("PL2"), accession_number="A2", location="Emergency 1")
    place(rooms, placer=Number("PL3"), accession_number="A3", scheduled_ae_titles=("CT09",))

    steps = [item(found, "ScheduledProcedureStepSequence") for found in items_of(rooms)]
    stations = [values(step, "ScheduledStationAETitle") for step in steps]
    assert stations == [["CT01", "CT02"], ["CT_ER"], ["CT09"]]
    assert text(steps[0], "ScheduledProcedureStepStartTime") == "060000"
    keyed = items_of(rooms, ScheduledProcedureStepSequence=[document(ScheduledStationAETitle="CT02")])
    assert len(keyed) == 1


@pytest.mark.parametrize(
    "text_",
    [
        "[]",
        '{"zone": "Mars/Base"}',
        '{"rules": [{"when": {"colour": "red"}}]}',
        '{"rules": [{"stations": ["SEVENTEEN_LETTERS"]}]}',
        '{"rules": {"when": {}}}',
    ],
)
def test_a_scheduling_document_that_cannot_be_followed_is_refused(text_: str) -> None:
    with pytest.raises(InvalidScheduling):
        parse_scheduling(text_)


def test_the_worklist_shows_only_the_own_institution(rooms: Rooms) -> None:
    place(rooms)
    place(rooms, institution="OTHER", accession_number="A2", placer=Number("PL2"))
    other = operator().narrowed(Clause(institutions=frozenset({"OTHER"})))

    assert [text(found, "AccessionNumber") for found in items_of(rooms, other)] == ["A2"]


def test_entries_by_hand_are_orders(rooms: Rooms) -> None:
    number = add_entry(
        rooms, patient_id="P7", patient_name="Wang^Fang=王^芳", modality="MR", stations=("MR1",)
    )
    settle(rooms)

    found = items_of(rooms)
    assert [(text(each, "AccessionNumber"), text(each, "PatientName")) for each in found] == [
        (number, "Wang^Fang=王^芳")
    ]


def test_a_workitem_is_claimed_updated_and_completed_by_one_performer(rooms: Rooms, operator: Caller) -> None:
    archive = rooms.archive
    uid = create_workitem(archive, operator, scheduled()).sop_instance_uid
    with pytest.raises(NotInProgress):
        change_state(archive, operator, uid, "COMPLETED", TRANSACTION)
    with pytest.raises(MissingTransactionUid):
        change_state(archive, operator, uid, "IN PROGRESS", "")
    assert change_state(archive, operator, uid, "IN PROGRESS", TRANSACTION) is None
    with pytest.raises(AlreadyInProgress):
        change_state(archive, operator, uid, "IN PROGRESS", "1.2.3.98")
    with pytest.raises(MissingTransactionUid):
        update_workitem(archive, operator, uid, performed())
    with pytest.raises(WrongTransactionUid):
        update_workitem(archive, operator, uid, performed(), "1.2.3.98")
    with pytest.raises(FinalStateNotMet):
        change_state(archive, operator, uid, "COMPLETED", TRANSACTION)
    update_workitem(archive, operator, uid, performed(), TRANSACTION)
    change_state(archive, operator, uid, "COMPLETED", TRANSACTION)
    assert change_state(archive, operator, uid, "COMPLETED", TRANSACTION) is Remark.ALREADY_COMPLETED
    with pytest.raises(NoLongerUpdatable):
        change_state(archive, operator, uid, "CANCELED", TRANSACTION)
    with pytest.raises(NoLongerUpdatable):
        update_workitem(archive, operator, uid, performed(), TRANSACTION)
    with pytest.raises(AlreadyCompleted):
        request_cancellation(archive, operator, uid, "", {})

    found = read_workitem(archive, operator, uid)
    assert text(found, "ProcedureStepState") == "COMPLETED"
    assert "00081195" not in found


def test_what_nobody_performs_is_cancelled_at_once_and_a_performer_is_asked(
    rooms: Rooms, operator: Caller
) -> None:
    archive = rooms.archive
    reason = document(ReasonForCancellation="Patient went home")
    idle = create_workitem(archive, operator, scheduled()).sop_instance_uid
    busy = create_workitem(archive, operator, scheduled()).sop_instance_uid
    change_state(archive, operator, busy, "IN PROGRESS", TRANSACTION)

    request_cancellation(archive, operator, idle, "RIS", reason)
    with pytest.raises(PerformerUnreachable):
        request_cancellation(archive, operator, busy, "RIS", reason)
    subscribe(archive, operator, "WS1", busy)
    request_cancellation(archive, operator, busy, "RIS", reason)

    found = read_workitem(archive, operator, idle)
    progress = item(found, "ProcedureStepProgressInformationSequence")
    assert text(found, "ProcedureStepState") == "CANCELED"
    assert text(progress, "ReasonForCancellation") == "Patient went home"
    assert values(progress, "ProcedureStepDiscontinuationReasonCodeSequence")
    assert text(read_workitem(archive, operator, busy), "ProcedureStepState") == "IN PROGRESS"
    assert events(rooms)[-2:] == [(1, ["WS1"]), (2, ["WS1"])]
    assert request_cancellation(archive, operator, idle, "RIS", {}) is Remark.ALREADY_CANCELED


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, NotScheduled),
        ({"ProcedureStepLabel": ""}, InvalidWorkitem),
        ({"ScheduledProcedureStepPriority": "NOW"}, InvalidWorkitem),
        ({"ScheduledProcedureStepStartDateTime": "tomorrow"}, InvalidWorkitem),
        ({"TransactionUID": "1.2"}, InvalidWorkitem),
        ({"SOPInstanceUID": "not.a.uid"}, InvalidWorkitem),
    ],
)
def test_a_workitem_that_cannot_be_is_refused(
    rooms: Rooms, operator: Caller, change: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        create_workitem(rooms.archive, operator, scheduled(**change))


def test_a_workitem_needs_its_required_attributes_and_its_own_uid(rooms: Rooms, operator: Caller) -> None:
    lacking = scheduled()
    del lacking["00741204"]
    with pytest.raises(MissingAttribute):
        create_workitem(rooms.archive, operator, lacking)
    create_workitem(rooms.archive, operator, scheduled(), "1.2.3.4")
    with pytest.raises(DuplicateWorkitem):
        create_workitem(rooms.archive, operator, scheduled(), "1.2.3.4")
    with pytest.raises(InvalidWorkitem):
        update_workitem(rooms.archive, operator, "1.2.3.4", document(PatientName="Other"))


def test_out_of_reach_and_missing_look_the_same(rooms: Rooms, operator: Caller) -> None:
    uid = create_workitem(rooms.archive, operator, scheduled()).sop_instance_uid
    stranger = operator.narrowed(Clause(institutions=frozenset({"OTHER"})))
    for wanted in (uid, "1.2.3.5"):
        with pytest.raises(NoSuchWorkitem):
            read_workitem(rooms.archive, stranger, wanted)
        with pytest.raises(NoSuchWorkitem):
            change_state(rooms.archive, stranger, wanted, "IN PROGRESS", TRANSACTION)
    with pytest.raises(NoSuchWorkitem):
        create_workitem(rooms.archive, stranger, scheduled(), "1.2.3.6")
    assert list(search_workitems(rooms.archive, stranger, {})) == []


def test_subscribers_of_all_of_some_and_of_one_hear_what_is_theirs(rooms: Rooms, operator: Caller) -> None:
    archive = rooms.archive
    stranger = operator.narrowed(Clause(institutions=frozenset({"OTHER"})))
    subscribe(archive, operator, "ALL", GLOBAL_WORKLIST)
    subscribe(archive, stranger, "ELSEWHERE", GLOBAL_WORKLIST)
    subscribe(archive, operator, "READING", FILTERED_WORKLIST, keys=document(WorklistLabel="Reading"))
    subscribe(archive, operator, "PRINTING", FILTERED_WORKLIST, keys=document(WorklistLabel="Printing"))
    uid = create_workitem(archive, operator, scheduled()).sop_instance_uid
    assert events(rooms) == [(1, ["ALL", "READING"])]

    subscribe(archive, operator, "ONE", uid)
    update_workitem(
        archive, operator, uid, document(WorklistLabel="Printing", InputReadinessState="INCOMPLETE")
    )
    suspend(archive, operator, "ALL", GLOBAL_WORKLIST)
    unsubscribe(archive, operator, "READING", FILTERED_WORKLIST)
    change_state(archive, operator, uid, "IN PROGRESS", TRANSACTION)
    create_workitem(archive, operator, scheduled())

    assert events(rooms)[1:] == [
        (1, ["ONE"]),
        (1, ["ALL", "ONE", "READING"]),
        (1, ["ALL", "ONE", "PRINTING"]),
        (1, []),
    ]
    with pytest.raises(NotAWorklist):
        suspend(archive, operator, "ONE", uid)
    with pytest.raises(NotAWorklist):
        subscribe(archive, operator, "ONE", FILTERED_WORKLIST)


def test_a_reach_survives_being_kept() -> None:
    reach = (
        operator()
        .narrowed(
            Clause(institutions=frozenset({"A"}), except_patients=frozenset({"p"})),
            Clause(studies=frozenset()),
        )
        .reach
    )
    assert parse_reach(reach_text(reach)) == reach


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"PatientName": "zhang*"}, 1),
        ({"PatientName": "张^伟"}, 1),
        ({"PatientName": "li*"}, 0),
        ({"ScheduledProcedureStepStartDateTime": "20260301-20260302"}, 1),
        ({"ScheduledProcedureStepStartDateTime": "20260302-"}, 0),
        ({"ProcedureStepState": "SCHEDULED"}, 1),
        ({"WorklistLabel": "Read*"}, 1),
        ({"ScheduledWorkitemCodeSequence": [document(CodeValue="110005")]}, 1),
        ({"ScheduledWorkitemCodeSequence": [document(CodeValue="110001")]}, 0),
        ({"PatientID": "P?"}, 1),
        ({"IssuerOfPatientID": "*"}, 1),
    ],
)
def test_every_attribute_is_a_key(rooms: Rooms, operator: Caller, keys: dict[str, Any], count: int) -> None:
    reading = code("110005", "DCM", "Interpretation")
    create_workitem(rooms.archive, operator, scheduled(ScheduledWorkitemCodeSequence=[reading]))

    assert len(list(search_workitems(rooms.archive, operator, document(**keys)))) == count


def test_pages_follow_each_other_without_gap(rooms: Rooms, operator: Caller) -> None:
    for at in range(7):
        create_workitem(
            rooms.archive,
            operator,
            scheduled(ScheduledProcedureStepStartDateTime=f"2026030{7 - at}"),
            f"1.2.{at}",
        )
    pages = [
        [
            text(found, "SOPInstanceUID")
            for found in search_workitems(rooms.archive, operator, {}, limit=3, offset=at)
        ]
        for at in (0, 3, 6)
    ]
    assert pages == [["1.2.6", "1.2.5", "1.2.4"], ["1.2.3", "1.2.2", "1.2.1"], ["1.2.0"]]
