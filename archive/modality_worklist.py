"""A workitem drawn as a modality worklist item (PS3.4 K.6.1, PS3.3 C.4.10 to C.4.12, table K.6-1).

What a UPS says elsewhere or not at all stands in the workitem's own Scheduled Procedure Step Sequence; this
puts the two together in the form that a modality asks for.
"""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from archive.attributes import Document, document, element, item, tag_of, text, values
from archive.workitem_model import State
from archive.workitems import modality_of, scheduled_at, stations_of

COPIED = (  # as they stand at the root of the workitem
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime",
    "PatientSex", "PatientSize", "PatientWeight", "PatientAddress", "EthnicGroup", "PatientComments",
    "MedicalAlerts", "Allergies", "PregnancyStatus", "SpecialNeeds", "PatientState", "LastMenstrualDate",
    "ConfidentialityConstraintOnPatientDataDescription", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription", "CurrentPatientLocation", "PatientInstitutionResidence",
    "ReferencedPatientSequence", "ReferencedStudySequence", "InstitutionName", "VisitStatusID",
)  # fmt: skip
OF_REQUEST = (  # of the item of the Referenced Request Sequence
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "RequestedProcedureID", "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence", "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence", "RequestedProcedureComments",
    "RequestedProcedurePriority", "RequestingPhysician", "RequestingService",
    "ReferringPhysicianName", "PatientTransportArrangements", "ConfidentialityCode",
    "NamesOfIntendedRecipientsOfResults", "OrderEnteredBy", "OrderCallbackPhoneNumber",
    "ImagingServiceRequestComments", "IssueDateOfImagingServiceRequest",
)  # fmt: skip
PRIORITIES = {"HIGH": "HIGH", "MEDIUM": "ROUTINE", "LOW": "LOW"}


def worklist_item(workitem: Document, zone: ZoneInfo) -> Document:
    """The item. Type 1 attributes are there for every workitem: what was not said follows from what was."""
    request = item(workitem, "ReferencedRequestSequence")
    drawn = {tag_of(keyword): workitem[tag_of(keyword)] for keyword in COPIED if tag_of(keyword) in workitem}
    drawn |= {
        tag_of(keyword): request[tag_of(keyword)] for keyword in OF_REQUEST if tag_of(keyword) in request
    }
    uid = text(workitem, "SOPInstanceUID")
    study_uid = text(workitem, "StudyInstanceUID") or text(request, "StudyInstanceUID")
    label = text(workitem, "ProcedureStepLabel")
    defaults = {
        "StudyInstanceUID": study_uid or uid,
        "RequestedProcedureID": text(request, "AccessionNumber") or uid[-16:],
        "RequestedProcedurePriority": PRIORITIES.get(
            text(workitem, "ScheduledProcedureStepPriority"), "ROUTINE"
        ),
    }
    for keyword, value in defaults.items():
        if not values(drawn, keyword):
            drawn[tag_of(keyword)] = element(keyword, value)
    if not (
        values(drawn, "RequestedProcedureDescription") or values(drawn, "RequestedProcedureCodeSequence")
    ):
        drawn[tag_of("RequestedProcedureDescription")] = element("RequestedProcedureDescription", label)
    step = _step(workitem, zone, drawn, label)
    drawn[tag_of("ScheduledProcedureStepSequence")] = element("ScheduledProcedureStepSequence", step)
    return dict(sorted(drawn.items()))


def _step(workitem: Document, zone: ZoneInfo, drawn: Mapping[str, Document], label: str) -> Document:
    day, time = scheduled_at(workitem, zone)
    state = text(workitem, "ProcedureStepState")
    step = {
        "Modality": modality_of(workitem),
        "ScheduledStationAETitle": stations_of(workitem),
        "ScheduledProcedureStepStartDate": f"{day:%Y%m%d}" if day else "",
        "ScheduledProcedureStepStartTime": time,
        "ScheduledProcedureStepDescription": label,
        "ScheduledProcedureStepID": text(drawn, "RequestedProcedureID"),
        "ScheduledProcedureStepStatus": "STARTED" if state == State.IN_PROGRESS else "SCHEDULED",
    }
    said = item(workitem, "ScheduledProcedureStepSequence")
    complete = document(**step) | {tag: value for tag, value in said.items() if value.get("Value")}
    when = (
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "ScheduledProcedureStepStatus",
    )
    complete |= document(**{keyword: step[keyword] for keyword in when})
    return dict(sorted(complete.items()))
