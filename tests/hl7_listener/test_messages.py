"""Each message that is understood does what its trigger event says: one row of a table, one case."""

import base64

import pytest
from sqlalchemy import select

from hl7_listener.er7 import STANDARD, parse, unescape
from hl7_listener.model import Hl7Message
from hl7_listener.receiving import receive
from mpi.resolve import record_of
from mpi.sealing import demographics_of
from tests.builders_hl7 import PID, adt_a04, message, omi_o23, oru_r01
from tests.hl7_listener.conftest import Sender

VISIT = "PV1|1|I|301^02^1||||||||||||||||V9^^^HIS"
CHANGED = PID.replace("13912345678", "13700001111")


def person_of(sender: Sender, number: str) -> int | None:
    with sender.rooms.database.snapshot() as session:
        row = record_of(session, "HIS", number)
        assert row is not None
        return row.person_id


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("A01", "in-progress"), ("A02", "in-progress"), ("A03", "finished"), ("A04", "arrived"),
        ("A05", "planned"), ("A06", "in-progress"), ("A07", "in-progress"), ("A08", "arrived"),
        ("A11", "cancelled"), ("A12", "in-progress"), ("A13", "in-progress"),
    ],
)  # fmt: skip
def test_a_visit_is_where_the_last_event_put_it(sender: Sender, event: str, status: str) -> None:
    first = message("ADT^A04^ADT_A01", "EVN", PID, VISIT)
    assert sender.send(first) == ["AA"]
    assert sender.send(message(f"ADT^{event}", "EVN", CHANGED, VISIT)) == ["AA"]
    (visit,) = sender.documents("Encounter")
    assert visit["status"] == status
    with sender.rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "1001")
        assert row is not None
        assert demographics_of(sender.rooms.mpi, row).phone == "13700001111"


@pytest.mark.parametrize("event", ["A28", "A31"])
def test_a_person_is_made_or_changed_without_a_visit(sender: Sender, event: str) -> None:
    assert sender.send(message(f"ADT^{event}^ADT_A05", "EVN", PID)) == ["AA"]
    sender.settle()
    (patient,) = sender.documents("Patient")
    assert patient["birthDate"] == "1985-06-12"
    assert sender.documents("Encounter") == []


def test_an_empty_field_changes_nothing_and_a_null_deletes(sender: Sender) -> None:
    sender.send(adt_a04())
    empty = PID.replace("M|||学府路306号^^成都市^四川省||13912345678", 'M|||||""')
    assert empty != PID
    assert sender.send(message("ADT^A08", "EVN", empty)) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "1001")
        assert row is not None
        said = demographics_of(sender.rooms.mpi, row)
    assert (said.phone, said.address) == ("", "四川省成都市学府路306号")


def test_two_records_are_linked_and_unlinked(sender: Sender) -> None:
    other = PID.replace("1001", "1002").replace("张^伟", "李^娜").replace("Zhang^Wei", "Li^Na")
    other = other.replace("19850612", "19500203").replace("13912345678", "13700002222")
    for pid in (PID, other):
        assert sender.send(adt_a04(pid)) == ["AA"]
    assert person_of(sender, "1001") != person_of(sender, "1002")
    assert sender.send(message("ADT^A24^ADT_A24", "EVN", PID, "PV1||N", other)) == ["AA"]
    assert person_of(sender, "1001") == person_of(sender, "1002")
    assert sender.send(message("ADT^A37^ADT_A37", "EVN", PID, "PV1||N", other)) == ["AA"]
    assert person_of(sender, "1001") != person_of(sender, "1002")
    (answer,) = receive(sender.hl7, sender.caller, message("ADT^A24^ADT_A24", "EVN", PID)).messages
    assert "MSA|AE" in answer.decode()
    assert "ERR||PID" in answer.decode()


