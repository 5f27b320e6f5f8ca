"""A caller's reach as SQL on documents: the one place where it is added to a statement.

Documents of patients are limited by compartment, institution and what else a clause says. Types that
belong to no patient (organizations, practitioners, codes) are everyone's who may read that type at all.
"""

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, true

from access.caller import Clause, Reach
from records.hashing import hash_of
from records.indexing import is_in_patient_compartment
from records.model import IndexCompartment, IndexToken, Resource
from records.parameters import parameter_number, parameters_of

Selected = TypeVar("Selected", bound=Select[*tuple[Any, ...]])


def within(statement: Selected, reach: Reach, resource_type: str) -> Selected:
    """Limit a statement on Resource rows of one type to what the caller may know of."""
    for limit in reach.limits:
        statement = statement.where(or_(false(), *(_condition(clause, resource_type) for clause in limit)))
    return statement


def _condition(clause: Clause, resource_type: str) -> ColumnElement[bool]:
    if clause.resource_types is not None and resource_type not in clause.resource_types:
        return false()
    if clause.except_types is not None and resource_type in clause.except_types:
        return false()
    granular = [_granular(clause.search, resource_type)] if clause.search else []
    if not is_in_patient_compartment(resource_type):
        return and_(true(), *granular)
    conditions: list[ColumnElement[bool]] = [true(), *granular]
    if clause.institutions is not None:
        conditions.append(Resource.institution.in_(clause.institutions))
    if clause.departments is not None:
        conditions.append(Resource.department.in_(clause.departments))
    if clause.patients is not None:
        members = select(IndexCompartment.c.resource_id).where(
            IndexCompartment.c.patient.in_(clause.patients)
        )
        conditions.append(Resource.id.in_(members))
    if clause.except_patients is not None:
        theirs = select(IndexCompartment.c.resource_id).where(
            IndexCompartment.c.patient.in_(clause.except_patients)
        )
        conditions.append(Resource.id.not_in(theirs))
    if clause.except_studies and resource_type == "ImagingStudy":
        conditions.append(~_named(Clause(studies=clause.except_studies), resource_type))
    if clause.studies is not None or clause.documents is not None:
        conditions.append(_named(clause, resource_type))
    if clause.persons is not None or clause.series is not None:
        return false()  # who made the clause names patients and studies as well where documents are meant
    if clause.modalities is not None:
        conditions.append(_tokens(resource_type, "modality", clause.modalities))
    return and_(*conditions)


def _named(clause: Clause, resource_type: str) -> ColumnElement[bool]:
    """One of the studies, or one of the documents, that a share names."""
    alternatives: list[ColumnElement[bool]] = [false()]
    if clause.documents:
        alternatives.append(Resource.self_hash.in_([hash_of(reference) for reference in clause.documents]))
    if clause.studies and resource_type == "ImagingStudy":
        values = [hash_of("urn:dicom:uid", f"urn:oid:{uid}") for uid in clause.studies]
        number = parameter_number("ImagingStudy", "identifier")
        rows = select(IndexToken.c.resource_id).where(
            IndexToken.c.parameter == number, IndexToken.c.value.in_(values)
        )
        alternatives.append(Resource.id.in_(rows))
    return or_(*alternatives)


def _granular(search: str, resource_type: str) -> ColumnElement[bool]:
    """A granular scope's own search (SMART 2.2): tokens only; one that cannot be judged here opens
    nothing."""
    conditions: list[ColumnElement[bool]] = []
    for part in search.split("&"):
        code, _, value = part.partition("=")
        parameter = parameters_of(resource_type).get(code)
        if parameter is None or parameter.type != "token":
            return false()
        conditions.append(_tokens(resource_type, code, frozenset(value.split(","))))
    return and_(*conditions)


def _tokens(resource_type: str, code: str, values: frozenset[str]) -> ColumnElement[bool]:
    if code not in parameters_of(resource_type):
        return false()
    number = parameter_number(resource_type, code)
    alternatives = [
        IndexToken.c.value == hash_of(*value.split("|", 1))
        if "|" in value
        else IndexToken.c.code == hash_of(value)
        for value in values
    ]
    rows = select(IndexToken.c.resource_id).where(
        IndexToken.c.parameter == number, or_(false(), *alternatives)
    )
    return Resource.id.in_(rows)
