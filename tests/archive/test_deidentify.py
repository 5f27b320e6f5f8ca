"""What goes out without names says nothing of whom it shows: threat 24 of docs/security.md."""

import io
from typing import Any

import pytest
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from archive.deidentify import CannotDeidentify, deidentify
from tests.builders import ct_slice as ct_file

KEY = b"a key"
MARKS = {"DA": "19790113", "DT": "19790113", "TM": "111213", "AS": "047Y"}  # else a name
NAMES = {"PN", "LT", "ST", "UT", "UR", *MARKS}
PEOPLE = (  # what a modality or an information system writes of somebody, in other representations
    "PatientID", "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName",
    "InstitutionName", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "OtherPatientIDs",
    "PatientTelephoneNumbers", "PatientBirthDateInAlternativeCalendar", "ClinicalTrialSubjectID",
    "ClinicalTrialSiteName", "RequestedProcedureID", "ScheduledProcedureStepID", "MedicalRecordLocator",
    "ReasonForTheRequestedProcedure", "RequestedProcedureDescription", "CurrentPatientLocation",
)  # fmt: skip


def ct_slice(**attributes: Any) -> Dataset:
    """A whole CT slice."""
    return dcmread(io.BytesIO(ct_file(**attributes)))


def text_of(dataset: Dataset) -> str:
    """Everything that a data set says, in its sequences too."""
    return str(dataset)


def test_no_attribute_of_the_dictionary_keeps_a_name_a_date_or_free_text() -> None:
    kept = []
    for vr, _, _, _, keyword in DicomDictionary.values():
        if keyword and (vr in NAMES or keyword in PEOPLE):
            dataset = Dataset()
            mark = MARKS.get(vr, "Geheim")
            setattr(dataset, keyword, mark)
            deidentify(dataset, KEY)
            if mark in text_of(dataset):
                kept.append(keyword)

    assert kept == []


def test_what_stands_in_sequences_private_elements_overlays_and_curves_goes_too() -> None:
    dataset = ct_slice(PatientName="Geheim^Berta", PatientID="BETA-77")
    item = Dataset()
    item.PersonName, item.TextValue, item.PatientID = "Geheim^Berta", "Frau Geheim, BETA-77", "BETA-77"
    item.add_new(0x00290010, "LO", "GEHEIM")
    deeper = Dataset()
    deeper.PatientName = "Geheim^Berta"
    item.ContentSequence = Sequence([deeper])
    dataset.ContentSequence = Sequence([item])
    dataset.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "Geheim^Berta")
    dataset.add_new(0x60004000, "LT", "Geheim^Berta")
    dataset.add_new(0x50000030, "SH", "Geheim")

    deidentify(dataset, KEY)

    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    for trace in (b"Geheim", b"GEHEIM", b"BETA-77", b"MAKER"):
        assert trace not in file.getvalue()
    again = dcmread(io.BytesIO(file.getvalue()))
    assert again.PixelData == ct_slice().PixelData
    assert (again.PatientIdentityRemoved, again.ContentSequence[0].TextValue) == ("YES", "REMOVED")


def test_uids_lead_nowhere_without_the_key_and_stay_together_with_it() -> None:
    first, second, other = ct_slice(instance=1), ct_slice(instance=2), ct_slice(instance=1)
    own = str(first.StudyInstanceUID)
    deidentify(first, KEY)
    deidentify(second, KEY)
    deidentify(other, b"another key")

    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert len({own, str(first.StudyInstanceUID), str(other.StudyInstanceUID)}) == 3
    assert first.SOPInstanceUID != second.SOPInstanceUID


@pytest.mark.parametrize(
    "attributes",
    [{"BurnedInAnnotation": "YES"}, {"EncapsulatedDocument": b"%PDF"}],
    ids=["pixels", "document"],
)
def test_what_has_names_in_its_pixels_or_document_does_not_go_out_without_names(
    attributes: dict[str, Any],
) -> None:
    dataset = ct_slice(**attributes)

    with pytest.raises(CannotDeidentify):
        deidentify(dataset, KEY)
