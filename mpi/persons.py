"""Persons: the records of one human being, and the golden record drawn from them.

Nothing is stored: a golden record is drawn when it is asked for, so it never lags behind its sources. Each
field comes from the source that has the most authority; among equals, from the one that spoke last.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from mpi.demographics import SAID, Demographics
from mpi.features import features_of
from mpi.model import PatientRecord
from mpi.room import Mpi
from mpi.sealing import demographics_of


@dataclass(frozen=True, slots=True)
class Source:
    """One record of a person."""

    record_id: int
    patient_id: str
    said: Demographics
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Golden:
    """What is taken to be true of a person; `source_of` says from which Patient each field came."""

    demographics: Demographics
    source_of: dict[str, str]
    sources: tuple[Source, ...]


def sources_of(mpi: Mpi, session: Session, person_id: int) -> tuple[Source, ...]:
    """The records of a person, but for those merged into others; the oldest first."""
    rows = session.scalars(
        select(PatientRecord)
        .where(PatientRecord.person_id == person_id, PatientRecord.replaced_by.is_(None))
        .order_by(PatientRecord.id)
    )
    return tuple(Source(row.id, row.patient_id, demographics_of(mpi, row), row.changed_at) for row in rows)


def golden_record(sources: tuple[Source, ...]) -> Golden:
    """Draw the golden record of at least one source."""
    ranked = sorted(sources, key=lambda source: (source.said.authority, source.changed_at), reverse=True)
    values: dict[str, object] = {}
    source_of: dict[str, str] = {}
    for name in SAID:
        for source in ranked:
            if _is_fit(name, source.said):
                values[name] = getattr(source.said, name)
                source_of[name] = source.patient_id
                break
    best = ranked[0].said
    drawn = Demographics(
        best.issuer, best.identifier, best.institution, authority=best.authority, **values  # type: ignore[arg-type]
    )  # fmt: skip
    return Golden(drawn, source_of, tuple(sources))


def _is_fit(name: str, said: Demographics) -> bool:
    """Whether a field holds a value that may stand for the person: no placeholder, no broken number."""
    features = features_of(said)
    if name == "name":
        return features.name is not None
    if name == "birth_date":
        return features.birth_date is not None and said.birth_date is not None
    if name == "identity_number":
        return features.identity is not None and (
            features.identity.is_valid or not features.identity.is_resident
        )
    if name == "phone":
        return bool(features.phones)
    return bool(getattr(said, name))
