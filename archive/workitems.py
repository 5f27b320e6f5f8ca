"""Workitems: the one room function for each thing that can be done with scheduled work.

The modality worklist, the Unified Procedure Step services and UPS-RS all come here. A workitem is SCHEDULED,
is claimed with a Transaction UID that only its performer knows (IN PROGRESS), and ends COMPLETED or CANCELED;
then it never changes again. Each change is told to subscribers through the change feed
(`archive.workitem_events`) in the transaction that makes it.

Standards: PS3.4 CC (Unified Procedure Step), PS3.4 K (Modality Worklist), PS3.18 11 (Worklist Service).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

import orjson
from pydicom.config import IGNORE
from pydicom.uid import UID
from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from access.audit import note, note_once
from access.caller import Action, Caller
from access.document_kind import current_document
from archive.attributes import Document, code, document, element, item, items, tag_of, text, values
from archive.matching import date_time
from archive.room import Archive
from archive.scheduling import SCHEDULING, parse_scheduling
from archive.workitem_events import Event, report_event, report_state, subscribe_globals
from archive.workitem_model import FINAL, State, Workitem, WorkitemSubscription
from archive.workitem_reach import workitems_within
from kernel.clock import new_uid
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import job
from mpi.domains import systems
from mpi.patient_document import system_of
from records.identifiers import find_by_identifier

CREATE, READ, UPDATE = (Action("Workitem", verb) for verb in "cru")

STATE, TRANSACTION_UID = tag_of("ProcedureStepState"), tag_of("TransactionUID")
MOST_BYTES = 1 << 20  # of one workitem's document


class NoSuchWorkitem(CloudfilmError):
    """No such workitem, or none that this caller may know of."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("The workitem was not found.")


class DuplicateWorkitem(CloudfilmError):
    """A workitem with this UID is there already."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("A workitem with this UID exists already.")


class NotScheduled(CloudfilmError):
    """A new workitem whose state is another than SCHEDULED (PS3.4 CC.2.5.3)."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The Procedure Step State of a new workitem is SCHEDULED.")


class InvalidWorkitem(CloudfilmError):
    """An attribute that is missing, empty, or has a value that it may not have."""

    kind = Kind.INVALID

    def __init__(self, keyword: str, reason: str) -> None:
        super().__init__(f"{keyword} {reason}.")
        self.keyword = keyword


class MissingAttribute(InvalidWorkitem):
    """A required attribute is not there."""

    def __init__(self, keyword: str) -> None:
        super().__init__(keyword, "is required")


class NoLongerUpdatable(CloudfilmError):
    """The workitem is in a final state."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The workitem is COMPLETED or CANCELED and may no longer be updated.")


class NotInProgress(CloudfilmError):
    """Something that only the performer of a workitem does, of one that nobody performs."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The workitem is not IN PROGRESS.")


class AlreadyInProgress(CloudfilmError):
    """Somebody else performs it."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The workitem is IN PROGRESS already.")


class MissingTransactionUid(CloudfilmError):
    """The performer did not show that it is the one."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The Transaction UID is missing.")


class WrongTransactionUid(CloudfilmError):
    """Another Transaction UID than the one it was claimed with."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The Transaction UID is incorrect.")


class OnlyAtCreation(CloudfilmError):
    """A change of state to SCHEDULED."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("A workitem is SCHEDULED by its creation only.")


class FinalStateNotMet(CloudfilmError):
    """A workitem without what its final state requires (PS3.4 table CC.2.5-3)."""

    kind = Kind.CONFLICT

    def __init__(self, missing: str) -> None:
        super().__init__(f"The workitem does not meet the requirements of this state: {missing} is missing.")