@pytest.mark.parametrize("event", ["A40", "A47"])
def test_a_number_that_was_merged_or_changed_leads_to_the_new_one(sender: Sender, event: str) -> None:
    sender.send(adt_a04(PID.replace("1001", "999")))
    merge = message(f"ADT^{event}", "EVN", PID, "MRG|999^^^HIS")
    assert sender.send(merge) == ["AA"]
    assert sender.send(merge.replace(b"|P|2.5.1", b"2|P|2.5.1")) == ["AA"]  # told again, done already
    with sender.rooms.database.snapshot() as session:
        new, old = record_of(session, "HIS", "1001"), record_of(session, "HIS", "999")
    assert new is not None
    assert old is not None
    assert new.id == old.id
    assert sender.send(message(f"ADT^{event}", "EVN", PID)) == ["AE"]  # without MRG


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("ORM^O01^ORM_O01", "ORR^O02^ORR_O02"),
        ("OMG^O19^OMG_O19", "ORG^O20^ORG_O20"),
        ("OMI^O23^OMI_O23", "ORI^O24^ORI_O24"),
    ],
)
def test_an_order_is_placed_held_told_and_cancelled_and_each_is_answered(
    sender: Sender, code: str, reply: str
) -> None:
    told = []
    for control, state in (("NW", ""), ("XO", "SC"), ("HD", ""), ("SC", "CM"), ("CA", "")):
        raw = omi_o23(control).replace(b"OMI^O23^OMI_O23", code.encode())
        raw = raw.replace(b"F1^RIS||IP", f"F1^RIS||{state}".encode(), 1)
        (answer,) = receive(sender.hl7, sender.caller, raw).messages
        assert f"|{reply}|" in answer.decode()
        line = next(line for line in answer.decode().split("\r") if line.startswith("ORC"))
        (order,) = sender.documents("ServiceRequest")
        told.append((line.split("|")[1], order["status"]))
    assert told == [
        ("OK", "active"), ("XR", "active"), ("XR", "on-hold"), ("OK", "completed"), ("CR", "revoked"),
    ]  # fmt: skip


def test_a_report_is_cancelled_and_its_history_stays(sender: Sender) -> None:
    assert sender.send(oru_r01("F")) == ["AA"]
    assert sender.send(oru_r01("X")) == ["AA"]
    (report,) = sender.documents("DiagnosticReport")
    assert (report["status"], report["meta"]["versionId"]) == ("cancelled", "2")


def mdm(event: str, *more: str, text: str = "双肺未见明显异常") -> bytes:
    txa = "TXA|1|RAD^影像报告|TX|20260302100000||||||||D1^RIS|{parent}|P1^HIS|||AU".format(
        parent="D1^RIS" if event in ("T08", "T10") else ""
    )
    return message(f"MDM^{event}^MDM_T02", "EVN", PID, txa, f"OBX|1|TX|IMP^诊断意见||{text}||||||F", *more)


def test_a_document_with_an_order_number_is_a_report_and_is_replaced(sender: Sender) -> None:
    assert sender.send(omi_o23()) == ["AA"]
    pdf = base64.b64encode(b"%PDF-1.4 made up").decode()
    assert sender.send(mdm("T02", f"OBX|2|ED|PDF^Report||^Application^PDF^Base64^{pdf}||||||F")) == ["AA"]
    (first,), (order,) = sender.documents("DiagnosticReport"), sender.documents("ServiceRequest")
    assert first["status"] == "final"
    assert first["basedOn"] == [{"reference": f"ServiceRequest/{order['id']}"}]
    assert "application/pdf" in [form["contentType"] for form in first["presentedForm"]]
    assert sender.send(mdm("T10", text="右肺上叶结节")) == ["AA"]
    (second,) = sender.documents("DiagnosticReport")
    assert (second["status"], second["conclusion"]) == ("corrected", "右肺上叶结节")
    assert second["id"] == first["id"]


def test_a_document_without_an_order_is_a_document_reference(sender: Sender) -> None:
    raw = mdm("T02").replace(b"|P1^HIS|", b"||")
    assert sender.send(raw) == ["AA"]
    (document,) = sender.documents("DocumentReference")
    assert (document["status"], document["docStatus"]) == ("current", "final")
    assert sender.documents("DiagnosticReport") == []


