"""Retrieve: the one way out of the archive, for WADO-RS, C-GET, C-MOVE, the viewer and shares.

Every function takes the caller, looks only within its reach, and notes once in a while that it read the
study.
What lies outside of the reach and what does not exist look the same. Bytes are streamed from the sealed
object; a frame is one indexed row and one ranged, decrypting read.

PS3.18 10.4 (Retrieve), PS3.4 C.4.2 and C.4.3 (C-MOVE, C-GET).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, Select, bindparam, cast, func, select

from access.audit import note_once
from access.caller import READ_IMAGES, Caller, Reach
from archive.bundles import EncodedBundles, encoded_bundle, instance_documents
from archive.documents import document_bytes
from archive.frame_index import FrameLocation, locate_frame
from archive.header import DEFLATED, data_set_offset, inflate
from archive.model import Instance, Series, Study
from archive.reach import within
from archive.room import Archive
from kernel.crypto import Seal
from kernel.errors import CloudfilmError, Kind

PAGE = 500


class NotFound(CloudfilmError):
    """No such study, series, instance, frame or value, or none that this caller may know of."""

    kind = Kind.NOT_FOUND

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was not found.")


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance as it is kept: what a door needs to send it."""

    id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    size_bytes: int
    sha256: bytes
    blob_key: str
    seal: Seal
    frames: bytes  # archive.frame_index, packed
    patient_logical_id: str
    source: str  # the principal who brought it


COLUMNS = (
    Instance.id, Study.study_instance_uid, Series.series_instance_uid, Instance.sop_instance_uid,
    Instance.sop_class_uid, Instance.transfer_syntax_uid, Instance.instance_number, Instance.number_of_frames,
    Instance.size_bytes, Instance.sha256, Instance.blob_key, Instance.seal, Instance.frames,
    Study.patient_logical_id, Instance.source,
)  # fmt: skip
SEAL_AT = 11  # of Instance.seal in COLUMNS


def _stored(row: Sequence[Any]) -> StoredInstance:
    values = list(row)
    values[SEAL_AT] = Seal.unpack(values[SEAL_AT])
    return StoredInstance(*values)


def _statement(*columns: Any, study: str, series: str = "", instance: str = "") -> Select[*tuple[Any, ...]]:
    statement = (
        select(*columns)
        .select_from(Instance)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .where(Study.study_instance_uid == (study or bindparam("study")))
    )
    if series:
        statement = statement.where(Series.series_instance_uid == series)
    if instance:
        statement = statement.where(Instance.sop_instance_uid == instance)
    return statement


def _within_series(has_series: bool, has_instance: bool, *columns: Any) -> Select[*tuple[Any, ...]]:
    """The same for any study, series and instance, whose UIDs are parameters: to be built once."""
    statement = _statement(*columns, study="")
    if has_series:
        statement = statement.where(Series.series_instance_uid == bindparam("series"))
    if has_instance:
        statement = statement.where(Instance.sop_instance_uid == bindparam("instance"))
    return statement


def _note(archive: Archive, caller: Caller, study_instance_uid: str, patient_logical_id: str) -> None:
    note_once(
        archive.database, archive.recently, archive.clock, caller, "read ImagingStudy", study_instance_uid,
        patient_logical_id,
    )  # fmt: skip


def find_instances(
    archive: Archive,
    caller: Caller,
    study_instance_uid: str,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
) -> Iterator[StoredInstance]:
    """The instances of a study, a series or one alone, in the order of series and instance numbers.

    They are read page by page, so a study of any size costs the same memory. Raises NotFound when there
    is none.
    """
    caller.require(READ_IMAGES)
    statement = _page_of_instances(
        caller.reach_for("r"), has_series=bool(series_instance_uid), has_instance=bool(sop_instance_uid)
    )
    named = {"study": study_instance_uid}
    if series_instance_uid:
        named["series"] = series_instance_uid
    if sop_instance_uid:
        named["instance"] = sop_instance_uid
    found = 0
    while True:
        page = [_stored(row) for row in archive.database.rows(statement, {**named, "found": found})]
        if not found:
            if not page:
                raise NotFound("The study, series or instance")
            _note(archive, caller, study_instance_uid, page[0].patient_logical_id)
        yield from page
        found += len(page)
        if len(page) < PAGE:
            return


