"""Objects written anew in other transfer syntaxes, as pydicom and dcmtk read them."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from access.caller import Caller
from archive.image_pixel import image_pixel_of
from archive.ingest import ingest
from archive.recode import can_recode, recoded_bytes
from archive.retrieve import StoredInstance, find_instance
from archive.transcode import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HTJ2K_LOSSLESS,
    IMPLICIT_LITTLE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    LOSSLESS_TARGETS,
    RLE,
    CannotEncode,
    decode_frame,
)
from cloudfilm.rooms import Rooms
from tests.archive.pictures import Picture, image_dataset, noise
from tests.builders import dataset, part10


def stored(rooms: Rooms, caller: Caller, data: bytes) -> StoredInstance:
    receipt = ingest(rooms.archive, caller, io.BytesIO(data))
    return find_instance(
        rooms.archive, caller, receipt.study_instance_uid, receipt.series_instance_uid,
        receipt.sop_instance_uid,
    )  # fmt: skip


def two_frames() -> Dataset:
    ds = image_dataset(noise("u2", 12, (32, 24)), 12, NumberOfFrames=2)
    ds.Rows = 16
    return ds


@pytest.mark.parametrize("target", LOSSLESS_TARGETS)
def test_every_frame_comes_out_bit_for_bit_and_the_header_stays(
    rooms: Rooms, operator: Caller, target: str
) -> None:
    ds = two_frames()
    kept = stored(rooms, operator, part10(ds))

    data = b"".join(recoded_bytes(rooms.archive, kept, target))

    picture = Picture(data)
    assert picture.header.transfer_syntax_uid == target
    assert picture.header.frames.count == 2
    pixel = image_pixel_of(picture.attributes)
    frames = [decode_frame(picture.frame(number), pixel, target).samples for number in (1, 2)]
    assert np.array_equal(np.concatenate(frames), noise("u2", 12, (32, 24)))
    for keyword in ("SOPInstanceUID", "PatientName", "StudyDescription", "ImagePositionPatient"):
        assert dcmread(io.BytesIO(data))[keyword] == ds[keyword]


@pytest.mark.parametrize(
    ("tool", "target"),
    [("dcmdjpls", JPEG_LS), ("dcmdjpeg", JPEG_LOSSLESS_SV1), ("dcmdrle", RLE), ("dcmconv", DEFLATED_LITTLE)],
)
def test_dcmtk_decodes_what_was_coded(
    rooms: Rooms, operator: Caller, tmp_path: Path, tool: str, target: str
) -> None:
    kept = stored(rooms, operator, part10(two_frames()))
    source, decoded = tmp_path / "coded.dcm", tmp_path / "decoded.dcm"
    source.write_bytes(b"".join(recoded_bytes(rooms.archive, kept, target)))

    subprocess.run([tool, "+te", str(source), str(decoded)], check=True, capture_output=True)

    assert (
        np.frombuffer(dcmread(decoded).PixelData, "<u2").tolist()
        == noise("u2", 12, (32, 24)).reshape(-1).tolist()
    )


@pytest.mark.parametrize("source", [IMPLICIT_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE])
@pytest.mark.parametrize("target", [IMPLICIT_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, DEFLATED_LITTLE])
def test_objects_without_pixels_are_written_in_any_order_of_octets(
    rooms: Rooms, operator: Caller, source: str, target: str
) -> None:
    ds = dataset(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", PixelData=None, Rows=None, Columns=None,
        BitsAllocated=None, BitsStored=None, HighBit=None, PixelRepresentation=None, SamplesPerPixel=None,
        PhotometricInterpretation=None,
    )  # fmt: skip
    kept = stored(rooms, operator, part10(ds, source))

    back = dcmread(io.BytesIO(b"".join(recoded_bytes(rooms.archive, kept, target))))

    assert back.file_meta.TransferSyntaxUID == target
    assert [element.tag for element in back] == [element.tag for element in ds]
    assert all(back[element.tag].value == element.value for element in ds)


def test_single_bits_go_on_without_padding(rooms: Rooms, operator: Caller) -> None:
    ds = dataset(
        Rows=3, Columns=3, NumberOfFrames=2, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=(0b101010101 | 0b111000111 << 9).to_bytes(3, "little") + b"\0",
    )  # fmt: skip
    kept = stored(rooms, operator, part10(ds))

    back = dcmread(io.BytesIO(b"".join(recoded_bytes(rooms.archive, kept, IMPLICIT_LITTLE))))

    assert back.PixelData[:3] == ds.PixelData[:3]
    assert not can_recode(rooms.archive, kept, HTJ2K_LOSSLESS)
    with pytest.raises(CannotEncode):
        recoded_bytes(rooms.archive, kept, HTJ2K_LOSSLESS)
