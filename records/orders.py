"""Orders: an order comes in, is changed or cancelled; it is one ServiceRequest with its history.

Whoever receives an order (HL7 v2, FHIR, a page) says it as an `Order`. The document holds all that a modality
needs to know, so that its worklist is drawn from here when an `order-changed` comes along the feed.

FHIR R4 ServiceRequest; IHE RAD-2, RAD-3 and RAD-4; HL7 v2 chapter 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from access.caller import Caller
from kernel.changes import record_change
from kernel.clock import new_id, new_uid
from kernel.errors import CloudfilmError, Kind
from records.accession_numbers import new_accession_number
from records.identifiers import find_by_identifier, present_document
from records.repository import write
from records.room import Records

IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
STUDY_UID = "urn:dicom:uid"
MODALITY = "http://dicom.nema.org/resources/ontology/DCM"
AE_TITLE = "urn:cloudfilm:ae-title"
STEP_ID = "urn:cloudfilm:scheduled-procedure-step-id"


class OrderAction(StrEnum):
    """What the message wants done."""

    PLACE = "place"
    CHANGE = "change"
    CANCEL = "cancel"
    STATUS = "status"


class UnknownOrder(CloudfilmError):
    """A cancellation or a status of an order that nobody placed here."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("There is no order with these placer, filler or accession numbers.")