@lru_cache(maxsize=1024)
def _page_of_instances(reach: Reach, has_series: bool, has_instance: bool) -> Select[*tuple[Any, ...]]:
    return (
        within(_within_series(has_series, has_instance, *COLUMNS), reach)
        .order_by(Series.series_number, Series.id, Instance.instance_number, Instance.id)
        .limit(PAGE)
        .offset(bindparam("found", type_=Integer))
    )


def find_images(
    archive: Archive, caller: Caller, study: str, series: str, first: int, count: int
) -> tuple[StoredInstance, ...]:
    """Some images of a series in the order in which pages list them (`archive.exams`), from number `first`
    (0 is the first). Raises NotFound when there is none."""
    caller.require(READ_IMAGES)
    statement = (
        within(_statement(*COLUMNS, study=study, series=series), caller.reach_for("r"))
        .where(Instance.number_of_frames > 0)
        .order_by(Instance.instance_number.nulls_last(), Instance.id)
    )
    with archive.database.snapshot() as session:
        found = tuple(_stored(row) for row in session.execute(statement.limit(count).offset(first)))
    if not found:
        raise NotFound("The images")
    _note(archive, caller, study, found[0].patient_logical_id)
    return found


@dataclass(frozen=True, slots=True)
class Selection:
    """What a retrieval names: at each level alternatives, or nothing for all (PS3.4 C.4.2.1.4)."""

    patient_id: str = ""
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    newer_than: int = 0  # rows behind this one only
    by_arrival: bool = False  # in the order of their rows, in place of that of their numbers


@dataclass(frozen=True, slots=True)
class Survey:
    """How much a selection is, and in which forms: (SOP class, transfer syntax), the commonest first."""

    instances: int
    size_bytes: int
    forms: tuple[tuple[str, str], ...]


def survey(archive: Archive, caller: Caller, selection: Selection) -> Survey:
    """Count a selection without reading it; one that the caller may not know of is empty."""
    caller.require(READ_IMAGES)
    of_form = (Instance.sop_class_uid, Instance.transfer_syntax_uid)
    counted = _selected(selection, *of_form, func.count(), func.sum(Instance.size_bytes)).group_by(*of_form)
    with archive.database.snapshot() as session:
        rows = session.execute(
            within(counted, caller.reach_for("r")).order_by(func.count().desc(), *of_form)
        ).all()
    forms = tuple((row[0], row[1]) for row in rows)
    return Survey(sum(row[2] for row in rows), sum(row[3] for row in rows), forms)


def find_selected(archive: Archive, caller: Caller, selection: Selection) -> Iterator[StoredInstance]:
    """The instances of a selection, study by study, in the order of series and instance numbers, read page
    by page. None is no error: a retrieval of nothing succeeds."""
    caller.require(READ_IMAGES)
    by_number = (Study.id, Series.series_number, Series.id, Instance.instance_number, Instance.id)
    order = (Instance.id,) if selection.by_arrival else by_number
    statement = within(_selected(selection, *COLUMNS), caller.reach_for("r")).order_by(*order)
    found, noted = 0, ""
    while True:
        with archive.database.snapshot() as session:
            page = [_stored(row) for row in session.execute(statement.limit(PAGE).offset(found))]
        for stored in page:
            if stored.study_instance_uid != noted:
                noted = stored.study_instance_uid
                _note(archive, caller, noted, stored.patient_logical_id)
            yield stored
        found += len(page)
        if len(page) < PAGE:
            return


def _selected(selection: Selection, *columns: Any) -> Select[*tuple[Any, ...]]:
    statement = (
        select(*columns)
        .select_from(Instance)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
    )
    if selection.newer_than:
        statement = statement.where(Instance.id > selection.newer_than)
    if selection.patient_id:
        statement = statement.where(Study.patient_id == selection.patient_id)
    for column, uids in (
        (Study.study_instance_uid, selection.studies),
        (Series.series_instance_uid, selection.series),
        (Instance.sop_instance_uid, selection.instances),
    ):
        if uids:
            statement = statement.where(column.in_(uids))
    return statement


@dataclass(frozen=True, slots=True)
class Extent:
    """What a study or series consists of, without its rows: enough to negotiate and to tag an answer."""

    tag: str  # changes whenever something is stored into the study
    transfer_syntaxes: tuple[tuple[str, bool], ...]  # those that occur, and whether with pixels
    instances: int


