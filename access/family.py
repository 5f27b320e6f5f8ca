"""Authorized persons: who may open a patient's paper codes beside the patient, named by the patient or staff.

A phone number is what proves such a person. Taking it back takes effect at the next opening, and ends the
visits that this phone has open.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Caller
from access.grant_model import AuthorizedPerson, ShareGrant, ShareVisit
from access.grants import MAKE_SHARE, SEE_SHARES, NoSuchShare, own_patients
from access.phones import masked, normal_phone, phone_index
from access.tokens import Access
from kernel.clock import new_id

RELATIONS = ("spouse", "parent", "child", "sibling", "guardian", "carer", "other")


@dataclass(frozen=True, slots=True)
class Authorized:
    """An authorized person as its list shows it; the number is masked."""

    id: str
    name: str
    relation: str
    phone: str
    added_at: datetime


def add_person(
    access: Access, caller: Caller, patient: str, phone_text: str, name: str, relation: str
) -> str:
    """Let a phone open this patient's paper codes; returns the id to take it back by.

    For staff, the door has checked that the caller may know of the patient. Raises Forbidden, NoSuchShare
    for another's patient, or InvalidPhone.
    """
    caller.require(MAKE_SHARE)
    _require_own(caller, patient)
    phone, person_id = normal_phone(phone_text), new_id()
    with access.database.transaction() as session:
        session.execute(
            insert(AuthorizedPerson).values(
                id=person_id,
                patient=patient,
                phone=access.keys.seal_bytes(phone.encode(), f"authorized {person_id}"),
                phone_index=phone_index(access.keys, phone),
                masked=masked(phone),
                name=name.strip()[:100],
                relation=relation if relation in RELATIONS else "other",
                added_by=caller.principal.id,
                added_at=access.clock.now(),
            )
        )
        note(
            session, access.clock, caller, "add authorized person", person_id,
            patient_id=patient, detail=masked(phone),
        )  # fmt: skip
    return person_id


def _require_own(caller: Caller, patient: str) -> None:
    """A patient, or a visitor, names persons for its own records only."""
    own = own_patients(caller)
    if patient not in own and (own or caller.principal.role in ("patient", "visitor")):
        raise NoSuchShare


def list_persons(access: Access, caller: Caller, patients: frozenset[str]) -> tuple[Authorized, ...]:
    """The authorized persons of some patients. Raises Forbidden or NoSuchShare."""
    caller.require(SEE_SHARES)
    for patient in patients:
        _require_own(caller, patient)
    with access.database.snapshot() as session:
        rows = session.scalars(
            select(AuthorizedPerson)
            .where(AuthorizedPerson.patient.in_(patients), AuthorizedPerson.revoked_at.is_(None))
            .order_by(AuthorizedPerson.added_at)
        )
        return tuple(Authorized(row.id, row.name, row.relation, row.masked, row.added_at) for row in rows)


def remove_person(access: Access, caller: Caller, person_id: str) -> None:
    """Take an authorization back. Raises Forbidden or NoSuchShare."""
    caller.require(MAKE_SHARE)
    with access.database.transaction() as session:
        row = session.get(AuthorizedPerson, person_id)
        if row is None:
            raise NoSuchShare
        _require_own(caller, row.patient)
        now = access.clock.now()
        row.revoked_at = row.revoked_at or now
        of_patient = select(ShareGrant.id).where(ShareGrant.patient == row.patient)
        session.execute(
            update(ShareVisit)
            .where(
                ShareVisit.grant_id.in_(of_patient),
                ShareVisit.relation == "family",
                or_(
                    ShareVisit.visitor_index == row.masked,
                    ShareVisit.visitor == row.masked,  # from before it was sealed
                ),
                ShareVisit.revoked_at.is_(None),
            )
            .values(revoked_at=now)
        )
        note(session, access.clock, caller, "remove authorized person", person_id, patient_id=row.patient)


def is_authorized(access: Access, session: Session, patients: frozenset[str], phone: str) -> bool:
    """Whether a phone is of an authorized person of one of the patients."""
    found = session.scalar(
        select(AuthorizedPerson.id)
        .where(
            AuthorizedPerson.patient.in_(patients),
            AuthorizedPerson.phone_index == phone_index(access.keys, phone),
            AuthorizedPerson.revoked_at.is_(None),
        )
        .limit(1)
    )
    return found is not None
