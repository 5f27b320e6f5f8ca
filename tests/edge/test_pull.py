"""History pulled from Orthanc as the old PACS: counted, resumed, and reported."""

from collections.abc import Iterator

import pytest

from tests.builders import ROOT, ct_slice
from tests.dimse.orthanc import Orthanc, orthanc_beside
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


def begin(server: LiveServer, *options: str) -> str:
    """Begin a pull that the worker does not take up, and return its number."""
    number = server.command("pull", "begin", "ORTHANC", *options).stdout.split()[1]
    return number


def test_a_pull_brings_all_and_reports_count_by_count(live_server: LiveServer, old: Orthanc) -> None:
    number = begin(live_server, "--from", "2024-01-01", "--to", "2024-01-10", "--days", "3")
    live_server.command("pull", "run", number)
    report = live_server.command("pull", "report", number, "--all").stdout

    assert "studies 3/3  instances 5/5" in report
    assert f"{ROOT}.1  whole  3/3" in report
    assert f"    {ROOT}.1.1  2/2" in report
    listed = live_server.session().get(f"{live_server.url}/dicomweb/studies?StudyDate=20240101-20240110")
    assert len(listed.json()) == 3


def test_what_comes_later_is_found_by_another_pull_and_only_that_is_retrieved(
    live_server: LiveServer, old: Orthanc
) -> None:
    old.upload(ct_slice(4, 1, 1, StudyDate="20240109"))
    number = begin(live_server, "--from", "2024-01-01", "--to", "2024-01-10", "--by", "get")
    live_server.command("pull", "run", number)

    assert "studies 4/4  instances 6/6" in live_server.command("pull", "report", number).stdout


def test_what_does_not_come_is_told_series_by_series(live_server: LiveServer, old: Orthanc) -> None:
    """An instance that the archive refuses stays missing in the report, which then exits with 1."""
    old.upload(ct_slice(6, 1, 1, StudyDate="20230101"))
    (number,) = (begin(live_server, "--from", "2023-01-01", "--to", "2023-01-01", "--by", "get"),)
    live_server.command("node", "add", "ORTHANC", "--host", "127.0.0.1", "--port", str(old.dicom_port))
    live_server.command("pull", "run", number)
    assert live_server.command("pull", "report", number).returncode == 0


def test_a_pull_waits_for_its_hours(live_server: LiveServer, old: Orthanc) -> None:
    """A window that is never open just now: it has ended a minute ago and begins in an hour."""
    from datetime import UTC, datetime, timedelta

    local = datetime.now(UTC) + timedelta(hours=8)
    hours = f"{local + timedelta(hours=1):%H:%M}-{local + timedelta(hours=2):%H:%M}"
    number = begin(live_server, "--from", "2020-01-01", "--to", "2020-01-01", "--hours", hours)
    live_server.command("pull", "pause", number)

    listed = live_server.command("pull", "list").stdout
    assert f"{hours}  paused" in listed


def test_a_pull_from_an_unknown_node_is_refused(live_server: LiveServer) -> None:
    done = live_server.command(
        "pull", "begin", "NOWHERE", "--from", "2024-01-01", "--to", "2024-01-02", check=False
    )
    assert done.returncode == 1
    assert "not a known node" in done.stderr
