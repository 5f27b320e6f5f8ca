"""A caller's reach as SQL on documents: the one place where it is added to a statement.

Documents of patients are limited by compartment, institution and what else a clause says. Types that
belong to no patient (organizations, practitioners, codes) are everyone's who may read that type at all.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, exists, false, or_, true

from access.caller import Clause, Reach
from kernel.database import table_of
from records.aliases import fresh
from records.hashing import either, hash_of
from records.indexing import is_in_patient_compartment
from records.model import IndexCompartment, IndexToken, Resource
from records.parameters import parameter_number, parameters_of

Selected = TypeVar("Selected", bound=Select[*tuple[Any, ...]])

SECURITY = "_security"  # the search parameter of meta.security


def within(statement: Selected, reach: Reach, resource_type: str) -> Selected:
    """Limit a statement on Resource rows of one type to what the caller may know of."""
    return statement.where(*reach_of_type(reach, resource_type, Resource))


def reach_of_type(reach: Reach, resource_type: str, resource: Any) -> list[ColumnElement[bool]]:
    """The conditions of a reach on rows of one type. resource: the columns of the table, or of an alias."""
    return [
        or_(false(), *(_condition(clause, resource_type, resource) for clause in limit))
        for limit in reach.limits
    ]


def reach_of_types(reach: Reach, types: Iterable[str], resource: Any) -> ColumnElement[bool]:
    """The types' rows that a reach holds; types with the same conditions stand together."""
    named = sorted(types)
    if reach.is_everywhere:
        return and_(resource.type == named[0] if len(named) == 1 else resource.type.in_(named))
    return or_(
        false(),
        *(and_(resource.type == type_, *reach_of_type(reach, type_, resource)) for type_ in named),
    )


def is_labelled(labels: Iterable[str], resource_type: str, logical_id: Any) -> ColumnElement[bool]:
    """Whether the document of this id has one of some security labels, `system|code` or `code`."""
    own = fresh(table_of(Resource))
    return exists().where(
        own.c.type == resource_type,
        own.c.logical_id == logical_id,
        _tokens(resource_type, SECURITY, frozenset(labels), own.c),
    )


def _condition(clause: Clause, resource_type: str, resource: Any) -> ColumnElement[bool]:
    if clause.resource_types is not None and resource_type not in clause.resource_types:
        return false()
    if clause.except_types is not None and resource_type in clause.except_types:
        return false()
    conditions: list[ColumnElement[bool]] = [true()]
    if clause.search:
        conditions.append(_granular(clause.search, resource_type, resource))
    if clause.labels is not None:
        conditions.append(_tokens(resource_type, SECURITY, clause.labels, resource))
    if clause.except_labels is not None:
        conditions.append(~_tokens(resource_type, SECURITY, clause.except_labels, resource))
    if not is_in_patient_compartment(resource_type):
        return and_(*conditions)
    if clause.institutions is not None:
        conditions.append(resource.institution.in_(clause.institutions))
    if clause.departments is not None:
        conditions.append(resource.department.in_(clause.departments))
    if clause.patients is not None:
        conditions.append(_is_of(clause.patients, resource))
    if clause.except_patients is not None:
        conditions.append(~_is_of(clause.except_patients, resource))
    if clause.except_studies and resource_type == "ImagingStudy":
        conditions.append(~_named(Clause(studies=clause.except_studies), resource_type, resource))
    if clause.studies is not None or clause.documents is not None:
        conditions.append(_named(clause, resource_type, resource))
    if clause.persons is not None or clause.series is not None:
        return false()  # who made the clause names patients and studies as well where documents are meant
    if clause.modalities is not None:
        conditions.append(_tokens(resource_type, "modality", clause.modalities, resource))
    return and_(*conditions)


def _is_of(patients: Iterable[str], resource: Any) -> ColumnElement[bool]:
    member = fresh(IndexCompartment)
    return exists().where(member.c.resource_id == resource.id, member.c.patient.in_(sorted(patients)))


def _named(clause: Clause, resource_type: str, resource: Any) -> ColumnElement[bool]:
    """One of the studies, or one of the documents, that a share names."""
    alternatives: list[ColumnElement[bool]] = [false()]
    if clause.documents:
        alternatives.append(resource.self_hash.in_([hash_of(reference) for reference in clause.documents]))
    if clause.studies and resource_type == "ImagingStudy":
        values = [hash_of("urn:dicom:uid", f"urn:oid:{uid}") for uid in clause.studies]
        token = fresh(IndexToken)
        alternatives.append(
            exists().where(
                token.c.resource_id == resource.id,
                token.c.parameter == parameter_number("ImagingStudy", "identifier"),
                token.c.value.in_(values),
            )
        )
    return or_(*alternatives)


def _granular(search: str, resource_type: str, resource: Any) -> ColumnElement[bool]:
    """A granular scope's own search (SMART 2.2): tokens only; one that cannot be judged here opens
    nothing."""
    conditions: list[ColumnElement[bool]] = []
    for part in search.split("&"):
        code, _, value = part.partition("=")
        parameter = parameters_of(resource_type).get(code)
        if parameter is None or parameter.type != "token":
            return false()
        conditions.append(_tokens(resource_type, code, frozenset(value.split(",")), resource))
    return and_(*conditions)


def _tokens(resource_type: str, code: str, values: frozenset[str], resource: Any) -> ColumnElement[bool]:
    if code not in parameters_of(resource_type):
        return false()
    token = fresh(IndexToken)
    alternatives = [
        token.c.value.in_(either(*value.split("|", 1))) if "|" in value else token.c.code.in_(either(value))
        for value in sorted(values)
    ]
    return exists().where(
        token.c.resource_id == resource.id,
        token.c.parameter == parameter_number(resource_type, code),
        or_(false(), *alternatives),
    )
