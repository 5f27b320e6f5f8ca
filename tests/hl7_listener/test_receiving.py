"""What is sent is kept, answered and done, once."""

import base64
import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from access.caller import Caller, Door
from access.model import Node
from access.nodes import UnknownNode, identify_node
from access.site_documents import put_document
from archive.ingest import ingest
from hl7_listener.er7 import STANDARD, UnreadableMessage, escape, parse, unescape
from hl7_listener.mapping import MAPPING, InvalidMapping, parse_rows
from hl7_listener.mllp import Framer, FrameTooLarge, frame
from hl7_listener.model import Hl7Message
from hl7_listener.receiving import receive, replay
from hl7_listener.room import Work
from kernel.database import Overtaken
from mpi.model import PatientRecord
from mpi.resolve import record_of
from mpi.sealing import demographics_of
from records.accession_numbers import ACCESSION_NUMBERS, InvalidNumbering
from records.query import parse_search
from records.search import search
from tests.builders import ct_slice
from tests.builders_hl7 import PID, adt_a04, message, omi_o23, oru_r01
from tests.hl7_listener.conftest import Sender, code_of

NEGATIVE = {
    "bad-version.hl7": ("AR", "203"), "empty.hl7": ("AR", "100"), "framing-bytes-inside.hl7": ("AR", "102"),
    "no-control-id.hl7": ("AR", "101"), "no-message-type.hl7": ("AR", "101"), "no-msh.hl7": ("AR", "100"),
    "no-pid.hl7": ("AE", "100"), "nul-bytes.hl7": ("AR", "102"), "short-msh.hl7": ("AR", "101"),
    "truncated.hl7": ("AE", "100"), "two-msh.hl7": ("AR", "100"), "unknown-type.hl7": ("AR", "200"),
}  # fmt: skip


