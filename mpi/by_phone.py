"""Persons and their phone numbers: who is on record with one, and whether a number belongs to a patient.

A phone on a record is what a paper code and a patient's sign-in go by. One phone may stand on several
records: of a family, or of one person at several hospitals.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from mpi.candidates import hash_of
from mpi.demographics import Demographics
from mpi.features import features_of
from mpi.model import BlockKey, PatientRecord
from mpi.persons import sources_of
from mpi.room import Mpi
from mpi.sealing import demographics_of

LEAST_ENDING = 6  # characters of an identity number, or of a number at the hospital, that prove knowledge


def _digits(phone: str) -> str:
    """A number in E.164 as features have it: digits, without the country where it is China."""
    return phone.removeprefix("+86").removeprefix("+")


def patients_of_person(mpi: Mpi, session: Session, patients: Iterable[str]) -> frozenset[str]:
    """The logical ids of all records of the persons whose records these are, themselves included."""
    wanted = frozenset(patients)
    persons = select(PatientRecord.person_id).where(
        PatientRecord.patient_id.in_(wanted), PatientRecord.person_id.is_not(None)
    )
    rows = session.scalars(select(PatientRecord.patient_id).where(PatientRecord.person_id.in_(persons)))
    return wanted | frozenset(rows)


def phone_belongs(mpi: Mpi, session: Session, patients: Iterable[str], phone: str) -> bool:
    """Whether a number stands on one of the records of the persons whose records these are."""
    rows = session.scalars(
        select(PatientRecord).where(PatientRecord.patient_id.in_(patients_of_person(mpi, session, patients)))
    )
    return any(_digits(phone) in features_of(demographics_of(mpi, row)).phones for row in rows)


def phones_of(mpi: Mpi, session: Session, patient: str) -> tuple[str, ...]:
    """The numbers on the records of a patient's person, as E.164 where they are of mainland China."""
    rows = session.scalars(
        select(PatientRecord).where(
            PatientRecord.patient_id.in_(patients_of_person(mpi, session, (patient,)))
        )
    )
    found = {phone for row in rows for phone in features_of(demographics_of(mpi, row)).phones}
    return tuple(sorted(f"+86{phone}" for phone in found if len(phone) == 11))


def is_on_record(mpi: Mpi, session: Session, phone: str) -> bool:
    """Whether a number stands on anybody's record."""
    hashed = hash_of(mpi.keys, f"phone|{_digits(phone)}")
    return session.scalar(select(BlockKey.hash).where(BlockKey.hash == hashed).limit(1)) is not None


def claimed(mpi: Mpi, session: Session, phones: Iterable[str], name: str, ending: str) -> frozenset[str]:
    """The records of the person on whose record one of these phones, this name and the end of this number
    stand; none when no single person fits.

    ending: the last characters of the identity number, or the whole number at the hospital.
    """
    ending = "".join(each for each in ending.upper() if each.isalnum())
    typed = features_of(Demographics("", "", "", name=name)).name
    if typed is None or len(ending) < LEAST_ENDING:
        return frozenset()
    hashes = [hash_of(mpi.keys, f"phone|{_digits(phone)}") for phone in phones]
    rows = session.scalars(
        select(PatientRecord)
        .join(BlockKey, BlockKey.patient_record_id == PatientRecord.id)
        .where(BlockKey.hash.in_(hashes))
        .distinct()
    ).all()
    persons = set()
    for row in rows:
        said = demographics_of(mpi, row)
        known = features_of(said)
        number = said.identity_number.upper()
        fits = number.endswith(ending) or said.identifier.upper() == ending
        same_name = known.name is not None and (
            known.name.han == typed.han
            if typed.han and known.name.han
            else known.name.letters == typed.letters
        )
        if fits and same_name and row.person_id is not None:
            persons.add(row.person_id)
    if len(persons) != 1:
        return frozenset()
    return frozenset(source.patient_id for source in sources_of(mpi, session, persons.pop()))
