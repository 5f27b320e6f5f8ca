"""Finding workitems: for the modality worklist, the UPS query and UPS-RS alike.

The database leaves out most by the columns that are drawn from each workitem; what is left is matched on
its document, so every attribute can be a key, in sequences too. PS3.4 C.2.2.2, K.6.1 and CC.2.8.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, or_, select, true
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import Action, Caller
from archive.attributes import Document, item, text
from archive.matching import matches
from archive.query import parse_date_range, parse_uids
from archive.room import Archive
from archive.workitem_model import State, Workitem
from archive.workitem_reach import workitems_within
from archive.workitems import document_of, zone_of

SEARCH = Action("Workitem", "s")
PAGE = 500

View = Callable[[Document, ZoneInfo], Document]


def search_workitems(
    archive: Archive,
    caller: Caller,
    keys: Mapping[str, Document],
    *,
    view: View | None = None,
    worklist_only: bool = False,
    fuzzy: bool = False,
    limit: int | None = None,
    offset: int = 0,
) -> Iterator[Document]:
    """Workitems that answer to matching keys, by the day they are scheduled for, page by page.

    view: the form in which they are matched and answered; without one, the UPS itself. worklist_only: those
    that a modality is to see. Raises InvalidMatch or Forbidden.
    """
    caller.require(SEARCH)
    matches(keys, {}, fuzzy)  # a key that cannot be matched is refused even where there is nothing
    note_once(archive.database, archive.recently, archive.clock, caller, "search Workitem", "")
    return _found(archive, caller, keys, view, worklist_only, fuzzy, limit, offset)


def _found(
    archive: Archive,
    caller: Caller,
    keys: Mapping[str, Document],
    view: View | None,
    worklist_only: bool,
    fuzzy: bool,
    limit: int | None,
    offset: int,
) -> Iterator[Document]:
    after: tuple[date, int] | None = None
    given = 0
    statement = workitems_within(
        select(Workitem).where(_prefilter(keys, worklist_only)), caller.reach_for("s")
    )  # fmt: skip
    while limit is None or given < limit:
        with archive.database.snapshot() as session:
            zone = zone_of(session)
            rows = session.scalars(_page(statement, after)).all()
        for row in rows:
            after = (row.scheduled_date or NEVER, row.id)
            shown = document_of(row)
            shown = view(shown, zone) if view else shown
            if not matches(keys, shown, fuzzy):
                continue
            if offset:
                offset -= 1
                continue
            yield shown
            given += 1
            if limit is not None and given >= limit:
                return
        if len(rows) < PAGE:
            return


NEVER = date(9999, 12, 31)  # stands for no day at all: such work comes last


def _page(statement: Select[Workitem], after: tuple[date, int] | None) -> Select[Workitem]:
    """The next rows after one, by day and number; rows without a day come last."""
    if after is not None:
        day, number = after
        if day == NEVER:
            later = and_(Workitem.scheduled_date.is_(None), Workitem.id > number)
        else:
            later = or_(
                Workitem.scheduled_date > day,
                and_(Workitem.scheduled_date == day, Workitem.id > number),
                Workitem.scheduled_date.is_(None),
            )
        statement = statement.where(later)
    return statement.order_by(Workitem.scheduled_date.asc().nulls_last(), Workitem.id).limit(PAGE)


def _prefilter(keys: Mapping[str, Document], worklist_only: bool) -> ColumnElement[bool]:
    """What the database can leave out by its columns; the rest of the keys is looked at row by row."""
    conditions: list[ColumnElement[bool]] = [true()]
    step = item(keys, "ScheduledProcedureStepSequence")
    if worklist_only:
        status = text(step, "ScheduledProcedureStepStatus")
        states = [State.SCHEDULED] if not status else [State.SCHEDULED, State.IN_PROGRESS]
        conditions += [Workitem.state.in_(states), Workitem.on_worklist.is_(True)]
    for wanted, column in (
        (text(keys, "ProcedureStepState"), Workitem.state),
        (text(keys, "PatientID"), Workitem.patient_id),
        (text(keys, "AccessionNumber"), Workitem.accession_number),
        (text(item(keys, "ReferencedRequestSequence"), "AccessionNumber"), Workitem.accession_number),
        (text(step, "Modality"), Workitem.modality),
    ):
        if wanted and not set(wanted) & set("*?"):
            conditions.append(column == wanted)
    uids = text(keys, "SOPInstanceUID")
    if uids:
        conditions.append(Workitem.sop_instance_uid.in_(parse_uids("SOPInstanceUID", (uids,))))
    days = text(step, "ScheduledProcedureStepStartDate")
    if days:
        range_ = parse_date_range("ScheduledProcedureStepStartDate", days)
        conditions.append(Workitem.scheduled_date >= range_.first if range_.first else true())
        conditions.append(Workitem.scheduled_date <= range_.last if range_.last else true())
    return and_(*conditions)


def find_workitem(session: Session, institution: str, *, step_id: str = "", accession_number: str = "",
                  study_instance_uid: str = "") -> Workitem | None:  # fmt: skip
    """The workitem that a modality names by what its worklist said: the step, else study, else number."""
    for wanted, column in (
        (step_id, Workitem.step_id),
        (study_instance_uid, Workitem.study_instance_uid),
        (accession_number, Workitem.accession_number),
    ):
        if not wanted:
            continue
        statement = select(Workitem).where(column == wanted, Workitem.institution == institution)
        if step_id and column is Workitem.step_id and study_instance_uid:
            statement = statement.where(Workitem.study_instance_uid == study_instance_uid)
        row = session.scalar(statement.order_by(Workitem.id.desc()).limit(1).with_for_update())
        if row is not None:
            return row
    return None