GOOD = adt_a04(control_id="BAD1")
HEADER, *REST = GOOD.split(b"\r")
BAD: dict[str, tuple[bytes, str, str]] = {  # what is wrong -> the message, MSA-1, code of table 0357
    "nothing": (b"", "AR", "100"),
    "no MSH": (b"\r".join(REST), "AR", "100"),
    "MSH ends early": (b"MSH|^~\\&|HIS|H1\r" + b"\r".join(REST), "AR", "101"),
    "no type": (GOOD.replace(b"ADT^A04^ADT_A01", b""), "AR", "101"),
    "no control id": (GOOD.replace(b"|BAD1|", b"||"), "AR", "101"),
    "an unknown type": (GOOD.replace(b"ADT^A04^ADT_A01", b"ZZZ^Z99"), "AR", "200"),
    "an unknown version": (GOOD.replace(b"|2.5.1|", b"|9.9|"), "AR", "203"),
    "an unknown processing id": (GOOD.replace(b"|P|", b"|X|"), "AR", "202"),
    "two messages": (GOOD + GOOD, "AR", "100"),
    "a NUL": (GOOD.replace(b"Wei", b"W\x00i"), "AR", "102"),
    "a framing byte": (GOOD.replace(b"Wei", b"W\x0bi"), "AR", "102"),
    "no PID": (HEADER + b"\rEVN||20260301\r", "AE", "100"),
    "no patient number": (adt_a04(PID.replace("1001^^^HIS^MR", "")), "AE", "101"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_message_gets_the_right_negative_answer(sender: Sender, what: str) -> None:
    raw, code, error = BAD[what]
    (answer,) = receive(sender.hl7, sender.caller, raw).messages
    assert (code_of(answer), f"|{error}^" in answer.decode()) == (code, True)


def test_the_sample_files_of_bad_messages_get_theirs(sender: Sender, shared_data: Path) -> None:
    for path in sorted((shared_data / "hl7v2-bad" / "made").glob("*")):
        (answer,) = receive(sender.hl7, sender.caller, path.read_bytes()).messages
        code, error = NEGATIVE.get(path.name, ("AA", ""))
        assert code_of(answer) == code, path.name
        assert f"|{error}" in answer.decode(), path.name


def test_orders_that_lack_what_an_order_is_wait_as_dead_letters(sender: Sender, shared_data: Path) -> None:
    files = sorted((shared_data / "hl7v2-bad" / "public").rglob("*.txt"))
    for path in files:  # they ask to be told of receipt only (MSH-15 AL, MSH-16 NE)
        assert sender.send(path.read_bytes()) == ["CA"], path.name
    with sender.rooms.database.snapshot() as session:
        told = session.scalars(select(Hl7Message.error)).all()
    assert len(told) == len(files)
    assert all(told)


@pytest.mark.parametrize(
    "mended", [GOOD.replace(b"\r", b"\r\n"), GOOD.replace(b"\r", b"\n"),
               GOOD.replace("张".encode(), "张".encode("gb18030")), GOOD.replace(b"Wei", b"W\\ei"),
               GOOD.replace(b"Wei", b"W" * 300_000)],
    ids=["crlf", "lf", "mixed bytes", "an open escape", "a long field"],
)  # fmt: skip
def test_what_can_be_mended_is_accepted(sender: Sender, mended: bytes) -> None:
    assert sender.send(mended) == ["AA"]


def test_every_sample_message_is_answered_and_none_breaks_the_door(sender: Sender, shared_data: Path) -> None:
    for path in sorted((shared_data / "hl7v2").rglob("*")):
        if path.is_file():
            for raw in re.split(rb"(?<=[\r\n])(?=MSH)", path.read_bytes()):
                codes = sender.send(raw)
                assert all(code in {"AA", "AE", "AR", "CA", "CE", "CR"} for code in codes), path
    with sender.rooms.database.snapshot() as session:
        faults = session.scalars(
            select(Hl7Message.error).where(Hl7Message.error.contains("could not be processed"))
        )
        assert faults.all() == []


def test_a_registration_makes_a_patient_a_visit_and_their_documents(sender: Sender) -> None:
    assert sender.send(adt_a04()) == ["AA"]
    sender.settle()
    (patient,), (visit,) = sender.documents("Patient"), sender.documents("Encounter")
    assert [name["text"] for name in patient["name"]] == ["张伟", "Wei Zhang"]
    assert patient["birthDate"] == "1985-06-12"
    assert patient["identifier"][0] == {
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
        "system": "urn:cloudfilm:issuer:HIS", "value": "1001",
    }  # fmt: skip
    assert (visit["status"], visit["class"]["code"]) == ("arrived", "AMB")
    assert visit["subject"] == {"reference": f"Patient/{patient['id']}"}


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "GB 18030-2000", "8859/1"])
def test_a_chinese_name_survives_its_character_set_even_a_wrong_one(sender: Sender, charset: str) -> None:
    assert sender.send(adt_a04(charset=charset)) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        row = record_of(session, "HIS", "1001")
        assert row is not None
        assert demographics_of(sender.rooms.mpi, row).name == "Zhang^Wei=张^伟"


def test_utf_8_that_is_declared_as_gb_18030_is_read_as_what_it_is() -> None:
    """As which it decodes, to characters that nobody writes: 寮犱紵 for 张伟."""
    raw = message("ADT^A04^ADT_A01", "EVN", "PID|1||1001^^^HIS||张伟", charset="GB 18030-2000").decode(
        "gb18030"
    )
    assert parse(raw.encode("utf-8")).first("PID").get(5) == "张伟"
    assert parse(raw.encode("gb18030")).first("PID").get(5) == "张伟"
    unusual = raw.replace("张伟", "喆堃")
    assert parse(unusual.encode("gb18030")).first("PID").get(5) == "喆堃"


def test_the_same_message_twice_is_done_once_and_answered_alike(sender: Sender) -> None:
    raw = omi_o23(control_id="SAME")
    first = receive(sender.hl7, sender.caller, raw)
    assert receive(sender.hl7, sender.caller, raw) == first
    (order,) = sender.documents("ServiceRequest")
    assert order["meta"]["versionId"] == "1"


