"""Pull: the history of an old PACS, brought in by C-FIND and C-MOVE or C-GET (PS3.4 C), and counted.

The days are cut into slices, the newest first. A slice is asked for its studies, a study for its series and
their numbers of instances; what is not here is retrieved, and then counted again, series by series. All of
that is kept in tables, so a pull goes on where it was after whatever stopped it, and the report says of every
slice, study and series what the old archive has and what is here.

It runs as a job, a study at a time, within its hours and below the node's rate, so that neither the old PACS
nor this server is kept from its daily work.
"""

import json
import logging
import time
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom.dataset import Dataset
from sqlalchemy import case, func, select, update

from access.audit import note
from access.caller import STORE_IMAGES, Caller
from access.nodes import NodePeer
from archive.model import Hold, Series, Study
from archive.zones import offset_minutes
from dimse.association import Association
from dimse.peers import (
    COMMON_SOP_CLASSES,
    MOVING,
    QUERYING,
    PeerRefused,
    Throttle,
    acting_for,
    associated,
    find_over,
    get_over,
    get_proposals,
    known_peer,
    move_over,
)
from dimse.schedule import parse_window
from dimse.service import Dimse
from edge.model import Pull, PullSlice, PullStudy
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job

log = logging.getLogger(__name__)

AWAY_S = 300.0  # after which a node that was away is asked again
TURN_S = 10.0  # after which a job lets others run, between two studies
MOST_TRIES = 3  # of a study that does not come whole
CROWDED = (
    400  # answers to one slice beyond which it is asked for again in halves: many archives cut off at 500
)
MOST_SLICES = 100_000


class InvalidPull(CloudfilmError):
    """A pull that cannot be begun as it was asked for."""

    kind = Kind.UNPROCESSABLE


class NoSuchPull(CloudfilmError):
    """No pull has this number."""

    kind = Kind.NOT_FOUND

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no pull {number}; see: cloudfilm pull list.")


def begin_pull(
    dimse: Dimse,
    caller: Caller,
    node: str,
    first: date,
    last: date,
    *,
    slice_days: int = 1,
    method: str = "move",
    hours: str = "",
    modality: str = "",
) -> int:
    """Plan a pull and let the worker begin; returns its number. Raises UnknownPeer or InvalidPull."""
    caller.require(STORE_IMAGES)
    known_peer(dimse, node)
    try:
        parse_window(hours)
    except ValueError:
        raise InvalidPull("Write the hours as 22:00-06:00.") from None
    if first > last or (last - first).days // slice_days > MOST_SLICES:
        raise InvalidPull("The first day must not be after the last, nor centuries before it.")
    with dimse.access.database.transaction() as session:
        pull = Pull(
            node=node, method=method, hours=hours, modality=modality, state="running",
            created_at=dimse.clock.now(),
        )  # fmt: skip
        session.add(pull)
        session.flush()
        end = last
        while end >= first:
            begin = max(first, end - timedelta(days=slice_days - 1))
            session.add(PullSlice(pull_id=pull.id, first=begin, last=end))
            end = begin - timedelta(days=1)
        enqueue(session, dimse.clock, go_on, pull.id, key=f"pull {pull.id}")
        note(
            session,
            dimse.clock,
            caller,
            "begin Pull",
            node,
            detail=f"{first} to {last}, by C-{method.upper()}",
        )
        return pull.id


def set_pull_state(dimse: Dimse, caller: Caller, number: int, state: str) -> None:
    """Pause a pull, or let it run again; then what was incomplete is tried again. Raises NoSuchPull."""
    caller.require(STORE_IMAGES)
    with dimse.access.database.transaction() as session:
        pull = session.get(Pull, number)
        if pull is None:
            raise NoSuchPull(number)
        pull.state, pull.finished_at = state, None
        if state == "running":
            session.execute(
                update(PullStudy)
                .where(PullStudy.pull_id == number, PullStudy.state == "incomplete")
                .values(state="waiting", tries=0)
            )
            enqueue(session, dimse.clock, go_on, number, key=f"pull {number}")
        note(session, dimse.clock, caller, "change Pull", f"Pull/{number}", detail=state)


