"""Orders: ORM^O01, OMG^O19 and OMI^O23, and their replies ORR, ORG and ORI.

Chapter 4; IHE RAD-2, RAD-3, RAD-4 and RAD-13.
"""

from hl7_listener.data_types import authority_of, moment_of, person_name, service_of
from hl7_listener.er7 import Segment, Value, escape, segment
from hl7_listener.patients import identify_patient
from hl7_listener.room import ContentError, Done, Work
from mpi.demographics import Authority
from records.orders import Number, Order, OrderAction, PlacedOrder, place_order

ACTIONS = {  # HL7 table 0119
    "NW": OrderAction.PLACE, "SN": OrderAction.PLACE, "RO": OrderAction.PLACE, "": OrderAction.PLACE,
    "XO": OrderAction.CHANGE, "XX": OrderAction.CHANGE, "PA": OrderAction.CHANGE, "CH": OrderAction.CHANGE,
    "HD": OrderAction.CHANGE, "RL": OrderAction.CHANGE, "RP": OrderAction.CHANGE, "RU": OrderAction.CHANGE,
    "CA": OrderAction.CANCEL, "DC": OrderAction.CANCEL, "OC": OrderAction.CANCEL, "OD": OrderAction.CANCEL,
    "CN": OrderAction.CHANGE, "PR": OrderAction.CHANGE, "DE": OrderAction.STATUS, "OP": OrderAction.PLACE,
    "UA": OrderAction.STATUS, "UC": OrderAction.STATUS, "UD": OrderAction.STATUS, "UX": OrderAction.STATUS,
    "NA": OrderAction.CHANGE, "AF": OrderAction.STATUS, "CR": OrderAction.STATUS, "XR": OrderAction.STATUS,
    "SC": OrderAction.STATUS, "SR": OrderAction.STATUS, "RE": OrderAction.STATUS, "OK": OrderAction.STATUS,
}  # fmt: skip
DONE = {  # what ORC-1 of the reply says (table 0119)
    OrderAction.PLACE: "OK", OrderAction.CHANGE: "XR", OrderAction.CANCEL: "CR", OrderAction.STATUS: "OK",
}  # fmt: skip
REPLIES = {"ORM": "ORR^O02^ORR_O02", "OMG": "ORG^O20^ORG_O20", "OMI": "ORI^O24^ORI_O24"}
STATUS_OF_CONTROL = {"HD": "on-hold", "RL": "active"}


def place_orders(work: Work) -> Done:
    """Place, change, cancel or tell the status of each order of a message."""
    patient = identify_patient(work, Authority.ORDER)
    start = "ORC" if work.message.has("ORC") else "OBR"
    groups = list(work.message.groups(start))
    if not groups:
        raise ContentError("ORC", "the segment is missing", "100")
    placed = [
        place_order(work.hl7.records, work.session, work.caller, _order(work, group, patient.patient_id))
        for group in groups
    ]
    return Done(
        (f"Patient/{patient.patient_id}", *(f"ServiceRequest/{each.service_request_id}" for each in placed)),
        tuple(line for each in placed for line in _reply(work.message.message_code, each)),
        REPLIES.get(work.message.message_code, ""),
    )


def _order(work: Work, group: tuple[Segment, ...], patient_id: str) -> Order:
    first = {segment.name: segment for segment in reversed(group)}
    empty = Segment("", (), work.message.msh.delimiters)
    orc, obr, ipc, zds, tq1 = (first.get(name, empty) for name in ("ORC", "OBR", "IPC", "ZDS", "TQ1"))
    control = orc.get(1).upper()
    if control not in ACTIONS:
        raise ContentError("ORC-1", "this order control code is not supported", "103")
    pid, pv1 = work.message.first("PID"), work.message.first("PV1")
    document = work.draw("ServiceRequest", *group)
    if control in STATUS_OF_CONTROL:
        document["status"] = STATUS_OF_CONTROL[control]
    when = tq1.get(7) or obr.get(36) or orc.get(7, 4) or obr.get(27, 4)
    return Order(
        action=ACTIONS[control],
        patient_id=patient_id,
        institution=work.institution,
        placer=_number(orc.value(2)) if orc.values(2) else _number(obr.value(2)),
        filler=_number(orc.value(3)) if orc.values(3) else _number(obr.value(3)),
        accession_number=(ipc.get(1) or obr.get(18))[:16],
        study_instance_uid=(ipc.get(3) or zds.get(1))[:64],
        requested_procedure_id=(ipc.get(2) or obr.get(19))[:16],
        scheduled_procedure_step_id=(ipc.get(4) or obr.get(20))[:16],
        modality=(ipc.get(5) or obr.get(24))[:16],
        scheduled_at=moment_of(when, work.hl7.zone),
        scheduled_ae_titles=tuple(value.component(1)[:16] for value in ipc.values(9)),
        location=ipc.get(8)[:64],
        performing_physician=person_name(obr.value(34).subvalue(1), 2),
        admission_id=(pv1.get(19) or pid.get(18))[:64],
        document=document,
    )


def _number(value: Value) -> Number:
    """An EI: number, and the namespace or universal id of who gave it."""
    authority = authority_of_ei(value)
    return Number(value.component(1)[:64], f"urn:cloudfilm:issuer:{authority}" if authority else "")


def authority_of_ei(value: Value) -> str:
    """EI-2, or EI-3 where it is empty."""
    return value.component(2) or value.component(3) or authority_of(value, 4)


def _reply(code: str, placed: PlacedOrder) -> list[str]:
    """What was made of an order: its numbers, with the accession number in OBR-18 and IPC-1."""
    order = placed.order
    placer, filler = escape(order.placer.value), escape(order.filler.value or order.accession_number)
    lines = [
        segment("ORC", DONE[order.action], placer, filler),
        segment(
            "OBR", "1", placer, filler, service_of(order.document), *[""] * 13, escape(order.accession_number)
        ),
    ]
    if code == "OMI":
        requested = order.requested_procedure_id or order.accession_number
        step = order.scheduled_procedure_step_id or order.accession_number
        ipc = (order.accession_number, requested, order.study_instance_uid, step)
        lines.append(segment("IPC", *map(escape, ipc)))
    return lines