@pytest.mark.parametrize("clash", [IntegrityError("", {}, Exception()), Overtaken()])
def test_a_message_that_meets_another_at_work_is_taken_again(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, clash: Exception
) -> None:
    """Two processes are handed the same message, or messages of one patient, at the same time."""

    def met_another(work: Work, documents: tuple[str, ...]) -> None:
        monkeypatch.undo()
        raise clash

    monkeypatch.setattr("hl7_listener.receiving.tell", met_another)
    assert sender.send(adt_a04(control_id="MET")) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        assert session.scalars(select(Hl7Message.state)).all() == ["done"]


def test_a_message_that_the_database_never_takes_is_kept(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(work: Work, documents: tuple[str, ...]) -> None:
        raise IntegrityError("", {}, Exception())

    monkeypatch.setattr("hl7_listener.receiving.tell", refused)
    assert sender.send(adt_a04(control_id="NEVER")) == ["AE"]
    with sender.rooms.database.snapshot() as session:
        (kept,) = session.scalars(select(Hl7Message)).all()
    assert (kept.control_id, kept.state) == ("NEVER", "failed")
    assert replay(sender.hl7, sender.caller, kept.id) == "failed"
    monkeypatch.undo()
    assert replay(sender.hl7, sender.caller, kept.id) == "done"


def test_another_message_under_the_same_control_id_is_done_and_noted(sender: Sender) -> None:
    assert sender.send(adt_a04(control_id="X")) == ["AA"]
    assert sender.send(adt_a04(PID.replace("1001", "1002"), control_id="X")) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        assert session.scalar(select(func.count()).select_from(PatientRecord)) == 2
        notes = session.scalars(select(Hl7Message.repairs).order_by(Hl7Message.id)).all()
    assert notes == ["", "another message had this control id"]


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("AL", "NE", ["CA"]),
        ("AL", "AL", ["CA", "AA"]),
        ("NE", "AL", ["AA"]),
        ("NE", "NE", []),
        ("ER", "SU", ["AA"]),
    ],
)
def test_enhanced_mode_answers_as_the_sender_asks(
    sender: Sender, accept: str, application: str, codes: list[str]
) -> None:
    assert sender.send(adt_a04(accept=accept, application_accept=application)) == codes


def test_an_order_is_placed_changed_and_cancelled_with_its_history(sender: Sender) -> None:
    (answer,) = receive(sender.hl7, sender.caller, omi_o23()).messages
    assert "ORI^O24" in answer.decode()
    assert "\rORC|OK|P1|F1" in answer.decode()
    assert sender.send(omi_o23("XO")) == ["AA"]
    assert sender.send(omi_o23("CA")) == ["AA"]
    (order,) = sender.documents("ServiceRequest")
    assert (order["status"], order["meta"]["versionId"]) == ("revoked", "3")
    assert order["code"]["coding"][0] == {
        "system": "urn:cloudfilm:code:LOCAL", "code": "CT01", "display": "胸部CT平扫"
    }  # fmt: skip
    assert order["priority"] == "stat"
    assert order["occurrenceDateTime"] == "2026-03-02T01:30:00Z"
    assert order["requester"]["display"] == "吴刚"
    assert order["orderDetail"][0]["coding"][0]["code"] == "CT"
    assert order["performer"][0]["identifier"]["value"] == "CTAE1"


def test_an_order_without_an_accession_number_gets_one(sender: Sender) -> None:
    assert sender.send(omi_o23(accession="")) == ["AA"]
    (order,) = sender.documents("ServiceRequest")
    numbers = [
        each["value"]
        for each in order["identifier"]
        if "type" in each and each["type"]["coding"][0]["code"] == "ACSN"
    ]
    assert len(numbers) == 1
    assert len(numbers[0]) == 16


def test_a_cancellation_of_an_unknown_order_is_an_error(sender: Sender) -> None:
    (answer,) = receive(sender.hl7, sender.caller, omi_o23("CA")).messages
    assert code_of(answer) == "AE"
    assert "|204^" in answer.decode()


