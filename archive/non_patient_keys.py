"""What is no patient's: hanging protocols, color palettes, implant templates, protocols and inventories.

One row holds all that is known of a category; the funnel, search, the routes and the checker read this table.
Attributes are those of each category's Query/Retrieve information model.

Standards: PS3.18 12.1.1 (resource categories), PS3.4 GG (Non-Patient Object Storage), U, X, BB, HH, II, KK.
"""

from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword

from archive.keys import Level, Matching, SearchKey
from archive.non_patient_model import NonPatientInstance


@dataclass(frozen=True, slots=True)
class Category:
    """A category of non-patient instances."""

    name: str  # `npi-name` of the URI
    sop_classes: frozenset[str]
    keys: tuple[SearchKey, ...]

    @property
    def by_tag(self) -> dict[str, SearchKey]:
        """Its keys by tag, as queries name them."""
        return {key.tag: key for key in self.keys}


COMMON = (
    SearchKey("SpecificCharacterSet", "00080005", Level.INSTANCE, "CS"),
    SearchKey("SOPClassUID", "00080016", Level.INSTANCE, "UI", Matching.UID, (
        NonPatientInstance.sop_class_uid,)),
    SearchKey("SOPInstanceUID", "00080018", Level.INSTANCE, "UI", Matching.UID, (
        NonPatientInstance.sop_instance_uid,)),
    SearchKey("InstanceAvailability", "00080056", Level.INSTANCE, "CS"),
    SearchKey("AvailableTransferSyntaxUID", "00083002", Level.INSTANCE, "UI"),
)  # fmt: skip

CODE = (".CodeValue", ".CodingSchemeDesignator", ".CodeMeaning")


def _key(path: str) -> SearchKey:
    tags = [tag_for_keyword(part) or 0 for part in path.split(".")]
    vr = dictionary_VR(tags[-1])
    matching = Matching.NONE if vr == "SQ" else Matching.INDEXED
    dotted = ".".join(f"{tag:08X}" for tag in tags)
    return SearchKey(path, dotted, Level.INSTANCE, vr, matching, answered=len(tags) == 1)


def _category(name: str, sop_classes: tuple[str, ...], attributes: str, codes: str = "") -> Category:
    """`attributes` are answered and matched; `codes`, sequences of codes, are matched by each part."""
    paths = [*attributes.split(), *(path for code in codes.split() for path in _coded(code))]
    return Category(
        name,
        frozenset(f"1.2.840.10008.5.1.4.{each}" for each in sop_classes),
        (*COMMON, *map(_key, dict.fromkeys(paths))),
    )


def _coded(sequence: str) -> list[str]:
    top = [] if "." in sequence else [sequence]
    return [*top, *(sequence + part for part in CODE)]


CATEGORIES = (
    _category("color-palettes", ("39.1",),
              "ContentLabel ContentDescription ContentCreatorName PaletteColorLookupTableUID "
              "AlternateContentDescriptionSequence"),
    _category("defined-procedure-protocols", ("1.1.200.1", "1.1.200.7"),
              "ProtocolName ContentLabel ContentDescription ContentCreatorName Modality EquipmentModality "
              "Manufacturer ManufacturerModelName InstanceCreationDate InstanceCreationTime "
              "CustodialOrganizationSequence CustodialOrganizationSequence.InstitutionName "
              "PotentialReasonsForProcedure PotentialDiagnosticTasks PredecessorProtocolSequence "
              "PredecessorProtocolSequence.ReferencedSOPInstanceUID ModelSpecificationSequence "
              "ModelSpecificationSequence.Manufacturer ModelSpecificationSequence.ManufacturerModelName",
              "ResponsibleGroupCodeSequence PotentialScheduledProtocolCodeSequence "
              "PotentialRequestedProcedureCodeSequence PotentialReasonsForProcedureCodeSequence "
              "AnatomicRegionSequence"),
    _category("hanging-protocols", ("38.1",),
              "HangingProtocolName HangingProtocolDescription HangingProtocolLevel HangingProtocolCreator "
              "HangingProtocolCreationDateTime HangingProtocolUserGroupName NumberOfPriorsReferenced "
              "NumberOfScreens NominalScreenDefinitionSequence HangingProtocolDefinitionSequence "
              "HangingProtocolDefinitionSequence.Modality HangingProtocolDefinitionSequence.Laterality",
              "HangingProtocolUserIdentificationCodeSequence "
              "HangingProtocolDefinitionSequence.AnatomicRegionSequence "
              "HangingProtocolDefinitionSequence.ProcedureCodeSequence "
              "HangingProtocolDefinitionSequence.ReasonForRequestedProcedureCodeSequence"),
    _category("implant-templates", ("43.1", "44.1", "45.1"),
              "Manufacturer ImplantName ImplantSize ImplantPartNumber ImplantType ImplantTemplateVersion "
              "EffectiveDateTime ReplacedImplantTemplateSequence DerivationImplantTemplateSequence "
              "OriginalImplantTemplateSequence ImplantAssemblyTemplateName ImplantAssemblyTemplateIssuer "
              "ImplantAssemblyTemplateVersion ImplantAssemblyTemplateType SurgicalTechnique "
              "ReplacedImplantAssemblyTemplateSequence ImplantTemplateGroupName "
              "ImplantTemplateGroupDescription ImplantTemplateGroupIssuer ImplantTemplateGroupVersion",
              "ImplantTypeCodeSequence ProcedureTypeCodeSequence"),
    _category("inventories", ("1.1.201.1",),
              "ContentDate ContentTime InventoryLevel InventoryPurpose InventoryInstanceDescription "
              "InventoryCompletionStatus InstitutionName ScopeOfInventorySequence"),
    _category("protocol-approvals", ("1.1.200.3",),
              "InstanceCreationDate InstanceCreationTime ApprovalSubjectSequence "
              "ApprovalSubjectSequence.ReferencedSOPClassUID "
              "ApprovalSubjectSequence.ReferencedSOPInstanceUID ApprovalSequence "
              "ApprovalSequence.AssertionDateTime ApprovalSequence.AssertionUID",
              "ApprovalSequence.AssertionCodeSequence"),
)  # fmt: skip

CATEGORY_BY_NAME = {category.name: category for category in CATEGORIES}
CATEGORY_OF_CLASS = {uid: category for category in CATEGORIES for uid in category.sop_classes}