def find_extent(
    archive: Archive, caller: Caller, study_instance_uid: str, series_instance_uid: str = ""
) -> Extent:
    """What there is of a study or series. Raises NotFound."""
    caller.require(READ_IMAGES)
    named = {"study": study_instance_uid}
    if series_instance_uid:
        named["series"] = series_instance_uid
    rows = archive.database.rows(_counted(caller.reach_for("r"), has_series=bool(series_instance_uid)), named)
    if not rows:
        raise NotFound("The study or series")
    study_id, revision, patient_logical_id = rows[0][:3]
    _note(archive, caller, study_instance_uid, patient_logical_id)
    return Extent(
        f"{study_id}.{revision}",
        tuple((syntax, bool(has_pixels)) for _, _, _, syntax, has_pixels, _ in rows),
        sum(row[5] for row in rows),
    )


@lru_cache(maxsize=1024)
def _counted(reach: Reach, has_series: bool) -> Select[*tuple[Any, ...]]:
    kinds = (
        Study.id, Study.revision, Study.patient_logical_id, Instance.transfer_syntax_uid,
        Instance.number_of_frames > 0,
    )  # fmt: skip
    return within(_within_series(has_series, False, *kinds, func.count(Instance.id)), reach).group_by(*kinds)


@lru_cache(maxsize=1024)
def _one_instance(reach: Reach) -> Select[*tuple[Any, ...]]:
    """The statement for one instance within a reach, built once: a frame costs less than building it."""
    return within(_within_series(True, True, *COLUMNS), reach)


def find_instance(
    archive: Archive, caller: Caller, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
) -> StoredInstance:
    """One instance. Raises NotFound."""
    caller.require(READ_IMAGES)
    row = archive.database.row(
        _one_instance(caller.reach_for("r")),
        {"study": study_instance_uid, "series": series_instance_uid, "instance": sop_instance_uid},
    )
    if row is None:
        raise NotFound("The instance")
    stored = _stored(row)
    _note(archive, caller, study_instance_uid, stored.patient_logical_id)
    return stored