@pytest.mark.parametrize(("filler", "accession"), [("R1^RIS", "A0001"), ("A0001", "")])
@pytest.mark.parametrize("report_first", [True, False])
def test_a_report_and_its_study_find_each_other_whichever_comes_first(
    sender: Sender, operator: Caller, report_first: bool, filler: str, accession: str
) -> None:
    """By the accession number, which many a RIS has as the filler's number alone."""
    report = oru_r01(pid="PID|1||P1^^^MAIN^MR||张^伟^^^^^^I||19700115|M").decode()
    for said, instead in (("|A0001|", f"|{accession}|"), ("R1^RIS", filler)):
        assert said in report
        report = report.replace(said, instead)
    image = ct_slice(AccessionNumber="A0001")
    for is_report in (report_first, not report_first):
        if is_report:
            assert sender.send(report.encode()) == ["AA"]
        else:
            ingest(sender.rooms.archive, operator, BytesIO(image))
        sender.settle()
    (filed,) = sender.documents("DiagnosticReport")
    assert filed["imagingStudy"][0]["reference"].startswith("ImagingStudy/")


def test_a_report_is_not_bound_to_the_study_of_somebody_else(sender: Sender, operator: Caller) -> None:
    ingest(sender.rooms.archive, operator, BytesIO(ct_slice(AccessionNumber="A0001")))
    other = "PID|1||P9^^^MAIN^MR||李^娜^^^^^^I||19950203|F"
    assert sender.send(oru_r01(pid=other)) == ["AA"]
    sender.settle()
    (report,) = sender.documents("DiagnosticReport")
    assert "imagingStudy" not in report


def test_a_correction_is_the_next_version_and_a_late_preliminary_is_refused(sender: Sender) -> None:
    assert sender.send(oru_r01("P")) == ["AA"]
    assert sender.send(oru_r01("F")) == ["AA"]
    assert sender.send(oru_r01("C", "右肺上叶结节")) == ["AA"]
    assert sender.send(oru_r01("P")) == ["AE"]
    (report,) = sender.documents("DiagnosticReport")
    assert (report["status"], report["meta"]["versionId"]) == ("corrected", "3")
    assert report["conclusion"] == "右肺上叶结节"
    assert report["resultsInterpreter"][0]["display"] == "钱明"


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("PDF", "application/pdf"), ("RTF", "application/rtf"), ("msword", "application/msword")],
)
def test_an_embedded_document_is_kept_byte_for_byte(sender: Sender, kind: str, content_type: str) -> None:
    content = bytes(range(256)) * 40
    data = base64.b64encode(content).decode()
    obx = f"OBX|3|ED|DOC^Report||^Application^{kind}^Base64^{data}||||||F\r"
    assert sender.send(oru_r01() + obx.encode()) == ["AA"]
    (report,) = sender.documents("DiagnosticReport")
    form = report["presentedForm"][-1]
    assert form["contentType"] == content_type
    assert base64.b64decode(form["data"]) == content


def test_a_merge_is_obeyed_within_its_assigning_authority(sender: Sender) -> None:
    old = PID.replace("1001", "999")
    sender.send(adt_a04(old))
    sender.send(adt_a04())
    assert sender.send(message("ADT^A40^ADT_A39", "EVN||20260301", PID, "MRG|999^^^HIS")) == ["AA"]
    with sender.rooms.database.snapshot() as session:
        survivor, merged = record_of(session, "HIS", "1001"), record_of(session, "HIS", "999")
    assert survivor is not None
    assert merged is not None
    assert survivor.id == merged.id
    sender.settle()
    inactive = [each for each in sender.documents("Patient") if not each["active"]]
    assert inactive[0]["link"] == [
        {"other": {"reference": f"Patient/{survivor.patient_id}"}, "type": "replaced-by"}
    ]


