"""What shares name: studies and reports found within their maker's reach, or by an accession number whose
images are still to come; and whose a visitor's phone is.

A paper code is made when the report is printed, or before the patient is examined. What it opens is found
when it is opened, and again when a study or a report of its number comes in. Two persons under one
accession number are a mistake in the hospital's numbers: such a code opens neither.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from access.caller import Caller
from access.family import is_authorized
from access.grant_model import AuthorizedPerson, ShareGrant, ShareItem
from access.grants import (
    LINK,
    MAKE_SHARE,
    PAPER,
    PATIENT,
    PHONE,
    InvalidTerms,
    Made,
    Named,
    Terms,
    add_items,
    make_grant,
)
from access.phones import phone_index
from access.tokens import Access
from archive.model import Study, study_of
from archive.reach import within
from archive.retrieve import NotFound
from archive.room import Archive
from kernel.changes import Change, record_change
from kernel.errors import Forbidden
from mpi.by_phone import patients_of_person, phone_belongs
from mpi.model import PatientRecord
from mpi.room import Mpi
from records.hashing import hash_of
from records.identifiers import find_by_identifier, present_document
from records.model import IndexToken, Resource
from records.orders import STUDY_UID
from records.parameters import parameter_number

MOST_STUDIES = 50  # of one share


def share_studies(
    archive: Archive, access: Access, caller: Caller, studies: tuple[str, ...], terms: Terms, kind: str = LINK
) -> Made:
    """Share some studies of one patient, with their reports unless the terms leave them out.

    Raises Forbidden, NotFound for a study outside of the caller's reach, InvalidTerms or InvalidPhone.
    """
    caller.require(MAKE_SHARE)
    wanted = tuple(dict.fromkeys(studies))[: MOST_STUDIES + 1]
    if not 1 <= len(wanted) <= MOST_STUDIES:
        raise InvalidTerms(f"A share names 1 to {MOST_STUDIES} studies.")
    with archive.database.transaction() as session:
        statement = within(select(Study).where(Study.study_instance_uid.in_(wanted)), caller.reach_for("r"))
        rows = session.scalars(statement.order_by(Study.id)).all()
        if len(rows) != len(wanted):
            raise NotFound("The study")
        if len(_persons(session, {row.patient_logical_id for row in rows})) > 1:
            raise InvalidTerms("A share is of one patient's studies.")
        return make_grant(access, session, caller, kind, _named(archive.mpi, session, rows), terms)


def _named(mpi: Mpi, session: Session, rows: Sequence[Study]) -> Named:
    return Named(
        rows[0].institution,
        rows[0].patient_logical_id,
        rows[0].accession_number,
        tuple((row.study_instance_uid, row.patient_logical_id) for row in rows),
        *_split(each for row in rows for each in _reports(mpi, session, row)),
    )


def share_accession_number(
    archive: Archive, access: Access, caller: Caller, accession_number: str, institution: str, terms: Terms
) -> Made:
    """Make a paper code for an accession number, whether or not its images are there.

    institution: whose number it is; empty: the caller's own. Raises Forbidden or InvalidTerms.
    """
    caller.require(MAKE_SHARE)
    number = accession_number.strip()
    own = caller.principal.institution
    owner = institution or own or archive.institution
    if not 1 <= len(number) <= 64 or not number.isprintable():
        raise InvalidTerms("An accession number has 1 to 64 characters.")
    if own and owner != own and not caller.reach_for("r").is_everywhere:
        raise Forbidden("make a code for another institution", "Ask that institution for it.")
    with archive.database.transaction() as session:
        return grant_of_number(archive.mpi, access, session, caller, number, owner, terms)


def grant_of_number(
    mpi: Mpi, access: Access, session: Session, caller: Caller, number: str, institution: str, terms: Terms
) -> Made:
    """Make a paper code within the caller's transaction. Raises Forbidden or InvalidTerms."""
    named = _named_by_number(mpi, session, institution, number)
    return make_grant(access, session, caller, PAPER, named, terms)


def _named_by_number(mpi: Mpi, session: Session, institution: str, number: str, patient: str = "") -> Named:
    """What an accession number names now; only what is of `patient`'s person, when it is given."""
    rows = list(
        session.scalars(
            select(Study)
            .where(Study.accession_number == number, Study.institution == institution)
            .order_by(Study.id)
            .limit(MOST_STUDIES)
        )
    )
    subject = patient or _patient_of_order(session, institution, number)
    owners = {row.patient_logical_id for row in rows}
    if not subject:
        if len(_persons(session, owners)) > 1:
            return Named(institution, accession_number=number)
        subject = rows[0].patient_logical_id if rows else ""
    same = patients_of_person(mpi, session, (subject,)) if subject else frozenset()
    rows = [row for row in rows if row.patient_logical_id in same]
    reports = [report for row in rows for report in _reports(mpi, session, row)]
    reports += [each for each in _reports_by(session, institution, "", number) if each.patient in same]
    return Named(
        institution,
        subject,
        number,
        tuple((row.study_instance_uid, row.patient_logical_id) for row in rows),
        *_split(reports),
    )


def _patient_of_order(session: Session, institution: str, number: str) -> str:
    order = find_by_identifier(session, "ServiceRequest", "", number, institution)
    document = (present_document(session, "ServiceRequest", order) if order else None) or {}
    return str(document.get("subject", {}).get("reference", "")).removeprefix("Patient/")


