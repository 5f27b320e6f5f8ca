"""Asking the index: who may this be ($match, PDQ), and what else is he called (PIX).

FHIR R4 Patient/$match; IHE ITI TF-2: PIXm (ITI-83), PDQm (ITI-78, ITI-119), PIX and PDQ for HL7 v2.
"""

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller
from kernel.errors import CloudfilmError, Kind
from mpi.candidates import find_candidates, hash_of, hashes_of
from mpi.demographics import Demographics
from mpi.domains import systems
from mpi.features import features_of
from mpi.model import BlockKey, IdentifierDomain, PatientRecord
from mpi.patient_document import GENDERS, issuer_of, system_of
from mpi.resolve import record_of
from mpi.room import Mpi
from mpi.rules import Verdict
from mpi.scoring import Decision, Scored, decide
from mpi.sealing import demographics_of
from records.model import Resource
from records.query import parse_search
from records.reach import within
from records.search import search_in

SEARCH_PATIENTS = Action("Patient", "s")


class UnknownDomain(CloudfilmError):
    """No record of ours is from this assigning authority."""

    kind = Kind.INVALID

    def __init__(self, domain: str, is_target: bool = False) -> None:
        super().__init__(f"The assigning authority {domain!r} is not known.")
        self.is_target = is_target


class UnknownIdentifier(CloudfilmError):
    """The assigning authority is known, the identifier is not."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("The patient identifier is not known in its domain.")


@dataclass(frozen=True, slots=True)
class Match:
    """A patient record that may be the one asked for."""

    patient_id: str
    person_id: int
    score: float  # 0 to 1
    grade: str  # certain, probable, possible, certainly-not
    scored: Scored


@dataclass(frozen=True, slots=True)
class Reference:
    """A number by which a person is known."""

    issuer: str
    identifier: str
    patient_id: str
    system: str  # what the issuer is called in FHIR


def match(
    mpi: Mpi, caller: Caller, said: Demographics, count: int = 10, only_certain: bool = False
) -> list[Match]:
    """Records that may be of the patient who is described, the likeliest first. Raises Forbidden."""
    with mpi.database.transaction() as session:
        return match_within(mpi, session, caller, said, count, only_certain)


def match_within(
    mpi: Mpi, session: Session, caller: Caller, said: Demographics, count: int, only_certain: bool = False
) -> list[Match]:
    """The same within the caller's transaction."""
    caller.require(SEARCH_PATIENTS)
    features = features_of(said)
    matches = [
        Match(
            found.patient_id,
            found.person_id,
            found.scored.probability,
            _grade(mpi, found.scored),
            found.scored,
        )
        for found in find_candidates(mpi, session, features, hashes_of(mpi.keys, features))
    ]
    known = record_of(session, said.issuer, said.identifier) if said.identifier else None
    if known is not None:
        scored = mpi.scorer.score(features, features_of(demographics_of(mpi, known)))
        matches = [found for found in matches if found.patient_id != known.patient_id]
        grade = "certain" if scored.weight > 0 else "probable"
        score = max(0.95, scored.probability)
        matches.insert(0, Match(known.patient_id, known.person_id or 0, score, grade, scored))
    visible = _visible(session, caller, [found.patient_id for found in matches])
    note(session, mpi.clock, caller, "match Patient", detail=f"{len(visible)} found")
    wanted = ("certain",) if only_certain else ("certain", "probable", "possible")
    return [found for found in matches if found.patient_id in visible and found.grade in wanted][:count]


def search_records(mpi: Mpi, session: Session, caller: Caller, said: Demographics, count: int) -> list[str]:
    """Patients whose documents hold each thing that is said: names by their beginning, the rest as it is.

    For questions too vague to be matched, such as a family name with a birth date (PDQ, ITI-21).
    """
    caller.require(SEARCH_PATIENTS)
    asked = _as_search(said)
    if not asked:
        return []
    wanted = replace(parse_search("Patient", asked), count=count)
    found = search_in(mpi.records, session, caller, wanted)
    return [each.logical_id for each in found.matches]


def _as_search(said: Demographics) -> list[tuple[str, str]]:
    family, _, given = said.name.partition("^")
    asked = [("family", family.strip("*")), ("given", given.strip("*^"))]
    asked.append(("birthdate", said.birth_date.isoformat() if said.birth_date else ""))
    asked.append(("gender", GENDERS.get(said.sex, "")))
    asked.append(("phone", said.phone))
    asked.append(("address", said.address))
    asked += [("identifier", each) for each in (said.identifier, said.identity_number)]
    return [(name, _literal(value)) for name, value in asked if value]