class NoOrderNumber(CloudfilmError):
    """An order that cannot be told from another."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("The order has no placer, filler or accession number.")


@dataclass(frozen=True, slots=True)
class Number:
    """An order number with the authority that gave it; empty: not said."""

    value: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """An imaging order as a source says it; what is empty was not said."""

    action: OrderAction
    patient_id: str  # logical id of the Patient document
    institution: str
    placer: Number = field(default_factory=Number)
    filler: Number = field(default_factory=Number)
    accession_number: str = ""
    study_instance_uid: str = ""
    requested_procedure_id: str = ""
    scheduled_procedure_step_id: str = ""
    modality: str = ""
    scheduled_at: datetime | None = None
    scheduled_ae_titles: tuple[str, ...] = ()
    location: str = ""
    performing_physician: str = ""  # DICOM person name
    admission_id: str = ""
    document: dict[str, Any] = field(default_factory=dict)  # ServiceRequest elements drawn from the message


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """The order as it stands, with the numbers that were made for it."""

    service_request_id: str
    order: Order
    status: str
    is_new: bool


def place_order(records: Records, session: Session, caller: Caller, order: Order) -> PlacedOrder:
    """Write an order, within the caller's transaction.

    A new one gets an accession number and a Study Instance UID if it has none. A change of one that is not
    known places it. Raises UnknownOrder for a cancellation or status of one that is not known,
    NoOrderNumber, or Forbidden.
    """
    if not (order.placer.value or order.filler.value or order.accession_number):
        raise NoOrderNumber
    known_id = find_order(session, order)
    known = present_document(session, "ServiceRequest", known_id) if known_id else None
    if known is None and order.action in (OrderAction.CANCEL, OrderAction.STATUS):
        raise UnknownOrder
    if known is not None:
        order = replace(
            order,
            accession_number=order.accession_number or accession_number_of(known),
            study_instance_uid=order.study_instance_uid or study_uid_of(known),
        )
    if not order.accession_number:
        number = new_accession_number(session, records.clock.now(), order.institution, order.modality)
        order = replace(order, accession_number=number)
    order = replace(
        order,
        study_instance_uid=order.study_instance_uid or new_uid(),
    )
    document = _document(known or {}, order)
    logical_id = known_id or new_id()
    stored = write(records, session, caller, document, logical_id=logical_id, institution=order.institution)
    record_change(
        session, records.clock, "order-changed", logical_id,
        action=order.action.value, status=document["status"], accession_number=order.accession_number,
    )  # fmt: skip
    return PlacedOrder(logical_id, order, document["status"], stored.is_new)


def complete_order(records: Records, session: Session, caller: Caller, service_request_id: str) -> bool:
    """What was ordered is done. Returns whether that changed anything; an order that was revoked stays so."""
    known = present_document(session, "ServiceRequest", service_request_id)
    if known is None or known.get("status") not in ("active", "on-hold", "unknown"):
        return False
    write(records, session, caller, known | {"status": "completed"}, logical_id=service_request_id)
    record_change(
        session, records.clock, "order-changed", service_request_id,
        action=OrderAction.STATUS.value, status="completed", accession_number=accession_number_of(known),
    )  # fmt: skip
    return True


def find_order(session: Session, order: Order) -> str | None:
    """The ServiceRequest of an order, by its placer, filler or accession number, in this order."""
    for number in (order.placer, order.filler, Number(order.accession_number)):
        if number.value:
            found = find_by_identifier(
                session, "ServiceRequest", number.system, number.value, order.institution
            )
            if found:
                return found
    return None


def _document(known: dict[str, Any], order: Order) -> dict[str, Any]:
    """The ServiceRequest: what was known, overlaid with what is said now."""
    drawn = {key: value for key, value in order.document.items() if value not in ("", [], {}, None)}
    if order.action is OrderAction.CANCEL:
        drawn["status"] = "revoked"
    elif order.action is OrderAction.PLACE:
        drawn.setdefault("status", "active")
    document = {"resourceType": "ServiceRequest", "status": "active", "intent": "order"} | known | drawn
    document["subject"] = {"reference": f"Patient/{order.patient_id}"}
    document["identifier"] = _identifiers(known, order)
    return document | _scheduling(order)


def _scheduling(order: Order) -> dict[str, Any]:
    """What a modality worklist is made from: all of it stands in the document, and nowhere else."""
    drawn: dict[str, Any] = {}
    if order.modality:
        drawn["orderDetail"] = [{"coding": [{"system": MODALITY, "code": order.modality}]}]
    if order.requested_procedure_id:
        drawn["requisition"] = {"value": order.requested_procedure_id}
    if order.admission_id:
        drawn["encounter"] = {"identifier": {"value": order.admission_id}}
    stations = [{"identifier": {"system": AE_TITLE, "value": title}} for title in order.scheduled_ae_titles]
    people = [{"display": order.performing_physician}] if order.performing_physician else []
    if stations or people:
        drawn["performer"] = [*people, *stations]
    if order.location:
        drawn["locationCode"] = [{"text": order.location}]
    if order.scheduled_at:
        drawn["occurrenceDateTime"] = order.scheduled_at.isoformat().replace("+00:00", "Z")
    return drawn


def _identifiers(known: dict[str, Any], order: Order) -> list[dict[str, Any]]:
    said = [
        ("PLAC", order.placer.system, order.placer.value),
        ("FILL", order.filler.system, order.filler.value),
        ("ACSN", "", order.accession_number),
        ("", STUDY_UID, f"urn:oid:{order.study_instance_uid}"),
        ("", STEP_ID, order.scheduled_procedure_step_id),
    ]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for identifier in known.get("identifier", []):
        rows[(_type_of(identifier), identifier.get("system", ""))] = identifier
    for type_, system, value in said:
        if value:
            rows[(type_, system)] = {
                **({"type": {"coding": [{"system": IDENTIFIER_TYPE, "code": type_}]}} if type_ else {}),
                **({"system": system} if system else {}),
                "value": value,
            }
    return list(rows.values())


def _type_of(identifier: dict[str, Any]) -> str:
    codings = identifier.get("type", {}).get("coding", [])
    return str(codings[0].get("code", "")) if codings else ""


def accession_number_of(document: Mapping[str, Any]) -> str:
    """The accession number among a document's identifiers; empty when there is none."""
    return next(
        (str(item["value"]) for item in document.get("identifier", []) if _type_of(item) == "ACSN"), ""
    )


def procedure_ids_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """Requested Procedure ID and Scheduled Procedure Step ID: the order's own, else its accession number."""
    number = accession_number_of(document)
    requested = document.get("requisition", {}).get("value") or number or document.get("id", "")
    steps = (item["value"] for item in document.get("identifier", []) if item.get("system") == STEP_ID)
    return str(requested)[:16], str(next(steps, "") or number or requested)[:16]


def study_uid_of(document: dict[str, Any]) -> str:
    """The Study Instance UID among a document's identifiers; empty when there is none."""
    uids = (item["value"] for item in document.get("identifier", []) if item.get("system") == STUDY_UID)
    return str(next(uids, "")).removeprefix("urn:oid:")