class AlreadyCompleted(CloudfilmError):
    """A request to cancel what is done."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The UPS is already COMPLETED.")


class PerformerUnreachable(CloudfilmError):
    """Nobody listens for a request to cancel what is IN PROGRESS."""

    kind = Kind.CONFLICT

    def __init__(self) -> None:
        super().__init__("The performer cannot be contacted.")


class Remark(Enum):
    """What a success has to say (PS3.4 CC.2)."""

    CREATED_WITH_MODIFICATIONS = "The workitem was created with modifications."
    ALREADY_CANCELED = "The UPS is already in the requested state of CANCELED."
    ALREADY_COMPLETED = "The UPS is already in the requested state of COMPLETED."


REQUIRED = (  # type 1 of PS3.4 table CC.2.5-3 at N-CREATE
    "ScheduledProcedureStepPriority", "ProcedureStepLabel", "ScheduledProcedureStepStartDateTime",
    "InputReadinessState", "ProcedureStepState",
)  # fmt: skip
EMPTY_AT_CREATION = (  # type 2: there, and without a value
    "TransactionUID", "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)  # fmt: skip
PRESENT = (  # type 2 for the provider: there, with or without a value
    "WorklistLabel", "ScheduledProcessingParametersSequence", "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence", "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence", "CommentsOnTheScheduledProcedureStep", "InputInformationSequence",
    "StudyInstanceUID", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "AdmissionID", "AdmittingDiagnosesDescription", "ReferencedRequestSequence",
    "ProcedureStepProgressInformationSequence", "UnifiedProcedureStepPerformedProcedureSequence",
)  # fmt: skip
CHOICES = {
    "ScheduledProcedureStepPriority": ("HIGH", "MEDIUM", "LOW"),
    "InputReadinessState": ("READY", "UNAVAILABLE", "INCOMPLETE"),
    "ProcedureStepState": tuple(State),
}
NOT_BY_UPDATE = (  # N-SET column "not allowed": who and what the work is about stays
    "SOPClassUID", "SOPInstanceUID", "ProcedureStepState", "StudyInstanceUID", "PatientName", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AdmissionID", "ReferencedRequestSequence",
)  # fmt: skip
REQUIRED_AT_COMPLETION = (  # of an item of the performed procedure sequence, column "final state"
    "PerformedStationNameCodeSequence", "PerformedProcedureStepStartDateTime",
    "PerformedWorkitemCodeSequence", "PerformedProcedureStepEndDateTime",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Created:
    """A new workitem."""

    sop_instance_uid: str
    remark: Remark | None = None


def create_workitem(
    archive: Archive, caller: Caller, attributes: Mapping[str, Document], sop_instance_uid: str = ""
) -> Created:
    """Schedule work (PS3.4 CC.2.5, PS3.18 11.4).

    Raises MissingAttribute, InvalidWorkitem, NotScheduled, DuplicateWorkitem or Forbidden.
    """
    caller.require(CREATE)
    uid = sop_instance_uid or text(attributes, "SOPInstanceUID") or new_uid()
    if len(uid) > 64 or not UID(uid, validation_mode=IGNORE).is_valid:
        raise InvalidWorkitem("SOPInstanceUID", "is no UID")
    if not text(attributes, "WorklistLabel"):
        attributes = {**attributes, tag_of("WorklistLabel"): element("WorklistLabel", "Default")}
        remark: Remark | None = Remark.CREATED_WITH_MODIFICATIONS
    else:
        remark = None
    _check_creation(attributes)
    with archive.database.transaction() as session:
        if session.scalar(select(Workitem.id).where(Workitem.sop_instance_uid == uid)) is not None:
            raise DuplicateWorkitem
        row = add_workitem(archive, session, caller, attributes, uid)
        _require_reach(session, caller, row)
        note(
            session, archive.clock, caller, "create Workitem", uid, patient_id=row.patient_logical_id
        )  # fmt: skip
    return Created(uid, remark)


def _check_creation(attributes: Mapping[str, Document]) -> None:
    if text(attributes, "ProcedureStepState") not in ("", State.SCHEDULED):
        raise NotScheduled
    for keyword in REQUIRED:
        if tag_of(keyword) not in attributes:
            raise MissingAttribute(keyword)
        if not text(attributes, keyword):
            raise InvalidWorkitem(keyword, "is empty")
    for keyword in EMPTY_AT_CREATION:
        if values(attributes, keyword):
            raise InvalidWorkitem(keyword, "is empty at creation")
    _check_values(attributes)


def _check_values(attributes: Mapping[str, Document]) -> None:
    for keyword, choices in CHOICES.items():
        value = text(attributes, keyword)
        if value and value not in choices:
            raise InvalidWorkitem(keyword, f"is one of {', '.join(choices)}")
    for keyword in ("ScheduledProcedureStepStartDateTime", "ExpectedCompletionDateTime"):
        value = text(attributes, keyword)
        if value and date_time(value) is None:
            raise InvalidWorkitem(keyword, "is no date time")
    if len(orjson.dumps(attributes)) > MOST_BYTES:
        raise InvalidWorkitem("The workitem", f"has more than {MOST_BYTES} bytes")


def add_workitem(
    archive: Archive,
    session: Session,
    caller: Caller,
    attributes: Mapping[str, Document],
    uid: str,
    *,
    service_request_id: str | None = None,
    institution: str = "",
    department: str = "",
    on_worklist: bool | None = None,
) -> Workitem:
    """Add a row that was checked, within the caller's transaction, and tell those who want to know."""
    now = archive.clock.now()
    row = Workitem(
        sop_instance_uid=uid,
        state=State.SCHEDULED,
        service_request_id=service_request_id,
        institution=institution or caller.principal.institution or archive.institution,
        department=department or caller.principal.department,
        created_at=now,
    )
    complete = {tag_of(keyword): element(keyword) for keyword in PRESENT} | dict(attributes)
    complete[STATE] = element("ProcedureStepState", State.SCHEDULED)
    write_document(archive, session, row, complete, on_worklist)
    session.add(row)
    session.flush()
    subscribe_globals(archive, session, row, document_of(row))
    report_state(archive, session, row, document_of(row))
    if _assignment(complete):
        report_event(archive, session, row, Event.ASSIGNED, _assignment(complete))
    return row


