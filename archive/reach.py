"""A caller's reach as SQL on the image tables: the one place where it is added to a statement.

A clause that speaks of something images do not have (documents, a search on another type) matches no image.
"""

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, exists, false, or_, select, true
from sqlalchemy.orm import aliased

from access.caller import Clause, Reach
from archive.model import Series, Study
from mpi.model import PatientRecord
from records.reach import is_labelled

Selected = TypeVar("Selected", bound=Select[*tuple[Any, ...]])


def within(statement: Selected, reach: Reach) -> Selected:
    """Limit a statement on Study (and what is joined to it) to what the caller may know of."""
    for limit in reach.limits:
        statement = statement.where(or_(false(), *(_condition(clause) for clause in limit)))
    return statement


def _condition(clause: Clause) -> ColumnElement[bool]:
    if clause.documents is not None:
        return false()
    if clause.resource_types is not None and not clause.resource_types & {"ImagingStudy", "*"}:
        return false()
    if clause.except_types is not None and "ImagingStudy" in clause.except_types:
        return false()
    conditions: list[ColumnElement[bool]] = [true()]
    if clause.except_patients is not None:
        conditions.append(Study.patient_logical_id.not_in(clause.except_patients))
    if clause.except_studies is not None:
        conditions.append(Study.study_instance_uid.not_in(clause.except_studies))
    if clause.institutions is not None:
        conditions.append(Study.institution.in_(clause.institutions))
    if clause.departments is not None:
        conditions.append(Study.department.in_(clause.departments))
    if clause.patients is not None:
        conditions.append(Study.patient_logical_id.in_(clause.patients))
    if clause.persons is not None:
        of_person = select(PatientRecord.id).where(PatientRecord.person_id.in_(clause.persons))
        conditions.append(Study.patient_record_id.in_(of_person))
    if clause.studies is not None:
        conditions.append(Study.study_instance_uid.in_(clause.studies))
    if clause.series is not None:
        other = aliased(Series)
        conditions.append(
            exists().where(other.study_id == Study.id, other.series_instance_uid.in_(clause.series))
        )
    if clause.modalities is not None:
        other = aliased(Series)
        conditions.append(exists().where(other.study_id == Study.id, other.modality.in_(clause.modalities)))
    if clause.study_dates is not None:
        first, last = clause.study_dates
        conditions.append(Study.study_date >= first if first else true())
        conditions.append(Study.study_date <= last if last else true())
    if clause.labels is not None:
        conditions.append(is_labelled(clause.labels, "ImagingStudy", Study.logical_id))
    if clause.except_labels is not None:
        conditions.append(~is_labelled(clause.except_labels, "ImagingStudy", Study.logical_id))
    if clause.search:
        conditions.append(_granular(clause.search))
    return and_(*conditions)


def _granular(search: str) -> ColumnElement[bool]:
    """A granular scope's own search (SMART 2.2); one that images do not know opens nothing."""
    conditions: list[ColumnElement[bool]] = []
    for parameter in search.split("&"):
        name, _, value = parameter.partition("=")
        if name not in GRANULAR:
            return false()
        conditions.append(GRANULAR[name](tuple(value.split(","))))
    return and_(*conditions)


def _by_modality(values: tuple[str, ...]) -> ColumnElement[bool]:
    codes = [value.rpartition("|")[2] for value in values]
    other = aliased(Series)
    return exists().where(other.study_id == Study.id, other.modality.in_(codes))


def _by_identifier(values: tuple[str, ...]) -> ColumnElement[bool]:
    uids = [value.rpartition("|")[2].removeprefix("urn:oid:") for value in values]
    return Study.study_instance_uid.in_(uids)


GRANULAR = {"modality": _by_modality, "identifier": _by_identifier}
