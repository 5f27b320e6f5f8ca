"""Images against orders and registrations, both ways.

When a study is new, its header is compared with the order that its Study Instance UID or accession number
names, and with the registration of its patient; when an order or a registration comes or changes, it is
compared with the studies that are there. Agreement binds the study to the order. Small differences are
noted and bind as well. A contradiction is held for review and shown: the study stays with the patient of
its header, is bound to nothing, and a person says whose it is. Nothing is merged silently, and no byte is
changed.

IHE Scheduled Workflow and Patient Information Reconciliation; PS3.3 C.7.1.1, C.7.3.1.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import CORRECT_IMAGES, SEARCH_IMAGES, Caller, system
from archive.documents import parse_marked
from archive.model import Study, study_of
from archive.patient_moves import move_study, undo_moves
from archive.reach import within
from archive.reconcile_model import StudyComparison
from archive.room import Archive
from kernel.changes import Change, record_change
from kernel.errors import CloudfilmError, Kind
from mpi.compare import compare_birth_dates, compare_names, compare_sex
from mpi.demographics import Authority, Demographics
from mpi.features import features_of
from mpi.links import link
from mpi.model import PatientRecord
from mpi.resolve import is_contradicted, surviving, told_apart
from mpi.sealing import demographics_of
from records.identifiers import find_all_by_identifier, present_document
from records.model import Resource
from records.orders import STUDY_UID, accession_number_of, study_uid_of

COMPARER = system("reconciliation")
SEALED = "study_comparison.sealed"
MOST_STUDIES = 200  # of one patient that are compared again when its registration changes


class State(StrEnum):
    """What a comparison came to."""

    AGREES = "agrees"
    DIFFERS = "differs"  # noted, and bound
    CONFLICT = "conflict"  # held for review
    CONFIRMED = "confirmed"  # a person said: it is this patient's
    REJECTED = "rejected"  # a person said: it is not


BOUND = frozenset({State.AGREES, State.DIFFERS, State.CONFIRMED})


class NoSuchComparison(CloudfilmError):
    """There is no such comparison, or it is not in a state for this."""

    kind = Kind.NOT_FOUND

    def __init__(self, number: int) -> None:
        super().__init__(f"Comparison {number} was not found, or was decided already.")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field, as the header and as the other source have it."""

    field: str
    header: str
    other: str
    level: str  # same, sound, near, typo, ...; missing where one of them is silent


@dataclass(frozen=True, slots=True)
class Comparison:
    """A study beside an order or a registration."""

    id: int
    study_instance_uid: str
    accession_number: str
    source: str  # ServiceRequest/x or Patient/x
    patient_ids: tuple[str, str]  # of the study, of the source
    state: State
    fields: tuple[Difference, ...]
    compared_at: datetime
    decided_by: str
    decided_at: datetime | None


def follow_reconciliation(archive: Archive, session: Session, change: Change) -> None:
    """Compare what a change brings with what is there."""
    if change.kind == "order-changed":
        _compare_order(archive, session, change.subject)
    elif change.kind == "patient-changed":
        of_patient = select(Study).where(Study.patient_logical_id == change.subject)
        for study in session.scalars(of_patient.order_by(Study.id.desc()).limit(MOST_STUDIES)).all():
            _compare_study(archive, session, study)
    else:
        found = study_of(session, change.subject)
        if found is not None:
            _compare_study(archive, session, found)


def _compare_study(archive: Archive, session: Session, study: Study) -> None:
    record = session.get_one(PatientRecord, study.patient_record_id)
    if record.authority > Authority.IMAGE:
        _compare(archive, session, study, f"Patient/{record.patient_id}", record)
    for order_id in _orders_of(session, study):
        _compare_with_order(archive, session, study, order_id)


def _compare_order(archive: Archive, session: Session, order_id: str) -> None:
    order = present_document(session, "ServiceRequest", order_id)
    if order is None:
        return
    uid, number = study_uid_of(order), accession_number_of(order)
    institution = session.scalar(
        select(Resource.institution).where(Resource.type == "ServiceRequest", Resource.logical_id == order_id)
    )
    numbered = (Study.accession_number == number) & (Study.institution == institution)
    named = or_(Study.study_instance_uid == uid, numbered) if number else Study.study_instance_uid == uid
    for study in session.scalars(select(Study).where(named).limit(MOST_STUDIES)).all():
        _compare_with_order(archive, session, study, order_id)


