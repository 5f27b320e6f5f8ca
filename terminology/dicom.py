"""DICOM's code system DCM and its context groups (PS3.16 annexes B and D), from the tables of pydicom, whose
version stands for that of the tables.

A context group becomes the value set `http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html`,
its FHIR name being `https://dicom.nema.org/.../CID_29`; both URLs, `urn:dicom:cid:29` and its id
`dicom-cid-29` find it.
Standards: PS3.16 annex A (FHIR value sets of context groups), annex D (DCM).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pydicom
from pydicom.sr._cid_dict import cid_concepts, name_for_cid
from pydicom.sr._concepts_dict import concepts

from terminology.code_system import DocumentCodeSystem

VERSION = pydicom.__version__
DCM = "http://dicom.nema.org/resources/ontology/DCM"
SYSTEMS = {  # coding scheme designator (PS3.16 8-1): the URI that FHIR uses
    "DCM": DCM,
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
    "MDC": "urn:iso:std:iso:11073:10101",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "FMA": "http://sig.biostr.washington.edu/projects/fm/AboutFM.html",
    "MSH": "urn:oid:2.16.840.1.113883.6.177",
}
VALUE_SET = "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_{}.html"
dictionary: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = concepts  # type: ignore[assignment]
CID = re.compile(
    r"(?:dicom-cid-|https?://dicom\.nema\.org/\S{0,80}(?:sect_CID_|[Cc][Ii][Dd][-_]?)|urn:dicom:cid:)(\d{1,5})(?:\.html)?"
)


@lru_cache(maxsize=8)
def code_system(scheme: str) -> DocumentCodeSystem:
    """What PS3.16 uses of a coding scheme: all of DCM, a fragment of any other (SNOMED CT's part is licensed
    for use in DICOM)."""
    found: dict[str, dict[str, str]] = {}
    for row in dictionary[scheme].values():
        for code, (display, _groups) in row.items():
            found.setdefault(code, {"code": code, "display": display})
    name = "DICOM_Controlled_Terminology_Definitions" if scheme == "DCM" else f"DICOM_{scheme}"
    return DocumentCodeSystem(
        {
            "resourceType": "CodeSystem",
            "id": f"dicom-{scheme.lower()}",
            "url": SYSTEMS[scheme],
            "version": VERSION,
            "name": name,
            "title": f"{scheme} as DICOM PS3.16 uses it",
            "status": "active",
            "content": "complete" if scheme == "DCM" else "fragment",
            "caseSensitive": True,
            "concept": [found[code] for code in sorted(found)],
        }
    )


FRAGMENTS = {SYSTEMS[scheme]: scheme for scheme in ("DCM", "SCT", "LN", "RADLEX", "MDC", "NCIt")}


def context_group(url: str) -> dict[str, Any] | None:
    """The value set of a context group, or None for another URL."""
    match = CID.fullmatch(url)
    return _context_group(int(match[1])) if match else None


@lru_cache(maxsize=256)
def _context_group(number: int) -> dict[str, Any] | None:
    members = cid_concepts.get(number)
    if members is None:
        return None
    includes = []
    for scheme, keywords in sorted(members.items()):
        concepts = {}
        for keyword in keywords:
            for code, (display, groups) in dictionary.get(scheme, {}).get(keyword, {}).items():
                if number in groups:
                    concepts[code] = {"code": code, "display": display}
        if concepts:
            includes.append(
                {
                    "system": SYSTEMS.get(scheme, f"urn:dicom:scheme:{scheme}"),
                    "concept": list(concepts.values()),
                }
            )
    return {"resourceType": "ValueSet", **_row(number), "compose": {"include": includes}}


def _row(number: int) -> dict[str, str]:
    return {
        "id": f"dicom-cid-{number}",
        "url": VALUE_SET.format(number),
        "version": VERSION,
        "name": f"CID{number}_{name_for_cid.get(number, '')}",
        "title": f"CID {number} {_spaced(name_for_cid.get(number, ''))}",
        "status": "active",
    }


def index() -> Iterator[dict[str, str]]:
    """What each context group's value set is found by."""
    return map(_row, context_groups())


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name)


def context_groups() -> list[int]:
    """The numbers of every context group."""
    return sorted(cid_concepts)
