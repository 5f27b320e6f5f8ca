"""Performed procedure steps: what modalities say that they do, and what follows from it.

A step is IN PROGRESS, and ends COMPLETED or DISCONTINUED; then it never changes. It claims, completes or
cancels the workitems that it names, which completes the order; its list of images is what a study is checked
against for completeness.

Standards: PS3.4 F (Modality Performed Procedure Step), IHE RAD-6, RAD-7 and RAD-21.
"""

from collections import defaultdict
from collections.abc import Mapping

import orjson
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller, Reach
from archive.attributes import Document, code, document, item, items, tag_of, text, values
from archive.room import Archive
from archive.workitem_model import FINAL, PerformedStep, PerformedStepStudy, State, Workitem
from archive.workitem_orders import draw_workitem
from archive.workitem_search import find_workitem
from archive.workitems import document_of, move, write_document
from kernel.changes import record_change
from kernel.clock import new_uid
from kernel.errors import CloudfilmError, Kind

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATUSES = (IN_PROGRESS, COMPLETED, DISCONTINUED)
WRONG_ENTRY = "110514"  # DCM: incorrect worklist entry selected (CID 9300)
STATUS = "PerformedProcedureStepStatus"

REQUIRED = (  # type 1 at N-CREATE (table F.7.2-1)
    "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime", "PerformedProcedureStepStatus", "Modality",
    "ScheduledStepAttributesSequence",
)  # fmt: skip
NOT_BY_UPDATE = (  # not allowed at N-SET
    "ScheduledStepAttributesSequence", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedStationName", "PerformedLocation",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality", "StudyID",
    "ReferencedPatientSequence", "SOPClassUID", "SOPInstanceUID",
)  # fmt: skip
AT_THE_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")


class NoSuchStep(CloudfilmError):
    """No such performed step, or none that this caller may know of."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("The performed procedure step was not found.")


class DuplicateStep(CloudfilmError):
    """A step with this UID is there already."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("A performed procedure step with this UID exists already.")


class StepHasEnded(CloudfilmError):
    """A change of a step that is COMPLETED or DISCONTINUED (PS3.4 F.7.2.2.3)."""

    kind = Kind.PRECONDITION

    def __init__(self) -> None:
        super().__init__("Performed Procedure Step Object may no longer be updated.")


class InvalidStep(CloudfilmError):
    """An attribute with a value that it may not have."""

    kind = Kind.INVALID

    def __init__(self, keyword: str, reason: str) -> None:
        super().__init__(f"{keyword} {reason}.")


