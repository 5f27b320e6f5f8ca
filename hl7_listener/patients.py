"""PID and MRG as demographics (chapter 3.4.2, 3.4.10)."""

from access.site import patient_id_issuer
from hl7_listener.data_types import authority_of, date_of, person_name
from hl7_listener.er7 import Segment, Value
from hl7_listener.room import ContentError, Work
from mpi.characters import has_han
from mpi.demographics import Authority, Demographics, Identifier
from mpi.identity_number import parse_identity_number
from mpi.resolve import Identified, identify

SEXES = {
    "M": "M", "F": "F", "O": "O", "U": "U", "A": "O", "N": "U", "1": "M", "2": "F", "男": "M", "女": "F",
    "MALE": "M", "FEMALE": "F",
}  # fmt: skip  # HL7 table 0001; GB/T 2261.1
IDENTITY, INSURANCE = frozenset({"NI", "NNCHN", "PPN", "DL"}), frozenset({"HC", "MC", "MB", "SS", "SB"})
REPRESENTATIONS = {"A": 0, "I": 1, "P": 2}  # HL7 table 0465 -> group of a DICOM person name
ERASABLE = {
    5: "name", 7: "birth_date", 8: "sex", 11: "address", 13: "phone", 19: "identity_number",
}  # fmt: skip


def identify_patient(work: Work, authority: Authority, pid: Segment | None = None) -> Identified:
    """The patient of a message. Raises ContentError when PID or its number is missing."""
    pid = pid or work.message.first("PID")
    if not pid.fields:
        raise ContentError("PID", "the segment is missing", "100")
    said = demographics_of(work, pid, authority)
    if not said.identifier:
        raise ContentError("PID-3", "a patient identifier is needed")
    found = identify(work.hl7.mpi, work.session, work.caller, said)
    if not found.is_changed:
        work.unchanged.add(f"Patient/{found.patient_id}")
    return found


def demographics_of(work: Work, pid: Segment, authority: Authority) -> Demographics:
    """What a PID segment says."""
    own: tuple[str, str] | None = None
    identity = insurance = ""
    others = []
    for value in (*pid.values(3), *pid.values(2), *pid.values(4)):
        number, issuer, type_ = value.component(1), authority_of(value, 4), value.component(5)
        if not number:
            continue
        if type_ in IDENTITY:
            identity = identity or number
        elif type_ in INSURANCE:
            insurance = insurance or number
        elif own is None:
            own = issuer, number
        else:
            others.append(Identifier(issuer, number, type_))
    national = pid.get(19)
    parsed = parse_identity_number(national)
    if national and (not identity or (parsed is not None and parsed.is_resident)):
        identity = national
    issuer, number = own or ("", "")
    issuer = issuer or patient_id_issuer(work.session, work.institution)
    return Demographics(
        issuer=issuer[:64],
        identifier=number[:64],
        institution=work.institution,
        name=_name(pid.values(5)),
        birth_date=date_of(pid.get(7)),
        sex=SEXES.get(pid.get(8).upper(), ""),
        identity_number=identity,
        insurance_number=insurance,
        phone=";".join(phone for value in (*pid.values(13), *pid.values(14)) if (phone := _phone(value))),
        address=next((_address(value) for value in pid.values(11)), ""),
        other_identifiers=tuple(others),
        authority=authority,
        erased=frozenset(name for number, name in ERASABLE.items() if pid.is_deleted(number)),
    )


def prior_demographics(work: Work, mrg: Segment, like: Demographics) -> Demographics:
    """The number that a merge does away with: MRG-1, in the survivor's domain if it names none."""
    value = mrg.value(1)
    number = value.component(1) or mrg.get(4)
    if not number:
        raise ContentError("MRG-1", "the prior patient identifier is needed")
    issuer = authority_of(value, 4) or like.issuer
    return Demographics(
        issuer[:64], number[:64], work.institution, _name(mrg.values(7)), authority=Authority.REGISTRATION
    )


def _name(values: tuple[Value, ...]) -> str:
    groups = ["", "", ""]
    for value in values:
        text = person_name(value)
        stated = REPRESENTATIONS.get(value.component(8))
        at = stated if stated is not None else int(has_han(text))
        groups[at] = groups[at] or text
    return "=".join(groups).rstrip("=")


def _phone(value: Value) -> str:
    return value.component(1) or value.component(12) or value.component(6) + value.component(7)


def _address(value: Value) -> str:
    street = value.component(1)
    parts = [value.component(4), value.component(3), street, value.component(2)]
    if any(map(has_han, parts)):
        return "".join(part for part in parts if part)
    western = (street, value.component(2), value.component(3), value.component(4), value.component(5))
    return " ".join(part for part in western if part)