def _orders_of(session: Session, study: Study) -> list[str]:
    """The orders that a study's UID or accession number names."""
    found = find_all_by_identifier(
        session, "ServiceRequest", STUDY_UID, f"urn:oid:{study.study_instance_uid}", study.institution
    )
    if study.accession_number:
        found += find_all_by_identifier(
            session, "ServiceRequest", "", study.accession_number, study.institution
        )
    return list(dict.fromkeys(found))


def _compare_with_order(archive: Archive, session: Session, study: Study, order_id: str) -> None:
    order = present_document(session, "ServiceRequest", order_id) or {}
    patient_id = str(order.get("subject", {}).get("reference", "")).partition("/")[2]
    record = session.scalar(select(PatientRecord).where(PatientRecord.patient_id == patient_id))
    if record is not None:
        source = f"ServiceRequest/{order_id}"
        _compare(archive, session, study, source, surviving(session, record))


def _compare(archive: Archive, session: Session, study: Study, source: str, record: PatientRecord) -> None:
    header = _header_of(study)
    other = demographics_of(archive.mpi, record)
    fields = compare_fields(header, other)
    own = session.get_one(PatientRecord, study.patient_record_id)
    state = _state(header, other, fields, is_one_record=own.id == record.id,
                   is_one_person=own.person_id == record.person_id)  # fmt: skip
    row = session.scalar(
        select(StudyComparison)
        .where(StudyComparison.study_id == study.id, StudyComparison.source == source)
        .with_for_update()
    )
    if row is not None and row.state in (State.CONFIRMED, State.REJECTED):
        return  # a person has decided
    before = row.state if row is not None else ""
    if row is None:
        row = StudyComparison(study_id=study.id, source=source)
        session.add(row)
    row.patient_logical_id, row.state, row.compared_at = record.patient_id, state, archive.clock.now()
    plain = [[each.field, each.header, each.other, each.level] for each in fields]
    row.sealed = archive.mpi.keys.seal_bytes(json.dumps(plain, ensure_ascii=False).encode(), SEALED)
    session.flush()
    if before != state:
        _tell(archive, session, study, row)
    agrees = state in BOUND and own.person_id != record.person_id
    if agrees and record.id not in told_apart(session, own.id):
        link(archive.mpi, session, COMPARER, record.patient_id, own.patient_id)


def _tell(archive: Archive, session: Session, study: Study, row: StudyComparison) -> None:
    """A study was bound to its order, or is held for review."""
    if row.state == State.CONFLICT:
        kind = "study-contradicts"
    elif row.source.startswith("ServiceRequest/") and row.state in BOUND:
        kind = "study-ordered"
    else:
        return
    record_change(
        session, archive.clock, kind, study.study_instance_uid,
        source=row.source, comparison=row.id, state=row.state,
    )  # fmt: skip


