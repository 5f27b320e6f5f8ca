"""A caller's reach as SQL on workitems, and as text for subscribers, who are told of what comes later.

A clause that speaks of something workitems do not have (documents, series, a search) matches none.
"""

import json
from dataclasses import asdict
from datetime import date
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, false, or_, select, true

from access.caller import Clause, Reach
from archive.workitem_model import Workitem
from mpi.model import PatientRecord
from records.reach import is_labelled

Selected = TypeVar("Selected", bound=Select[*tuple[Any, ...]])


def workitems_within(statement: Selected, reach: Reach) -> Selected:
    """Limit a statement on Workitem to what the caller may know of."""
    for limit in reach.limits:
        statement = statement.where(or_(false(), *(_condition(clause) for clause in limit)))
    return statement


def _condition(clause: Clause) -> ColumnElement[bool]:
    if clause.documents is not None or clause.series is not None or clause.search:
        return false()
    if clause.resource_types is not None and not clause.resource_types & {"Workitem", "*"}:
        return false()
    if clause.except_types is not None and "Workitem" in clause.except_types:
        return false()
    conditions: list[ColumnElement[bool]] = [true()]
    for allowed, column in (
        (clause.institutions, Workitem.institution),
        (clause.departments, Workitem.department),
        (clause.patients, Workitem.patient_logical_id),
        (clause.studies, Workitem.study_instance_uid),
        (clause.modalities, Workitem.modality),
    ):
        if allowed is not None:
            conditions.append(column.in_(allowed))
    if clause.persons is not None:
        of_person = select(PatientRecord.patient_id).where(PatientRecord.person_id.in_(clause.persons))
        conditions.append(Workitem.patient_logical_id.in_(of_person))
    if clause.labels is not None:
        conditions.append(is_labelled(clause.labels, "ServiceRequest", Workitem.service_request_id))
    if clause.except_labels is not None:
        conditions.append(~is_labelled(clause.except_labels, "ServiceRequest", Workitem.service_request_id))
    if clause.except_patients is not None:
        conditions.append(Workitem.patient_logical_id.not_in(clause.except_patients))
    if clause.except_studies is not None:
        conditions.append(Workitem.study_instance_uid.not_in(clause.except_studies))
    if clause.study_dates is not None:
        first, last = clause.study_dates
        conditions.append(Workitem.scheduled_date >= first if first else true())
        conditions.append(Workitem.scheduled_date <= last if last else true())
    return and_(*conditions)


def reach_text(reach: Reach) -> str:
    """A reach as JSON."""
    limits = [[_said(clause) for clause in limit] for limit in reach.limits]
    return json.dumps(limits, default=_plain, sort_keys=True)


def _said(clause: Clause) -> dict[str, Any]:
    """What a clause says; a dimension that it leaves open is left out, so that older code reads the rest."""
    return {name: value for name, value in asdict(clause).items() if value not in (None, "")}


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def parse_reach(text: str) -> Reach:
    """The inverse of `reach_text`."""
    return Reach(tuple(frozenset(_clause(clause) for clause in limit) for limit in json.loads(text)))


def _clause(plain: dict[str, Any]) -> Clause:
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name == "study_dates" and value is not None:
            value = tuple(date.fromisoformat(day) if day else None for day in value)
        elif isinstance(value, list):
            value = frozenset(value)
        values[name] = value
    return Clause(**values)
