"""Orders become workitems: every imaging ServiceRequest has one, drawn from it whichever door wrote it.

The subscriber follows the documents. What the order says is redrawn into its workitem as long as nobody has
begun; an order that is revoked cancels it. Where it is done is the site's decision (`archive.scheduling`)
unless the order says. A patient's corrected or merged demographics are redrawn likewise.

IHE RAD-4, RAD-5 and RAD-13; PS3.4 K (Modality Worklist); FHIR R4 ServiceRequest.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import system
from access.document_kind import current_document
from archive.attributes import Document, document
from archive.room import Archive
from archive.scheduling import SCHEDULING, Scheduling, parse_scheduling
from archive.workitem_events import Event, report_event, report_state
from archive.workitem_model import FINAL, State, Workitem
from archive.workitems import add_workitem, document_of, move, write_document
from kernel.changes import Change
from kernel.clock import new_uid
from mpi.domains import systems
from mpi.patient_document import demographics_of_patient
from records.identifiers import present_document
from records.model import Resource
from records.orders import (
    AE_TITLE,
    MODALITY,
    accession_number_of,
    complete_order,
    procedure_ids_of,
    study_uid_of,
)

SCHEDULER = system("scheduling")
IMAGING = frozenset({"363679005", "RAD", "imaging", "RADIOLOGY"})  # SNOMED CT, HL7 0074, US Core
PRIORITIES = {"stat": "HIGH", "asap": "HIGH", "urgent": "HIGH", "routine": "MEDIUM"}
PROCEDURE_PRIORITIES = {
    "stat": "STAT",
    "asap": "HIGH",
    "urgent": "HIGH",
    "routine": "ROUTINE",
}  # PS3.3 C.4.11
OVER = frozenset({"revoked", "entered-in-error"})
AWAITED = frozenset({"active"})  # a modality sees these


def follow_orders(archive: Archive, session: Session, change: Change) -> None:
    """Draw the workitem of an order that was written, or those of a patient who was."""
    resource_type, _, logical_id = change.subject.partition("/")
    if resource_type == "ServiceRequest":
        draw_workitem(archive, session, logical_id)
    elif resource_type == "Patient":
        waiting = select(Workitem.service_request_id).where(
            Workitem.patient_logical_id == logical_id,
            Workitem.state == State.SCHEDULED,
            Workitem.service_request_id.is_not(None),
        )
        for service_request_id in session.scalars(waiting).all():
            draw_workitem(archive, session, str(service_request_id))


def follow_states(archive: Archive, session: Session, change: Change) -> None:
    """An order is done when its workitem is, however that was said: MPPS, UPS or UPS-RS."""
    if change.data["state"] == State.COMPLETED:
        order = session.scalar(
            select(Workitem.service_request_id).where(Workitem.sop_instance_uid == change.subject)
        )
        if order is not None:
            complete_order(archive.mpi.records, session, SCHEDULER, order)


def draw_workitem(archive: Archive, session: Session, service_request_id: str) -> Workitem | None:
    """Bring the workitem of an order up to date, within the caller's transaction. Safe to repeat."""
    row = session.scalar(
        select(Workitem).where(Workitem.service_request_id == service_request_id).with_for_update()
    )
    order = present_document(session, "ServiceRequest", service_request_id)
    if order is None or order.get("status") in OVER:
        if row is not None:
            _withdraw(archive, session, row)
        return row
    scheduling = parse_scheduling(current_document(session, SCHEDULING))
    owner = session.execute(
        select(Resource.institution, Resource.department).where(
            Resource.type == "ServiceRequest", Resource.logical_id == service_request_id
        )
    ).one()
    drawn = _attributes(archive, session, order, service_request_id, scheduling, owner.institution)
    if drawn is None:
        return row
    patient, attributes = drawn
    shown = order.get("status") in AWAITED
    if row is None:
        if order.get("status") == "completed":
            return None
        row = add_workitem(
            archive, session, SCHEDULER, attributes, new_uid(),
            service_request_id=service_request_id, institution=owner.institution,
            department=owner.department, on_worklist=shown,
        )  # fmt: skip
        row.patient_logical_id = patient
        note(session, archive.clock, SCHEDULER, "create Workitem", row.sop_instance_uid, patient_id=patient)
        return row
    if row.state == State.SCHEDULED:
        before = document_of(row)
        row.patient_logical_id = patient
        write_document(archive, session, row, before | attributes, shown)
        after = document_of(row)
        if before.get("00404041") != after.get("00404041"):
            report_state(archive, session, row, after)
        if order.get("status") == "completed":  # said by somebody else, for it was not done here
            row.transaction_uid = new_uid()
            move(archive, session, row, State.IN_PROGRESS)
            move(archive, session, row, State.COMPLETED)
    return row


