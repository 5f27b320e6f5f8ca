"""ADT: who the patient is, where he is, and which of a hospital's own numbers are one (chapter 3)."""

from typing import Any

from hl7_listener.er7 import Segment
from hl7_listener.patients import demographics_of, identify_patient, prior_demographics
from hl7_listener.room import ContentError, Done, Work
from kernel.clock import new_id
from mpi.demographics import Authority
from mpi.links import link, merge, unlink
from mpi.resolve import identify
from records.identifiers import find_by_identifier, present_document
from records.repository import write

ENCOUNTER_STATUS = {  # trigger event -> Encounter.status; events that are not here leave it as it is
    "A01": "in-progress", "A04": "arrived", "A05": "planned", "A14": "planned", "A10": "arrived",
    "A02": "in-progress", "A06": "in-progress", "A07": "in-progress", "A12": "in-progress",
    "A13": "in-progress", "A03": "finished", "A11": "cancelled", "A38": "cancelled", "A27": "cancelled",
}  # fmt: skip


def register(work: Work) -> Done:
    """Admission, registration, update, transfer, discharge and their cancellations."""
    documents = []
    for group in work.message.groups("PID") if work.message.has("PID") else [()]:
        patient = identify_patient(work, Authority.REGISTRATION, group[0] if group else None)
        documents.append(f"Patient/{patient.patient_id}")
        visit = next((segment for segment in group if segment.name == "PV1"), None)
        if visit is not None:
            documents += _visit(work, group, patient.patient_id)
    return Done(tuple(documents))


def _visit(work: Work, segments: tuple[Segment, ...], patient_id: str) -> list[str]:
    """The Encounter of a visit number; a visit without one cannot be told from others, and is not kept."""
    drawn = work.draw("Encounter", *segments)
    identifier = next(iter(drawn.get("identifier", ())), None)
    if identifier is None:
        return []
    known_id = find_by_identifier(
        work.session, "Encounter", identifier.get("system", ""), identifier["value"], work.institution
    )
    known = present_document(work.session, "Encounter", known_id) if known_id else None
    document: dict[str, Any] = {"resourceType": "Encounter", "status": "unknown"} | (known or {}) | drawn
    document["status"] = ENCOUNTER_STATUS.get(work.message.trigger_event, document["status"])
    document["class"] = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "code": drawn.get("class", {}).get("code", "AMB"),
    }
    document["subject"] = {"reference": f"Patient/{patient_id}"}
    logical_id = known_id or new_id()
    write(
        work.hl7.records, work.session, work.caller, document,
        logical_id=logical_id, institution=work.institution,
    )  # fmt: skip
    return [f"Encounter/{logical_id}"]


def merge_patients(work: Work) -> Done:
    """A18, A30, A34, A36, A39, A40: the number in MRG-1 is the patient in PID. A46, A47: it was changed."""
    documents: list[str] = []
    for group in work.message.groups("PID"):
        mrg = next((segment for segment in group if segment.name == "MRG"), None)
        if mrg is None:
            raise ContentError("MRG", "the segment is missing", "100")
        survivor = demographics_of(work, group[0], Authority.REGISTRATION)
        if not survivor.identifier:
            raise ContentError("PID-3", "a patient identifier is needed")
        prior = prior_demographics(work, mrg, survivor)
        source = f"{work.message.sender}|{work.message.control_id}"
        merge(work.hl7.mpi, work.session, work.caller, prior, survivor, source)
        patient = identify(work.hl7.mpi, work.session, work.caller, survivor)
        documents.append(f"Patient/{patient.patient_id}")
    if not documents:
        raise ContentError("PID", "the segment is missing", "100")
    return Done(tuple(documents))


def link_patients(work: Work) -> Done:
    """A24: two PIDs are one person."""
    first, second = _both(work)
    link(work.hl7.mpi, work.session, work.caller, first, second)
    return Done((f"Patient/{first}", f"Patient/{second}"))


def unlink_patients(work: Work) -> Done:
    """A37: two PIDs are two people."""
    first, second = _both(work)
    unlink(work.hl7.mpi, work.session, work.caller, second)
    return Done((f"Patient/{first}", f"Patient/{second}"))


def _both(work: Work) -> tuple[str, str]:
    pids = work.message.all("PID")
    if len(pids) < 2:
        raise ContentError("PID", "two PID segments are needed", "100")
    first, second = (identify_patient(work, Authority.REGISTRATION, pid).patient_id for pid in pids[:2])
    return first, second
