"""History pulled from Orthanc as the old PACS: counted, resumed, and reported."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from access.caller import operator
from cloudfilm.rooms import Rooms
from edge.pull import InvalidPull, begin_pull, report_pull, set_pull_state, work
from tests.builders import ROOT, ct_slice
from tests.dimse.orthanc import Orthanc, orthanc_beside
from tests.dimse.peers import rooms_beside
from tests.live import LiveServer


@pytest.fixture(scope="module")
def old(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An old PACS with three studies on two days."""
    with orthanc_beside(live_server, tmp_path_factory.mktemp("orthanc")) as peer:
        peer.upload(
            ct_slice(1, 1, 1, StudyDate="20240105"), ct_slice(1, 1, 2, StudyDate="20240105"),
            ct_slice(1, 2, 1, StudyDate="20240105"), ct_slice(2, 1, 1, StudyDate="20240105"),
            ct_slice(3, 1, 1, StudyDate="20240108"),
        )  # fmt: skip
        yield peer


@pytest.fixture
def beside(live_server: LiveServer, old: Orthanc) -> Iterator[Rooms]:
    """The rooms of the server, beside an Orthanc that it knows."""
    with rooms_beside(live_server) as rooms:
        yield rooms


def pulled(rooms: Rooms, first: date, last: date, **options: object) -> int:
    """A pull that has been done; the server's worker may take part in it."""
    number = begin_pull(rooms.dimse, operator(), "ORTHANC", first, last, **options)  # type: ignore[arg-type]
    deadline = time.monotonic() + 120
    while report_pull(rooms.dimse, number).state == "running":
        assert time.monotonic() < deadline, report_pull(rooms.dimse, number)
        work(rooms.dimse, number, time.monotonic() + 5)
    return number


def test_a_pull_brings_all_and_reports_count_by_count(live_server: LiveServer, beside: Rooms) -> None:
    number = pulled(beside, date(2024, 1, 1), date(2024, 1, 10), slice_days=3)
    report = report_pull(beside.dimse, number, every_study=True)

    assert report.is_whole
    assert [(each.studies, each.theirs, each.ours) for each in report.slices if each.studies] == [
        (1, 1, 1), (2, 4, 4),
    ]  # fmt: skip
    (first,) = (study for study in report.studies if study.study_instance_uid == f"{ROOT}.1")
    assert first.series == ((f"{ROOT}.1.1", 2, 2), (f"{ROOT}.1.2", 1, 1))
    printed = live_server.command("pull", "report", str(number), "--all").stdout
    assert "studies 3/3  instances 5/5" in printed
    assert f"    {ROOT}.1.1  2/2" in printed
    listed = live_server.session().get(f"{live_server.url}/dicomweb/studies?StudyDate=20240101-20240110")
    assert len(listed.json()) == 3


def test_what_is_new_comes_by_c_get_and_what_is_here_is_only_counted(beside: Rooms, old: Orthanc) -> None:
    old.upload(ct_slice(4, 1, 1, StudyDate="20240109"), ct_slice(4, 1, 2, StudyDate="20240109"))
    report = report_pull(beside.dimse, pulled(beside, date(2024, 1, 1), date(2024, 1, 10), method="get"))

    assert report.is_whole
    assert sum(each.ours for each in report.slices) == 7


def test_what_the_archive_holds_for_review_counts_as_here(beside: Rooms, old: Orthanc) -> None:
    """Another patient's instance in a known study is held, not lost."""
    old.upload(
        ct_slice(5, 1, 1, StudyDate="20240201"),
        ct_slice(5, 1, 2, StudyDate="20240201", PatientID="P9", PatientName="Other^Patient"),
    )
    report = report_pull(beside.dimse, pulled(beside, date(2024, 2, 1), date(2024, 2, 1), method="get"))

    assert report.is_whole


def test_what_does_not_come_is_told_by_series_and_tried_again(beside: Rooms, old: Orthanc) -> None:
    """A study identifier that is none: the archive refuses it, however often it is sent."""
    old.upload(ct_slice(6, 1, 1, StudyDate="20230101", SeriesInstanceUID=f"{ROOT}.6.1", SOPInstanceUID="1.x"))
    number = pulled(beside, date(2023, 1, 1), date(2023, 1, 1), method="get")
    report = report_pull(beside.dimse, number)

    assert not report.is_whole
    (study,) = report.studies
    assert (study.state, study.theirs, study.ours) == ("incomplete", 1, 0)
    assert study.series == ((f"{ROOT}.6.1", 1, 0),)
    set_pull_state(beside.dimse, operator(), number, "running")
    assert report_pull(beside.dimse, number).state == "running"


def test_a_pull_waits_for_its_hours_and_can_be_paused(beside: Rooms) -> None:
    local = datetime.now(UTC) + timedelta(hours=8)
    hours = f"{local + timedelta(hours=2):%H:%M}-{local + timedelta(hours=3):%H:%M}"
    number = begin_pull(beside.dimse, operator(), "ORTHANC", date(2020, 1, 1), date(2020, 1, 1), hours=hours)
    wait_s = None
    while wait_s is None:  # the worker may be at it at this very moment
        wait_s = work(beside.dimse, number, time.monotonic() + 5)
    assert 3600 < wait_s <= 2 * 3600
    assert "waits for its hours" in report_pull(beside.dimse, number).error

    set_pull_state(beside.dimse, operator(), number, "paused")
    assert work(beside.dimse, number, time.monotonic() + 5) is None


def test_a_pull_that_makes_no_sense_is_refused(beside: Rooms) -> None:
    for first, last, hours in (
        (date(2024, 1, 2), date(2024, 1, 1), ""),
        (date(2024, 1, 1), date(2024, 1, 2), "by night"),
    ):
        with pytest.raises(InvalidPull):
            begin_pull(beside.dimse, operator(), "ORTHANC", first, last, hours=hours)