def _persons(session: Session, patients: set[str]) -> set[int | None]:
    rows = session.scalars(select(PatientRecord.person_id).where(PatientRecord.patient_id.in_(patients)))
    return set(rows)


@dataclass(frozen=True, slots=True)
class _Report:
    """A report as a share names it, with its results (Observations)."""

    logical_id: str
    patient: str
    results: tuple[str, ...]


def _split(reports: Iterable[_Report]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Reports, and their results, as `Named` has them."""
    found = tuple(dict.fromkeys(reports))
    return (
        tuple((each.logical_id, each.patient) for each in found),
        tuple((result, each.patient) for each in found for result in each.results),
    )


def _reports(mpi: Mpi, session: Session, study: Study) -> list[_Report]:
    """The reports of a study: by its UID, or by its number in its institution."""
    found = _reports_by(session, "", STUDY_UID, f"urn:oid:{study.study_instance_uid}")
    if study.accession_number:
        found += _reports_by(session, study.institution, "", study.accession_number)
    same = patients_of_person(mpi, session, (study.patient_logical_id,))
    return [each for each in dict.fromkeys(found) if each.patient in same]


def _reports_by(session: Session, institution: str, system: str, value: str) -> list[_Report]:
    rows = session.execute(
        select(Resource.logical_id, Resource.body)
        .join(IndexToken, IndexToken.c.resource_id == Resource.id)
        .where(
            IndexToken.c.parameter == parameter_number("DiagnosticReport", "identifier"),
            IndexToken.c.value == hash_of(system, value),
            Resource.type == "DiagnosticReport",
            ~Resource.deleted,
            *([Resource.institution == institution] if institution else ()),
        )
        .order_by(Resource.id)
    )
    found = []
    for logical_id, body in rows:
        report = json.loads(body)
        subject = str(report.get("subject", {}).get("reference", ""))
        results = (str(each.get("reference", "")).partition("/") for each in report.get("result", []))
        observed = tuple(name for kind, _, name in results if kind == "Observation" and name)
        found.append(_Report(logical_id, subject.removeprefix("Patient/"), observed))
    return found


def refresh(archive: Archive, session: Session, grant: ShareGrant) -> None:
    """Let a grant name what came in since it was made, within the caller's transaction."""
    if grant.kind == PAPER:
        named = _named_by_number(
            archive.mpi, session, grant.institution, grant.accession_number, grant.patient
        )
        is_known_now = bool(named.patient and not grant.patient)
        if is_known_now:
            grant.patient = named.patient
        if add_items(session, grant.id, named) or is_known_now:
            record_change(session, archive.clock, "share-changed", grant.id)
        return
    uids = select(ShareItem.identifier).where(ShareItem.grant_id == grant.id, ShareItem.kind == "study")
    for study in session.scalars(select(Study).where(Study.study_instance_uid.in_(uids))).all():
        reports, results = _split(_reports(archive.mpi, session, study))
        if add_items(session, grant.id, Named(grant.institution, reports=reports, results=results)):
            record_change(session, archive.clock, "share-changed", grant.id)


def relation_of(
    archive: Archive, access: Access, session: Session, grant: ShareGrant | None, phone: str
) -> str:
    """Whose a phone is, for a share: patient, family or recipient; empty: nobody's who may open it."""
    if grant is None:
        return ""
    index = phone_index(access.keys, phone)
    if grant.binding == PHONE:
        return "recipient" if grant.phone_index == index else ""
    if grant.binding != PATIENT:
        return ""
    refresh(archive, session, grant)
    if not grant.patient:
        return ""
    if phone_belongs(archive.mpi, session, (grant.patient,), phone):
        return "patient"
    own = patients_of_person(archive.mpi, session, (grant.patient,))
    return "family" if is_authorized(access, session, own, phone) else ""


def _move(session: Session, patient: str, into: str) -> None:
    for table in (ShareGrant, ShareItem, AuthorizedPerson):
        session.execute(update(table).where(table.patient == patient).values(patient=into))


def follow_for_shares(archive: Archive, session: Session, change: Change) -> None:
    """Shares take in a study or a report that came, and follow a patient that is merged into another."""
    if change.kind == "patient-merged":
        _move(session, change.subject, str(change.data["into"]))
        return
    if change.kind == "study-created":
        study = study_of(session, change.subject)
        numbers = {(study.accession_number, study.institution)} if study else set()
        uid = change.subject
    else:
        numbers = {(str(change.data.get("accession_number", "")), str(change.data.get("institution", "")))}
        uid = str(change.data.get("study", ""))
    for number, institution in numbers:
        if number:
            asked = {"number": number, "institution": institution}
            for grant in session.scalars(_BY_NUMBER, asked).all():
                refresh(archive, session, grant)
    if uid:
        for grant in session.scalars(_BY_STUDY, {"uid": uid}).all():
            refresh(archive, session, grant)


# Built once: every study that comes is looked for in the shares.
_BY_NUMBER = select(ShareGrant).where(
    ShareGrant.revoked_at.is_(None),
    ShareGrant.accession_number == bindparam("number"),
    ShareGrant.institution == bindparam("institution"),
)
_BY_STUDY = select(ShareGrant).where(
    ShareGrant.id.in_(
        select(ShareItem.grant_id).where(ShareItem.kind == "study", ShareItem.identifier == bindparam("uid"))
    ),
    ShareGrant.revoked_at.is_(None),
)