def _withdraw(archive: Archive, session: Session, row: Workitem) -> None:
    """The order is revoked: what nobody has begun is cancelled, who performs it is told."""
    reason = document(ReasonForCancellation="The order was revoked.")
    if row.state == State.SCHEDULED:
        row.transaction_uid = new_uid()
        move(archive, session, row, State.IN_PROGRESS)
        move(archive, session, row, State.CANCELED, reason)
        note(session, archive.clock, SCHEDULER, "cancel Workitem", row.sop_instance_uid)
    elif row.state not in FINAL:
        report_event(archive, session, row, Event.CANCEL_REQUESTED, reason)


def _attributes(
    archive: Archive,
    session: Session,
    order: Mapping[str, Any],
    service_request_id: str,
    scheduling: Scheduling,
    institution: str,
) -> tuple[str, Document] | None:
    """The patient's logical id and the workitem's attributes; None for an order that is not of imaging."""
    codings = _list(_dict(order.get("code")).get("coding"))
    description = str(
        _dict(order.get("code")).get("text") or (codings[0].get("display") if codings else "") or ""
    )
    modality = _modality(order)
    location = next((str(place.get("text") or "") for place in _list(order.get("locationCode"))), "")
    facts = {
        "modality": modality,
        "location": location,
        "institution": institution,
        "department": "",
        "code": str(codings[0].get("code") or "") if codings else "",
        "description": description,
        "priority": str(order.get("priority") or "routine"),
    }
    rule = scheduling.rule_for(facts)
    modality = modality or rule.modality
    number, study_uid = accession_number_of(dict(order)), study_uid_of(dict(order))
    if not (modality or number or study_uid or _is_imaging(order)):
        return None
    patient_id, patient = _patient(session, order)
    said = demographics_of_patient(patient, systems(session), institution)
    stations = _stations(order) or list(rule.stations)
    at = _moment(order, archive, ZoneInfo(scheduling.zone))
    requested_id, step_id = procedure_ids_of(order)
    procedure = [_code(coding, description) for coding in codings if coding.get("code")]
    performer = next((str(who["display"]) for who in _list(order.get("performer")) if who.get("display")), "")
    requester = str(_dict(order.get("requester")).get("display") or "")
    reasons = [str(reason.get("text") or "") for reason in _list(order.get("reasonCode"))]
    comments = " ".join(str(remark.get("text") or "") for remark in _list(order.get("note")))
    admission = str(_dict(_dict(order.get("encounter")).get("identifier")).get("value") or "")
    priority = facts["priority"]
    identity = {
        "PatientName": said.name,
        "PatientID": said.identifier,
        "IssuerOfPatientID": said.issuer,
        "PatientBirthDate": f"{said.birth_date:%Y%m%d}" if said.birth_date else "",
        "PatientSex": said.sex,
        "AdmissionID": admission[:64],
    }
    request = document(
        StudyInstanceUID=study_uid,
        AccessionNumber=number[:16],
        PlacerOrderNumberImagingServiceRequest=_typed(order, "PLAC")[:64],
        FillerOrderNumberImagingServiceRequest=_typed(order, "FILL")[:64],
        RequestedProcedureID=requested_id,
        RequestedProcedureDescription=description[:64],
        RequestedProcedureCodeSequence=procedure[:1],
        ReasonForTheRequestedProcedure="; ".join(filter(None, reasons))[:64],
        RequestedProcedureComments=comments[:10240],
        RequestedProcedurePriority=PROCEDURE_PRIORITIES.get(priority, "ROUTINE"),
        RequestingPhysician=requester[:64],
        ReferringPhysicianName=requester[:64],
    )
    step = document(
        Modality=modality[:16],
        ScheduledStationAETitle=stations,
        ScheduledStationName=rule.station_name,
        ScheduledProcedureStepStartDate=f"{at:%Y%m%d}",
        ScheduledProcedureStepStartTime=f"{at:%H%M%S}",
        ScheduledPerformingPhysicianName=performer[:64],
        ScheduledProcedureStepDescription=description[:64],
        ScheduledProtocolCodeSequence=procedure[:1],
        ScheduledProcedureStepID=step_id,
        ScheduledProcedureStepLocation=(location or rule.room)[:16],
    )
    attributes = document(
        **identity,
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=study_uid,
        ProcedureStepLabel=(description or modality or "Imaging")[:64],
        WorklistLabel="Modality",
        ScheduledProcedureStepPriority=PRIORITIES.get(priority, "MEDIUM"),
        ScheduledProcedureStepStartDateTime=f"{at:%Y%m%d%H%M%S%z}",
        InputReadinessState="READY" if order.get("status") in AWAITED else "UNAVAILABLE",
        ScheduledStationNameCodeSequence=[
            document(CodeValue=title, CodingSchemeDesignator="99AET", CodeMeaning=title) for title in stations
        ],
        ScheduledStationClassCodeSequence=[
            document(CodeValue=modality[:16], CodingSchemeDesignator="DCM", CodeMeaning=modality[:16])
        ]
        if modality
        else [],
        ScheduledWorkitemCodeSequence=procedure[:1],
        CommentsOnTheScheduledProcedureStep=comments[:10240],
        ReferencedRequestSequence=[request],
        ScheduledProcedureStepSequence=[step],
    )
    return patient_id, attributes


