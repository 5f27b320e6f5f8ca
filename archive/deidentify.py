"""De-identification of one object on its way out: the Basic Profile of PS3.15 annex E, by one table.

What identifies is removed, emptied or replaced; UIDs are replaced by others that are the same for the same
input and key, so that a study stays together. Every name of a person, date, time, address and free text goes,
whether the table knows its attribute or not, and private elements go. The pixels stay as they are: burned-in
text is not looked for, so an object that says it has some (0028,0301), or is a document, is refused.
"""

import hashlib
import hmac
from collections.abc import Callable

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from kernel.errors import CloudfilmError, Kind

KEEP_UIDS = frozenset({0x00080016, 0x00081150, 0x00020002, 0x00020010, 0x00020012, 0x0008010C, 0x00080118})
METHOD = "PS3.15 Basic Application Level Confidentiality Profile"

REMOVED = frozenset({  # X of PS3.15 table E.1-1, and what X/Z, X/D and X/Z/D let be removed
    "AcquisitionComments", "AcquisitionContextSequence", "AcquisitionDeviceProcessingDescription",
    "AcquisitionProtocolDescription", "ActualHumanPerformersSequence", "AdditionalPatientHistory",
    "AddressTrial", "AdmissionID", "AdmittingDate", "AdmittingDiagnosesCodeSequence",
    "AdmittingDiagnosesDescription", "AdmittingTime", "Allergies", "Arbitrary", "AuthorObserverSequence",
    "BranchOfService", "CassetteID", "CommentsOnThePerformedProcedureStep", "ConfidentialityCode",
    "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence",
    "ContentCreatorIdentificationCodeSequence",
    "ContributionDescription", "CountryOfResidence", "CurrentObserverTrial", "CurrentPatientLocation",
    "CurveDate", "CurveTime", "CustodialOrganizationSequence", "DataSetTrailingPadding",
    "DerivationDescription", "DetectorID", "DeviceDescription", "DeviceSerialNumber",
    "DigitalSignaturesSequence",
    "DigitalSignatureUID", "DischargeDiagnosisDescription", "DistributionAddress", "DistributionName",
    "EthnicGroup", "FrameComments", "GantryID", "GeneratorID", "HumanPerformerName",
    "HumanPerformerOrganization", "IconImageSequence", "IdentifyingComments", "ImageComments",
    "ImagePresentationComments", "ImagingServiceRequestComments", "Impressions", "InstitutionAddress",
    "InstitutionalDepartmentName", "InstitutionCodeSequence", "InstitutionName",
    "InsurancePlanIdentification",
    "IntendedRecipientsOfResultsIdentificationSequence", "InterpretationApproverSequence",
    "InterpretationAuthor", "InterpretationDiagnosisDescription", "InterpretationIDIssuer",
    "InterpretationRecorder", "InterpretationText", "InterpretationTranscriber", "IssuerOfAdmissionID",
    "IssuerOfPatientID", "IssuerOfServiceEpisodeID", "LastMenstrualDate", "MAC", "MedicalAlerts",
    "MedicalRecordLocator", "MilitaryRank", "ModifiedAttributesSequence", "ModifiedImageDescription",
    "ModifyingDeviceID", "NameOfPhysiciansReadingStudy", "NamesOfIntendedRecipientsOfResults", "Occupation",
    "OperatorIdentificationSequence", "OperatorsName", "OrderCallbackPhoneNumber", "OrderEnteredBy",
    "OrderEntererLocation", "OriginalAttributesSequence", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "OverlayDate", "OverlayTime", "PatientAddress", "PatientBirthName",
    "PatientBirthTime", "PatientComments", "PatientInstitutionResidence", "PatientInsurancePlanCodeSequence",
    "PatientMotherBirthName", "PatientPrimaryLanguageCodeSequence", "PatientReligiousPreference",
    "PatientState", "PatientTelephoneNumbers", "PatientTelecomInformation", "PerformedLocation",
    "PerformedProcedureStepDescription", "PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime",
    "PerformedProcedureStepID", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "PerformedStationAETitle", "PerformedStationGeographicLocationCodeSequence", "PerformedStationName",
    "PerformingPhysicianIdentificationSequence", "PerformingPhysicianName", "PersonAddress",
    "PersonTelephoneNumbers", "PhysicianApprovingInterpretation", "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence", "PhysiciansReadingStudyIdentificationSequence",
    "PlateID", "PreMedication", "PregnancyStatus", "ProtocolName", "ReasonForStudy",
    "ReasonForTheImagingServiceRequest", "ReferencedPatientSequence", "ReferencedPatientAliasSequence",
    "ReferringPhysicianAddress", "ReferringPhysicianIdentificationSequence",
    "ReferringPhysicianTelephoneNumbers", "RegionOfResidence", "RequestAttributesSequence",
    "RequestedContrastAgent", "RequestedProcedureComments", "RequestedProcedureDescription",
    "RequestedProcedureID", "RequestedProcedureLocation", "RequestingPhysician", "RequestingService",
    "ResponsibleOrganization", "ResponsiblePerson", "ResultsComments", "ResultsDistributionListSequence",
    "ResultsIDIssuer", "ScheduledHumanPerformersSequence", "ScheduledPatientInstitutionResidence",
    "ScheduledPerformingPhysicianIdentificationSequence", "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription", "ScheduledProcedureStepEndDate", "ScheduledProcedureStepEndTime",
    "ScheduledProcedureStepLocation", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
    "ScheduledStationAETitle", "ScheduledStationGeographicLocationCodeSequence", "ScheduledStationName",
    "ScheduledStationNameCodeSequence", "SeriesDescription", "ServiceEpisodeDescription", "ServiceEpisodeID",
    "SmokingStatus", "SourceIdentifier", "SpecialNeeds", "StationName", "StudyComments",
    "StudyDescription", "StudyIDIssuer", "TextComments", "TextString", "TimezoneOffsetFromUTC",
    "TopicAuthor", "TopicKeywords", "TopicSubject", "TopicTitle", "VerifyingOrganization", "VisitComments",
    "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered", "SeriesDate", "SeriesTime",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime",
    "AssignedLocation", "ConfidentialityConstraintOnPatientDataDescription", "ContentDescription",
    "DeviceLabel", "ImageID", "InterpretationID", "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar", "PatientTransportArrangements",
    "ReasonForTheRequestedProcedure", "ReasonForVisit", "RequestedProcedureDescriptionTrial",
    "RequestedSeriesDescription", "ResultsID", "RouteOfAdmissions", "ScheduledStudyLocation",
    "SpecimenAccessionNumber", "TelephoneNumberTrial", "UserContentLabel", "UserContentLongLabel",
    "ScheduledProcedureStepID", "AcquisitionProtocolName", "PlacerOrderNumberProcedure",
    "FillerOrderNumberProcedure",
    "SourceSerialNumber", "StudyLocation", "DeviceID",
})  # fmt: skip

