"""A Study drawn as a FHIR R4 ImagingStudy, and the rows by which it is found there.

The study's tables are the home of the facts. The document is drawn when it is read; only its search
index is kept,
and renewed when a study is new, comes to rest or goes. R4 ImagingStudy; PS3.18 for the endpoint.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import orjson
from sqlalchemy import BindParameter, bindparam, select
from sqlalchemy.orm import Session

from archive.documents import parse_marked
from archive.model import Instance, Series, Study, study_of
from archive.reconcile_model import StudyComparison
from kernel.changes import Change
from kernel.clock import Clock
from records.hashing import hash_of
from records.model import IndexReference, Resource
from records.parameters import parameter_number
from records.repository import forget_projected, index_projected
from records.room import Drawn, Records

DICOM_UID = "urn:dicom:uid"
DICOM_CODES = "http://dicom.nema.org/resources/ontology/DCM"
ACCESSION = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN", "display": "Accession ID"}
    ]
}
PERFORMER = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRF"}]
}
WADO_ENDPOINT = "wado-rs"  # logical id of the Endpoint of our own WADO-RS
CHINA = timezone(timedelta(hours=8))


class ImagingStudyProjection:
    """Draws ImagingStudy documents for `records`."""

    def draw(self, session: Session, logical_ids: Sequence[str]) -> Mapping[str, Drawn]:
        """The documents of some studies, by logical id."""
        studies = session.scalars(select(Study).where(Study.logical_id.in_(logical_ids))).all()
        return {
            study.logical_id: Drawn(study.revision, study.changed_at, orjson.dumps(document).decode())
            for study, document in zip(studies, draw(session, studies), strict=True)
        }


def draw(session: Session, studies: Sequence[Study]) -> list[dict[str, Any]]:
    """The ImagingStudy of each study. Three queries for all of them, however many."""
    ids = [study.id for study in studies]
    series_of: dict[int, list[dict[str, Any]]] = {study_id: [] for study_id in ids}
    instances_of: dict[int, list[dict[str, Any]]] = {}
    for series in session.scalars(_SERIES, {"studies": ids}):
        series_of[series.study_id].append(_series(series, instances_of.setdefault(series.id, [])))
    for series_id, uid, sop_class, number in session.execute(_INSTANCES, {"studies": ids}):
        instance: dict[str, Any] = {
            "uid": uid,
            "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"},
        }
        if number is not None and number >= 0:
            instance["number"] = number
        instances_of.setdefault(series_id, []).append(instance)
    orders_of: dict[int, list[dict[str, str]]] = {}
    for study_id, source in session.execute(_ORDERS, {"studies": ids}):
        orders_of.setdefault(study_id, []).append({"reference": source})
    said = _orders(session, orders_of)
    return [_study(study, series_of[study.id], orders_of.get(study.id, []), said) for study in studies]


# Built once: every study that is new, changes or is read is drawn.
_OF_STUDIES: BindParameter[Any] = bindparam("studies", expanding=True)
_SERIES = (
    select(Series)
    .where(Series.study_id.in_(_OF_STUDIES))
    .order_by(Series.series_number.nulls_last(), Series.id)
)
_INSTANCES = (
    select(Instance.series_id, Instance.sop_instance_uid, Instance.sop_class_uid, Instance.instance_number)
    .where(Instance.study_id.in_(_OF_STUDIES))
    .order_by(Instance.instance_number.nulls_last(), Instance.id)
)
_ORDERS = (
    select(StudyComparison.study_id, StudyComparison.source)
    .where(
        StudyComparison.study_id.in_(_OF_STUDIES),
        StudyComparison.source.startswith("ServiceRequest/"),
        StudyComparison.state.in_(("agrees", "differs", "confirmed")),
    )
    .order_by(StudyComparison.id)
)


def _orders(session: Session, orders_of: Mapping[int, list[dict[str, str]]]) -> dict[str, dict[str, Any]]:
    """The orders that studies are based on, by reference."""
    ids = {each["reference"].partition("/")[2] for orders in orders_of.values() for each in orders}
    if not ids:
        return {}
    rows = session.execute(
        select(Resource.logical_id, Resource.body).where(
            Resource.type == "ServiceRequest", Resource.logical_id.in_(sorted(ids)), ~Resource.deleted
        )
    )
    return {f"ServiceRequest/{logical_id}": orjson.loads(body) for logical_id, body in rows if body}


def _study(
    study: Study,
    series: list[dict[str, Any]],
    orders: list[dict[str, str]],
    said: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    attributes = parse_marked(study.attributes)
    document: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": study.logical_id,
        "meta": {
            "versionId": str(study.revision),
            "lastUpdated": study.changed_at.astimezone(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
        },
        "identifier": [
            {"use": "official", "system": DICOM_UID, "value": f"urn:oid:{study.study_instance_uid}"}
        ],
        "status": "available",
        "modality": [_modality(code) for code in _values(attributes, "00080061")],
        "subject": {"reference": f"Patient/{study.patient_logical_id}"},
        "basedOn": orders,
        "endpoint": [{"reference": f"Endpoint/{WADO_ENDPOINT}"}],
        "numberOfSeries": study.number_of_series,
        "numberOfInstances": study.number_of_instances,
        "series": series,
    }
    if study.accession_number:
        document["identifier"].append({"type": ACCESSION, "value": study.accession_number})
    started = _started(study.study_date, study.study_time, _text(attributes, "00080201"))
    if started:
        document["started"] = started
    description = _text(attributes, "00081030")
    if description:
        document["description"] = description
    referrer = _text(attributes, "00080090")
    if referrer:
        document["referrer"] = {"display": referrer}
    codes = [coded for item in _values(attributes, "00081032") if (coded := _concept(item))]
    if codes:
        document["procedureCode"] = codes
    for order in (said[each["reference"]] for each in orders if each["reference"] in said):
        _complete(document, order)
        _label(document["meta"], order)
    return {key: value for key, value in document.items() if value not in ([], "")}


def _complete(document: dict[str, Any], order: dict[str, Any]) -> None:
    """What the order says and the images do not: who asked for it, why, and what for."""
    requester = order.get("requester") or {}
    if "reference" in requester and "reference" not in document.get("referrer", {}):
        document["referrer"] = requester  # images have but a name
    for name, value in (
        ("referrer", requester),
        ("procedureCode", [order["code"]] if "code" in order else None),
        ("reasonCode", order.get("reasonCode")),
        ("reasonReference", order.get("reasonReference")),
        ("encounter", order.get("encounter")),
    ):
        if value and name not in document:
            document[name] = value


def _label(meta: dict[str, Any], order: dict[str, Any]) -> None:
    """A study is as confidential as its orders: their security labels, each once."""
    known = meta.get("security", [])
    fresh = [each for each in order.get("meta", {}).get("security", ()) if each not in known]
    if fresh:
        meta["security"] = [*known, *fresh]


def _series(series: Series, instances: list[dict[str, Any]]) -> dict[str, Any]:
    attributes = parse_marked(series.attributes)
    drawn: dict[str, Any] = {
        "uid": series.series_instance_uid,
        "modality": _modality(series.modality or "OT"),
        "numberOfInstances": series.number_of_instances,
        "instance": instances,
    }
    if series.series_number is not None and series.series_number >= 0:
        drawn["number"] = series.series_number
    description = _text(attributes, "0008103E")
    if description:
        drawn["description"] = description
    if series.body_part_examined:
        drawn["bodySite"] = {"system": DICOM_CODES, "display": series.body_part_examined}
    started = _started(series.series_date, _text(attributes, "00080031"), "")
    if started:
        drawn["started"] = started
    performer = _text(attributes, "00081050")
    if performer:
        drawn["performer"] = [{"function": PERFORMER, "actor": {"display": performer}}]
    return drawn


def _modality(code: str) -> dict[str, str]:
    return {"system": DICOM_CODES, "code": code}


def _concept(item: dict[str, Any]) -> dict[str, Any]:
    """A code sequence item (PS3.3 8) as a CodeableConcept."""
    code, meaning = _text(item, "00080100"), _text(item, "00080104")
    coding = {"system": f"urn:dicom:scheme:{_text(item, '00080102')}", "code": code, "display": meaning}
    return {"coding": [{key: value for key, value in coding.items() if value}]} if code else {}


def _values(attributes: dict[str, Any], tag: str) -> list[Any]:
    return list(attributes.get(tag, {}).get("Value", ()))


def _text(attributes: dict[str, Any], tag: str) -> str:
    """The first value for people: of a name, the Chinese form where there is one."""
    values = _values(attributes, tag)
    value = values[0] if values else ""
    if isinstance(value, dict):
        value = value.get("Ideographic") or value.get("Alphabetic") or ""
        return value.replace("^", "" if any("\u4e00" <= each <= "\u9fff" for each in value) else " ").strip()
    return str(value)


def _started(day: date | None, time: str, offset: str) -> str:
    """A FHIR dateTime; without a time of day, the day alone. An offset that is not stated is China's."""
    if day is None:
        return ""
    digits = time.replace(":", "")
    if len(digits) < 6 or not digits[:6].isdigit():
        return day.isoformat()
    zone = CHINA
    if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
        sign = -1 if offset[0] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])))
    try:
        moment = datetime(
            day.year,
            day.month,
            day.day,
            int(digits[:2]),
            int(digits[2:4]),
            min(int(digits[4:6]), 59),
            tzinfo=zone,
        )
    except ValueError:
        return day.isoformat()
    return moment.isoformat()