def write_document(
    archive: Archive, session: Session, row: Workitem, attributes: Document, on_worklist: bool | None = None
) -> None:
    """Put a document into a row, with the columns that are drawn from it."""
    attributes = dict(attributes)
    attributes.pop(TRANSACTION_UID, None)
    attributes[tag_of("SOPClassUID")] = element("SOPClassUID", UPS_PUSH)
    attributes[tag_of("SOPInstanceUID")] = element("SOPInstanceUID", row.sop_instance_uid)
    request, step = (
        item(attributes, "ReferencedRequestSequence"),
        item(attributes, "ScheduledProcedureStepSequence"),
    )
    row.patient_id = text(attributes, "PatientID")[:64]
    row.patient_logical_id = row.patient_logical_id or _patient_of(archive, session, row, attributes)
    row.accession_number = (text(request, "AccessionNumber") or text(attributes, "AccessionNumber"))[:64]
    row.study_instance_uid = (text(attributes, "StudyInstanceUID") or text(request, "StudyInstanceUID"))[:64]
    row.step_id = text(step, "ScheduledProcedureStepID")[:64]
    row.modality = modality_of(attributes)[:16]
    row.stations = "".join(f"\\{title}" for title in stations_of(attributes)) + "\\"
    row.scheduled_date = scheduled_at(attributes, zone_of(session))[0]
    row.on_worklist = bool(row.modality) if on_worklist is None else on_worklist
    row.attributes = orjson.dumps(dict(sorted(attributes.items())))
    row.changed_at = archive.clock.now()


UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"


def document_of(row: Workitem) -> Document:
    """The document of a row."""
    found: Document = orjson.loads(row.attributes)
    return found


def modality_of(attributes: Mapping[str, Document]) -> str:
    """The modality that acquires: of the scheduled procedure step, or the class of the scheduled station (CID
    29); empty for work that no modality does."""
    step = item(attributes, "ScheduledProcedureStepSequence")
    return text(step, "Modality") or text(item(attributes, "ScheduledStationClassCodeSequence"), "CodeValue")


