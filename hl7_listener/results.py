"""Results: ORU^R01 (chapter 7; IHE RAD-28): text, coded and numeric findings, and rendered documents."""

import base64
import binascii
import re
from typing import Any

from hl7_listener.data_types import cwe
from hl7_listener.er7 import Segment, Value
from hl7_listener.orders import authority_of_ei
from hl7_listener.patients import identify_patient
from hl7_listener.room import ContentError, Done, Work
from mpi.demographics import Authority
from records.orders import Number
from records.reports import Attachment, Report, file_report

STATUS = {  # HL7 table 0123 -> DiagnosticReport.status
    "F": "final", "C": "corrected", "P": "preliminary", "R": "preliminary", "A": "partial", "X": "cancelled",
    "O": "registered", "I": "registered", "S": "registered", "Z": "unknown", "Y": "unknown", "": "final",
    "M": "amended",
}  # fmt: skip
CONTENT_TYPES = {  # ED-2 and ED-3 as senders write them (tables 0191, 0291)
    "PDF": "application/pdf", "RTF": "application/rtf", "JPEG": "image/jpeg", "JPG": "image/jpeg",
    "PNG": "image/png", "TIFF": "image/tiff", "HTML": "text/html", "XML": "application/xml",
    "X-HL7-CDA-LEVEL-ONE": "application/hl7-cda+xml", "DOC": "application/msword",
    "MSWORD": "application/msword",
    "DOCX": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "PLAIN": "text/plain",
}  # fmt: skip
MEDIA_TYPE = re.compile(r"[A-Za-z]+/[A-Za-z0-9.+-]+")
TEXT_TYPES = frozenset({"TX", "FT", ""})
NARRATIVE = frozenset(
    {"GDT", "IMP", "REC", "DEV", "HIS", "MOD", "ADT", "ANT", "CMT"}
)  # OBX-3.1 suffixes (7.2.4)
IMPRESSION = frozenset({"19005-8", "IMP"})
IMPRESSION_WORDS = ("IMPRESSION", "CONCLUSION", "结论", "诊断意见", "印象", "诊断")
STUDY_UID_CODES = frozenset({"113014", "110180"})  # DCM: DICOM Study, Study Instance UID


class UndecodableAttachment(ContentError):
    """An encapsulated document that is not in the encoding that it names."""

    def __init__(self) -> None:
        super().__init__("OBX-5", "the encapsulated data cannot be decoded", "102")


def file_results(work: Work) -> Done:
    """File the report of each OBR."""
    message = work.message
    patients = list(message.groups("PID")) if message.has("PID") else []
    if not patients:
        raise ContentError("PID", "the segment is missing", "100")
    documents: list[str] = []
    for group in patients:
        patient = identify_patient(work, Authority.REPORT, group[0])
        documents.append(f"Patient/{patient.patient_id}")
        for order in message.groups("OBR", group):
            report = _report(work, group, order, patient.patient_id)
            report_id = file_report(work.hl7.records, work.session, work.caller, report)
            documents.append(f"DiagnosticReport/{report_id}")
    if len(documents) == len(patients):
        raise ContentError("OBR", "the segment is missing", "100")
    return Done(tuple(documents))


def _report(work: Work, group: tuple[Segment, ...], order: tuple[Segment, ...], patient_id: str) -> Report:
    empty = Segment("", (), work.message.msh.delimiters)
    obr = order[0]
    orc = next((segment for segment in group if segment.name == "ORC"), empty)
    zds = next((segment for segment in order if segment.name == "ZDS"), empty)
    found = read_observations(work, tuple(segment for segment in order if segment.name == "OBX"))
    number = number_of(obr.value(3)) if obr.values(3) else number_of(orc.value(3))
    accession = obr.get(18)[:16]
    if not number.value and not accession:
        number = Number(
            f"{work.message.control_id}-{obr.get(1) or 1}", f"urn:cloudfilm:message:{_sender(work)}"
        )
    if obr.get(25).upper() not in STATUS:
        raise ContentError("OBR-25", "this result status is not in table 0123", "103")
    return Report(
        patient_id=patient_id,
        institution=work.institution,
        number=number,
        placer=number_of(obr.value(2)) if obr.values(2) else number_of(orc.value(2)),
        accession_number=accession,
        study_instance_uid=(zds.get(1) or found.study_instance_uid)[:64],
        status=STATUS[obr.get(25).upper()],
        text=found.text,
        conclusion=found.conclusion,
        attachments=found.attachments,
        document=work.draw("DiagnosticReport", *order),
        observations=found.observations,
    )