@job(queue="dimse")
def go_on(dimse: Dimse, number: int) -> None:
    """Do some of a pull, and queue the rest; while the node is away, for later."""
    try:
        wait_s = work(dimse, number, time.monotonic() + TURN_S)
    except CloudfilmError as failure:
        log.warning("pull %d waits: %s", number, failure)
        wait_s = AWAY_S
    if wait_s is not None:
        with dimse.access.database.transaction() as session:
            enqueue(session, dimse.clock, go_on, number, delay_s=wait_s, key=f"pull {number}")


def work(dimse: Dimse, number: int, until: float) -> float | None:
    """Do some of a pull until a moment of the monotonic clock. Returns after how many seconds to go on, or
    None when there is nothing left to do or somebody else is at it."""
    slot = dimse.slots.take(f"pull {number}", 1)
    if slot is None:
        return None
    try:
        pull = _pull(dimse, number)
        if pull.state != "running":
            return None
        hours = parse_window(pull.hours)
        wait_s = hours.seconds_until_open(dimse.clock.now(), _offset(dimse)) if hours else 0.0
        if wait_s:
            _say(dimse, number, f"waits for its hours, {pull.hours}")
            return wait_s
        node = known_peer(dimse, pull.node)
        try:
            is_done = _work(dimse, pull, node, until)
        except CloudfilmError as failure:
            _say(dimse, number, str(failure))
            raise
        _say(dimse, number, "")
        return None if is_done else 0.0
    finally:
        slot.free()


def _offset(dimse: Dimse) -> int:
    return offset_minutes(dimse.settings.utc_offset) or 0


def _pull(dimse: Dimse, number: int) -> Pull:
    with dimse.access.database.snapshot() as session:
        pull = session.get(Pull, number)
    if pull is None:
        raise NoSuchPull(number)
    return pull


def _say(dimse: Dimse, number: int, error: str) -> None:
    with dimse.access.database.transaction() as session:
        session.execute(update(Pull).where(Pull.id == number, Pull.error != error).values(error=error))


def _work(dimse: Dimse, pull: Pull, node: NodePeer, until: float) -> bool:
    """Slices and studies over one association for queries. Returns whether all is done."""
    throttle = Throttle(node.max_bytes_per_s)
    with associated(dimse, node, QUERYING.proposals()) as questions:
        while time.monotonic() < until:
            study = _next_study(dimse, pull.id)
            if study is not None:
                throttle.pause(_bring(dimse, pull, node, questions, study))
                continue
            slice_ = _next_slice(dimse, pull.id)
            if slice_ is None:
                with dimse.access.database.transaction() as session:
                    session.execute(
                        update(Pull)
                        .where(Pull.id == pull.id, Pull.state == "running")
                        .values(state="done", finished_at=dimse.clock.now())
                    )
                return True
            _ask(dimse, pull, questions, slice_)
    return False


def _next_study(dimse: Dimse, number: int) -> PullStudy | None:
    waiting = (
        select(PullStudy)
        .where(PullStudy.pull_id == number, PullStudy.state == "waiting")
        .order_by(PullStudy.tries, PullStudy.id)
        .limit(1)
    )
    with dimse.access.database.snapshot() as session:
        return session.scalar(waiting)


def _next_slice(dimse: Dimse, number: int) -> PullSlice | None:
    waiting = (
        select(PullSlice)
        .where(PullSlice.pull_id == number, PullSlice.state == "waiting")
        .order_by(PullSlice.last.desc())
        .limit(1)
    )
    with dimse.access.database.snapshot() as session:
        return session.scalar(waiting)


