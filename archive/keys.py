"""SEARCH_KEYS: every attribute that can be searched for, and every one that an answer carries by default.

One row holds all that is known of an attribute; QIDO-RS, C-FIND, the conformance statement and the ready-made
JSON of each row are made from this table. PS3.4 C.6.2.1 and C.3.4 (hierarchy), PS3.18 10.6.3 (results).
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from zlib import crc32

from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import ColumnElement

from archive.model import Instance, Series, Study

Column = InstrumentedAttribute[object] | ColumnElement[object]


class Level(IntEnum):
    """The levels of the information model, from the widest (PS3.4 C.6.2). Patient is searched through
    its studies."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Matching(Enum):
    """How a value is compared (PS3.4 C.2.2.2)."""

    TEXT = "text"  # single value or wildcard
    FOLDED = "folded"  # the same, on a folded column
    PERSON_NAME = "person name"  # on any component group
    UID = "uid"  # one UID or a list
    DATE = "date"  # single or range
    TIME = "time"  # single or range
    DATE_TIME = "date and time"  # one range over a pair of columns
    NUMBER = "number"  # IS and US
    MODALITIES = "modalities"  # of any series of the study
    SOP_CLASSES = "sop classes"  # of any instance of the study
    INDEXED = "indexed"  # a value without a column: see archive.indexed_values
    NONE = "none"  # answered, not searched


@dataclass(frozen=True, slots=True)
class SearchKey:
    """One attribute."""

    keyword: str
    tag: str  # 8 hexadecimal digits, as DICOM JSON writes it
    level: Level
    vr: str
    matching: Matching = Matching.NONE
    columns: tuple[Column, ...] = ()
    answered: bool = True  # in the default answer


P, S, E, I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE  # noqa: E741 - the table reads better so
M = Matching

