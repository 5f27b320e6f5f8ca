"""Codecs: without loss where that is promised, and as independent programs read and write them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.image_pixel import ImagePixel, NotAnImage, image_pixel_of
from archive.transcode import (
    CODECS,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    LOSSLESS_TARGETS,
    RLE,
    CannotDecode,
    CannotEncode,
    DecodedFrame,
    can_encode,
    decode_frame,
    encode_frame,
    transcode_frame,
)
from tests.archive.pictures import Picture, gdcmconv, image, noise, ramp

SAMPLES: dict[str, npt.NDArray[Any]] = {
    "8 bits": noise("u1", 8),
    "12 bits": ramp("u2", 12),
    "16 bits": noise("u2", 16),
    "12 bits, signed": noise("i2", 12),
    "16 bits, signed": ramp("i2", 16),
    "colour": noise("u1", 8, (24, 40, 3)),
}
BITS = {"8 bits": 8, "12 bits": 12, "16 bits": 16, "12 bits, signed": 12, "16 bits, signed": 16, "colour": 8}


def frame_of(name: str) -> DecodedFrame:
    picture = Picture(image(SAMPLES[name], BITS[name]))
    return decode_frame(picture.frame(), image_pixel_of(picture.attributes), EXPLICIT_LITTLE)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("syntax", LOSSLESS_TARGETS)
def test_what_is_encoded_is_decoded_bit_for_bit(name: str, syntax: str) -> None:
    frame = frame_of(name)

    encoded = encode_frame(frame, syntax)
    decoded = decode_frame(encoded.data, encoded.pixel, syntax)

    assert np.array_equal(decoded.samples, SAMPLES[name])
    assert decoded.pixel.photometric == frame.pixel.photometric


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    ("option", "syntax"),
    [("--jpeg", JPEG_LOSSLESS_SV1), ("--jpegls", JPEG_LS), ("--j2k", JPEG_2000_LOSSLESS), ("--rle", RLE)],
)
def test_what_gdcm_encodes_is_decoded_bit_for_bit(
    tmp_path: Path, name: str, option: str, syntax: str
) -> None:
    picture = Picture(gdcmconv(tmp_path, image(SAMPLES[name], BITS[name]), option))

    assert picture.header.transfer_syntax_uid == syntax
    decoded = decode_frame(picture.frame(), image_pixel_of(picture.attributes), syntax)
    assert np.array_equal(decoded.samples, SAMPLES[name])


@pytest.mark.parametrize("shape", [(24, 40), (300, 2100), (70, 65, 3), (4097, 8)])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_htj2k_with_rpcl_options_is_what_the_standard_asks_for(
    shape: tuple[int, ...], photometric: str
) -> None:
    """PS3.5 10.18: RPCL, a base of at most 64 x 64, lengths of tile-parts; here one for each resolution."""
    samples = noise("u1", 8, shape)
    picture = Picture(image(samples, 8))
    frame = decode_frame(picture.frame(), image_pixel_of(picture.attributes), EXPLICIT_LITTLE)
    if frame.pixel.is_color:
        frame = replace(frame, pixel=frame.pixel.as_decoded(photometric))
    data = encode_frame(frame, HTJ2K_LOSSLESS_RPCL).data

    markers, at = {}, 2
    while data[at : at + 2] != b"\xff\x90":  # the first tile-part
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        markers[data[at : at + 2].hex()] = data[at + 4 : at + 2 + length]
        at += 2 + length
    style, lengths = markers["ff52"], markers["ff55"]
    halvings = style[5]
    parts = [int.from_bytes(lengths[each + 2 : each + 6], "big") for each in range(2, len(lengths), 6)]
    assert style[1] == 2  # RPCL
    assert -(-max(shape[:2]) // 2**halvings) <= 64
    assert len(parts) == halvings + 1
    assert at + sum(parts) + 2 == len(data.rstrip(b"\0"))  # and the end of the code-stream
    assert np.array_equal(imagecodecs.jpeg2k_decode(data, planar=False), samples)


def test_colour_models_follow_the_codec() -> None:
    frame = frame_of("colour")

    photometric = {syntax: encode_frame(frame, syntax).pixel.photometric for syntax in LOSSLESS_TARGETS}

    assert photometric[JPEG_2000_LOSSLESS] == photometric[HTJ2K_LOSSLESS] == "YBR_RCT"
    assert photometric[JPEG_LS] == photometric[RLE] == photometric[EXPLICIT_LITTLE] == "RGB"


def test_colour_by_plane_and_with_shared_chrominance_is_read_by_pixel() -> None:
    samples = SAMPLES["colour"]
    planar = Picture(image(samples, 8, PlanarConfiguration=1))
    pixel = image_pixel_of(planar.attributes)
    planes = samples.transpose(2, 0, 1).tobytes()
    assert np.array_equal(decode_frame(planes, pixel, EXPLICIT_LITTLE).samples, samples)

    halved = replace(pixel, planar=False, photometric="YBR_FULL_422", rows=1, columns=2)
    decoded = decode_frame(bytes([10, 20, 30, 40]), halved, EXPLICIT_LITTLE)
    assert decoded.samples.tolist() == [[[10, 30, 40], [20, 30, 40]]]
    assert decoded.pixel.photometric == "YBR_FULL"


def test_octets_written_as_big_endian_words_are_swapped_back() -> None:
    pixel = ImagePixel(1, 3, 1, "MONOCHROME2", 8, 8, 7, False, words=True)

    assert decode_frame(b"\2\1\0\3", pixel, EXPLICIT_BIG).samples.tolist() == [[1, 2, 3]]


def test_bits_that_are_no_part_of_the_value_are_left_out() -> None:
    pixel = ImagePixel(1, 2, 1, "MONOCHROME2", 16, 12, 11, True)
    high = ImagePixel(1, 2, 1, "MONOCHROME2", 16, 12, 15, False)

    assert decode_frame(b"\xff\xff\x01\x80", pixel, EXPLICIT_LITTLE).samples.tolist() == [[-1, 1]]
    assert decode_frame(b"\x0f\xff\x10\x00", high, EXPLICIT_LITTLE).samples.tolist() == [[0xFF0, 1]]


def test_single_bits_and_floats_can_be_had_uncompressed_only() -> None:
    bits = ImagePixel(3, 5, 1, "MONOCHROME2", 1, 1, 0, False)
    floats = ImagePixel(1, 2, 1, "MONOCHROME2", 32, 32, 31, False, floating=True)

    assert decode_frame(b"\x05\x40", bits, EXPLICIT_LITTLE).samples.sum() == 3
    assert decode_frame(np.array([1.5, -2], "<f4").tobytes(), floats, EXPLICIT_LITTLE).samples.tolist() == [
        [1.5, -2]
    ]
    for pixel in (bits, floats):
        assert can_encode(pixel, EXPLICIT_LITTLE)
        assert not can_encode(pixel, HTJ2K_LOSSLESS)


def test_a_lossy_or_unknown_transfer_syntax_is_no_target() -> None:
    for syntax in (JPEG_BASELINE, "1.2.3"):
        with pytest.raises(CannotEncode):
            encode_frame(frame_of("8 bits"), syntax)


@pytest.mark.parametrize("syntax", CODECS)
@given(data=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_decoded_or_refused(syntax: str, data: bytes) -> None:
    pixel = ImagePixel(4, 5, 1, "MONOCHROME2", 16, 12, 11, False)
    try:
        decode_frame(data, pixel, syntax)
    except CannotDecode:
        return


def test_an_image_without_size_or_with_absurd_bits_is_none() -> None:
    attributes = Picture(image(SAMPLES["8 bits"], 8)).attributes
    for tag, value in (("00280010", 0), ("00280100", 7), ("00280002", 9), ("00280102", 2)):
        with pytest.raises(NotAnImage):
            image_pixel_of({**attributes, tag: {"vr": "US", "Value": [value]}})
    with pytest.raises(NotAnImage):
        image_pixel_of({})


def test_the_same_object_in_other_transfer_syntaxes_has_the_same_pixels(shared_data: Path) -> None:
    """Real transcodes of one instance, by other people's encoders."""
    by_instance: dict[str, list[tuple[str, npt.NDArray[Any]]]] = {}
    for path in sorted((shared_data / "dicom" / "transcodes").rglob("*.dcm")):
        picture = Picture(path.read_bytes())
        pixel = image_pixel_of(picture.attributes)
        samples = decode_frame(picture.frame(), pixel, picture.header.transfer_syntax_uid).samples
        by_instance.setdefault(f"{picture.header.sop_instance_uid} {samples.dtype}", []).append(
            (path.name, samples)
        )
    for copies in by_instance.values():
        name, samples = copies[0]
        for other, others in copies[1:]:
            if samples.shape == others.shape:  # some copies were cropped
                assert np.array_equal(samples, others), f"{name} and {other}"


def test_transcoding_is_decoding_and_encoding() -> None:
    frame = frame_of("12 bits")
    compressed = encode_frame(frame, JPEG_LS)

    again = transcode_frame(compressed.data, compressed.pixel, JPEG_LS, HTJ2K_LOSSLESS)

    assert np.array_equal(decode_frame(again.data, again.pixel, HTJ2K_LOSSLESS).samples, SAMPLES["12 bits"])
