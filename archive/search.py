"""Search: the one way to find images.

QIDO-RS and C-FIND hand over a `Query` and a `Caller`; one SQL statement answers it, limited to what the
caller
may know of, and each row comes with its ready-made DICOM JSON. Attributes beyond the default answer are read
from the stored documents of the rows on the page, never of others.

PS3.4 C.2.2.2 (matching), C.6.2 (Study Root), PS3.18 10.6 (Search).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select, true, type_coerce
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from access.audit import note_once
from access.caller import SEARCH_IMAGES, Caller
from archive.documents import dump_marked, open_document, parse_marked
from archive.folding import fold, fold_name, pinyin
from archive.image_pixel import Attributes
from archive.indexed_values import IndexedValue
from archive.keys import PATIENT_COUNTS, Level, Matching, SearchKey
from archive.levels import level_of
from archive.model import Instance, Series, Study
from archive.query import (
    Match,
    Query,
    has_wildcard,
    parse_date,
    parse_date_range,
    parse_number,
    parse_time_range,
    parse_uids,
)
from archive.reach import within
from archive.room import Archive
from kernel.veil import Beginning, Beyond, Wildcard
from kernel.veiled_text import NAME

COUNTED = frozenset(PATIENT_COUNTS)
ROWS_AT_ONCE = 200  # whose documents one statement reads


@dataclass(frozen=True, slots=True)
class Found:
    """A page of results: DICOM JSON objects as bytes (the byte 0x01 stands for the service's base URL)."""

    rows: tuple[bytes, ...]
    has_more: bool


def search(archive: Archive, caller: Caller, query: Query) -> Found:
    """Find studies, series or instances; a patient is found as the newest of its studies.

    Raises InvalidMatch for a value that cannot be matched, Forbidden when the caller may not search.
    """
    caller.require(SEARCH_IMAGES)
    wanted = archive.settings.default_results if query.limit is None else query.limit
    limit = min(wanted, archive.settings.max_results)
    if caller.reach_for("s").is_nowhere or (limit <= 0 and query.limit is None):
        return Found((), False)
    with archive.database.snapshot() as session:
        statement = _statement(session, query, caller).limit(limit + 1).offset(query.offset)
        rows = session.execute(statement).all()
        has_more = len(rows) > limit
        rows = rows[:limit]
        answers = tuple(_joined(found[2:], found[1]) if len(found) > 2 else found[1] for found in rows)
        if query.include_all or query.include - COUNTED:
            at = {found[0]: place for place, found in enumerate(rows)}
            more = list(answers)
            for row_id, stored in _stored_of(archive, session, query.level, tuple(at)):
                more[at[row_id]] = _with_more(query, answers[at[row_id]], stored)
            answers = tuple(more)
        if query.level <= Level.STUDY and query.include & COUNTED:
            counts = _patient_counts(session, caller, [found[0] for found in rows])
            answers = tuple(
                _joined((answer,), counts[found[0]]) for found, answer in zip(rows, answers, strict=True)
            )
    note_once(archive.database, archive.recently, archive.clock, caller, "search ImagingStudy", "")
    return Found(answers, has_more)


def _statement(session: Session, query: Query, caller: Caller) -> Select[*tuple[Any, ...]]:
    """Row id, its JSON, and the JSON of the levels above that the path does not name (PS3.18 10.6.3.3)."""
    statement: Select[*tuple[Any, ...]]
    if query.level <= Level.STUDY:
        statement = select(Study.id, Study.attributes)
        order: tuple[ColumnElement[Any], ...] = (
            Study.study_date.desc().nulls_last(), Study.study_time.desc(), Study.id.desc(),
        )  # fmt: skip
        if query.level is Level.PATIENT:
            newer = aliased(Study)
            statement = statement.where(
                ~exists().where(newer.patient_record_id == Study.patient_record_id, newer.id > Study.id)
            )
    elif query.level is Level.SERIES:
        above: tuple[InstrumentedAttribute[bytes], ...] = (
            () if query.study_instance_uid else (Study.attributes,)
        )
        statement = select(Series.id, Series.attributes, *above).join(Study, Study.id == Series.study_id)
        order = (Series.study_id.desc(), Series.series_number.asc().nulls_last(), Series.id.asc())
    else:
        above = () if query.series_instance_uid else (Series.attributes,)
        above += () if query.study_instance_uid else (Study.attributes,)
        statement = (
            select(Instance.id, Instance.attributes, *above)
            .join(Series, Series.id == Instance.series_id)
            .join(Study, Study.id == Instance.study_id)
        )
        order = (Instance.series_id.asc(), Instance.instance_number.asc().nulls_last(), Instance.id.asc())
    if query.study_instance_uid:
        statement = statement.where(Study.study_instance_uid == query.study_instance_uid)
    if query.series_instance_uid:
        statement = statement.where(Series.series_instance_uid == query.series_instance_uid)
    for match in query.matches:
        if match.is_empty or any(match.values):
            statement = statement.where(_condition(match, query.level, query.fuzzy))
    return within(statement, caller.reach_for("s")).order_by(*order)


def _condition(match: Match, level: Level, fuzzy: bool) -> ColumnElement[bool]:
    key = match.key
    if key.matching is Matching.INDEXED:
        return _indexed(key, match, level)
    condition = _is_empty(key) if match.is_empty else MATCHERS[key.matching](key, match.values, fuzzy)
    if key.level is Level.SERIES and level <= Level.STUDY:
        return exists().where(Series.study_id == Study.id, condition).correlate(Study)
    if key.level is Level.INSTANCE and level <= Level.STUDY:
        return exists().where(Instance.study_id == Study.id, condition).correlate(Study)
    if key.level is Level.INSTANCE and level is Level.SERIES:
        return exists().where(Instance.series_id == Series.id, condition).correlate(Series, Study)
    return condition


def _is_empty(key: SearchKey) -> ColumnElement[bool]:
    """What has no value in any of the columns (PS3.4 C.2.2.2.7); attributes without columns match all."""
    kinds = ((_column(column), _column(column).type.python_type is str) for column in key.columns)
    return and_(
        true(), *(or_(column.is_(None), column == "") if text else column.is_(None) for column, text in kinds)
    )


def _indexed(key: SearchKey, match: Match, level: Level) -> ColumnElement[bool]:
    """A value of `indexed_value`, of the row itself or of what stands above or below it."""
    of_level = min(max(key.level, Level.STUDY), max(level, Level.STUDY))
    owner: tuple[object, object] = {
        Level.STUDY: (IndexedValue.study_id, Study.id),
        Level.SERIES: (IndexedValue.series_id, Series.id),
        Level.INSTANCE: (IndexedValue.instance_id, Instance.id),
    }[of_level]
    found = exists().where(_column(owner[0]) == _column(owner[1]), IndexedValue.path == key.tag)
    if match.is_empty:
        return ~found
    if key.vr == "PN":
        name = type_coerce(IndexedValue.value, NAME)
        return found.where(_any(wildcard(name, fold_name(value)) for value in match.values))
    return found.where(_any(wildcard(IndexedValue.value, fold(value)) for value in match.values))


def _match_text(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    return _any(wildcard(key.columns[0], value.strip()) for value in values)


def _match_folded(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    return _any(wildcard(key.columns[0], fold(value)) for value in values)


def _match_person_name(key: SearchKey, values: tuple[str, ...], fuzzy: bool) -> ColumnElement[bool]:
    """Any component group may match (PS3.4 C.2.2.2.1.1); a value with groups names which (PS3.5 6.2.1.1)."""
    conditions = []
    for value in values:
        groups = [fold_name(group) for group in value.split("=")[:3]]
        if len([group for group in groups if group]) > 1:
            conditions.append(
                and_(*(wildcard(key.columns[at], group) for at, group in enumerate(groups) if group))
            )
        else:
            text = next((group for group in groups if group), "")
            conditions.extend(wildcard(column, text) for column in key.columns[:3])
            if fuzzy:
                conditions.extend(_sounds_like(column, text) for column in key.columns)
                if len(key.columns) > 3 and (sound := pinyin(text)):  # other characters of the same sound
                    conditions.append(_column(key.columns[3]) == sound)
    return _any(conditions)


def _sounds_like(column: object, text: str) -> ColumnElement[bool]:
    """Every word of the text begins some component of the name."""
    words = [word for word in text.replace("^", " ").replace("*", " ").replace("?", " ").split() if word]
    folded = _column(column)
    return and_(
        true() if words else false(),
        *(
            or_(
                folded.like(Wildcard(f"{word}*"), escape="\\"),
                folded.like(Wildcard(f"*^{word}*"), escape="\\"),
                folded.like(Wildcard(f"* {word}*"), escape="\\"),
            )
            for word in words
        ),
    )


def _match_uid(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    return _column(key.columns[0]).in_(parse_uids(key.keyword, values))


def _match_date(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    column, conditions = _column(key.columns[0]), []
    for value in values:
        range_ = parse_date_range(key.keyword, value)
        conditions.append(
            and_(
                column.is_not(None),
                column >= range_.first if range_.first else true(),
                column <= range_.last if range_.last else true(),
            )
        )
    return _any(conditions)


def _match_time(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    column = _column(key.columns[0])
    return _any(column.between(*parse_time_range(key.keyword, value)) for value in values)


def _match_date_time(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    """A range of moments, as `YYYYMMDDHHMMSS.FFFFFF-...`, over a column of days and one of times."""
    day, time = (_column(column) for column in key.columns)
    first, _, last = values[0].partition("-")
    conditions: list[ColumnElement[bool]] = [day.is_not(None)]
    if first:
        on = parse_date(first[:8])
        conditions.append(or_(day > on, and_(day == on, time >= first[8:])))
    if last:
        on = parse_date(last[:8])
        conditions.append(or_(day < on, and_(day == on, time <= last[8:])))
    return and_(*conditions)


def _match_number(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    return _column(key.columns[0]).in_([parse_number(key.keyword, value) for value in values])


def _match_modalities(_key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    other = aliased(Series)
    codes = [code.strip() for value in values for code in value.replace("\\", ",").split(",") if code.strip()]
    return exists().where(other.study_id == Study.id, _any(wildcard(other.modality, code) for code in codes))


def _match_sop_classes(key: SearchKey, values: tuple[str, ...], _fuzzy: bool) -> ColumnElement[bool]:
    other = aliased(Instance)
    uids = parse_uids(key.keyword, values)
    return exists().where(other.study_id == Study.id, other.sop_class_uid.in_(uids))


Matcher = Callable[[SearchKey, tuple[str, ...], bool], ColumnElement[bool]]

MATCHERS: dict[Matching, Matcher] = {
    Matching.TEXT: _match_text,
    Matching.FOLDED: _match_folded,
    Matching.PERSON_NAME: _match_person_name,
    Matching.UID: _match_uid,
    Matching.DATE: _match_date,
    Matching.TIME: _match_time,
    Matching.DATE_TIME: _match_date_time,
    Matching.NUMBER: _match_number,
    Matching.MODALITIES: _match_modalities,
    Matching.SOP_CLASSES: _match_sop_classes,
    Matching.INDEXED: lambda _key, _values, _fuzzy: true(),
    Matching.NONE: lambda _key, _values, _fuzzy: true(),
}


def wildcard(column: object, text: str) -> ColumnElement[bool]:
    """A single value or a wildcard (PS3.4 C.2.2.2.4). A prefix becomes a range, which an index answers."""
    at = _column(column)
    if not has_wildcard(text):
        return at == text
    if text.strip("*") == "":
        return true()
    prefix = text[:-1]
    if text.endswith("*") and not has_wildcard(prefix):
        return begins(at, prefix)
    return at.like(Wildcard(text), escape="\\")


def begins(column: object, text: str) -> ColumnElement[bool]:
    """What begins so, as a range of an index."""
    at = _column(column)
    return and_(at >= Beginning(text), at < Beyond(text))


def _column(column: object) -> InstrumentedAttribute[object]:
    return column  # type: ignore[return-value]


def _any(conditions: object) -> ColumnElement[bool]:
    return or_(false(), *conditions)  # type: ignore[misc]


def _joined(outer: Sequence[bytes], own: bytes) -> bytes:
    """One DICOM JSON object of a row and what it belongs to, in ascending order of tags (PS3.18 F.2.2)."""
    together: dict[str, object] = {}
    for attributes in (*reversed(outer), own):
        together.update(parse_marked(attributes))
    return dump_marked(dict(sorted(together.items())))


def _with_more(query: Query, answer: bytes, stored: Attributes) -> bytes:
    """A row with attributes beyond the default: those that are asked for, or all of its level and of those
    above (PS3.18 8.3.4.3)."""
    own = parse_marked(answer)
    lowest = max(query.level, Level.STUDY)
    for tag, value in stored.items():
        if tag in query.include or (query.include_all and level_of(tag) <= lowest):
            own.setdefault(tag, value)
    return dump_marked(dict(sorted(own.items())))


def _stored_of(
    archive: Archive, session: Session, level: Level, row_ids: Sequence[int]
) -> Iterator[tuple[int, Attributes]]:
    """The document of each row's first instance, by the row's id; in one statement for many rows."""
    first = (
        select(Instance.id)
        .where(Instance.series_id == Series.id)
        .order_by(Instance.instance_number, Instance.id)
        .limit(1)
        .correlate(Series)
        .scalar_subquery()
    )
    for at in range(0, len(row_ids), ROWS_AT_ONCE):
        ids = row_ids[at : at + ROWS_AT_ONCE]
        if level is Level.INSTANCE:
            statement = select(Instance.id, Instance.document).where(Instance.id.in_(ids))
        elif level is Level.SERIES:
            statement = select(Series.id, Instance.document).join(Instance, Instance.id == first)
            statement = statement.where(Series.id.in_(ids))
        else:
            statement = select(Series.study_id, Instance.document).join(Instance, Instance.id == first)
            oldest = select(func.min(Series.id)).where(Series.study_id.in_(ids)).group_by(Series.study_id)
            statement = statement.where(Series.id.in_(oldest))
        for row_id, document in session.execute(statement):
            yield row_id, open_document(archive.blobs.keys, document)


def _patient_counts(session: Session, caller: Caller, study_ids: Sequence[int]) -> dict[int, bytes]:
    """What there is of the patients of these studies, as far as the caller may know, as DICOM JSON."""
    asked = aliased(Study)
    counted = (
        select(
            asked.id,
            func.count(Study.id),
            func.sum(Study.number_of_series),
            func.sum(Study.number_of_instances),
        )
        .join(Study, Study.patient_record_id == asked.patient_record_id)
        .where(asked.id.in_(study_ids))
        .group_by(asked.id)
    )
    return {
        row[0]: dump_marked(
            {
                tag: {"vr": "IS", "Value": [int(number)]}
                for tag, number in zip(PATIENT_COUNTS, row[1:], strict=True)
            }
        )
        for row in session.execute(within(counted, caller.reach_for("s")))
    }


def count(archive: Archive, caller: Caller, query: Query) -> int:
    """How many rows a query has in all, for a `Warning` header or a page that shows totals."""
    caller.require(SEARCH_IMAGES)
    with archive.database.snapshot() as session:
        statement = _statement(session, query, caller).order_by(None).with_only_columns(func.count())
        return session.scalar(statement) or 0
