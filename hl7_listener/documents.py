"""Documents: MDM^T02, T04, T06, T08, T10 and T11 (chapter 9).

A document that names an order or an accession number is a report; any other is a DocumentReference.
"""

import base64
from typing import Any

from hl7_listener.patients import identify_patient
from hl7_listener.results import number_of, read_observations
from hl7_listener.room import ContentError, Done, Work
from kernel.clock import new_id
from mpi.demographics import Authority
from records.identifiers import find_by_identifier, present_document
from records.reports import Report, file_report
from records.repository import write

FINAL = frozenset({"AU", "LA", "DO", ""})  # TXA-17 (table 0271) that count as finished
CANCELLED = "T11"
CORRECTED = frozenset({"T06", "T08", "T10"})
MASTER = "urn:cloudfilm:document:"


def file_document(work: Work) -> Done:
    """Keep a document, replace it, or take it back."""
    message = work.message
    patient = identify_patient(work, Authority.REPORT)
    txa = message.first("TXA")
    if not txa.fields and not message.has("OBX"):
        raise ContentError("TXA", "the segment is missing", "100")
    obr, orc = message.first("OBR"), message.first("ORC")
    placer = txa.value(14) if txa.values(14) else orc.value(2)
    filler = txa.value(15) if txa.values(15) else orc.value(3)
    if number_of(placer).value or number_of(filler).value or obr.get(18):
        found = read_observations(work, message.all("OBX"))
        report = Report(
            patient_id=patient.patient_id,
            institution=work.institution,
            number=number_of(filler) if number_of(filler).value else number_of(txa.value(12)),
            placer=number_of(placer),
            accession_number=obr.get(18)[:16],
            study_instance_uid=found.study_instance_uid[:64],
            status=_status(work),
            text=found.text,
            conclusion=found.conclusion,
            attachments=found.attachments,
            document={"issued": issued} if len(issued := _issued(work)) > len("2026-01-01") else {},
            observations=found.observations,
        )
        report_id = file_report(work.hl7.records, work.session, work.caller, report)
        return Done((f"Patient/{patient.patient_id}", f"DiagnosticReport/{report_id}"))
    return Done((f"Patient/{patient.patient_id}", _document_reference(work, patient.patient_id)))


def _issued(work: Work) -> str:
    return str(work.draw("DocumentReference", work.message.first("TXA")).get("date", ""))


def _status(work: Work) -> str:
    event, completion = work.message.trigger_event, work.message.first("TXA").get(17).upper()
    if event == CANCELLED:
        return "cancelled"
    if event in CORRECTED:
        return "corrected"
    return "final" if completion in FINAL else "preliminary"


def _document_reference(work: Work, patient_id: str) -> str:
    txa = work.message.first("TXA")
    number = txa.get(12) or txa.get(12, 3) or work.message.control_id
    known_id = find_by_identifier(work.session, "DocumentReference", MASTER, number, work.institution)
    known = present_document(work.session, "DocumentReference", known_id) if known_id else None
    found = read_observations(work, work.message.all("OBX"))
    forms = [
        {"attachment": {"contentType": form.content_type, "data": base64.b64encode(form.content).decode()}}
        for form in found.attachments
    ]
    if found.text:
        data = base64.b64encode(found.text.encode()).decode()
        forms.append({"attachment": {"contentType": "text/plain; charset=utf-8", "data": data}})
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        **(known or {}),
        **work.draw("DocumentReference", txa),
        "identifier": [{"system": MASTER, "value": number}],
        "status": "entered-in-error" if work.message.trigger_event == CANCELLED else "current",
        "docStatus": _status(work).replace("corrected", "amended").replace("cancelled", "entered-in-error"),
        "subject": {"reference": f"Patient/{patient_id}"},
    }
    date = str(document.get("date", ""))
    if "T" not in date:
        document.pop("date", None)  # an instant needs its time
    document["content"] = forms or document.get("content") or [{"attachment": {"title": "-"}}]
    if txa.get(13):
        replaced = find_by_identifier(
            work.session, "DocumentReference", MASTER, txa.get(13), work.institution
        )
        if replaced and replaced != known_id:
            target = {"reference": f"DocumentReference/{replaced}"}
            document["relatesTo"] = [{"code": "replaces", "target": target}]
    logical_id = known_id or new_id()
    write(
        work.hl7.records, work.session, work.caller, document,
        logical_id=logical_id, institution=work.institution,
    )  # fmt: skip
    return f"DocumentReference/{logical_id}"