def _modality(order: Mapping[str, Any]) -> str:
    for detail in _list(order.get("orderDetail")):
        for coding in _list(detail.get("coding")):
            if coding.get("system") == MODALITY and coding.get("code"):
                return str(coding["code"])
    return ""


def _is_imaging(order: Mapping[str, Any]) -> bool:
    return any(
        str(coding.get("code")) in IMAGING
        for category in _list(order.get("category"))
        for coding in _list(category.get("coding"))
    )


def _patient(session: Session, order: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The subject as it stands, and the one it was merged into if it was."""
    logical_id = str(_dict(order.get("subject")).get("reference") or "").removeprefix("Patient/")
    patient = present_document(session, "Patient", logical_id) or {}
    replaced = next(
        (
            str(_dict(link.get("other")).get("reference") or "").removeprefix("Patient/")
            for link in _list(patient.get("link"))
            if link.get("type") == "replaced-by"
        ),
        "",
    )
    survivor = present_document(session, "Patient", replaced) if replaced else None
    return (replaced, survivor) if survivor else (logical_id, patient)


def _stations(order: Mapping[str, Any]) -> list[str]:
    identifiers = (_dict(who.get("identifier")) for who in _list(order.get("performer")))
    return [
        str(identifier["value"])[:16]
        for identifier in identifiers
        if identifier.get("system") == AE_TITLE and identifier.get("value")
    ]


def _moment(order: Mapping[str, Any], archive: Archive, zone: ZoneInfo) -> datetime:
    """When it is planned for, in the site's zone; an order without a time is for now, or for its own date."""
    period = _dict(order.get("occurrencePeriod")).get("start")
    for said in (order.get("occurrenceDateTime"), period, order.get("authoredOn")):
        if said:
            try:
                at = datetime.fromisoformat(str(said))
            except ValueError:
                continue
            return at.astimezone(zone) if at.tzinfo else at.replace(tzinfo=zone)
    return archive.clock.now().astimezone(zone)


def _typed(order: Mapping[str, Any], type_: str) -> str:
    for identifier in _list(order.get("identifier")):
        codings = _list(_dict(identifier.get("type")).get("coding"))
        if any(coding.get("code") == type_ for coding in codings):
            return str(identifier.get("value") or "")
    return ""


def _code(coding: Mapping[str, Any], description: str) -> Document:
    system_ = str(coding.get("system") or "")
    scheme = SCHEMES.get(system_) or ("99LOCAL" if not system_ else system_.rpartition("/")[2])
    value, meaning = str(coding["code"]), str(coding.get("display") or description or coding["code"])
    keyword = "CodeValue" if len(value) <= 16 else "LongCodeValue"
    return document(**{keyword: value, "CodingSchemeDesignator": scheme[:16], "CodeMeaning": meaning[:64]})


SCHEMES = {  # PS3.16 8 (coding schemes), by their FHIR systems
    "http://snomed.info/sct": "SCT",
    "http://loinc.org": "LN",
    "http://dicom.nema.org/resources/ontology/DCM": "DCM",
    "http://hl7.org/fhir/sid/icd-10": "I10",
    "http://www.ama-assn.org/go/cpt": "C4",
    "http://radlex.org": "RADLEX",
    "http://unitsofmeasure.org": "UCUM",
}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