def stations_of(attributes: Mapping[str, Document]) -> list[str]:
    """AE titles of the stations that may do it."""
    step = item(attributes, "ScheduledProcedureStepSequence")
    titles = [str(title) for title in values(step, "ScheduledStationAETitle") if title]
    return titles or [
        text(station, "CodeValue") for station in items(attributes, "ScheduledStationNameCodeSequence")
    ]


def zone_of(session: Session) -> ZoneInfo:
    """The time zone that the site's modalities are in."""
    return ZoneInfo(parse_scheduling(current_document(session, SCHEDULING)).zone)


def scheduled_at(attributes: Mapping[str, Document], zone: ZoneInfo) -> tuple[date | None, str]:
    """The day and time of day of the start, local to the site."""
    said = text(attributes, "ScheduledProcedureStepStartDateTime")
    at = date_time(said)
    if at is None:
        return None, ""
    if "+" in said or "-" in said:
        at = at.astimezone(zone)
    return at.date(), f"{at:%H%M%S}"


def _patient_of(archive: Archive, session: Session, row: Workitem, attributes: Mapping[str, Document]) -> str:
    """The Patient document that the identifiers name; empty when there is none yet."""
    if not row.patient_id:
        return ""
    issuer = text(attributes, "IssuerOfPatientID") or row.institution
    system = system_of(issuer, systems(session))
    return find_by_identifier(session, "Patient", system, row.patient_id, row.institution) or ""


def _require_reach(session: Session, caller: Caller, row: Workitem) -> None:
    """What somebody makes lies within its own reach."""
    if caller.reach_for("c").is_everywhere:
        return
    statement = workitems_within(select(Workitem.id).where(Workitem.id == row.id), caller.reach_for("c"))
    if session.scalar(statement) is None:
        raise NoSuchWorkitem


def locked_workitem(session: Session, caller: Caller, uid: str) -> Workitem:
    """The row, to be changed in this transaction. Raises NoSuchWorkitem."""
    statement = workitems_within(
        select(Workitem).where(Workitem.sop_instance_uid == uid), caller.reach_for("u")
    )
    row = session.scalar(statement.with_for_update())
    if row is None:
        raise NoSuchWorkitem
    return row


def read_workitem(archive: Archive, caller: Caller, uid: str) -> Document:
    """The document of a workitem, without its Transaction UID. Raises NoSuchWorkitem or Forbidden."""
    caller.require(READ)
    with archive.database.snapshot() as session:
        row = session.scalar(
            workitems_within(select(Workitem).where(Workitem.sop_instance_uid == uid), caller.reach_for("r"))
        )
    if row is None:
        raise NoSuchWorkitem
    note_once(
        archive.database,
        archive.recently,
        archive.clock,
        caller,
        "read Workitem",
        uid,
        row.patient_logical_id,
    )
    return document_of(row)


def update_workitem(
    archive: Archive, caller: Caller, uid: str, attributes: Mapping[str, Document], transaction_uid: str = ""
) -> None:
    """Change attributes of a workitem (PS3.4 CC.2.6, PS3.18 11.6).

    One that is SCHEDULED is changed without a Transaction UID, one IN PROGRESS by its performer with it.
    Raises NoSuchWorkitem, NoLongerUpdatable, NotInProgress, MissingTransactionUid, WrongTransactionUid,
    InvalidWorkitem or Forbidden.
    """
    caller.require(UPDATE)
    said = {tag: value for tag, value in attributes.items() if tag != TRANSACTION_UID}
    for keyword in NOT_BY_UPDATE:
        if tag_of(keyword) in said:
            raise InvalidWorkitem(keyword, "is not changed by an update")
    _check_values(said)
    with archive.database.transaction() as session:
        row = locked_workitem(session, caller, uid)
        _require_performer(row, transaction_uid)
        before = document_of(row)
        after = before | said
        for keyword in ("ScheduledProcedureStepPriority", "ProcedureStepLabel", "InputReadinessState"):
            if not text(after, keyword):
                raise InvalidWorkitem(keyword, "is empty")
        write_document(archive, session, row, after)
        if text(before, "InputReadinessState") != text(after, "InputReadinessState"):
            report_state(archive, session, row, after)
        progress = "ProcedureStepProgressInformationSequence"
        if tag_of(progress) in said:
            report_event(archive, session, row, Event.PROGRESS, {tag_of(progress): after[tag_of(progress)]})
        if _assignment(before) != _assignment(after):
            report_event(archive, session, row, Event.ASSIGNED, _assignment(after))
        session.flush()
        subscribe_globals(archive, session, row, after)
        note(session, archive.clock, caller, "update Workitem", uid, patient_id=row.patient_logical_id)


