"""Demographics: what one source says of a patient, as any door can say it.

Standards: PS3.3 C.2.2 (Patient Identification), HL7 v2 PID (chapter 3), FHIR Patient.
"""

from dataclasses import dataclass, fields, replace
from datetime import date
from enum import IntEnum
from typing import Any


class Authority(IntEnum):
    """How much a source's word on demographics counts; a lower one never overwrites a higher one."""

    IMAGE = 1  # a DICOM header: typed at a modality
    REPORT = 2  # copied along with a result
    ORDER = 3  # copied along with an order
    REGISTRATION = 4  # ADT, FHIR Patient, an operator


@dataclass(frozen=True, slots=True)
class Identifier:
    """A number that some authority gave to the patient, beside the one the record is known by."""

    system: str  # assigning authority or URI; empty: not said
    value: str
    type: str = ""  # HL7 table 0203: MR, NI, SS, PPN, MC, ...


@dataclass(frozen=True, slots=True)
class Demographics:
    """What one source says of one patient. An empty field was not said and changes nothing.

    name: a DICOM person name: `family^given` in up to three groups, alphabetic=ideographic=phonetic.
    """

    issuer: str  # assigning authority of the identifier; the institution's code when the source has none
    identifier: str  # the source's own patient number; empty: an unknown patient
    institution: str  # code of the institution that owns the record
    name: str = ""
    birth_date: date | None = None
    sex: str = ""  # M, F, O or U
    identity_number: str = ""  # resident identity number (GB 11643) or passport
    insurance_number: str = ""
    phone: str = ""  # several are separated by ;
    address: str = ""
    other_identifiers: tuple[Identifier, ...] = ()
    authority: Authority = Authority.IMAGE
    erased: frozenset[str] = frozenset()  # fields that the source deletes (HL7 v2 sends `""`)


SAID = (
    "name", "birth_date", "sex", "identity_number", "insurance_number", "phone", "address",
    "other_identifiers",
)  # fmt: skip
"""The fields that a source says; the rest of Demographics is about the source."""


def merged(known: Demographics, said: Demographics) -> Demographics:
    """What a record says after its source has spoken again.

    At the same or a higher authority what is said replaces what was known; at a lower one it only fills
    what is empty. What is not said stays.
    """
    wins = said.authority >= known.authority
    changes: dict[str, Any] = {}
    for name in SAID:
        old, new = getattr(known, name), getattr(said, name)
        if wins and name in said.erased:
            changes[name] = type(old)() if old is not None and name != "birth_date" else None
        elif new and (wins or not old):
            changes[name] = new
    return replace(
        known,
        authority=max(known.authority, said.authority),
        institution=known.institution or said.institution,
        **changes,
    )


def to_plain(demographics: Demographics) -> dict[str, Any]:
    """What is said, as JSON types, without what is empty."""
    plain: dict[str, Any] = {}
    for name in SAID:
        value = getattr(demographics, name)
        if isinstance(value, date):
            plain[name] = value.isoformat()
        elif name == "other_identifiers" and value:
            plain[name] = [[item.system, item.value, item.type] for item in value]
        elif value:
            plain[name] = value
    return plain


def from_plain(
    plain: dict[str, Any], issuer: str, identifier: str, institution: str, authority: int
) -> Demographics:
    """The inverse of `to_plain`."""
    values = {name: value for name, value in plain.items() if name in _NAMES}
    if "birth_date" in values:
        values["birth_date"] = date.fromisoformat(values["birth_date"])
    if "other_identifiers" in values:
        values["other_identifiers"] = tuple(Identifier(*item) for item in values["other_identifiers"])
    return Demographics(issuer, identifier, institution, authority=Authority(authority), **values)


_NAMES = frozenset(field.name for field in fields(Demographics))
