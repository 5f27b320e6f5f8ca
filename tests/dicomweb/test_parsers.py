"""The parsers of the DICOMweb door, on what the standard writes and on what anybody may send."""

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typing_extensions import Buffer

from archive.keys import Level
from archive.query import Query, parse_date_range, parse_time_range
from dicomweb.answers import forms_of
from dicomweb.media_types import (
    DICOM_JSON,
    DICOM_XML,
    NotAcceptable,
    accepted,
    negotiate,
    parse_accept,
    representations,
)
from dicomweb.multipart import InvalidMultipart, MultipartReader, write_parts
from dicomweb.qido import parse_query
from kernel.errors import CloudfilmError
from kernel.http import RangeNotSatisfiable, parse_ranges
from kernel.runs import Runs

BOUNDARY = "b0un'dary"


class Drip(io.BytesIO):
    """A body that comes in small pieces."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def readinto(self, buffer: Buffer, /) -> int:
        return super().readinto(memoryview(buffer)[: self._most])


def parts_of(data: bytes, most: int = 1 << 20, boundary: str = BOUNDARY) -> list[bytes]:
    found = []
    for part in MultipartReader(Drip(data, most), boundary).parts():
        content = b""
        while piece := part.read(777):
            content += piece
        found.append(content)
    return found


CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=400),
        st.sampled_from([b"\r", b"\n", b"\r\n", f"\r\n--{BOUNDARY}"[:-1].encode(), b"--", b"\r\n--"]),
    ),
    max_size=6,
)


@given(contents=CONTENTS, most=st.integers(1, 300))
@settings(max_examples=300, deadline=None)
def test_what_is_written_as_parts_is_read_as_parts(contents: list[bytes], most: int) -> None:
    body = b"".join(
        write_parts(BOUNDARY, [({"Content-Type": "application/dicom"}, [each]) for each in contents])
    )
    if not contents:
        return

    assert parts_of(body, most) == contents


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_runs_are_the_same_bytes_in_fewer_pieces(pieces: list[bytes], run_bytes: int) -> None:
    runs = list(Runs(pieces, run_bytes))

    assert b"".join(runs) == b"".join(pieces)
    assert all(len(run) >= run_bytes for run in runs[:-1])


@given(data=st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_any_body_is_read_or_refused(data: bytes) -> None:
    for body in (data, f"--{BOUNDARY}\r\n".encode() + data):
        try:
            parts_of(body, 97)
        except InvalidMultipart:
            continue


def test_lines_without_carriage_returns_a_preamble_and_padding_are_taken() -> None:
    body = b"preamble\n--b0un'dary  \nContent-Type: application/dicom\nX: y\n\nhello\n--b0un'dary--\n"

    assert parts_of(body) == [b"hello"]


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\nb", "ends "])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(InvalidMultipart):
        MultipartReader(io.BytesIO(), boundary)


@pytest.mark.parametrize(
    ("header", "forms"),
    [
        ('multipart/related; type="application/dicom"', [(True, "application/dicom", "")]),
        ("multipart/related;type=application/dicom;transfer-syntax=*", [(True, "application/dicom", "*")]),
        (
            'multipart/related; type="image/jpeg; transfer-syntax=1.2.3"; q=0.5, application/octet-stream',
            [(False, "application/octet-stream", ""), (True, "image/jpeg", "1.2.3")],
        ),
        ("*/*", [(False, "*/*", "")]),
        ("application/dicom;q=0, image/png", [(False, "image/png", "")]),
        ("complete nonsense", [(False, "*/*", "")]),
    ],
)
def test_accept_is_read_with_and_without_quotes(header: str, forms: list[tuple[bool, str, str]]) -> None:
    found = representations(accepted(header, None))

    assert [(form.multipart, form.media_type, form.transfer_syntax) for form in found] == forms


def test_the_query_parameter_wins_over_the_header() -> None:
    assert negotiate(forms_of("text/html", "image/png"), ("image/png",)) == "image/png"
    with pytest.raises(NotAcceptable):
        negotiate(forms_of("text/html"), ("image/png",))


def test_a_plus_that_a_client_did_not_escape_is_one() -> None:
    asked = accepted("text/html", 'multipart/related; type="application/dicom xml", application/dicom json')

    assert [form.media_type for form in representations(asked)] == [DICOM_XML, DICOM_JSON]


def test_what_is_refused_by_its_quality_is_not_taken_for_anything() -> None:
    with pytest.raises(NotAcceptable):
        negotiate(forms_of("image/png;q=0"), ("image/png",))
    assert negotiate(forms_of(""), ("image/png",)) == "image/png"


@pytest.mark.parametrize(
    ("header", "liked"),
    [
        ("*/*, image/jpeg;q=0", "image/png"),
        ("image/*, image/jpeg;q=0.2", "image/png"),
        ("image/*;q=0.5, image/gif", "image/gif"),
        ("*/*;q=1, image/*;q=0, image/gif;q=0.1", "image/gif"),
        ("image/png;q=0.5, image/jpeg;q=0.5", "image/png"),
        ("IMAGE/*;Q=0.3, image/jpeg;q=0.2", "image/png"),
        ("*/*, image/*;q=0", None),
        ("text/*, application/*", None),
        ("multipart/related; type=image/png", None),
        ("*/*, multipart/related;q=0", "image/jpeg"),
    ],
)
def test_the_most_specific_range_says_how_a_media_type_is_liked(header: str, liked: str | None) -> None:
    offered = ("image/jpeg", "image/png", "image/gif")
    if liked is None:
        with pytest.raises(NotAcceptable):
            negotiate(forms_of(header), offered)
    else:
        assert negotiate(forms_of(header), offered) == liked


@given(st.text(max_size=200))
@example('a/b;x="\\')
@example('a/b;;;q=;x="y\\"z",')
def test_any_accept_header_is_read(header: str) -> None:
    for range_ in parse_accept(header):
        assert 0 < range_.quality <= 1


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5))
def test_any_query_is_read_or_refused(arguments: list[tuple[str, str]]) -> None:
    try:
        found = parse_query(Level.STUDY, arguments).query
    except CloudfilmError:
        return
    assert isinstance(found, Query)


def test_a_query_is_read_by_keyword_by_tag_and_with_lists() -> None:
    found = parse_query(
        Level.INSTANCE,
        [
            ("00100010", "a*"), ("Modality", "CT"), ("includefield", "00081030,PatientSize"),
            ("includefield", "all"), ("limit", "7"), ("offset", "3"), ("fuzzymatching", "true"),
            ("accept", "application/dicom+json"),
        ],
    ).query  # fmt: skip

    assert [(match.key.keyword, match.values) for match in found.matches] == [
        ("PatientName", ("a*",)), ("Modality", ("CT",)),
    ]  # fmt: skip
    assert found.include == {"00081030", "00101020"}
    assert (found.include_all, found.limit, found.offset, found.fuzzy) == (True, 7, 3, True)


@given(st.text(max_size=30))
def test_any_date_and_time_match_is_read_or_refused(text: str) -> None:
    for parse in (parse_date_range, parse_time_range):
        try:
            parse("StudyDate", text)
        except CloudfilmError:
            continue


@given(st.dates(), st.dates())
def test_a_date_range_is_read_as_it_is_written(first, last) -> None:  # type: ignore[no-untyped-def]
    found = parse_date_range(
        "StudyDate", f"{first:%Y%m%d}-{last:%Y%m%d}" if first.year > 999 < last.year else "-20200101"
    )

    assert found.last is not None
    if first.year > 999 < last.year:
        assert (found.first, found.last) == (first, last)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, []), ("bytes=0-9", [(0, 9)]), ("bytes=90-", [(90, 99)]), ("bytes=-5", [(95, 99)]),
        ("bytes=0-999", [(0, 99)]), ("bytes=5-2", []), ("items=0-1", []), ("bytes=", []), ("bytes=-", []),
        ("bytes=0-1, 4-5", [(0, 1), (4, 5)]), ("bytes=50-59,-5,0-0", [(50, 59), (95, 99), (0, 0)]),
        ("bytes=0-1,100-", [(0, 1)]), ("bytes=0-1,x", []), ("bytes=0-1,5-2", []), ("bytes=0-1,", []),
        ("bytes=0-,0-", []), ("bytes=" + "0-0," * 100 + "0-0", []), ("bytes=0-1,-500", []),
    ],
)  # fmt: skip
def test_byte_ranges(header: str | None, expected: list[tuple[int, int]]) -> None:
    assert [(each.first, each.last) for each in parse_ranges(header, 100)] == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=100-101,200-"])
def test_ranges_that_all_lie_outside_are_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_ranges(header, 100)