EMPTIED = frozenset({  # Z of the table
    "AccessionNumber", "ContentCreatorName", "FillerOrderNumberImagingServiceRequest", "PatientBirthDate",
    "PatientID", "PatientName", "PatientSex", "PlacerOrderNumberImagingServiceRequest",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime", "VerifyingObserverName",
})  # fmt: skip
DUMMIES = frozenset({"PersonName", "TextValue", "UnformattedTextValue"})  # D: a report needs some value
DUMMY = "REMOVED"
REMOVED_VRS = frozenset({"PN", "DA", "DT", "TM", "LT", "ST", "UT", "UR", "AS", "UN"})
CLINICAL_TRIAL = 0x0012  # its group, without what it says of the de-identification itself
KEPT_OF_TRIAL = frozenset({"PatientIdentityRemoved", "DeidentificationMethod"})


class CannotDeidentify(CloudfilmError):
    """An object whose pixels or document may name the patient."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self) -> None:
        super().__init__("What identifies is burned into this object, or may stand in its document.")


def deidentify(dataset: Dataset, key: bytes) -> None:
    """Take what identifies out of a data set, in place. Raises CannotDeidentify.

    key: makes the new UIDs, which nobody without it can trace back.
    """
    if dataset.get("BurnedInAnnotation", "") == "YES" or "EncapsulatedDocument" in dataset:
        raise CannotDeidentify
    _walk(dataset, lambda uid: new_uid_for(uid, key))
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def new_uid_for(uid: str, key: bytes) -> str:
    """The UID that stands for another one (PS3.5 B.2)."""
    digest = hmac.digest(key, uid.encode(), hashlib.sha256)
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _walk(dataset: Dataset, renamed: Callable[[str], str]) -> None:
    for element in list(dataset):
        if element.tag.is_private or element.keyword in REMOVED or 0x5000 <= element.tag.group <= 0x50FF:
            del dataset[element.tag]
        elif 0x6000 <= element.tag.group <= 0x60FF and element.tag.element == 0x4000:
            del dataset[element.tag]  # overlay comments
        elif element.keyword in EMPTIED:
            element.value = ""
        elif element.keyword in DUMMIES:
            element.value = DUMMY
        elif element.VR in REMOVED_VRS or _is_of_a_trial(element):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _walk(item, renamed)
        elif element.VR == "UI" and element.tag not in KEEP_UIDS:
            _rename(element, renamed)


def _is_of_a_trial(element: DataElement) -> bool:
    return element.tag.group == CLINICAL_TRIAL and element.keyword not in KEPT_OF_TRIAL


def _rename(element: DataElement, renamed: Callable[[str], str]) -> None:
    """Replace instance UIDs; those that the standard itself assigns mean the same everywhere."""
    several = element.VM > 1
    uids = list(element.value) if several else [element.value]
    changed = [
        uid if not uid or str(uid).startswith("1.2.840.10008.") else UID(renamed(str(uid))) for uid in uids
    ]
    element.value = changed if several else changed[0]