def test_pix_and_pdq_queries_are_answered(sender: Sender) -> None:
    sender.send(adt_a04())
    sender.send(adt_a04(PID.replace("1001^^^HIS", "77^^^EMR")))
    query = message("QBP^Q23^QBP_Q21", "QPD|IHE PIX Query|Q1|1001^^^HIS|^^^EMR", "RCP|I")
    (answer,) = receive(sender.hl7, sender.caller, query).messages
    assert "RSP^K23" in answer.decode()
    assert "77^^^EMR" in answer.decode()
    query = message(
        "QBP^Q22^QBP_Q21", "QPD|IHE PDQ Query|Q2|@PID.5.1^张~@PID.5.2^伟~@PID.7^19850612", "RCP|I|10^RD"
    )
    (answer,) = receive(sender.hl7, sender.caller, query).messages
    assert "QAK|Q2|OK" in answer.decode()
    query = message("QBP^Q23^QBP_Q21", "QPD|IHE PIX Query|Q3|1001^^^NOWHERE", "RCP|I")
    (answer,) = receive(sender.hl7, sender.caller, query).messages
    assert "ERR||QPD^1^3|204^" in answer.decode()


def test_a_pix_query_by_a_number_that_a_source_knows_beside_its_own_is_answered(sender: Sender) -> None:
    assert sender.send(adt_a04(PID.replace("1001^^^HIS^MR", "1001^^^HIS^MR~77^^^EMR^MR"))) == ["AA"]
    for asked, told in (
        ("77^^^EMR|^^^HIS", "1001^^^HIS"),
        ("1001^^^HIS|^^^EMR", "77^^^EMR"),
        ("77^^^EMR", "1001^^^HIS"),
    ):
        query = message("QBP^Q23^QBP_Q21", f"QPD|IHE PIX Query|Q1|{asked}", "RCP|I")
        (answer,) = receive(sender.hl7, sender.caller, query).messages
        assert f"\rPID|||{told}||" in answer.decode()
    query = message("QBP^Q23^QBP_Q21", "QPD|IHE PIX Query|Q3|78^^^EMR", "RCP|I")
    (answer,) = receive(sender.hl7, sender.caller, query).messages
    assert "MSA|AE" in answer.decode()


def test_an_appointment_is_booked_and_cancelled(sender: Sender) -> None:
    segments = ("SCH|PA1^HIS|FA1^RIS|||||复查^复查^L||30|min|^^^20260305090000^20260305093000", PID)
    assert sender.send(message("SIU^S12^SIU_S12", *segments)) == ["AA"]
    assert sender.send(message("SIU^S15^SIU_S12", *segments)) == ["AA"]
    (appointment,) = sender.documents("Appointment")
    assert (appointment["status"], appointment["start"]) == ("cancelled", "2026-03-05T01:00:00Z")


def test_a_batch_is_answered_message_by_message(sender: Sender) -> None:
    batch = b"FHS|^~\\&\rBHS|^~\\&\r" + adt_a04() + adt_a04(PID.replace("1001", "5")) + b"BTS|2\rFTS|1\r"
    assert sender.send(batch) == ["AA", "AA"]


def test_a_dead_letter_is_kept_with_its_reason_and_can_be_replayed(sender: Sender) -> None:
    assert sender.send(omi_o23("CA")) == ["AE"]
    with sender.rooms.database.snapshot() as session:
        dead = session.scalars(select(Hl7Message).where(Hl7Message.state == "failed")).one()
    assert "no order" in dead.error
    assert "张" not in dead.error
    sender.send(omi_o23("NW"))
    assert replay(sender.hl7, sender.caller, dead.id) == "done"


def test_z_segments_and_repetitions_are_kept() -> None:
    read = parse(message("ADT^A08", PID, "ZPI|1|自费~医保"))
    assert [value.whole for value in read.first("ZPI").values(2)] == ["自费", "医保"]


def test_a_character_whose_second_byte_is_a_delimiter_does_not_split_a_field() -> None:
    raw = message("ADT^A08", "PID|1||1^^^H||劆^籠", charset="GB 18030-2000")
    assert parse(raw).first("PID").get(5, 1) == "劆"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r\n\x0b\x1c"), max_size=60))