def _require_performer(row: Workitem, transaction_uid: str) -> None:
    if row.state in FINAL:
        raise NoLongerUpdatable
    if row.state == State.SCHEDULED and transaction_uid:
        raise NotInProgress
    if row.state == State.IN_PROGRESS:
        _require_transaction(row, transaction_uid)


def _require_transaction(row: Workitem, transaction_uid: str) -> None:
    if not transaction_uid:
        raise MissingTransactionUid
    if transaction_uid != row.transaction_uid:
        raise WrongTransactionUid


def change_state(
    archive: Archive, caller: Caller, uid: str, state: str, transaction_uid: str
) -> Remark | None:
    """Claim, complete or cancel a workitem (PS3.4 CC.2.1, PS3.18 11.7).

    Raises NoSuchWorkitem, and what PS3.4 table CC.1.1-2 refuses.
    """
    caller.require(UPDATE)
    if state == State.SCHEDULED:
        raise OnlyAtCreation
    if state not in tuple(State):
        raise InvalidWorkitem("ProcedureStepState", "is one of IN PROGRESS, COMPLETED, CANCELED")
    if not transaction_uid:
        raise MissingTransactionUid
    with archive.database.transaction() as session:
        row = locked_workitem(session, caller, uid)
        if row.state in FINAL:
            if row.transaction_uid and transaction_uid != row.transaction_uid:
                raise WrongTransactionUid if row.state == state else NoLongerUpdatable
            if row.state == state:
                return Remark.ALREADY_CANCELED if state == State.CANCELED else Remark.ALREADY_COMPLETED
            raise NoLongerUpdatable
        if state == State.IN_PROGRESS:
            if row.state == State.IN_PROGRESS:
                raise AlreadyInProgress
            row.transaction_uid = transaction_uid
        else:
            if row.state == State.SCHEDULED:
                raise NotInProgress
            _require_transaction(row, transaction_uid)
            if state == State.COMPLETED:
                _require_completed(document_of(row))
        move(archive, session, row, State(state))
        note(
            session, archive.clock, caller, "update Workitem", uid, patient_id=row.patient_logical_id,
            detail=f"state {state}",
        )  # fmt: skip
    return None


def _require_completed(attributes: Mapping[str, Document]) -> None:
    performed = items(attributes, "UnifiedProcedureStepPerformedProcedureSequence")
    if not performed:
        raise FinalStateNotMet("UnifiedProcedureStepPerformedProcedureSequence")
    for keyword in REQUIRED_AT_COMPLETION:
        if not values(performed[0], keyword):
            raise FinalStateNotMet(keyword)


def move(
    archive: Archive,
    session: Session,
    row: Workitem,
    state: State,
    reason: Mapping[str, Document] | None = None,
) -> None:
    """Put a row into a state, within the caller's transaction, and tell those who want to know.

    reason: attributes of why it was cancelled, for the progress information.
    """
    attributes = document_of(row)
    row.state = state
    attributes[STATE] = element("ProcedureStepState", state)
    if state in FINAL:
        row.ended_at = archive.clock.now()
    if state == State.CANCELED:
        attributes["00741002"] = _cancellation(archive, session, attributes, reason or {})
    write_document(archive, session, row, attributes, row.on_worklist)
    report_state(archive, session, row, attributes)


