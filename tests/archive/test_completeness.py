"""What a study is checked for, and what a sender compares with: the digests of every object."""

import csv
import hashlib
import io
from collections.abc import Callable

import pytest

from access.caller import Caller
from archive.completeness import InvalidDigests, check_completeness, parse_digests
from archive.ingest import ingest
from archive.removal import remove
from archive.retrieve import find_instances
from cloudfilm.rooms import Rooms
from tests.builders import ROOT, ct_slice

SLICES = [ct_slice(instance=number) for number in (1, 2)]
STUDY = f"{ROOT}.1"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def study(rooms: Rooms, operator: Caller) -> str:
    """Two slices."""
    for data in SLICES:
        ingest(rooms.archive, operator, io.BytesIO(data))
    return STUDY


def test_each_object_is_listed_with_its_size_and_digests(rooms: Rooms, operator: Caller, study: str) -> None:
    report = check_completeness(rooms.archive, operator, study)

    assert list(csv.DictReader(io.StringIO(report.as_csv()))) == [
        {
            "sop_instance_uid": f"{STUDY}.1.{number}",
            "size_bytes": str(len(data)),
            "sha256": sha256(data),
            "md5": md5(data),
            "state": "whole",
        }
        for number, data in enumerate(SLICES, 1)
    ]


def test_what_is_damaged_is_listed_without_digests(rooms: Rooms, operator: Caller, study: str) -> None:
    first, _ = find_instances(rooms.archive, operator, study)
    rooms.archive.blobs.delete(first.blob_key)

    report = check_completeness(rooms.archive, operator, study)

    found, _ = csv.DictReader(io.StringIO(report.as_csv()))
    assert (found["sop_instance_uid"], found["state"]) == (first.sop_instance_uid, "damaged")
    assert (found["sha256"], found["md5"]) == ("", "")
    assert report.damaged == (first.sop_instance_uid,)


@pytest.mark.parametrize("digest", [md5, sha256])
def test_what_a_sender_has_and_the_study_has_not_makes_it_incomplete(
    rooms: Rooms, operator: Caller, study: str, digest: Callable[[bytes], str]
) -> None:
    sent = [f"{digest(data)}  {number}.dcm" for number, data in enumerate(SLICES)]
    whole = check_completeness(rooms.archive, operator, study, parse_digests(sent))
    assert (whole.is_complete, whole.not_here) == (True, ())
    assert "2 digests of the sender" in whole.as_text()

    remove(rooms.archive, operator, "113001", study, f"{STUDY}.1", f"{STUDY}.1.2")
    without = check_completeness(rooms.archive, operator, study, parse_digests(sent))
    assert (without.is_complete, without.not_here) == (False, (sent[1],))
    assert f"not in the study: {sent[1]}" in without.as_text()


def test_lists_of_digests_are_read_as_the_commands_write_them() -> None:
    one, other = md5(b"1"), sha256(b"2")
    lines = (f"{one} *1.dcm\n", "\n", f"\\{other.upper()}  a\\nb.dcm\r\n")

    assert list(parse_digests(lines)) == [one, other]


@pytest.mark.parametrize("line", ["1.dcm", f"{'g' * 32}  1.dcm", f"{'a' * 40}  1.dcm"])
def test_a_line_that_begins_with_no_digest_is_named(line: str) -> None:
    with pytest.raises(InvalidDigests, match="Line 2"):
        parse_digests([f"{'a' * 32}  0.dcm", line])
