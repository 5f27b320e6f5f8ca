"""The header reader: right on good objects, exact in its refusals, and never surprised."""

import io
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from archive.character_sets import TextDecoder
from archive.elements import MalformedObject
from archive.frame_index import FrameIndex, NoSuchFrame, group_fragments, locate_frame
from archive.header import Header, InvalidUid, MissingAttribute, NotPart10, read_header
from kernel.errors import CloudfilmError
from tests.builders import ct_slice, dataset, part10


def header(data: bytes) -> Header:
    return read_header(io.BytesIO(data), len(data))


def frames(data: bytes) -> list[bytes]:
    """Each frame by its place in the index."""
    packed = header(data).frames.packed
    found = []
    for number in range(1, FrameIndex(packed).count + 1):
        ranges = locate_frame(packed, number).ranges
        found.append(b"".join(data[offset : offset + length] for offset, length in ranges))
    return found


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_encoding_gives_the_same_metadata(syntax: str) -> None:
    plain, other = header(ct_slice()), header(part10(dataset(), syntax))
    for each in (plain, other):
        each.attributes.pop("7FE00010")

    assert other.attributes == plain.attributes


def test_metadata_is_what_pydicom_reads() -> None:
    sequence = Dataset()
    sequence.CodeValue, sequence.CodeMeaning = "T-1", "胸部"
    data = ct_slice(
        ProcedureCodeSequence=[sequence], WindowCenter=[40, -600], ImageType=["ORIGINAL", "PRIMARY"]
    )
    expected = dcmread(io.BytesIO(data)).to_json_dict()
    del expected["7FE00010"]
    found = header(data).attributes
    uri = found.pop("7FE00010")["BulkDataURI"]

    assert found == expected
    assert list(found) == sorted(found)
    assert uri.startswith("\x01/studies/") and uri.endswith("/bulkdata/7FE00010")  # noqa: PT018


def test_frames_are_found_without_a_look_at_the_others() -> None:
    pixels = bytes(range(256)) * 2
    native = ct_slice(NumberOfFrames=4, PixelData=pixels)
    assert frames(native) == [pixels[at : at + 128] for at in range(0, 512, 128)]

    jpegs = [b"\xff\xd8" + bytes([number]) * 40 + b"\xff\xd9" for number in range(3)]
    for fragments, has_table in ((1, True), (1, False), (2, True), (2, False)):
        ds = dataset(NumberOfFrames=3, BitsAllocated=8, BitsStored=8, HighBit=7)
        ds.PixelData = encapsulate(jpegs, fragments_per_frame=fragments, has_bot=has_table)
        ds["PixelData"].is_undefined_length = True
        found = frames(part10(ds, JPEGBaseline8Bit))
        assert [frame.rstrip(b"\0") for frame in found] == jpegs, (fragments, has_table)


def test_frames_of_single_bits_are_found_where_they_begin() -> None:
    location = locate_frame(FrameIndex.native(100, 12, 5).packed, 2)

    assert (location.ranges, location.first_bit, location.bits) == (((101, 2),), 4, 12)
    with pytest.raises(NoSuchFrame):
        locate_frame(FrameIndex.native(100, 12, 5).packed, 6)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_fragments_are_grouped_by_the_offset_table(counts: list[int]) -> None:
    fragments, offsets, at = [], [], 1000
    for count in counts:
        offsets.append(at - 1000)
        for _ in range(count):
            fragments.append((at + 8, 10))
            at += 18
    grouped = group_fragments(fragments, len(counts), offsets, None)

    assert [len(group) for group in grouped] == counts
    assert [fragment for group in grouped for fragment in group] == fragments
    if len(counts) > 1:
        packed = FrameIndex.encapsulated(grouped).packed
        assert [list(locate_frame(packed, number + 1).ranges) for number in range(len(counts))] == grouped


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", NotPart10),
        (b"\0" * 200, NotPart10),
        (ct_slice()[128:], NotPart10),
        (ct_slice()[:140], (NotPart10, MalformedObject)),
        (ct_slice()[:400], MalformedObject),
        (ct_slice()[:-50], MalformedObject),
        (part10(dataset(StudyInstanceUID=None)), MissingAttribute),
        (part10(dataset(SeriesInstanceUID=None)), MissingAttribute),
        (part10(dataset(SeriesInstanceUID="")), MissingAttribute),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(
    data: bytes, refusal: type[CloudfilmError] | tuple[type[CloudfilmError], ...]
) -> None:
    with pytest.raises(refusal):
        header(data)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.abc", "1..2", "1.2/3"])