def test_any_text_comes_back_from_a_field(text: str) -> None:
    assert unescape(escape(text), STANDARD) == text


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_no_bytes_break_the_parser(noise: bytes) -> None:
    for raw in (noise, b"MSH|^~\\&|" + noise, message("ADT^A08", PID) + noise):
        try:
            read = parse(raw)
        except UnreadableMessage:
            continue
        for segment in read.segments:
            for number in range(1, len(segment.fields) + 1):
                segment.get(number)


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 9))
def test_frames_are_found_however_the_stream_is_cut(noise: list[bytes], step: int) -> None:
    bodies = [b"MSH|" + bytes(each for each in part if each not in (0x0B, 0x1C)) for part in noise]
    stream = b"".join(b"\n" + frame(body) for body in bodies)
    framer = Framer(1000)
    found = [got for at in range(0, len(stream), step) for got in framer.feed(stream[at : at + step])]
    assert found == bodies


def test_an_empty_frame_is_a_message_and_a_stray_end_is_none() -> None:
    assert list(Framer(100).feed(frame(b"") + b"\x1c\r\n\x1c")) == [b""]


def test_a_frame_that_never_ends_is_cut_off() -> None:
    with pytest.raises(FrameTooLarge):
        list(Framer(100).feed(b"\x0bMSH" + b"x" * 200))


@pytest.mark.parametrize(("permissions", "codes"), [("message", ["AA"] * 3), ("store,find", ["AE"] * 3)])
def test_a_registered_node_may_send_what_it_is_allowed_to(
    sender: Sender, permissions: str, codes: list[str]
) -> None:
    with sender.rooms.database.transaction() as session:
        session.add(
            Node(
                ae_title="HIS", addresses="10.0.0.0/8", institution="H1", permissions=permissions,
                created_at=sender.hl7.clock.now(),
            )
        )  # fmt: skip
    caller, _ = identify_node(sender.rooms.access, "HIS", "10.0.0.5", door=Door.HL7)
    messages = (adt_a04(), omi_o23(), oru_r01())
    assert [code_of(receive(sender.hl7, caller, raw).messages[0]) for raw in messages] == codes
    with pytest.raises(UnknownNode):
        identify_node(sender.rooms.access, "HIS", "192.0.2.1", door=Door.HL7)


def test_a_site_maps_its_own_fields_without_code_and_takes_it_back(sender: Sender, operator: Caller) -> None:
    row = {
        "resource": "ServiceRequest", "element": "priority", "source": ["ZOR-3"], "type": "ST",
        "table": "priority", "sender": "HIS",
    }  # fmt: skip
    access = sender.rooms.access
    put_document(access, operator, MAPPING, json.dumps({"rows": [row]}), "the HIS sends its priority in ZOR")
    assert sender.send(omi_o23() + b"ZOR|1|2|U\r") == ["AA"]
    assert sender.documents("ServiceRequest")[0]["priority"] == "urgent"
    put_document(access, operator, MAPPING, '{"rows": []}', "")
    assert sender.send(omi_o23("XO") + b"ZOR|1|2|U\r") == ["AA"]
    assert sender.documents("ServiceRequest")[0]["priority"] == "stat"  # as TQ1-9 has it


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        [5],
        [{"resource": "ServiceRequest"}],
        [{"resource": "ServiceRequest", "element": "code", "source": ["OBR"], "type": "CWE"}],
        [{"resource": "ServiceRequest", "element": "code", "source": ["OBR-4"], "type": "NONSENSE"}],
        [{"resource": "Patient", "element": "code", "source": ["OBR-4"], "type": "CWE"}],
    ],
)
def test_a_mapping_that_cannot_be_gone_by_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidMapping):
        parse_rows(json.dumps({"rows": wrong}))


def test_a_message_of_a_million_stray_lines_is_read_in_one_pass() -> None:
    read = parse(message("ADT^A08", PID, "NTE|1||" + "a\n" * 1_000_000))
    assert len(read.segments) == 3
    assert len(read.first("NTE").raw(3)) > 1_900_000