def _ask(dimse: Dimse, pull: Pull, questions: Association, slice_: PullSlice) -> None:
    """Ask for the studies of some days; many of several days are asked for in halves."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    identifier.StudyDate = f"{slice_.first:%Y%m%d}-{slice_.last:%Y%m%d}"
    if pull.modality:
        identifier.ModalitiesInStudy = pull.modality
    found = {str(answer.get("StudyInstanceUID", "")) for answer in find_over(questions, identifier)} - {""}
    now = dimse.clock.now()
    with dimse.access.database.transaction() as session:
        if len(found) > CROWDED and slice_.first < slice_.last:
            middle = slice_.first + (slice_.last - slice_.first) // 2
            session.execute(update(PullSlice).where(PullSlice.id == slice_.id).values(last=middle))
            after = middle + timedelta(days=1)
            session.add(PullSlice(pull_id=pull.id, first=after, last=slice_.last))
            return
        known = set(session.scalars(select(PullStudy.study_instance_uid).where(PullStudy.pull_id == pull.id)))
        session.add_all(
            PullStudy(pull_id=pull.id, slice_id=slice_.id, study_instance_uid=uid, changed_at=now)
            for uid in sorted(found - known)
        )
        session.execute(
            update(PullSlice).where(PullSlice.id == slice_.id).values(state="asked", studies=len(found))
        )


def _bring(dimse: Dimse, pull: Pull, node: NodePeer, questions: Association, study: PullStudy) -> int:
    """Retrieve a study unless it is here, and compare. Returns how many bytes came."""
    uid = study.study_instance_uid
    theirs, sop_classes = _their_series(questions, uid, pull.method == "get")
    ours, size_before = _our_series(dimse, uid)
    error = ""
    if not _is_whole(theirs, ours):
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", uid
        try:
            _retrieve(dimse, pull.method, node, identifier, sop_classes)
        except PeerRefused as refusal:
            error = str(refusal)
        ours, size_after = _our_series(dimse, uid)
    else:
        size_after = size_before
    whole, tries = _is_whole(theirs, ours), study.tries + 1
    here = sum(min(count, ours.get(series, 0)) for series, count in theirs.items())
    rows = [[series, count, ours.get(series, 0)] for series, count in sorted(theirs.items())]
    values = {
        "state": "whole" if whole else "incomplete" if tries >= MOST_TRIES else "waiting",
        "theirs": sum(theirs.values()),
        "ours": min(sum(theirs.values()), here + ours.get(HELD, 0)),
        "series": json.dumps(rows),
        "tries": tries,
        "error": "" if whole else error or "fewer came than the node says it has",
        "changed_at": dimse.clock.now(),
    }
    with dimse.access.database.transaction() as session:
        session.execute(update(PullStudy).where(PullStudy.id == study.id).values(**values))
    return size_after - size_before


def _retrieve(
    dimse: Dimse, method: str, node: NodePeer, identifier: Dataset, sop_classes: tuple[str, ...]
) -> None:
    if method == "move":
        with associated(dimse, node, MOVING.proposals()) as association:
            move_over(association, identifier, dimse.settings.ae_title)
        return
    proposals = get_proposals(sop_classes or COMMON_SOP_CLASSES)
    roles = list(dict.fromkeys(sop_class for sop_class, _ in proposals[1:]))
    with associated(dimse, node, proposals, roles=roles, caller=acting_for(node, "pull")) as association:
        get_over(dimse, association, identifier)


def _their_series(
    questions: Association, study: str, with_classes: bool
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Instances of each series as the node counts them, one by one where it has no count; and their SOP
    classes where those are needed, which C-GET has to propose."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "SERIES", study
    identifier.SeriesInstanceUID = identifier.NumberOfSeriesRelatedInstances = ""
    counts: dict[str, int] = {}
    for answer in find_over(questions, identifier):
        series = str(answer.get("SeriesInstanceUID", ""))
        count = str(answer.get("NumberOfSeriesRelatedInstances", "") or "")
        counts[series] = int(count) if count.strip().isdecimal() else -1
    sop_classes: dict[str, None] = {}
    for series, number in counts.items():
        if number < 0 or with_classes:
            listed = _their_instances(questions, study, series)
            sop_classes |= dict.fromkeys(listed.values())
            counts[series] = len(listed)
    return counts, tuple(sop_class for sop_class in sop_classes if sop_class)


def _their_instances(questions: Association, study: str, series: str) -> dict[str, str]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "IMAGE", study
    identifier.SeriesInstanceUID = series
    identifier.SOPInstanceUID = identifier.SOPClassUID = ""
    return {
        str(answer.get("SOPInstanceUID", "")): str(answer.get("SOPClassUID", "") or "")
        for answer in find_over(questions, identifier)
    }


def _our_series(dimse: Dimse, study: str) -> tuple[dict[str, int], int]:
    """Instances of each series that are here, held ones counted as of any series; and the bytes of all."""
    with dimse.access.database.snapshot() as session:
        row = session.execute(
            select(Study.id, Study.size_bytes).where(Study.study_instance_uid == study)
        ).first()
        held = session.scalar(
            select(func.count(Hold.sop_instance_uid.distinct())).where(
                Hold.study_instance_uid == study, Hold.resolved_at.is_(None), Hold.reason != "different-bytes"
            )
        )
        if row is None:
            return ({HELD: held} if held else {}), 0
        counts = session.execute(
            select(Series.series_instance_uid, Series.number_of_instances).where(Series.study_id == row.id)
        )
        found = {uid: int(count) for uid, count in counts}
        return (found | {HELD: held} if held else found), row.size_bytes


HELD = "held"


def _is_whole(theirs: dict[str, int], ours: dict[str, int]) -> bool:
    missing = sum(max(0, count - ours.get(series, 0)) for series, count in theirs.items())
    return missing <= ours.get(HELD, 0)


@dataclass(frozen=True, slots=True)
class SliceReport:
    """How a slice compares: studies and instances there, and those of them that are here."""

    first: date
    last: date
    is_asked: bool
    studies: int
    whole: int
    theirs: int
    ours: int


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A study that is not whole yet, with its series: UID, instances there, instances here."""

    study_instance_uid: str
    state: str
    theirs: int
    ours: int
    series: tuple[tuple[str, int, int], ...]
    error: str


