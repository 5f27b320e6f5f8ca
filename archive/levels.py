"""Which level of the information model an attribute belongs to, also where nobody searches for it.

A module of PS3.3 describes the patient, the study, the series or something below. What one modality says of a
series and another of each image (Convolution Kernel: PET and CT) counts as of the image.

PS3.3 C.7.1 to C.7.5 and the series modules of C.8; PS3.18 8.3.4.3 (`includefield=all`).
"""

from pydicom.datadict import tag_for_keyword

from archive.keys import KEY_BY_TAG, Level

GROUPS_OF_STUDY = ("0010", "0012", "0032", "0038")  # patient, clinical trial, request, visit

STUDY_KEYWORDS = """
    SpecificCharacterSet ReferringPhysicianIdentificationSequence ConsultingPhysicianName
    ConsultingPhysicianIdentificationSequence PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
    PhysiciansReadingStudyIdentificationSequence AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence
    ReferencedStudySequence ReferencedPatientSequence LongitudinalTemporalEventType
    ReasonForPerformedProcedureCodeSequence ReasonForVisit ReasonForVisitCodeSequence
"""
SERIES_KEYWORDS = """
    ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription
    IssuerOfClinicalTrialSeriesID
    SeriesDescriptionCodeSequence PerformingPhysicianIdentificationSequence OperatorsName
    OperatorIdentificationSequence ReferencedPerformedProcedureStepSequence RelatedSeriesSequence
    AnatomicalOrientationType PatientPosition SmallestPixelValueInSeries LargestPixelValueInSeries
    PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepID
    PerformedProcedureStepDescription PerformedProtocolCodeSequence PerformedProtocolType
    CommentsOnThePerformedProcedureStep TreatmentSessionUID PresentationIntentType
    ReferencedSurfaceDataSequence PlateType PhosphorType
    PatientOrientationCodeSequence PatientGantryRelationshipCodeSequence
    SeriesType Units CountsSource ReprojectionMethod SUVType RandomsCorrectionMethod
    AttenuationCorrectionMethod DecayCorrection ScatterCorrectionMethod SecondaryCountsType NumberOfSlices
    NumberOfTimeSlices NumberOfRRIntervals NumberOfTimeSlots
    RadiopharmaceuticalInformationSequence InterventionDrugInformationSequence
    InstitutionAddress InstitutionalDepartmentTypeCodeSequence DeviceSerialNumber DeviceUID GantryID
    UDISequence ManufacturerDeviceClassUID SoftwareVersions SpatialResolution DateOfLastCalibration
    TimeOfLastCalibration DateOfManufacture DateOfInstallation PixelPaddingValue
    ConversionType SecondaryCaptureDeviceID SecondaryCaptureDeviceManufacturer
    SecondaryCaptureDeviceManufacturerModelName SecondaryCaptureDeviceSoftwareVersions
    VideoImageFormatAcquired DigitalImageFormatAcquired
    CameraOwnerName LensSpecification LensMake LensModel LensSerialNumber
    PositionReferenceIndicator SynchronizationFrameOfReferenceUID SynchronizationTrigger
    SynchronizationChannel AcquisitionTimeSynchronized TimeSource TimeDistributionProtocol NTPSourceAddress
"""


def _tags(keywords: str) -> frozenset[str]:
    return frozenset(f"{tag_for_keyword(keyword) or 0:08X}" for keyword in keywords.split())


STUDY_ALSO, SERIES_ALSO = _tags(STUDY_KEYWORDS), _tags(SERIES_KEYWORDS)


def level_of(tag: str) -> Level:
    """The level of an attribute by its tag, as DICOM JSON writes it; private ones are of the instance."""
    if key := KEY_BY_TAG.get(tag):
        return key.level
    if tag in SERIES_ALSO:
        return Level.SERIES
    return Level.STUDY if tag in STUDY_ALSO or tag[:4] in GROUPS_OF_STUDY else Level.INSTANCE