def written(sender: Sender, **changes: Any) -> Sender:
    """The same sender at a door with other settings."""
    door = replace(sender.hl7, settings=replace(sender.hl7.settings, **changes))
    return Sender(door, sender.rooms, sender.caller)


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8"])
def test_every_version_registers_orders_and_reports(sender: Sender, version: str) -> None:
    for raw in (adt_a04(version=version), omi_o23(version=version), oru_r01(version=version)):
        (answer,) = receive(sender.hl7, sender.caller, raw).messages
        assert code_of(answer) == "AA"
        assert f"|{version}" in answer.decode().split("\r")[0]
    (order,), (report,) = sender.documents("ServiceRequest"), sender.documents("DiagnosticReport")
    assert report["basedOn"] == [{"reference": f"ServiceRequest/{order['id']}"}]


def numbered(number: str, control_id: str) -> bytes:
    raw = adt_a04(control_id=control_id).decode()
    return raw.replace("|2.5.1|||", f"|2.5.1|{number}||", 1).encode()


def msa_4(sender: Sender, number: str, control_id: str) -> tuple[str, str]:
    (answer,) = receive(sender.hl7, sender.caller, numbered(number, control_id)).messages
    fields = [*answer.decode().split("\rMSA|")[1].split("\r")[0].split("|"), "", ""]
    return fields[0], fields[3]


def test_a_sender_that_counts_its_messages_is_told_which_one_is_missing(sender: Sender) -> None:
    counting = written(sender, sequence_numbers=("HIS",))
    assert msa_4(counting, "-1", "S0") == ("AA", "0")
    assert msa_4(counting, "7", "S7") == ("AA", "8")
    assert msa_4(counting, "9", "S9") == ("AR", "8")
    assert msa_4(counting, "0", "S10") == ("AA", "8")
    assert msa_4(counting, "8", "S8") == ("AA", "9")
    assert msa_4(counting, "9", "S9") == ("AA", "10")
    assert msa_4(sender, "764", "S11") == ("AA", "")


def test_a_batch_is_answered_as_one_where_that_is_set(sender: Sender) -> None:
    batch = b"BHS|^~\\&\r" + adt_a04() + omi_o23("CA", accession="none") + b"BTS|2\r"
    answers = receive(written(sender, answer_batches_as_one=True).hl7, sender.caller, batch).messages
    (answer,) = (each.decode() for each in answers)
    assert answer.startswith("BHS|")
    assert [part[:2] for part in answer.split("\rMSA|")[1:]] == ["AA", "AE"]
    assert answer.endswith("BTS|2\r")


def test_a_long_answer_is_continued_once_and_for_the_one_who_asked(sender: Sender) -> None:
    for number in range(5):
        assert sender.send(adt_a04(PID.replace("1001", f"Q{number}").replace("19850612", f"1985061{number}")))
    sender.settle()
    query = ("QPD|IHE PDQ Query|Q9|@PID.5.1^张", "RCP|I|2^RD")
    pointer, told = "", []
    for _ in range(3):
        segments = (*query, f"DSC|{pointer}|I") if pointer else query
        (answer,) = receive(sender.hl7, sender.caller, message("QBP^Q22^QBP_Q21", *segments)).messages
        lines = answer.decode().split("\r")
        told += [line.split("|")[3] for line in lines if line.startswith("PID")]
        pointer = next((line.split("|")[1] for line in lines if line.startswith("DSC")), "")
    assert sorted(told) == [f"Q{number}^^^HIS" for number in range(5)]
    assert pointer == ""
    (again,) = receive(
        sender.hl7, sender.caller, message("QBP^Q22^QBP_Q21", *query, "DSC|nonsense|I")
    ).messages
    assert "ERR||DSC^1^1|204^" in again.decode()
    assert sender.send(message("QCN^J01^QCN_J01", "QID|Q9|IHE PDQ Query")) == ["AA"]
    unknown = message("QBP^Q22^QBP_Q21", "QPD|IHE PDQ Query|Q2|@PID.5.1^张|||||^^^NOWHERE", "RCP|I")
    (refused,) = receive(sender.hl7, sender.caller, unknown).messages
    assert "ERR||QPD^1^8|204^" in refused.decode()