@dataclass(frozen=True, slots=True)
class PullReport:
    """The reconciliation of a pull, count by count."""

    number: int
    node: str
    state: str
    error: str
    slices: tuple[SliceReport, ...]
    studies: tuple[StudyReport, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all that the node told of is here."""
        return all(each.is_asked for each in self.slices) and all(
            study.state == "whole" for study in self.studies
        )


def report_pull(dimse: Dimse, number: int, every_study: bool = False) -> PullReport:
    """Compare what the node said it has with what is here. every_study: whole ones too. Raises NoSuchPull."""
    pull = _pull(dimse, number)
    with dimse.access.database.snapshot() as session:
        counted = {
            row[0]: row[1:]
            for row in session.execute(
                select(
                    PullStudy.slice_id,
                    func.count(),
                    func.sum(case((PullStudy.state == "whole", 1), else_=0)),
                    func.sum(PullStudy.theirs),
                    func.sum(PullStudy.ours),
                )
                .where(PullStudy.pull_id == number)
                .group_by(PullStudy.slice_id)
            )
        }
        slices = [
            SliceReport(
                row.first, row.last, row.state == "asked", *map(int, counted.get(row.id, (0, 0, 0, 0)))
            )
            for row in session.scalars(
                select(PullSlice).where(PullSlice.pull_id == number).order_by(PullSlice.first.desc())
            )
        ]
        listed = select(PullStudy).where(PullStudy.pull_id == number).order_by(PullStudy.id)
        if not every_study:
            listed = listed.where(PullStudy.state != "whole")
        studies = [
            StudyReport(
                row.study_instance_uid, row.state, row.theirs, row.ours,
                tuple((uid, there, here) for uid, there, here in json.loads(row.series)), row.error,
            )
            for row in session.scalars(listed)
        ]  # fmt: skip
    return PullReport(number, pull.node, pull.state, pull.error, tuple(slices), tuple(studies))