def test_a_uid_that_is_none_is_refused(uid: str) -> None:
    data = ct_slice()
    place = data.rindex(b"1.2.826.0.1.3680043.10.1451.1.1\0")
    bad = data[:place] + uid.encode()[:31].ljust(32, b"\0") + data[place + 32 :]

    with pytest.raises(InvalidUid):
        header(bad)


def test_a_uid_that_is_too_long_is_refused() -> None:
    data = ct_slice()
    place = data.index(b"\x20\x00\x0e\x00UI")
    longer = b"\x20\x00\x0e\x00UI\x44\x00" + b"1." + b"2" * 66
    (length,) = struct.unpack_from("<H", data, place + 6)

    with pytest.raises(InvalidUid):
        header(data[:place] + longer + data[place + 8 + length :])


def test_endless_nesting_is_refused() -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + item
    data = ct_slice(PixelData=None, BitsAllocated=None)
    with pytest.raises(MalformedObject, match=r"deeply|middle"):
        header(data + sequence * 5000)


@pytest.mark.parametrize(
    ("declared", "raw", "text", "is_repaired"),
    [
        (["ISO_IR 100"], "Buc^Jérôme".encode("latin_1"), "Buc^Jérôme", False),
        (["ISO_IR 100"], "张^伟".encode("gbk"), "张^伟", True),
        (["ISO_IR 192"], "张^伟".encode("gbk"), "张^伟", True),
        ([], "张^伟".encode("gbk"), "张^伟", True),
        ([], "张^伟".encode(), "张^伟", True),
        (["ISO-IR 100"], "Äneas".encode("latin_1"), "Äneas", True),
        (["GB18030"], "㐂^𠀀".encode("gb18030"), "㐂^𠀀", False),
        (["ISO_IR 144"], "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг", False),
        (["nonsense"], b"Smith", "Smith", True),
        (["ISO_IR 192"], b"\xff\xfe\x80", "\ufffd\ufffd\ufffd", True),
    ],
)
def test_text_is_read_as_it_was_meant(declared: list[str], raw: bytes, text: str, is_repaired: bool) -> None:
    decoder = TextDecoder.of(declared)

    assert decoder.decode(raw, "^") == text
    assert bool(decoder.repairs) is is_repaired


@given(
    st.lists(st.sampled_from(["", "ISO_IR 100", "ISO 2022 IR 58", "ISO 2022 IR 87", "GBK", "x"]), max_size=3),
    st.binary(max_size=60),
)
def test_no_text_is_ever_too_strange(declared: list[str], raw: bytes) -> None:
    assert isinstance(TextDecoder.of(declared).decode(raw, "^="), str)


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_a_damaged_object_is_read_or_refused_and_nothing_else(source: random.Random) -> None:
    sequence = Dataset()
    sequence.CodeValue = "T-1"
    data = bytearray(ct_slice(ProcedureCodeSequence=[sequence]))
    for _ in range(source.randint(1, 6)):
        data[source.randrange(len(data))] = source.randrange(256)
    if source.random() < 0.3:
        del data[source.randrange(len(data)) :]
    try:
        found = header(bytes(data))
    except CloudfilmError:
        return
    assert found.study_instance_uid


def test_real_objects_are_read_as_pydicom_reads_them(shared_data: Path) -> None:
    files = sorted(path for path in (shared_data / "dicom" / "series").rglob("*") if path.is_file())
    assert files
    for path in files[::7]:
        data = path.read_bytes()
        ds = dcmread(path, stop_before_pixels=True)
        found = header(data)
        assert found.sop_instance_uid == ds.SOPInstanceUID
        assert found.text("00100010") == str(ds.get("PatientName", ""))
        assert found.frames.count == int(ds.get("NumberOfFrames", 1) or 1)
