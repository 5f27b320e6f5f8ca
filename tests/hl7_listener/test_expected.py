"""The main sample messages become what a person reads in them: the expected documents are written by hand."""

import base64
import json
from pathlib import Path
from typing import Any

from sqlalchemy import select

from records.model import Resource
from tests.builders_hl7 import oru_r01
from tests.hl7_listener.conftest import Sender

PATIENT = ("identifier.0.value", "PID_1"), ("name.0.family", "Smith"), ("name.0.given.0", "Lucy")
STUDY = "urn:oid:1.2.392.200036.9125.0.198811291108.7"
ORDER = (
    ("status", "active"), ("intent", "order"), ("code.coding.0.code", "10637-7"),
    ("code.coding.0.system", "http://loinc.org"), ("orderDetail.0.coding.0.code", "CT"),
    ("requisition.value", "RequestedProcID"), ("encounter.identifier.value", "AdmissionIDFromVisitNo"),
    ("identifier.PLAC", "PlacerOrderNumberImagingServiceRequest"),
    ("identifier.FILL", "FillerOrderNumberImagingServiceRequest"), ("identifier.ACSN", "AccessionNumber"),
    ("identifier.urn:dicom:uid", STUDY), ("occurrenceDateTime", "2000-08-16T07:10:00Z"),
)  # fmt: skip
REPORT = (
    ("status", "final"), ("code.coding.0.code", "10637-7"), ("identifier.ACSN", "AccessionNumber"),
    ("identifier.urn:dicom:uid", STUDY),
)  # fmt: skip

EXPECTED: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {  # file -> type -> path, value
    "ADT_A31-UpdatePersonInfo.hl7": {
        "Patient": (*PATIENT, ("birthDate", "2014-10-14"), ("gender", "female"),
                    ("identifier.0.system", "urn:cloudfilm:issuer:ADT1"),
                    ("address.0.text", "PatientAddress")),
    },
    "ADT_A40-PatientMerge.hl7": {
        "Patient": (("name.0.family", "New_Smith"), ("identifier.0.value", "NEW_PID_1"), ("active", "True")),
    },
    "ADT_A47-ChangePatientID.hl7": {"Patient": (("identifier.0.value", "NEW_PID_1"), ("active", "True"))},
    "OMG_O19-GeneralClinicalOrder-Eyecare.hl7": {"Patient": PATIENT, "ServiceRequest": ORDER},
    "OMI_O23-ImagingOrder.hl7": {  # its AE titles are longer than the 16 characters of an AE
        "Patient": PATIENT,
        "ServiceRequest": (*ORDER, ("locationCode.0.text", "ScheduledProcStepLocation"),
                           ("performer.-1.identifier.value", "ScheduledStation")),
    },
    "ORU_R01-SR.hl7": {
        "DiagnosticReport": (*REPORT, ("presentedForm.0.contentType", "text/plain; charset=utf-8")),
        "Observation": (("code.coding.0.code", "309088003"), ("status", "final"),
                        ("code.coding.0.system", "http://snomed.info/sct"),
                        ("valueCodeableConcept.coding.0.code", "C65.2")),
    },
    "ORU_R01-CDA.hl7": {"DiagnosticReport": (*REPORT, ("presentedForm.0.contentType", "text/xml"))},
    "ORU_R01-PDF.hl7": {"DiagnosticReport": (*REPORT, ("presentedForm.0.contentType", "application/pdf"))},
    "SIU_S12-NewAppointmentBooking.hl7": {
        "Appointment": (("status", "booked"), ("serviceType.0.text", "SEPTOPLASTIA (OPERAÇÃO ISOLADA)")),
    },
}  # fmt: skip


def at(document: Any, path: str) -> str:
    """The value at a path, empty where there is none; an identifier goes by its type or system."""
    try:
        return _at(document, path)
    except (KeyError, IndexError, StopIteration):
        return ""


def _at(document: Any, path: str) -> str:
    for step in path.split("."):
        if isinstance(document, list) and step.lstrip("-").isdigit():
            document = document[int(step)]
        elif isinstance(document, list):
            document = next(each["value"] for each in document if step in json.dumps(each))
        elif step == "urn:dicom:uid":
            document = next(each["value"] for each in document if each.get("system") == step)
        else:
            document = document[step]
    return str(document)


def test_the_sample_messages_become_what_they_say(sender: Sender, shared_data: Path) -> None:
    for path in sorted((shared_data / "hl7v2" / "dcm4che").glob("*")):
        if path.name in EXPECTED:
            assert sender.send(path.read_bytes()) == ["AA"], path.name
            sender.settle()
            for resource_type, expected in EXPECTED[path.name].items():
                found = [
                    {each: at(document, each) for each, _ in expected}
                    for document in active(sender, resource_type)
                ]
                assert dict(expected) in found, path.name


def active(sender: Sender, resource_type: str) -> list[dict[str, Any]]:
    """The documents of a type, but for Patients that were merged into others."""
    with sender.rooms.database.snapshot() as session:
        bodies = session.scalars(
            select(Resource.body)
            .where(Resource.type == resource_type, ~Resource.deleted)
            .order_by(Resource.id)
        ).all()
    return [found for body in bodies if (found := json.loads(body)).get("active", True)]


def test_a_document_in_text_is_kept_whole_whatever_it_holds(sender: Sender) -> None:
    text = '<?xml version="1.0"?><ClinicalDocument a="1 ^ 2">右肺</ClinicalDocument>'
    obx = f"OBX|3|ED|DOC^Report||^Text^text/xml^ASCII^{text}||||||F\r"
    assert sender.send(oru_r01() + obx.encode()) == ["AA"]
    (report,) = active(sender, "DiagnosticReport")
    form = report["presentedForm"][-1]
    assert form["contentType"] == "text/xml"
    assert base64.b64decode(form["data"]).decode() == text