def follow_studies(records: Records, clock: Clock, session: Session, change: Change) -> None:
    """Keep the search index of ImagingStudy: subscribed to studies that are new, at rest or gone."""
    study = study_of(session, change.subject)
    if study is None:
        forget_projected(session, "ImagingStudy", str(change.data.get("logical_id", "")))
        return
    _index(records, session, study, keeps_version=change.kind == "study-rested")


def follow_orders_of_studies(records: Records, clock: Clock, session: Session, change: Change) -> None:
    """A study says what its order says: subscribed to documents that change, of which orders count."""
    if not change.subject.startswith("ServiceRequest/"):
        return
    bound = (
        select(Resource.logical_id)
        .join(IndexReference, IndexReference.c.resource_id == Resource.id)
        .where(
            Resource.type == "ImagingStudy",
            IndexReference.c.parameter == parameter_number("ImagingStudy", "basedon"),
            IndexReference.c.target == hash_of(change.subject),
        )
    )
    for study in session.scalars(select(Study).where(Study.logical_id.in_(bound))).all():
        study.revision += 1
        study.changed_at = clock.now()
        session.flush()
        _index(records, session, study, keeps_version=True)


def _index(records: Records, session: Session, study: Study, *, keeps_version: bool) -> None:
    (document,) = draw(session, [study])
    index_projected(
        records,
        session,
        document,
        institution=study.institution,
        department=study.department,
        version=study.revision,
        updated_at=study.changed_at,
        keeps_version=keeps_version,
    )
