"""What a query asks and is answered: sequences, models, cancelling, odd identifiers, character sets."""

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from access.caller import operator
from archive.character_sets import TextDecoder
from archive.ingest import ingest
from dimse.find import parse_identifier
from dimse.identifier import encode_attributes, read_identifier
from dimse.matching import Agreement, item_matches
from tests.builders import ROOT, ct_slice
from tests.dimse.door import Door

STUDY = StudyRootQueryRetrieveInformationModelFind
PATIENT = PatientRootQueryRetrieveInformationModelFind
ONLY = PatientStudyOnlyQueryRetrieveInformationModelFind


def code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99TEST", meaning
    return item


@pytest.fixture(scope="module")
def kept(door: Door) -> Door:
    """A server with forty studies of two patients, of which one study has a coded procedure."""
    for study in range(1, 41):
        coded = {"ProcedureCodeSequence": Sequence([code("CTCHEST", "胸部")])} if study == 7 else {}
        data = ct_slice(study, 1, 1, PatientID=f"P{study % 2}", **coded)
        ingest(door.rooms.archive, operator(), BytesIO(data))
    return door


def ask(server: Door, model: str, cancel_after: int = 0, **keys: Any) -> tuple[list[Dataset], Dataset]:
    """The matches, and the command set of the last answer."""
    entity = AE("ASKER")
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="CLOUDFILM")
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    found: list[Dataset] = []
    last = Dataset()
    for status, answer in association.send_c_find(identifier, model):
        last = status
        if answer is not None:
            found.append(answer)
        if cancel_after and len(found) == cancel_after:
            association.send_c_cancel(1, query_model=model)
    association.release()
    return found, last


def test_a_sequence_matches_by_its_items(kept: Door) -> None:
    keys: dict[str, Any] = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}
    found, _ = ask(kept, STUDY, **keys, ProcedureCodeSequence=[code("CTCH*", "")])

    assert [answer.StudyInstanceUID for answer in found] == [f"{ROOT}.7"]
    assert found[0].ProcedureCodeSequence[0].CodeMeaning == "胸部"
    assert ask(kept, STUDY, **keys, ProcedureCodeSequence=[code("MR*", "")])[0] == []


def test_patients_are_found_once_each(kept: Door) -> None:
    found, last = ask(kept, PATIENT, QueryRetrieveLevel="PATIENT", PatientID="", PatientName="")

    assert sorted(answer.PatientID for answer in found) == ["P0", "P1"]
    assert last.Status == 0x0000
    assert all(answer.RetrieveAETitle == "CLOUDFILM" for answer in found)


def test_what_there_is_of_a_patient_is_counted(kept: Door) -> None:
    counted: dict[str, Any] = {"NumberOfPatientRelatedStudies": "", "NumberOfPatientRelatedInstances": ""}
    patients, last = ask(kept, PATIENT, QueryRetrieveLevel="PATIENT", PatientID="P1", **counted)
    of_study, _ = ask(kept, STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID=f"{ROOT}.7", **counted)

    assert [
        (each.NumberOfPatientRelatedStudies, each.NumberOfPatientRelatedInstances) for each in patients
    ] == [(20, 20)]
    assert of_study[0].NumberOfPatientRelatedStudies == 20
    assert last.Status == 0


def test_keys_of_levels_above_may_be_left_out(kept: Door) -> None:
    """Relational: series of all studies, by a key of the series alone."""
    found, _ = ask(kept, STUDY, QueryRetrieveLevel="SERIES", SeriesInstanceUID="", Modality="CT")

    assert len(found) == 40


def test_the_model_of_patients_and_studies_has_no_series(kept: Door) -> None:
    assert len(ask(kept, ONLY, QueryRetrieveLevel="STUDY", StudyInstanceUID="")[0]) == 40
    assert ask(kept, ONLY, QueryRetrieveLevel="SERIES", SeriesInstanceUID="")[1].Status == 0xA900


def test_a_query_is_cancelled(kept: Door) -> None:
    found, last = ask(kept, STUDY, cancel_after=1, QueryRetrieveLevel="STUDY", StudyInstanceUID="")

    assert last.Status in (0xFE00, 0x0000)  # it may have been answered in full before the cancellation came
    assert len(found) <= 40


def test_a_key_that_is_not_supported_is_said_with_every_answer(kept: Door) -> None:
    entity = AE("ASKER")
    entity.add_requested_context(STUDY)
    association = entity.associate("127.0.0.1", kept.dicom_port, ae_title="CLOUDFILM")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", f"{ROOT}.1"
    identifier.Occupation = ""
    statuses = [status.Status for status, _ in association.send_c_find(identifier, STUDY)]
    association.release()

    assert statuses == [0xFF01, 0x0000]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("terms", [(), ("GB18030",), ("", "ISO 2022 IR 149"), ("ISO_IR 192",)])
def test_an_answer_reads_as_it_was_written(syntax: str, terms: tuple[str, ...]) -> None:
    """Every kind of value there and back, by pydicom."""
    ds = dcmread(BytesIO(ct_slice(1, 1, 1, ProcedureCodeSequence=Sequence([code("A", "胸部")]))))
    ds.add_new(0x00189306, "FD", 1.25)
    ds.add_new(0x00280008, "IS", "3")
    del ds.PixelData, ds.SpecificCharacterSet
    written = encode_attributes(ds.to_json_dict(), terms, syntax)
    read = read_identifier(written, syntax)

    assert read.pop("SpecificCharacterSet").value
    assert read == ds


def test_code_extensions_of_china_begin_each_part_of_a_text() -> None:
    """PS3.5 K.2: the escape sequence stands before every part, and what reads it gives the name back."""
    name = {"vr": "PN", "Value": [{"Alphabetic": "Li^Na", "Ideographic": "李^娜"}]}
    written = encode_attributes({"00100010": name}, ("", "ISO 2022 IR 58"), ExplicitVRLittleEndian)

    assert written.endswith(b"Li^Na=\x1b$)A\xc0\xee^\x1b$)A\xc4\xc8 ")
    read = TextDecoder.of(["", "ISO 2022 IR 58"]).decode(written[-22:-1], "\\^=")
    assert read.endswith("=李^娜")
    assert "\x1b" not in read


def test_an_item_that_asks_for_nothing_matches_all() -> None:
    assert item_matches(None, Dataset())
    assert not item_matches(None, code("X", ""))


def test_what_was_not_agreed_on_is_not_done() -> None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyDate, identifier.StudyTime = "STUDY", "20260101-", "0800-"
    apart = parse_identifier(identifier)
    together = parse_identifier(identifier, Agreement.of(b"\x01\x01"))

    assert [match.key.keyword for match in apart.matches] == ["StudyDate", "StudyTime"]
    assert [match.key.keyword for match in together.matches] == ["StudyDateTime"]