class IncompleteStep(CloudfilmError):
    """A required attribute that is missing or empty."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, keyword: str) -> None:
        super().__init__(f"{keyword} is required.")
        self.keyword = keyword


def create_performed_step(
    archive: Archive, caller: Caller, attributes: Mapping[str, Document], uid: str = ""
) -> str:
    """A modality begins (PS3.4 F.7.2.1, N-CREATE). Returns the UID.

    Raises IncompleteStep, InvalidStep, DuplicateStep or Forbidden.
    """
    caller.require(Action("Workitem", "u"))
    if text(attributes, STATUS) not in ("", IN_PROGRESS):
        raise InvalidStep(STATUS, f"is {IN_PROGRESS} at creation")
    for keyword in REQUIRED:
        if not values(attributes, keyword):
            raise IncompleteStep(keyword)
    scheduled = items(attributes, "ScheduledStepAttributesSequence")
    if not all(text(step, "StudyInstanceUID") for step in scheduled):
        raise IncompleteStep("StudyInstanceUID")
    uid, now = uid or new_uid(), archive.clock.now()
    institution = caller.principal.institution or archive.institution
    with archive.database.transaction() as session:
        if session.scalar(select(PerformedStep.id).where(PerformedStep.sop_instance_uid == uid)) is not None:
            raise DuplicateStep
        row = PerformedStep(
            sop_instance_uid=uid,
            state=IN_PROGRESS,
            institution=institution,
            attributes=orjson.dumps(dict(attributes)),
            source=caller.principal.id,
            created_at=now,
            changed_at=now,
        )
        session.add(row)
        session.flush()
        _link(archive, session, row, scheduled)
        _tell(archive, session, row)
        note(session, archive.clock, caller, "create PerformedStep", uid)
    return uid


def _link(archive: Archive, session: Session, row: PerformedStep, scheduled: list[Document]) -> None:
    """The studies that it is of, and the workitems that it fulfils, which begin."""
    seen = set()
    for step in scheduled:
        study_uid = text(step, "StudyInstanceUID")[:64]
        workitem = find_workitem(
            session,
            row.institution,
            step_id=text(step, "ScheduledProcedureStepID"),
            accession_number=text(step, "AccessionNumber"),
            study_instance_uid=study_uid,
        )
        key = (study_uid, workitem.id if workitem else None)
        if key in seen:
            continue
        seen.add(key)
        session.add(
            PerformedStepStudy(performed_step_id=row.id, study_instance_uid=study_uid, workitem_id=key[1])
        )
        if workitem is not None and workitem.state == State.SCHEDULED:
            workitem.transaction_uid = row.sop_instance_uid
            move(archive, session, workitem, State.IN_PROGRESS)
    session.flush()


def update_performed_step(
    archive: Archive, caller: Caller, uid: str, attributes: Mapping[str, Document]
) -> None:
    """A modality goes on, or ends (PS3.4 F.7.2.2, N-SET).

    Raises NoSuchStep, StepHasEnded, InvalidStep, IncompleteStep or Forbidden.
    """
    caller.require(Action("Workitem", "u"))
    with archive.database.transaction() as session:
        row = _step(session, caller.reach_for("u"), uid, lock=True)
        if row.state != IN_PROGRESS:
            raise StepHasEnded
        status = text(attributes, STATUS) or IN_PROGRESS
        if status not in STATUSES:
            raise InvalidStep(STATUS, f"is one of {', '.join(STATUSES)}")
        for keyword in NOT_BY_UPDATE:
            if tag_of(keyword) in attributes:
                raise InvalidStep(keyword, "is not changed by an update")
        after = orjson.loads(row.attributes) | dict(attributes)
        if status != IN_PROGRESS:
            _require_end(after, status)
        row.attributes, row.state, row.changed_at = orjson.dumps(after), status, archive.clock.now()
        session.flush()
        if status != IN_PROGRESS:
            _end_workitems(archive, session, row, after)
        _tell(archive, session, row)
        note(session, archive.clock, caller, "update PerformedStep", uid, detail=f"status {status}")


def _require_end(attributes: Mapping[str, Document], status: str) -> None:
    """What the final state requires (table F.7.2-1, column "final state")."""
    for keyword in AT_THE_END:
        if not values(attributes, keyword):
            raise IncompleteStep(keyword)
    series = items(attributes, "PerformedSeriesSequence")
    if status == COMPLETED and not series:
        raise IncompleteStep("PerformedSeriesSequence")
    if not all(text(each, "SeriesInstanceUID") for each in series):
        raise IncompleteStep("SeriesInstanceUID")


def read_performed_step(archive: Archive, caller: Caller, uid: str) -> Document:
    """What a modality said of a step (PS3.4 F.8, N-GET). Raises NoSuchStep or Forbidden."""
    caller.require(Action("Workitem", "r"))
    with archive.database.snapshot() as session:
        found: Document = orjson.loads(_step(session, caller.reach_for("r"), uid).attributes)
    return found


def _step(session: Session, reach: Reach, uid: str, lock: bool = False) -> PerformedStep:
    statement = select(PerformedStep).where(PerformedStep.sop_instance_uid == uid)
    row = session.scalar(statement.with_for_update() if lock else statement)
    if row is None or not _reaches(reach, row):
        raise NoSuchStep
    return row


def _reaches(reach: Reach, row: PerformedStep) -> bool:
    """A step is known by its institution; whoever is limited to anything else does not reach it."""
    return all(
        any(clause.institutions is not None and row.institution in clause.institutions for clause in limit)
        for limit in reach.limits
    )


def _tell(archive: Archive, session: Session, row: PerformedStep) -> None:
    record_change(
        session, archive.clock, "performed-step-changed", row.sop_instance_uid, status=row.state,
        institution=row.institution,
    )  # fmt: skip


def _end_workitems(
    archive: Archive, session: Session, row: PerformedStep, attributes: Mapping[str, Document]
) -> None:
    """End the workitems that nothing else is still done for."""
    linked = select(PerformedStepStudy.workitem_id).where(PerformedStepStudy.performed_step_id == row.id)
    workitems = session.scalars(select(Workitem).where(Workitem.id.in_(linked)).with_for_update()).all()
    for workitem in workitems:
        states = session.execute(
            select(PerformedStep.state, func.count())
            .join(PerformedStepStudy, PerformedStepStudy.performed_step_id == PerformedStep.id)
            .where(PerformedStepStudy.workitem_id == workitem.id)
            .group_by(PerformedStep.state)
        ).all()
        counts: dict[str, int] = dict(states)
        if workitem.state in FINAL or counts.get(IN_PROGRESS):
            continue
        if counts.get(COMPLETED):
            known = document_of(workitem)
            write_document(
                archive, session, workitem, known | _performed(attributes, known), workitem.on_worklist
            )
            move(archive, session, workitem, State.COMPLETED)
        else:
            _discontinue(archive, session, workitem, attributes)


def _discontinue(
    archive: Archive, session: Session, workitem: Workitem, attributes: Mapping[str, Document]
) -> None:
    """Cancel it; what was begun by mistake is put on the worklist again, as a new workitem (RAD-7)."""
    reasons = items(attributes, "PerformedProcedureStepDiscontinuationReasonCodeSequence")
    reason = document(ProcedureStepDiscontinuationReasonCodeSequence=reasons) if reasons else {}
    move(archive, session, workitem, State.CANCELED, reason)
    order = workitem.service_request_id
    if order and any(text(each, "CodeValue") == WRONG_ENTRY for each in reasons):
        workitem.service_request_id = None
        session.flush()
        draw_workitem(archive, session, order)


def _performed(attributes: Mapping[str, Document], workitem: Mapping[str, Document]) -> Document:
    """The performed procedure of the workitem, as the step tells it."""
    station = text(attributes, "PerformedStationAETitle")
    output = [
        document(
            TypeOfInstances="DICOM",
            StudyInstanceUID=text(item(attributes, "ScheduledStepAttributesSequence"), "StudyInstanceUID"),
            SeriesInstanceUID=text(series, "SeriesInstanceUID"),
            ReferencedSOPSequence=[*_references(series)],
        )
        for series in items(attributes, "PerformedSeriesSequence")
    ]
    performed = document(
        PerformedStationNameCodeSequence=[code(station, "99AET", station)],
        PerformedProcedureStepStartDateTime=_moment(attributes, "Start"),
        PerformedProcedureStepEndDateTime=_moment(attributes, "End"),
        PerformedProcedureStepDescription=text(attributes, "PerformedProcedureStepDescription"),
        PerformedWorkitemCodeSequence=items(workitem, "ScheduledWorkitemCodeSequence")
        or [code("RAD", "99CLOUDFILM", "Image acquisition")],
        OutputInformationSequence=output,
    )
    return document(UnifiedProcedureStepPerformedProcedureSequence=[performed])


def _moment(attributes: Mapping[str, Document], which: str) -> str:
    day = text(attributes, f"PerformedProcedureStep{which}Date").replace(".", "")
    return day + text(attributes, f"PerformedProcedureStep{which}Time").replace(":", "").partition(".")[0]


def _references(series: Mapping[str, Document]) -> list[Document]:
    return [
        reference
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
        for reference in items(series, keyword)
    ]


def expected_instances(session: Session, study_instance_uid: str) -> dict[str, set[str]]:
    """The instances of each series that modalities said they made, of steps that have ended."""
    steps = session.scalars(
        select(PerformedStep.attributes)
        .join(PerformedStepStudy, PerformedStepStudy.performed_step_id == PerformedStep.id)
        .where(
            PerformedStepStudy.study_instance_uid == study_instance_uid,
            PerformedStep.state.in_((COMPLETED, DISCONTINUED)),
        )
        .distinct()
    ).all()
    expected: dict[str, set[str]] = defaultdict(set)
    for attributes in steps:
        for series in items(orjson.loads(attributes), "PerformedSeriesSequence"):
            uids = {text(reference, "ReferencedSOPInstanceUID") for reference in _references(series)}
            expected[text(series, "SeriesInstanceUID")] |= uids - {""}
    return expected
