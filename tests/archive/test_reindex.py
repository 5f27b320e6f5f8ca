"""Values that are searched now and were not when a study was stored are made from what is kept of it."""

import io

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import delete, func, select, update

from access.caller import Caller
from archive import reindex as module
from archive.indexed_values import IndexedValue
from archive.ingest import ingest
from archive.keys import KEY_BY_TAG, TAG_BY_KEYWORD, Level
from archive.model import Study
from archive.query import Match, Query
from archive.reindex import reindex, reindex_studies
from archive.room import Archive
from archive.search import search
from cloudfilm.rooms import Rooms
from tests.builders import ct_slice


@pytest.fixture
def archive(rooms: Rooms, operator: Caller) -> Archive:
    """Two studies as they were before their values were kept."""
    request = Dataset()
    request.ScheduledProcedureStepID = "SPS9"
    for study in (1, 2):
        for series, instance in ((1, 1), (1, 2), (2, 1)):
            data = ct_slice(
                study, series, instance, ProtocolName=f"Protocol {series}", PatientAge=f"0{study}0Y",
                ContentLabel=f"L{instance}", RequestAttributesSequence=[request],
            )  # fmt: skip
            ingest(rooms.archive, operator, io.BytesIO(data))
    with rooms.database.transaction() as session:
        session.execute(delete(IndexedValue))
        session.execute(update(Study).values(indexed_version=0))
    return rooms.archive


def found(archive: Archive, caller: Caller, level: Level, keyword: str, value: str) -> int:
    match = Match(KEY_BY_TAG[TAG_BY_KEYWORD[keyword]], (value,))
    return len(search(archive, caller, Query(level, (match,))).rows)


def rows(archive: Archive) -> int:
    with archive.database.snapshot() as session:
        return session.scalar(select(func.count()).select_from(IndexedValue)) or 0


def test_old_studies_are_found_by_what_is_searched_today(archive: Archive, operator: Caller) -> None:
    assert found(archive, operator, Level.STUDY, "PatientAge", "010Y") == 0

    reindex_studies(archive)

    assert found(archive, operator, Level.STUDY, "PatientAge", "010Y") == 1
    assert found(archive, operator, Level.SERIES, "ProtocolName", "protocol 2") == 2
    assert found(archive, operator, Level.INSTANCE, "ContentLabel", "L2") == 2
    sequence = "RequestAttributesSequence.ScheduledProcedureStepID"
    assert found(archive, operator, Level.STUDY, sequence, "SPS9") == 2
    before = rows(archive)
    reindex_studies(archive)
    assert rows(archive) == before
    assert reindex(archive, 10) == 0


def test_it_goes_on_where_it_was_interrupted(
    archive: Archive, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    assert reindex(archive, 1) == 1
    assert found(archive, operator, Level.INSTANCE, "ContentLabel", "L1") == 2  # of the first study's three
    assert reindex(archive, 10) == 1
    assert found(archive, operator, Level.INSTANCE, "ContentLabel", "L1") == 4


def test_what_comes_in_meanwhile_keeps_its_values(archive: Archive, operator: Caller) -> None:
    data = ct_slice(1, 3, 1, ProtocolName="late")
    with archive.database.snapshot() as session:
        study = session.execute(select(Study.id, Study.revision).order_by(Study.id)).first()
    assert study is not None
    ingest(archive, operator, io.BytesIO(data))

    module._reindex_study(archive, study.id, study.revision)
    assert found(archive, operator, Level.SERIES, "ProtocolName", "late") == 1
    reindex_studies(archive)
    assert found(archive, operator, Level.SERIES, "ProtocolName", "late") == 1
    assert found(archive, operator, Level.STUDY, "PatientAge", "010Y") == 1