SEARCH_KEYS: tuple[SearchKey, ...] = (
    SearchKey("PatientName", "00100010", P, "PN", M.PERSON_NAME, (
        Study.name_alphabetic, Study.name_ideographic, Study.name_phonetic, Study.name_pinyin)),
    SearchKey("PatientID", "00100020", P, "LO", M.TEXT, (Study.patient_id,)),
    SearchKey("IssuerOfPatientID", "00100021", P, "LO", M.TEXT, (Study.issuer_of_patient_id,)),
    SearchKey("PatientBirthDate", "00100030", P, "DA", M.DATE, (Study.patient_birth_date,)),
    SearchKey("PatientSex", "00100040", P, "CS", M.TEXT, (Study.patient_sex,)),
    SearchKey("PatientBirthTime", "00100032", P, "TM"),
    SearchKey("OtherPatientIDsSequence", "00101002", P, "SQ", answered=False),
    SearchKey("NumberOfPatientRelatedStudies", "00201200", P, "IS", answered=False),
    SearchKey("NumberOfPatientRelatedSeries", "00201202", P, "IS", answered=False),
    SearchKey("NumberOfPatientRelatedInstances", "00201204", P, "IS", answered=False),
    SearchKey("SpecificCharacterSet", "00080005", S, "CS"),
    SearchKey("StudyDate", "00080020", S, "DA", M.DATE, (Study.study_date,)),
    SearchKey("StudyTime", "00080030", S, "TM", M.TIME, (Study.study_time,)),
    SearchKey("AccessionNumber", "00080050", S, "SH", M.TEXT, (Study.accession_number,)),
    SearchKey("IssuerOfAccessionNumberSequence", "00080051", S, "SQ"),
    SearchKey("InstanceAvailability", "00080056", S, "CS"),
    SearchKey("ModalitiesInStudy", "00080061", S, "CS", M.MODALITIES),
    SearchKey("SOPClassesInStudy", "00080062", S, "UI", M.SOP_CLASSES, answered=False),
    SearchKey("ReferringPhysicianName", "00080090", S, "PN", M.PERSON_NAME,
    (Study.referring_physician_name,)), SearchKey("TimezoneOffsetFromUTC", "00080201", S, "SH"),
    SearchKey("StudyDescription", "00081030", S, "LO", M.FOLDED, (Study.study_description,)),
    SearchKey("ProcedureCodeSequence", "00081032", S, "SQ"),
    SearchKey("NameOfPhysiciansReadingStudy", "00081060", S, "PN", M.INDEXED),
    SearchKey("PatientAge", "00101010", S, "AS", M.INDEXED),
    SearchKey("PatientWeight", "00101030", S, "DS"),
    SearchKey("PatientSize", "00101020", S, "DS"),
    SearchKey("StudyInstanceUID", "0020000D", S, "UI", M.UID, (Study.study_instance_uid,)),
    SearchKey("StudyID", "00200010", S, "SH", M.TEXT, (Study.study_id,)),
    SearchKey("NumberOfStudyRelatedSeries", "00201206", S, "IS", M.NUMBER, (Study.number_of_series,)),
    SearchKey("NumberOfStudyRelatedInstances", "00201208", S, "IS", M.NUMBER, (Study.number_of_instances,)),
    SearchKey("InstitutionName", "00080080", E, "LO", M.INDEXED),
    SearchKey("SeriesDate", "00080021", E, "DA", M.DATE, (Series.series_date,)),
    SearchKey("SeriesTime", "00080031", E, "TM"),
    SearchKey("Modality", "00080060", E, "CS", M.TEXT, (Series.modality,)),
    SearchKey("Manufacturer", "00080070", E, "LO", M.TEXT, (Series.manufacturer,)),
    SearchKey("StationName", "00081010", E, "SH", M.TEXT, (Series.station_name,)),
    SearchKey("SeriesDescription", "0008103E", E, "LO", M.FOLDED, (Series.series_description,)),
    SearchKey("InstitutionalDepartmentName", "00081040", E, "LO", M.INDEXED),
    SearchKey("PerformingPhysicianName", "00081050", E, "PN", M.INDEXED),
    SearchKey("ManufacturerModelName", "00081090", E, "LO", M.INDEXED),
    SearchKey("BodyPartExamined", "00180015", E, "CS", M.TEXT, (Series.body_part_examined,)),
    SearchKey("ProtocolName", "00181030", E, "LO", M.INDEXED),
    SearchKey("SeriesInstanceUID", "0020000E", E, "UI", M.UID, (Series.series_instance_uid,)),
    SearchKey("SeriesNumber", "00200011", E, "IS", M.NUMBER, (Series.series_number,)),
    SearchKey("FrameOfReferenceUID", "00200052", E, "UI", M.INDEXED),
    SearchKey("Laterality", "00200060", E, "CS", M.INDEXED),
    SearchKey("NumberOfSeriesRelatedInstances", "00201209", E, "IS", M.NUMBER, (Series.number_of_instances,)),
    SearchKey("PerformedProcedureStepStartDate", "00400244", E, "DA", M.DATE, (
        Series.performed_procedure_step_start_date,)),
    SearchKey("PerformedProcedureStepStartTime", "00400245", E, "TM", M.TIME, (
        Series.performed_procedure_step_start_time,)),
    SearchKey("RequestAttributesSequence", "00400275", E, "SQ"),
    SearchKey("ImageType", "00080008", I, "CS"),
    SearchKey("SOPClassUID", "00080016", I, "UI", M.UID, (Instance.sop_class_uid,)),
    SearchKey("SOPInstanceUID", "00080018", I, "UI", M.UID, (Instance.sop_instance_uid,)),
    SearchKey("ContentDate", "00080023", I, "DA", M.DATE, (Instance.content_date,)),
    SearchKey("ContentTime", "00080033", I, "TM"),
    SearchKey("AvailableTransferSyntaxUID", "00083002", I, "UI"),
    SearchKey("AcquisitionNumber", "00200012", I, "IS"),
    SearchKey("InstanceNumber", "00200013", I, "IS", M.NUMBER, (Instance.instance_number,)),
    SearchKey("NumberOfFrames", "00280008", I, "IS", M.NUMBER, (Instance.number_of_frames,)),
    SearchKey("Rows", "00280010", I, "US", M.NUMBER, (Instance.rows,)),
    SearchKey("Columns", "00280011", I, "US", M.NUMBER, (Instance.columns,)),
    SearchKey("BitsAllocated", "00280100", I, "US"),
    SearchKey("ContentLabel", "00700080", I, "CS", M.INDEXED),
    SearchKey("ContentDescription", "00700081", I, "LO", M.INDEXED),
    SearchKey("PresentationCreationDate", "00700082", I, "DA"),
    SearchKey("PresentationCreationTime", "00700083", I, "TM"),
    SearchKey("ConceptNameCodeSequence", "0040A043", I, "SQ"),
    SearchKey("CompletionFlag", "0040A491", I, "CS", M.INDEXED),
    SearchKey("VerificationFlag", "0040A493", I, "CS", M.INDEXED),
    SearchKey("ReferencedRequestSequence", "0040A370", I, "SQ"),
    # within sequences (PS3.18 table 10.6.1-5 and what orders are found by): answered with their sequence
    SearchKey("OtherPatientIDsSequence.PatientID", "00101002.00100020", S, "LO", M.INDEXED, answered=False),
    SearchKey("IssuerOfAccessionNumberSequence.LocalNamespaceEntityID", "00080051.00400031", S, "UT",
              M.INDEXED, answered=False),
    SearchKey("IssuerOfAccessionNumberSequence.UniversalEntityID", "00080051.00400032", S, "UT",
              M.INDEXED, answered=False),
    SearchKey("ProcedureCodeSequence.CodeValue", "00081032.00080100", S, "SH", M.INDEXED, answered=False),
    SearchKey("ProcedureCodeSequence.CodingSchemeDesignator", "00081032.00080102", S, "SH", M.INDEXED,
              answered=False),
    SearchKey("ProcedureCodeSequence.CodeMeaning", "00081032.00080104", S, "LO", M.INDEXED, answered=False),
    SearchKey("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009", E, "SH", M.INDEXED,
              answered=False),
    SearchKey("RequestAttributesSequence.RequestedProcedureID", "00400275.00401001", E, "SH", M.INDEXED,
              answered=False),
    SearchKey("RequestAttributesSequence.AccessionNumber", "00400275.00080050", E, "SH", M.INDEXED,
              answered=False),
    SearchKey("RequestAttributesSequence.StudyInstanceUID", "00400275.0020000D", E, "UI", M.INDEXED,
              answered=False),
    SearchKey("ConceptNameCodeSequence.CodeValue", "0040A043.00080100", I, "SH", M.INDEXED, answered=False),
    SearchKey("ConceptNameCodeSequence.CodingSchemeDesignator", "0040A043.00080102", I, "SH", M.INDEXED,
              answered=False),
    SearchKey("ConceptNameCodeSequence.CodeMeaning", "0040A043.00080104", I, "LO", M.INDEXED, answered=False),
    SearchKey("ReferencedRequestSequence.AccessionNumber", "0040A370.00080050", I, "SH", M.INDEXED,
              answered=False),
    SearchKey("ReferencedRequestSequence.RequestedProcedureID", "0040A370.00401001", I, "SH", M.INDEXED,
              answered=False),
)  # fmt: skip

