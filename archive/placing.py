"""Placing: what was received gets its rows. Runs in the one transaction of all that arrived together.

First it is decided of each object what becomes of it, by what the database knows already; then all rows are
written, each kind of them in one statement, however many objects there are. Studies are locked in the order
of their UIDs, so that two processes that store into the same ones wait for each other and for nothing else.

Standards: PS3.4 annex B (Storage), PS3.3 A.1.2 (the information model).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from access.audit import Noted, note_all
from access.caller import Caller
from access.site import known_patient_id_issuer, patient_id_issuer
from archive.blobs.sealed import Sealed
from archive.documents import close_document, dump_marked, parse_marked
from archive.header import Header, read_header
from archive.indexed_values import ADD_VALUES, rows_of
from archive.keys import (
    INSTANCE_PATHS,
    SERIES_PATHS,
    STUDY_PATHS,
)
from archive.model import Hold, Instance, Series, Study
from archive.non_patient import place_non_patient
from archive.reach import within
from archive.rest import rest_study
from archive.room import Archive
from archive.rows import Draft, Row, demographics_of, instance_row, series_draft, study_draft
from kernel.changes import record_changes
from kernel.database import DatabaseUnavailable, Overtaken, table_of
from kernel.errors import Forbidden
from kernel.jobs import enqueue_all
from kernel.writes import reserve, write_all
from mpi.bulk import identify_all
from mpi.crew import Crew, Prepared
from mpi.demographics import Demographics
from mpi.resolve import Identified, identify

log = logging.getLogger(__name__)

# Studies are locked in their order, but what is not of a study, or begins one, may lock the end of the audit
# trail before it: two processes may then each wait for the other, and the database lets one go on.
MOST_TURNS = 5


class Outcome(Enum):
    """What became of an instance that was received whole."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the same bytes were already there
    HELD = "held"  # kept apart for review: it contradicts what is there


@dataclass(frozen=True, slots=True)
class Ingested:
    """The receipt for one instance."""

    study_instance_uid: str  # empty: of no patient
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    size_bytes: int
    outcome: Outcome
    detail: str = ""  # why it is held


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that was received, sealed and read, and waits for its place."""

    archive: Archive
    caller: Caller
    header: Header
    sealed: Sealed
    document: bytes
    row: Row  # of the instance, without study and series

    @classmethod
    def of(cls, archive: Archive, caller: Caller, header: Header, sealed: Sealed) -> "Arrival":
        """What can be made ready before the transaction."""
        document = close_document(archive.blobs.keys, dump_marked(header.attributes))
        row = instance_row(caller, header, sealed, document) if header.study_instance_uid else {}
        return cls(archive, caller, header, sealed, document, row)

    @property
    def patient(self) -> tuple[str, str]:
        """Patient ID and its issuer, as the object has them."""
        return self.header.text("00100020"), self.header.text("00100021")

    def receipt(self, outcome: Outcome, detail: str = "") -> Ingested:
        """What the sender is told."""
        header = self.header
        return Ingested(
            header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid,
            header.sop_class_uid, self.sealed.size_bytes, outcome, detail,
        )  # fmt: skip


def place_together(arrivals: Sequence[Arrival]) -> list[Ingested | Exception]:
    """Place objects whose bytes are durable, in one transaction; what is told of each holds when this
    returns.

    When one of them is refused, or another process was first with one, each is placed by itself. Raises
    DatabaseUnavailable.
    """
    if len(arrivals) > 1:
        try:
            return [*_placed(arrivals)]
        except DatabaseUnavailable:
            raise
        except Exception as failure:
            log.info("what arrived together is placed one by one: %s", type(failure).__name__)
    return [_place_alone(arrival) for arrival in arrivals]


def _place_alone(arrival: Arrival) -> Ingested | Exception:
    try:
        try:
            return _placed([arrival])[0]
        except IntegrityError:  # another process was first, which shows now
            return _placed([arrival])[0]
    except Exception as failure:
        return failure


def _placed(arrivals: Sequence[Arrival]) -> list[Ingested]:
    for _ in range(MOST_TURNS - 1):
        try:
            return _placed_now(arrivals)
        except Overtaken:
            log.info("another process stood in the way; what arrived together is placed again")
    return _placed_now(arrivals)


def _placed_now(arrivals: Sequence[Arrival]) -> list[Ingested]:
    database = arrivals[0].archive.database
    begun = _begin(  # on SQLite nobody else writes during a transaction: what can be is done before it
        _of_studies_not_seen(arrivals),
        lambda institution: known_patient_id_issuer(database, institution),
    )
    with database.transaction() as session:
        placing = _Placing(session, arrivals, begun)
        outcomes = placing.place_all()
    placing.remember()
    return outcomes


def place_again(archive: Archive, session: Session, caller: Caller, sealed: Sealed) -> Ingested:
    """Index an object whose bytes are in the store already, within the caller's transaction."""
    with archive.blobs.open(sealed.key, sealed.seal) as reader:
        header = read_header(reader, sealed.size_bytes)
    placing = _Placing(session, [Arrival.of(archive, caller, header, sealed)], {})
    (outcome,) = placing.place_all()
    placing.remember()
    return outcome