@pytest.mark.parametrize(
    ("event", "status", "start"),
    [
        ("S13", "booked", "2026-03-06T02:00:00Z"), ("S14", "booked", "2026-03-06T02:00:00Z"),
        ("S15", "cancelled", "2026-03-06T02:00:00Z"),
    ],
)  # fmt: skip
def test_an_appointment_is_moved_changed_and_cancelled(
    sender: Sender, event: str, status: str, start: str
) -> None:
    def booking(trigger: str, when: str) -> bytes:
        sch = f"SCH|PA1^HIS|FA1^RIS|||||复查^复查^L||30|min|^^^{when}"
        return message(f"SIU^{trigger}^SIU_S12", sch, PID)

    assert sender.send(booking("S12", "20260305090000^20260305093000")) == ["AA"]
    assert sender.send(booking(event, "20260306100000^20260306103000")) == ["AA"]
    (appointment,) = sender.documents("Appointment")
    assert (appointment["status"], appointment["start"]) == (status, start)


@pytest.mark.parametrize(
    ("declared", "written", "repair"),
    [
        ("UNICODE UTF-8", "utf-8", ""),
        ("UNICODE", "utf-8", ""),
        ("GB 18030-2000", "gb18030", ""),
        ("GBK", "gbk", ""),
        ("", "utf-8", ""),
        ("UNICODE UTF-8", "gbk", "MSH-18 says UNICODE UTF-8, the text is gb18030"),
        ("ASCII", "gbk", "MSH-18 says ASCII, the text is gb18030"),
        ("", "gbk", "MSH-18 says nothing, the text is gb18030"),
        ("8859/1", "gbk", "MSH-18 says 8859/1, the text is gb18030"),
        ("8859/1", "utf-8", "MSH-18 says 8859/1, the text is utf-8"),
        ("GB 18030-2000", "utf-8", ""),
    ],
)
def test_text_is_read_as_it_was_written_and_what_was_mended_is_kept(
    sender: Sender, declared: str, written: str, repair: str
) -> None:
    raw = adt_a04().decode().replace("UNICODE UTF-8", declared).encode(written)
    assert sender.send(raw) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "1001")
        assert row is not None
        said = demographics_of(sender.rooms.mpi, row)
        assert (said.name, said.address) == ("Zhang^Wei=张^伟", "四川省成都市学府路306号")
        repairs = session.scalars(select(Hl7Message.repairs)).one()
    if repair:
        assert repairs == repair


def test_latin_text_in_its_own_character_set_stays_latin() -> None:
    read = parse(message("ADT^A08", "PID|1||1^^^H||x").replace(b"UNICODE UTF-8", b"8859/1").replace(
        b"||x", "||Müller^Zoë".encode("latin-1")
    ))  # fmt: skip
    assert (read.first("PID").get(5), read.first("PID").get(5, 2)) == ("Müller", "Zoë")
    assert read.repairs == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"), (r"1\.br\2", "1\n2"), (r"\X4142\C", "ABC"),
        (r"\XE5BCA0\伟", "张伟"), (r"\H\bold\N\ plain", "bold plain"), (r"\.sp2\x", "\nx"),
        (r"\Zkept\ as it is", r"\Zkept\ as it is"), ("an open \\ one", "an open \\ one"),
    ],
)  # fmt: skip
def test_escape_sequences_mean_what_chapter_2_says(written: str, meant: str) -> None:
    assert unescape(written, STANDARD) == meant


def test_subcomponents_and_repetitions_are_told_apart() -> None:
    read = parse(message("ADT^A08", PID, "ZZZ|a&b^c~d^e&f"))
    first, second = read.first("ZZZ").values(1)
    assert [first.component(1, 2), first.component(2)] == ["b", "c"]
    assert [second.component(1), second.component(2, 2)] == ["d", "f"]