STUDY_MOMENT = SearchKey("StudyDateTime", "", S, "DT", M.DATE_TIME, (Study.study_date, Study.study_time))
"""Study Date and Study Time as one moment, where a query asks for them combined (PS3.4 C.2.2.2.5.3)."""

KEY_BY_TAG = {key.tag: key for key in SEARCH_KEYS}
TAG_BY_KEYWORD = {key.keyword: key.tag for key in SEARCH_KEYS}

PATIENT_COUNTS = ("00201200", "00201202", "00201204")
"""Studies, series and instances of a patient that the asker may know of, counted on demand (PS3.4 C.3.4)."""

RETRIEVE_URL = "00081190"
"""Answered at every level (PS3.18 10.6.3.3), with the base URL of the request."""


def answered_tags(level: Level) -> frozenset[str]:
    """Tags that a row of this level copies from the header for its default answer."""
    levels = (Level.PATIENT, Level.STUDY) if level is Level.STUDY else (level,)
    return frozenset(key.tag for key in SEARCH_KEYS if key.answered and key.level in levels)


TIMEZONE = "00080201"
"""Timezone Offset From UTC, which every level answers (PS3.18 tables 10.6.3-3 to 10.6.3-5)."""

STUDY_TAGS = answered_tags(Level.STUDY)
SERIES_TAGS = answered_tags(Level.SERIES) | {TIMEZONE}
INSTANCE_TAGS = answered_tags(Level.INSTANCE) | {TIMEZONE}


def indexed_paths(*levels: Level) -> tuple[str, ...]:
    """Paths whose values are kept in `indexed_value` for these levels."""
    return tuple(key.tag for key in SEARCH_KEYS if key.matching is Matching.INDEXED and key.level in levels)


STUDY_PATHS = indexed_paths(Level.PATIENT, Level.STUDY)
SERIES_PATHS = indexed_paths(Level.SERIES)
INSTANCE_PATHS = indexed_paths(Level.INSTANCE)

NAME_PATHS = frozenset(key.tag for key in SEARCH_KEYS if key.matching is Matching.INDEXED and key.vr == "PN")
"""Those of them that are names of people."""

INDEX_VERSION = crc32("\n".join((*STUDY_PATHS, "", *SERIES_PATHS, "", *INSTANCE_PATHS)).encode()) & 0x7FFFFFFF
"""Stands for this set of paths: studies of another one are indexed anew (`archive.reindex`)."""