@dataclass(frozen=True, slots=True)
class _Begun:
    """A study that may be new, as its first object would begin it; made ready before the transaction."""

    said: Demographics
    prepared: Prepared
    study: Draft
    series: Draft


def _of_studies_not_seen(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """The first objects of studies into which their senders did not store a short while ago."""
    firsts: dict[str, Arrival] = {}
    for arrival in arrivals:
        study = arrival.header.study_instance_uid
        if study and not arrival.archive.recently.seen(*_key_of(arrival.caller, study)):
            firsts.setdefault(study, arrival)
    return list(firsts.values())


def _begin(firsts: Sequence[Arrival], issuer_of: Callable[[str], str]) -> dict[int, _Begun]:
    """What these objects say of their patients, studies and series, by the object that is the arrival.

    issuer_of: who gave the Patient IDs of an institution.
    """
    if not firsts:
        return {}
    archive, issuers, said = firsts[0].archive, dict[str, str](), list[Demographics]()
    for arrival in firsts:
        institution = arrival.caller.principal.institution or archive.institution
        if institution not in issuers:
            issuers[institution] = issuer_of(institution)
        said.append(demographics_of(arrival.header, institution, issuers[institution]))
    return {
        id(arrival): _Begun(
            each, prepared, study_draft(arrival.caller, arrival.header, each.institution),
            series_draft(arrival.header),
        )
        for arrival, each, prepared in zip(firsts, said, _crew(archive).prepare(said).result(), strict=True)
    }  # fmt: skip


def _crew(archive: Archive) -> Crew:
    return Crew(archive.mpi.keys, archive.mpi.scorer)  # without processes: a transaction waits for none


def _key_of(caller: Caller, study_instance_uid: str) -> tuple[str, ...]:
    """Under what it is remembered that somebody stores into a study."""
    return caller.principal.id, caller.grant, "store", study_instance_uid


@dataclass(slots=True)
class _Series:
    """A series that instances are stored into, and how it was before."""

    uid: str
    id: int = 0  # 0: not written yet
    is_new: bool = True
    attributes: bytes = b""
    number_of_instances: int = 0
    arrivals: list[Arrival] = field(default_factory=list)


@dataclass(slots=True)
class _Study:
    """A study that instances are stored into, and how it was before."""

    uid: str
    patient: tuple[str, str]
    id: int = 0  # 0: not written yet
    is_new: bool = True
    attributes: bytes = b""
    number_of_series: int = 0
    number_of_instances: int = 0
    size_bytes: int = 0
    series: dict[str, _Series] = field(default_factory=dict)
    callers: dict[int, Caller] = field(default_factory=dict)  # who store into it, by their object

    def moved_series(self) -> list[_Series]:
        """Those into which something is stored now."""
        return [series for series in self.series.values() if series.arrivals]

    def first(self) -> Arrival:
        """The first object that is stored into it now."""
        return self.moved_series()[0].arrivals[0]


class _Placing:
    """Objects that are placed in one transaction."""

    def __init__(self, session: Session, arrivals: Sequence[Arrival], begun: dict[int, _Begun]) -> None:
        """begun: by the object that is their first arrival."""
        self._session = session
        self._begun = begun
        self._connection = session.connection()
        self._arrivals = arrivals
        self._archive = arrivals[0].archive
        self._now = self._archive.clock.now()
        headers = [arrival.header for arrival in arrivals if arrival.header.study_instance_uid]
        self._studies: dict[str, _Study] = {}
        self._known: dict[str, bytes] = {}  # digests of instances that are there, by UID
        self._changes: list[tuple[str, str, dict[str, Any]]] = []
        self._notes: list[tuple[Caller, Noted]] = []
        self._noted: set[tuple[str, ...]] = set()  # keys of `Recently`
        self._values: list[Row] = []  # of `indexed_value`
        if headers:
            self._look_up(headers)

    def _look_up(self, headers: Sequence[Header]) -> None:
        """Read what is known of them. The studies first, for they are the lock."""
        uids = sorted({header.study_instance_uid for header in headers})
        by_id: dict[int, _Study] = {}
        for known in self._connection.execute(_KNOWN_STUDIES, {"uids": uids}):
            study = _Study(
                known.study_instance_uid, (known.patient_id, known.issuer_of_patient_id), known.id, False,
                known.attributes, known.number_of_series, known.number_of_instances, known.size_bytes,
            )  # fmt: skip
            self._studies[study.uid] = by_id[study.id] = study
        if by_id:
            uids = sorted({header.series_instance_uid for header in headers})
            rows = self._connection.execute(_KNOWN_SERIES, {"studies": list(by_id), "uids": uids})
            for series_id, study_id, uid, attributes, instances in rows:
                by_id[study_id].series[uid] = _Series(uid, series_id, False, attributes, instances)
        uids = [header.sop_instance_uid for header in headers]
        for uid, digest in self._connection.execute(_KNOWN_INSTANCES, {"uids": uids}):
            self._known[uid] = digest

    def place_all(self) -> list[Ingested]:
        """Decide of each, and write the rows of all. Raises Forbidden, and what `place_non_patient` does."""
        outcomes = [self._decide(arrival) for arrival in self._arrivals]
        moved = [study for study in self._studies.values() if study.moved_series()]
        if moved:
            self._write(moved)
        record_changes(self._session, self._archive.clock, self._changes)
        for _, notes in groupby(self._notes, key=lambda each: id(each[0])):
            mine = list(notes)
            note_all(self._session, self._archive.clock, mine[0][0], [noted for _, noted in mine])
        return outcomes

    def remember(self) -> None:
        """What was noted need not be noted again for a while."""
        for key in self._noted:
            self._archive.recently.mark(*key)

    def _decide(self, arrival: Arrival) -> Ingested:
        header, caller = arrival.header, arrival.caller
        if not header.study_instance_uid:
            is_new = place_non_patient(
                self._archive, self._session, caller, header, arrival.sealed, arrival.document
            )
            return arrival.receipt(Outcome.STORED if is_new else Outcome.DUPLICATE)
        known = self._known.get(header.sop_instance_uid)
        if known is not None:
            if known == arrival.sealed.sha256:
                return arrival.receipt(Outcome.DUPLICATE)
            return self._hold(arrival, "different-bytes")
        study = self._studies.get(header.study_instance_uid)
        if study is None:
            study = _Study(header.study_instance_uid, arrival.patient)
            self._studies[study.uid] = study
            self._changes.append(("study-created", study.uid, {}))
        elif study.patient != arrival.patient:
            return self._hold(arrival, "patient-conflict")
        self._let_in(caller, study)
        series = study.series.setdefault(header.series_instance_uid, _Series(header.series_instance_uid))
        series.arrivals.append(arrival)
        self._known[header.sop_instance_uid] = arrival.sealed.sha256
        self._changes.append(("instance-stored", header.sop_instance_uid, {"study": study.uid}))
        return arrival.receipt(Outcome.STORED)

    def _let_in(self, caller: Caller, study: _Study) -> None:
        """See that a caller may store into a study, and that the trail will say so."""
        if id(caller) in study.callers:  # who asks twice may reach less the second time
            return
        if not study.is_new:
            self._require_reach(caller, study.id)
        study.callers[id(caller)] = caller
        key = _key_of(caller, study.uid)
        if key not in self._noted and not self._archive.recently.seen(*key):
            self._noted.add(key)
            self._notes.append((caller, Noted("store ImagingStudy", study.uid)))

    def _require_reach(self, caller: Caller, study_id: int) -> None:
        """A caller adds only to studies that it may know of, and its own new ones are among them."""
        reach = caller.reach_for("c")
        if reach.is_everywhere:
            return
        reached = within(select(Study.id).where(Study.id == study_id), reach)
        if self._connection.execute(reached).first() is None:
            raise Forbidden("store ImagingStudy", "The study lies outside of what you may reach.")

    def _hold(self, arrival: Arrival, reason: str) -> Ingested:
        """Keep an object apart, where nobody sees it until it is reviewed. The same bytes are held once."""
        header, sealed, caller = arrival.header, arrival.sealed, arrival.caller
        held = self._connection.execute(
            select(Hold.id).where(
                Hold.sop_instance_uid == header.sop_instance_uid,
                Hold.sha256 == sealed.sha256,
                Hold.resolved_at.is_(None),
            )
        ).first()
        if held is not None:
            return arrival.receipt(Outcome.DUPLICATE, reason)
        self._connection.execute(
            insert(Hold).values(
                reason=reason,
                study_instance_uid=header.study_instance_uid,
                sop_instance_uid=header.sop_instance_uid,
                institution=caller.principal.institution or self._archive.institution,
                blob_key=sealed.key,
                seal=sealed.seal.pack(),
                sha256=sealed.sha256,
                detail="",
                source=caller.principal.id,
                received_at=self._now,
                resolution="",
            )
        )
        self._changes.append(
            (
                "instance-held",
                header.sop_instance_uid,
                {"reason": reason, "study": header.study_instance_uid},
            )
        )
        self._notes.append((caller, Noted("hold ImagingStudy", header.study_instance_uid, detail=reason)))
        return arrival.receipt(Outcome.HELD, reason)

    def _write(self, studies: list[_Study]) -> None:
        """Write the rows of studies with what is stored into them, and what follows from that."""
        series = [each for study in studies for each in study.moved_series()]
        new_studies = [study for study in studies if study.is_new]
        new_series = [(study, each) for study in studies for each in study.moved_series() if each.is_new]
        study_rows = self._rows_of_new_studies(new_studies)
        series_rows = self._rows_of_new_series(new_series)
        instance_rows = self._instance_rows(studies)
        write_all(
            self._connection,
            [
                (_ADD_STUDIES, study_rows), (_ADD_SERIES, series_rows), (_ADD_INSTANCES, instance_rows),
                (ADD_VALUES, self._values),
            ],
        )  # fmt: skip
        for study in new_studies:
            for caller in study.callers.values():
                self._require_reach(caller, study.id)
        if grown := [each for each in series if not each.is_new]:
            self._connection.execute(_COUNT_SERIES, [_moved_series(each) for each in grown])
        if moved := [study for study in studies if not study.is_new]:
            self._connection.execute(_COUNT_STUDY, [self._moved_study(study) for study in moved])
        enqueue_all(
            self._session, self._archive.clock, rest_study,
            [(f"rest {study.uid}", (study.uid,)) for study in studies],
            delay_s=self._archive.settings.rest_after_s,
        )  # fmt: skip

    def _rows_of_new_studies(self, studies: list[_Study]) -> list[Row]:
        if not studies:
            return []
        missing = [study.first() for study in studies if id(study.first()) not in self._begun]
        self._begun |= _begin(missing, lambda institution: patient_id_issuer(self._session, institution))
        begun = [self._begun[id(study.first())] for study in studies]
        ids = reserve(self._connection, _STUDY, len(studies))
        rows = []
        for study, study_id, each, identified in zip(
            studies, ids, begun, self._identify(studies, begun), strict=True
        ):
            study.id = study_id
            self._values += rows_of(study.first().header.attributes, STUDY_PATHS, study_id)
            modalities = [series.arrivals[0].header.text("00080060") for series in study.moved_series()]
            rows.append(
                each.study.row
                | {
                    "id": study_id, "patient_record_id": identified.patient_record_id,
                    "patient_logical_id": identified.patient_id,
                    "created_at": self._now, "changed_at": self._now,
                }
                | _study_counts(study, dict(each.study.answer), modalities)
            )  # fmt: skip
        return rows

    def _rows_of_new_series(self, series: list[tuple[_Study, _Series]]) -> list[Row]:
        if not series:
            return []
        ids = reserve(self._connection, _SERIES, len(series))
        rows = []
        for (study, each), series_id in zip(series, ids, strict=True):
            each.id = series_id
            first = each.arrivals[0]
            self._values += rows_of(first.header.attributes, SERIES_PATHS, study.id, series_id)
            begun = self._begun.get(id(first))
            draft = begun.series if begun is not None else series_draft(first.header)
            place = {"id": series_id, "study_id": study.id}
            rows.append(draft.row | place | _series_counts(each, dict(draft.answer)))
        return rows

    def _instance_rows(self, studies: list[_Study]) -> list[Row]:
        arrivals: list[Arrival] = []
        rows: list[Row] = []
        for study in studies:
            for series in study.moved_series():
                place: Row = {"study_id": study.id, "series_id": series.id, "received_at": self._now}
                arrivals += series.arrivals
                rows += [arrival.row | place for arrival in series.arrivals]
        if any(path[:8] in each.header.attributes for each in arrivals for path in INSTANCE_PATHS):
            ids = reserve(self._connection, _INSTANCE, len(rows))
            for arrival, row, row_id in zip(arrivals, rows, ids, strict=True):
                row["id"] = row_id
                at = (row["study_id"], row["series_id"], row_id)
                self._values += rows_of(arrival.header.attributes, INSTANCE_PATHS, *at)
        return rows

    def _identify(self, studies: list[_Study], begun: list[_Begun]) -> list[Identified]:
        """Whose each new study is; the patients of several are matched and written together."""
        mpi, session = self._archive.mpi, self._session
        callers = [study.first().caller for study in studies]
        if len(studies) == 1:
            return [identify(mpi, session, callers[0], begun[0].said)]
        here = _crew(self._archive)
        # As other processes have it: they wait for each other where two bring the same number.
        in_order = sorted(
            range(len(studies)), key=lambda at: (begun[at].said.issuer, begun[at].said.identifier)
        )
        found: dict[int, Identified] = {}
        for _, some in groupby(in_order, key=lambda at: callers[at].principal.id):
            mine = list(some)
            batch = [begun[at].prepared for at in mine]
            found |= zip(mine, identify_all(mpi, session, callers[mine[0]], here, batch), strict=True)
        return [found[at] for at in range(len(studies))]

    def _moved_study(self, study: _Study) -> Row:
        """What changes in a study that was there: its counts, and the answer that carries them."""
        modalities: list[str] = []
        if any(each.is_new for each in study.moved_series()):
            modalities = list(self._connection.execute(_MODALITIES, {"row": study.id}).scalars())
        counts = _study_counts(study, parse_marked(study.attributes), modalities)
        return {"row": study.id, "now": self._now} | {f"new_{name}": value for name, value in counts.items()}


def _study_counts(study: _Study, answer: Row, modalities: Sequence[str]) -> Row:
    """Counts of a study with what is stored into it now; modalities: of all its series, if there are new
    ones."""
    series = study.moved_series()
    arrivals = [arrival for each in series for arrival in each.arrivals]
    number_of_series = study.number_of_series + sum(each.is_new for each in series)
    number_of_instances = study.number_of_instances + len(arrivals)
    if modalities:
        answer["00080061"] = {"vr": "CS", "Value": sorted({modality for modality in modalities if modality})}
    answer["00201206"] = {"vr": "IS", "Value": [number_of_series]}
    answer["00201208"] = {"vr": "IS", "Value": [number_of_instances]}
    return {
        "number_of_series": number_of_series,
        "number_of_instances": number_of_instances,
        "size_bytes": study.size_bytes + sum(arrival.sealed.size_bytes for arrival in arrivals),
        "attributes": dump_marked(dict(sorted(answer.items()))),
    }


def _moved_series(series: _Series) -> Row:
    """What changes in a series that was there."""
    counts = _series_counts(series, parse_marked(series.attributes))
    return {"row": series.id} | {f"new_{name}": value for name, value in counts.items()}


def _series_counts(series: _Series, answer: Row) -> Row:
    instances = series.number_of_instances + len(series.arrivals)
    answer["00201209"] = {"vr": "IS", "Value": [instances]}
    return {"number_of_instances": instances, "attributes": dump_marked(dict(sorted(answer.items())))}


# Built once: these run with every arrival, and building a statement costs more than running it.
_KNOWN_STUDIES = (
    select(
        Study.id, Study.study_instance_uid, Study.patient_id, Study.issuer_of_patient_id, Study.attributes,
        Study.number_of_series, Study.number_of_instances, Study.size_bytes,
    )
    .where(Study.study_instance_uid.in_(bindparam("uids", expanding=True)))
    .order_by(Study.study_instance_uid)
    .with_for_update()
)  # fmt: skip
_KNOWN_SERIES = (
    select(
        Series.id, Series.study_id, Series.series_instance_uid, Series.attributes, Series.number_of_instances
    )
    .where(
        Series.study_id.in_(bindparam("studies", expanding=True)),
        Series.series_instance_uid.in_(bindparam("uids", expanding=True)),
    )
    .order_by(Series.id)
    .with_for_update()
)
_KNOWN_INSTANCES = select(Instance.sop_instance_uid, Instance.sha256).where(
    Instance.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_STUDY, _SERIES, _INSTANCE = table_of(Study), table_of(Series), table_of(Instance)
_ADD_STUDIES, _ADD_SERIES, _ADD_INSTANCES = insert(_STUDY), insert(_SERIES), insert(_INSTANCE)
_COUNT_SERIES = (
    update(_SERIES)
    .where(_SERIES.c.id == bindparam("row"))
    .values(
        number_of_instances=bindparam("new_number_of_instances"),
        attributes=bindparam("new_attributes"),
        revision=_SERIES.c.revision + 1,
    )
)
_COUNT_STUDY = (
    update(_STUDY)
    .where(_STUDY.c.id == bindparam("row"))
    .values(
        number_of_series=bindparam("new_number_of_series"),
        number_of_instances=bindparam("new_number_of_instances"),
        size_bytes=bindparam("new_size_bytes"),
        attributes=bindparam("new_attributes"),
        revision=_STUDY.c.revision + 1,
        changed_at=bindparam("now"),
    )
)
_MODALITIES = select(_SERIES.c.modality).where(_SERIES.c.study_id == bindparam("row"))