def _literal(value: str) -> str:
    """A value whose commas, bars and dollars mean themselves (R4 3.1.1.2)."""
    return "".join(f"\\{each}" if each in "\\,|$" else each for each in value)


def _grade(mpi: Mpi, scored: Scored) -> str:
    weights = mpi.scorer.weights
    if scored.verdict is Verdict.SAME:
        return "certain"
    decision = decide(scored, weights)
    if decision == Decision.LINK:
        return "certain" if scored.weight >= weights.link + CERTAIN_BITS else "probable"
    return "possible" if decision == Decision.REVIEW else "certainly-not"


CERTAIN_BITS = 4.0  # this far above the link threshold a match is called certain


def _visible(session: Session, caller: Caller, patient_ids: list[str]) -> frozenset[str]:
    """Those of some patients that the caller may know of."""
    if caller.reach_for("s").is_everywhere:
        return frozenset(patient_ids)
    statement = select(Resource.logical_id).where(
        Resource.type == "Patient", Resource.logical_id.in_(patient_ids)
    )
    return frozenset(session.scalars(within(statement, caller.reach_for("s"), "Patient")))


def cross_reference(
    mpi: Mpi, caller: Caller, issuer: str, identifier: str, targets: tuple[str, ...] = ()
) -> list[Reference]:
    """The other numbers of the person whom `issuer` calls `identifier`, in all domains or in `targets`.

    Issuers are codes or identifier systems. Raises UnknownDomain, UnknownIdentifier or Forbidden.
    """
    with mpi.database.transaction() as session:
        return cross_reference_within(mpi, session, caller, issuer, identifier, targets)


def cross_reference_within(
    mpi: Mpi, session: Session, caller: Caller, issuer: str, identifier: str, targets: tuple[str, ...]
) -> list[Reference]:
    """The same within the caller's transaction."""
    caller.require(SEARCH_PATIENTS)
    domains = systems(session)
    source = issuer_of(issuer, domains)
    wanted = [issuer_of(target, domains) for target in targets]
    row = record_of(session, source, identifier) or _record_naming(mpi, session, source, identifier)
    if row is None:
        require_domain(session, source, is_target=False)
    if row is None or not _visible(session, caller, [row.patient_id]):
        raise UnknownIdentifier
    rows = session.scalars(
        select(PatientRecord)
        .where(PatientRecord.person_id == row.person_id, PatientRecord.replaced_by.is_(None))
        .order_by(PatientRecord.id)
    ).all()
    visible = _visible(session, caller, [found.patient_id for found in rows])
    note(
        session, mpi.clock, caller, "cross-reference Patient", f"Patient/{row.patient_id}",
        patient_id=row.patient_id,
    )  # fmt: skip
    numbers = _numbers(mpi, [found for found in rows if found.patient_id in visible])
    if not wanted:
        numbers.pop((source, identifier), None)
    for target in {*wanted} - {known for known, _ in numbers}:
        require_domain(session, target, is_target=True)
    return [
        Reference(known, number, patient_id, system_of(known, domains))
        for (known, number), patient_id in numbers.items()
        if not wanted or known in wanted
    ]


def _numbers(mpi: Mpi, rows: list[PatientRecord]) -> dict[tuple[str, str], str]:
    """The numbers of records and those that their sources know beside, each with the record it is of."""
    own = {(row.issuer, row.identifier): row.patient_id for row in rows if "~" not in row.identifier}
    known = {
        (other.system, other.value): row.patient_id
        for row in rows
        for other in demographics_of(mpi, row).other_identifiers
        if other.system
    }
    return own | {number: patient_id for number, patient_id in known.items() if number not in own}


def _record_naming(mpi: Mpi, session: Session, issuer: str, identifier: str) -> PatientRecord | None:
    """The oldest record whose source knows this number beside its own."""
    rows = session.scalars(
        select(PatientRecord)
        .join(BlockKey, BlockKey.patient_record_id == PatientRecord.id)
        .where(
            BlockKey.hash == hash_of(mpi.keys, f"number|{issuer}|{identifier}"),
            PatientRecord.replaced_by.is_(None),
        )
        .order_by(PatientRecord.id)
    )
    return rows.first()


def require_domain(session: Session, issuer: str, *, is_target: bool) -> None:
    """Raise UnknownDomain for an issuer that nobody here uses."""
    registered = session.get(IdentifierDomain, issuer)
    known = select(PatientRecord.id).where(PatientRecord.issuer == issuer).limit(1)
    if registered is None and session.scalar(known) is None:
        raise UnknownDomain(issuer, is_target)