def test_who_ordered_and_reported_are_practitioners_and_reports_are_found_by_them(
    sender: Sender, operator: Caller
) -> None:
    assert sender.send(omi_o23()) == ["AA"]
    assert sender.send(oru_r01()) == ["AA"]
    assert sender.send(oru_r01("C", control_id="AGAIN")) == ["AA"]
    sender.settle()
    names = {
        each["identifier"][0]["value"]: each["name"][0]["text"] for each in sender.documents("Practitioner")
    }
    assert names == {"9001": "吴刚", "9002": "钱明"}
    (patient,) = sender.documents("Patient")
    for asked in (
        f"patient=Patient/{patient['id']}", "code=CT01", "results-interpreter:Practitioner.identifier=9002",
        "results-interpreter:Practitioner.name=钱明", "date=2026-03-02", "subject:Patient.name=张伟",
        "based-on:ServiceRequest.identifier=A0001", "status=corrected",
    ):  # fmt: skip
        name, _, value = asked.partition("=")
        found = search(sender.rooms.records, operator, parse_search("DiagnosticReport", [(name, value)]))
        assert len(found.matches) == 1, asked


def test_a_message_leaves_its_provenance_on_what_it_changed_and_no_other(sender: Sender) -> None:
    assert sender.send(omi_o23(control_id="PROV1")) == ["AA"]
    assert sender.send(adt_a04(control_id="PROV2", pid=PID)) == ["AA"]
    sender.settle()
    kept = {each["entity"][0]["what"]["identifier"]["value"]: each for each in sender.documents("Provenance")}
    assert set(kept) == {"PROV1", "PROV2"}
    targets = [each["reference"].partition("/")[0] for each in kept["PROV1"]["target"]]
    assert targets == ["Patient", "ServiceRequest"]
    assert kept["PROV1"]["agent"][0]["who"]["display"] == "HIS|H1"


def test_the_accession_number_is_made_by_the_sites_rule_and_told(sender: Sender, operator: Caller) -> None:
    access = sender.rooms.access
    rule = '{"pattern": "{yy}{mm}{dd}{serial:4}", "by_modality": {"CT": "CT{yy}{serial:6}"}}'
    put_document(access, operator, ACCESSION_NUMBERS, rule)
    told = []
    for number in range(2):
        raw = omi_o23(accession="").replace(b"P1^HIS|F1^RIS", f"P{number}^HIS|F{number}^RIS".encode())
        (answer,) = receive(sender.hl7, sender.caller, raw).messages
        told.append(answer.decode().split("\rIPC|")[1].split("|")[0])
        assert f"||||||{told[-1]}\r" in answer.decode()
    assert told == ["CT26000001", "CT26000002"]
    for bad in (
        '{"pattern": "{yy}"}',
        '{"pattern": "{serial:20}"}',
        '{"pattern": "{x}{serial:3}"}',
        '{"a": 1}',
    ):
        with pytest.raises(InvalidNumbering):
            put_document(access, operator, ACCESSION_NUMBERS, bad)


def test_a_visit_has_its_place_its_people_and_its_house(sender: Sender) -> None:
    visit = "PV1|1|I|301^02^1^县医院||||D7^王^医生|||内科|||||||||V9^^^HIS"
    assert sender.send(message("ADT^A01^ADT_A01", "EVN", PID, visit)) == ["AA"]
    assert sender.send(message("ADT^A03^ADT_A03", "EVN", PID, visit)) == ["AA"]
    (encounter,) = sender.documents("Encounter")
    assert (encounter["status"], encounter["class"]["code"]) == ("finished", "IMP")
    assert encounter["location"][0]["location"]["display"] == "县医院 301 02 1"
    assert encounter["participant"][0]["individual"]["display"] == "王医生"
    (house,) = sender.documents("Organization")
    assert house["name"] == "县医院"