def _cancellation(
    archive: Archive, session: Session, attributes: Mapping[str, Document], reason: Mapping[str, Document]
) -> Document:
    """Progress information with when and why it was cancelled; what the performer said itself stays."""
    progress = item(attributes, "ProcedureStepProgressInformationSequence")
    now = archive.clock.now().astimezone(zone_of(session))
    cancelled = {tag: reason[tag] for tag in map(tag_of, REASONS) if tag in reason} | progress
    at, why = (
        tag_of("ProcedureStepCancellationDateTime"),
        tag_of("ProcedureStepDiscontinuationReasonCodeSequence"),
    )
    if not values(cancelled, "ProcedureStepCancellationDateTime"):
        cancelled[at] = element("ProcedureStepCancellationDateTime", f"{now:%Y%m%d%H%M%S%z}")
    if not values(cancelled, "ProcedureStepDiscontinuationReasonCodeSequence"):
        unspecified = code("110513", "DCM", "Discontinued for unspecified reason")
        cancelled[why] = element("ProcedureStepDiscontinuationReasonCodeSequence", unspecified)
    return element("ProcedureStepProgressInformationSequence", dict(sorted(cancelled.items())))


REASONS = (
    "ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence", "ContactURI",
    "ContactDisplayName",
)  # fmt: skip


def request_cancellation(
    archive: Archive, caller: Caller, uid: str, requesting_ae: str, attributes: Mapping[str, Document]
) -> Remark | None:
    """Ask that a workitem be cancelled (PS3.4 CC.2.2, PS3.18 11.8).

    One that nobody performs yet is cancelled at once; who performs one is told, and may go on. Raises
    NoSuchWorkitem, AlreadyCompleted or PerformerUnreachable.
    """
    caller.require(UPDATE)
    with archive.database.transaction() as session:
        row = locked_workitem(session, caller, uid)
        if row.state == State.COMPLETED:
            raise AlreadyCompleted
        if row.state == State.CANCELED:
            return Remark.ALREADY_CANCELED
        note(session, archive.clock, caller, "cancel Workitem", uid, patient_id=row.patient_logical_id)
        if row.state == State.SCHEDULED:
            row.transaction_uid = new_uid()
            move(archive, session, row, State.IN_PROGRESS)
            move(archive, session, row, State.CANCELED, attributes)
            return None
        listens = select(WorkitemSubscription.ae_title).where(WorkitemSubscription.workitem_id == row.id)
        if session.scalar(listens.limit(1)) is None:
            raise PerformerUnreachable
        report = {tag: attributes[tag] for tag in map(tag_of, REASONS) if tag in attributes}
        report |= document(RequestingAE=requesting_ae[:16])
        report_event(archive, session, row, Event.CANCEL_REQUESTED, report)
    return None


def _assignment(attributes: Mapping[str, Document]) -> Document:
    """Who the work is assigned to, as a UPS Assigned report says it; empty when to nobody."""
    said: Document = {}
    stations = tag_of("ScheduledStationNameCodeSequence")
    if items(attributes, "ScheduledStationNameCodeSequence"):
        said[stations] = attributes[stations]
    person = item(attributes, "ScheduledHumanPerformersSequence")
    for keyword in ("HumanPerformerCodeSequence", "HumanPerformerOrganization"):
        if values(person, keyword):
            said[tag_of(keyword)] = person[tag_of(keyword)]
    return said


@job(queue="archive", every=timedelta(hours=6))
def forget_workitems(archive: Archive) -> None:
    """Delete workitems that ended long ago and that nobody holds with a deletion lock (PS3.4 CC.2.3.3)."""
    before: datetime = archive.clock.now() - timedelta(days=archive.settings.workitem_days)
    locked = exists().where(
        WorkitemSubscription.workitem_id == Workitem.id, WorkitemSubscription.deletion_lock.is_(True)
    )
    with archive.database.transaction() as session:
        session.execute(delete(Workitem).where(Workitem.ended_at < before, ~locked))


def set_readiness(archive: Archive, session: Session, row: Workitem, readiness: str) -> None:
    """Say whether what the work needs is there, within the caller's transaction."""
    attributes = document_of(row)
    if text(attributes, "InputReadinessState") != readiness:
        attributes[tag_of("InputReadinessState")] = element("InputReadinessState", readiness)
        write_document(archive, session, row, attributes, row.on_worklist)
        report_state(archive, session, row, attributes)
