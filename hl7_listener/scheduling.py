"""Scheduling: SIU^S12 to S26 (chapter 10)."""

from typing import Any

from hl7_listener.orders import authority_of_ei
from hl7_listener.patients import identify_patient
from hl7_listener.room import ContentError, Done, Work
from kernel.clock import new_id
from mpi.demographics import Authority
from records.identifiers import find_by_identifier, present_document
from records.repository import write

STATUS = {
    "S12": "booked", "S13": "booked", "S14": "booked", "S15": "cancelled", "S16": "cancelled",
    "S17": "entered-in-error", "S26": "noshow",
}  # fmt: skip
ENDING = frozenset({"S15", "S16", "S17", "S26"})  # what the event says goes before SCH-25


def file_appointment(work: Work) -> Done:
    """Book, move, change or cancel an appointment."""
    message = work.message
    sch = message.first("SCH")
    if not sch.fields and not message.has("AIS"):
        raise ContentError("SCH", "the segment is missing", "100")
    number = next(
        (
            each.value(field)
            for each, field in ((sch, 2), (sch, 1), (message.first("AIS"), 10), (message.first("AIS"), 11))
            if each.value(field).component(1)
        ),
        None,
    )
    if number is None:
        raise ContentError("SCH-2", "an appointment number is needed")
    patient = identify_patient(work, Authority.ORDER)
    authority = authority_of_ei(number)
    system = f"urn:cloudfilm:appointment:{authority or work.institution}"
    known_id = find_by_identifier(work.session, "Appointment", system, number.component(1), work.institution)
    known = present_document(work.session, "Appointment", known_id) if known_id else None
    drawn = work.draw("Appointment", *message.segments[1:])
    if message.trigger_event in ENDING:
        drawn.pop("status", None)
    document: dict[str, Any] = {
        "resourceType": "Appointment",
        **(known or {}),
        "status": STATUS.get(message.trigger_event, "booked"),
        **drawn,
        "identifier": [{"system": system, "value": number.component(1)}],
        "participant": [
            {"actor": {"reference": f"Patient/{patient.patient_id}"}, "status": "accepted"},
            *_others(work),
        ],
    }
    if "start" in document and "end" not in document and len(str(document["start"])) <= len("2026-01-01"):
        document.pop("start")  # an instant needs its time
    logical_id = known_id or new_id()
    write(
        work.hl7.records, work.session, work.caller, document,
        logical_id=logical_id, institution=work.institution,
    )  # fmt: skip
    return Done((f"Patient/{patient.patient_id}", f"Appointment/{logical_id}"))


def _others(work: Work) -> list[dict[str, Any]]:
    """The staff (AIP) and places (AIL) of an appointment, by display."""
    found = []
    for segment in (*work.message.all("AIP"), *work.message.all("AIL")):
        value = segment.value(3)
        parts = [value.component(2), value.component(3)] if segment.name == "AIP" else [value.component(1)]
        display = " ".join(part for part in parts if part) or value.component(1)
        if display:
            found.append({"actor": {"display": display}, "status": "accepted"})
    return found