def _sender(work: Work) -> str:
    return "".join(character if character.isalnum() else "-" for character in work.message.sender)


def number_of(value: Value) -> Number:
    """An order number (EI) with the authority that gave it."""
    authority = authority_of_ei(value)
    return Number(value.component(1)[:64], f"urn:cloudfilm:issuer:{authority}" if authority else "")


class Found:
    """What the OBX segments of one report hold."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.impression: list[str] = []
        self.attachments: tuple[Attachment, ...] = ()
        self.observations: tuple[dict[str, Any], ...] = ()
        self.study_instance_uid = ""

    @property
    def text(self) -> str:
        """All narrative text, in order."""
        return "\n".join(self.lines)

    @property
    def conclusion(self) -> str:
        """The narrative text that is marked as impression."""
        return "\n".join(self.impression)


def read_observations(work: Work, segments: tuple[Segment, ...]) -> Found:
    """Sort OBX segments into narrative text, documents, coded findings and the study's UID."""
    found = Found()
    heading = ""
    for obx in segments:
        code, suffix, meaning = obx.get(3), obx.get(3, 1, 2), obx.get(3, 2)
        if code in STUDY_UID_CODES or (meaning.casefold() == "study instance uid"):
            found.study_instance_uid = obx.get(5)
        elif obx.get(2) == "ED":
            found.attachments += tuple(_attachment(value, meaning) for value in obx.values(5))
        elif obx.get(2) in TEXT_TYPES or suffix in NARRATIVE:
            lines = [value.whole for value in obx.values(5)]
            if meaning and meaning != heading and len(segments) > 1:
                found.lines.append(f"{meaning}:")
            heading = meaning
            found.lines += lines
            marks = {code, suffix}
            if marks & IMPRESSION or any(word in meaning.upper() for word in IMPRESSION_WORDS):
                found.impression += lines
        elif obx.get(2) != "RP":
            found.observations += (_observation(work, obx),)
    return found


def _attachment(value: Value, title: str) -> Attachment:
    kind, encoding, data = value.component(3), value.component(4).upper(), value.component(5)
    content_type = CONTENT_TYPES.get(kind.upper()) or CONTENT_TYPES.get(value.component(2).upper())
    if content_type is None:
        content_type = kind.lower() if MEDIA_TYPE.fullmatch(kind) else "application/octet-stream"
    if encoding == "BASE64":
        try:
            content = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise UndecodableAttachment from None
    elif encoding == "HEX":
        try:
            content = bytes.fromhex(data)
        except ValueError:
            raise UndecodableAttachment from None
    else:
        content = value.rest(5).encode()  # text as it stands: what looks like a delimiter in it is none
    return Attachment(content_type, content, title)


def _observation(work: Work, obx: Segment) -> dict[str, Any]:
    """One coded or numeric finding as an Observation."""
    document: dict[str, Any] = {"resourceType": "Observation", **work.draw("Observation", obx)}
    document.setdefault("code", {"text": "-"})
    value = obx.value(5)
    kind = obx.get(2)
    if kind == "NM" and _is_number(value.component(1)):
        unit = obx.get(6, 2) or obx.get(6)
        document["valueQuantity"] = {
            "value": float(value.component(1)) if "." in value.component(1) else int(value.component(1)),
            **({"unit": unit} if unit else {}),
        }
    elif kind in ("CE", "CWE", "CF", "CNE"):
        concept = cwe(value, work.hl7.zone)
        if concept:
            document["valueCodeableConcept"] = concept
    else:
        text = "\n".join(each.whole for each in obx.values(5))
        if text:
            document["valueString"] = text
    if obx.get(7):
        document["referenceRange"] = [{"text": obx.get(7)}]
    return document


def _is_number(text: str) -> bool:
    return text.removeprefix("-").removeprefix("+").replace(".", "", 1).isdecimal() and text.isascii()