def _header_of(study: Study) -> Demographics:
    """What the stored header says of the patient."""
    attributes = parse_marked(study.attributes)
    name: dict[str, str] = next(iter(attributes.get("00100010", {}).get("Value", ())), {})
    groups = [str(name.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return Demographics(
        study.issuer_of_patient_id,
        study.patient_id,
        study.institution,
        "=".join(groups).rstrip("="),
        study.patient_birth_date,
        study.patient_sex,
    )


def compare_fields(header: Demographics, other: Demographics) -> tuple[Difference, ...]:
    """The patient of a header beside the one of another source, field by field."""
    one, two = features_of(header), features_of(other)
    rows = (
        ("patient_id", header.identifier, other.identifier,
         "same" if header.identifier == other.identifier else "different"),
        ("name", _shown(header.name), _shown(other.name), compare_names(one.name, two.name)),
        ("birth_date", _day(header), _day(other), compare_birth_dates(one, two)),
        ("sex", header.sex, other.sex, compare_sex(one.sex, two.sex)),
    )  # fmt: skip
    return tuple(Difference(field, said, known, level or "missing") for field, said, known, level in rows)


def _state(
    header: Demographics,
    other: Demographics,
    fields: tuple[Difference, ...],
    *,
    is_one_record: bool,
    is_one_person: bool,
) -> State:
    levels = {each.field: each.level for each in fields}
    if all(level == "same" for level in levels.values()):
        return State.AGREES
    if is_one_record:
        return State.DIFFERS
    if is_contradicted(other, header) or levels["name"] in ("given", "family", "different"):
        return State.CONFLICT
    is_plainly_one = levels["name"] in ("same", "sound") and levels["birth_date"] == levels["sex"] == "same"
    return State.DIFFERS if is_one_person or is_plainly_one else State.CONFLICT


def _shown(name: str) -> str:
    return " ".join(group.replace("^", " ").strip() for group in name.split("=") if group.strip("^ "))


def _day(said: Demographics) -> str:
    return said.birth_date.isoformat() if said.birth_date else ""


def comparisons(
    archive: Archive, caller: Caller, state: State = State.CONFLICT, most: int = 50, after: int = 0
) -> tuple[list[Comparison], int]:
    """Comparisons in one state, the oldest first, of studies that the caller may know of; and how many.

    after: how many to leave out, for paging. Raises Forbidden.
    """
    caller.require(SEARCH_IMAGES)
    of_state = (
        select(StudyComparison, Study)
        .join(Study, Study.id == StudyComparison.study_id)
        .where(StudyComparison.state == state)
    )
    with archive.database.snapshot() as session:
        reached = within(of_state, caller.reach_for("s"))
        total = session.scalar(select(func.count()).select_from(reached.subquery())) or 0
        rows = session.execute(reached.order_by(StudyComparison.id).offset(after).limit(most)).all()
        return [_as_value(archive, row, study) for row, study in rows], total


def lately_decided(archive: Archive, caller: Caller, most: int = 10) -> list[Comparison]:
    """What people decided, the latest first, of studies that the caller may know of. Raises Forbidden."""
    caller.require(CORRECT_IMAGES)
    decided = (
        select(StudyComparison, Study)
        .join(Study, Study.id == StudyComparison.study_id)
        .where(StudyComparison.state.in_((State.CONFIRMED, State.REJECTED)))
        .order_by(StudyComparison.decided_at.desc(), StudyComparison.id.desc())
        .limit(most)
    )
    with archive.database.snapshot() as session:
        rows = session.execute(within(decided, caller.reach_for("u"))).all()
        return [_as_value(archive, row, study) for row, study in rows]


def _as_value(archive: Archive, row: StudyComparison, study: Study) -> Comparison:
    plain: list[list[Any]] = json.loads(archive.mpi.keys.open_bytes(row.sealed, SEALED))
    return Comparison(
        row.id,
        study.study_instance_uid,
        study.accession_number,
        row.source,
        (study.patient_logical_id, row.patient_logical_id),
        State(row.state),
        tuple(Difference(*each) for each in plain),
        row.compared_at,
        row.decided_by,
        row.decided_at,
    )


def decide(archive: Archive, caller: Caller, number: int, *, same_patient: bool) -> None:
    """Say whose a held study is. The same patient: it goes to the patient of the order.

    Raises NoSuchComparison when it is not held, or Forbidden.
    """
    caller.require(CORRECT_IMAGES)
    with archive.database.transaction() as session:
        row, study = _for_decision(session, caller, number, (State.CONFLICT,))
        row.state = State.CONFIRMED if same_patient else State.REJECTED
        row.decided_at, row.decided_by = archive.clock.now(), caller.principal.id[:64]
        if same_patient:
            target = session.scalar(
                select(PatientRecord).where(PatientRecord.patient_id == row.patient_logical_id)
            )
            if target is not None:
                move_study(archive, session, study, surviving(session, target), f"comparison {row.id}")
        session.flush()
        _tell(archive, session, study, row)
        _note(archive, session, caller, row, study)


def undo_decision(archive: Archive, caller: Caller, number: int) -> None:
    """Take a decision back: the study goes home, and is held again. Raises NoSuchComparison or Forbidden."""
    caller.require(CORRECT_IMAGES)
    with archive.database.transaction() as session:
        row, study = _for_decision(session, caller, number, (State.CONFIRMED, State.REJECTED))
        undo_moves(archive, session, f"comparison {row.id}")
        row.state, row.decided_at, row.decided_by = State.CONFLICT, None, ""
        session.flush()
        _tell(archive, session, study, row)
        _note(archive, session, caller, row, study)


def _for_decision(
    session: Session, caller: Caller, number: int, states: tuple[State, ...]
) -> tuple[StudyComparison, Study]:
    row = session.get(StudyComparison, number, with_for_update=True)
    if row is None or row.state not in states:
        raise NoSuchComparison(number)
    study = session.scalar(within(select(Study).where(Study.id == row.study_id), caller.reach_for("u")))
    if study is None:
        raise NoSuchComparison(number)
    return row, study


def _note(archive: Archive, session: Session, caller: Caller, row: StudyComparison, study: Study) -> None:
    note(
        session, archive.clock, caller, "reconcile ImagingStudy", study.study_instance_uid,
        patient_id=study.patient_logical_id, detail=f"{row.source} {row.state}",
    )  # fmt: skip