def find_middle(
    archive: Archive, caller: Caller, study_instance_uid: str, series_instance_uid: str = ""
) -> StoredInstance:
    """The instance that stands for a study or series: the middle image of its first series of images, else
    the middle instance. Raises NotFound."""
    caller.require(READ_IMAGES)
    of_images = (Instance.number_of_frames > 0).desc()
    statement = within(
        _statement(Series.id, study=study_instance_uid, series=series_instance_uid), caller.reach_for("r")
    )
    with archive.database.snapshot() as session:
        series_id = session.scalar(
            statement.order_by(of_images, Series.series_number.asc().nulls_last(), Series.id).limit(1)
        )
        if series_id is None:
            raise NotFound("The study or series")
        counted = session.execute(
            select(func.count(Instance.id), func.sum(cast(Instance.number_of_frames > 0, Integer))).where(
                Instance.series_id == series_id
            )
        ).one()
        images = counted[1] or 0
        middle = within(_statement(*COLUMNS, study=study_instance_uid), caller.reach_for("r")).where(
            Series.id == series_id
        )
        row = session.execute(
            middle.order_by(of_images, Instance.instance_number.asc().nulls_last(), Instance.id)
            .offset(max(0, (images or counted[0]) - 1) // 2)
            .limit(1)
        ).first()
    if row is None:
        raise NotFound("The study or series")
    stored = _stored(row)
    _note(archive, caller, study_instance_uid, stored.patient_logical_id)
    return stored


def instance_bytes(
    archive: Archive, stored: StoredInstance, offset: int = 0, length: int | None = None
) -> Iterator[bytes]:
    """The Part 10 object exactly as it was received, or a range of it, chunk by chunk. Raises DamagedBlob."""
    return archive.blobs.stream(stored.blob_key, stored.seal, offset, length)


def data_set_bytes(archive: Archive, stored: StoredInstance) -> Iterator[bytes | memoryview]:
    """The data set alone, without preamble and file meta information, exactly as it was received."""
    pieces = instance_bytes(archive, stored)
    first = next(pieces)
    yield memoryview(first)[data_set_offset(first) :]
    yield from pieces


def value_bytes(archive: Archive, stored: StoredInstance, offset: int, length: int) -> Iterator[bytes]:
    """A value where the index has it; of a deflated data set (PS3.5 A.5), where it lies once inflated."""
    if stored.transfer_syntax_uid not in DEFLATED:
        return instance_bytes(archive, stored, offset, length)
    whole = archive.blobs.read(stored.blob_key, stored.seal)
    start = data_set_offset(whole)
    return iter((inflate(whole[start:])[offset - start : offset - start + length],))


def frame_pieces(archive: Archive, stored: StoredInstance, number: int) -> list[bytes]:
    """One frame (from 1) as stored, in the stored transfer syntax, in the pieces that it is read in.

    Raises NoSuchFrame when there is none.
    """
    location = locate_frame(stored.frames, number)
    pieces = [
        piece for offset, length in location.ranges for piece in value_bytes(archive, stored, offset, length)
    ]
    return pieces if location.bits is None else [aligned(b"".join(pieces), location)]


def frame_bytes(archive: Archive, stored: StoredInstance, number: int) -> bytes:
    """The same in one piece."""
    return b"".join(frame_pieces(archive, stored, number))


def aligned(data: bytes, location: FrameLocation) -> bytes:
    """A frame of single bits moved to the begin of a byte (PS3.5 8.1.1: the first pixel is the lowest
    bit)."""
    bits = location.bits or 0
    value = int.from_bytes(data, "little") >> location.first_bit & (1 << bits) - 1
    return value.to_bytes(-(-bits // 8), "little")


def instance_document(archive: Archive, stored: StoredInstance) -> bytes:
    """The DICOM JSON of an instance without its bulk data; the byte 0x01 stands for the base URL."""
    row = archive.database.row(_DOCUMENT, {"id": stored.id})
    if row is None:
        raise NotFound("The instance")
    return document_bytes(archive.blobs.keys, row[0])


_DOCUMENT = select(Instance.document).where(Instance.id == bindparam("id"))


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value that metadata only refers to (PS3.18 F.2.2): where it lies in the object, and its VR."""

    stored: StoredInstance
    offset: int
    length: int
    vr: str


def find_bulk(archive: Archive, stored: StoredInstance, path: str) -> BulkValue:
    """The bulk value at a path such as `7FE00010` or `00880200.1.7FE00010`. Raises NotFound."""
    with archive.database.snapshot() as session:
        bulk = session.scalar(select(Instance.bulk).where(Instance.id == stored.id))
    found = json.loads(bulk or "{}").get(path.upper())
    if found is None:
        raise NotFound("The bulk data")
    return BulkValue(stored, found[0], found[1], found[2])


def bulk_bytes(archive: Archive, stored: StoredInstance, path: str) -> bytes:
    """The bytes of a bulk value that is known to be small: a table, an overlay. Raises NotFound."""
    found = find_bulk(archive, stored, path)
    return b"".join(value_bytes(archive, stored, found.offset, found.length))


@dataclass(frozen=True, slots=True)
class SeriesMetadata:
    """The metadata of a series: a finished gzip-encoded answer, or documents to be joined."""

    encoded: bytes | None
    revision: int
    series_id: int


def find_series_metadata(
    archive: Archive,
    caller: Caller,
    held: EncodedBundles,
    study_instance_uid: str,
    series_instance_uid: str,
    base: str,
) -> SeriesMetadata:
    """The metadata of a series for a base URL: ready-made when the study is at rest. Raises NotFound."""
    caller.require(READ_IMAGES)
    statement = (
        select(Series.id, Series.revision, Study.patient_logical_id)
        .join(Study, Study.id == Series.study_id)
        .where(
            Study.study_instance_uid == study_instance_uid, Series.series_instance_uid == series_instance_uid
        )
    )
    with archive.database.snapshot() as session:
        row = session.execute(within(statement, caller.reach_for("r"))).first()
    if row is None:
        raise NotFound("The series")
    _note(archive, caller, study_instance_uid, row.patient_logical_id)
    encoded = encoded_bundle(archive, held, row.id, row.revision, base)
    return SeriesMetadata(encoded, row.revision, row.id)


def series_documents(archive: Archive, series_id: int) -> Iterator[bytes]:
    """The documents of a series that `find_series_metadata` found, one by one."""
    with archive.database.snapshot() as session:
        yield from instance_documents(archive, session, series_id)


def list_bulk(archive: Archive, stored: StoredInstance) -> dict[str, BulkValue]:
    """Every bulk value of an instance, by path."""
    with archive.database.snapshot() as session:
        bulk = session.scalar(select(Instance.bulk).where(Instance.id == stored.id))
    return {
        path: BulkValue(stored, found[0], found[1], found[2])
        for path, found in json.loads(bulk or "{}").items()
    }
