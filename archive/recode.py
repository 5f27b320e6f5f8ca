"""A stored object written anew in another transfer syntax, for who does not take it as it is kept.

Without loss, frame by frame: the header is rewritten, each frame is decoded and encoded as it is sent, so an
object of any length costs the memory of one frame. The SOP Instance UID stays, for the pixels stay.

Standards: PS3.10 7, PS3.5 annex A; PS3.18 8.7.3.5 (transfer syntax), PS3.4 C.4.2 (C-MOVE, C-GET).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID

from archive.documents import parse_marked
from archive.image_pixel import DOUBLE_PIXELS, FLOAT_PIXELS, PIXELS, ImagePixel, NotAnImage, image_pixel_of
from archive.retrieve import StoredInstance, frame_bytes, instance_bytes, instance_document
from archive.room import Archive
from archive.transcode import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_BASELINE,
    UNCOMPRESSED,
    CannotDecode,
    CannotEncode,
    DecodedFrame,
    can_encode,
    decode_frame,
    encode_baseline,
    encode_frame,
)
from archive.video import is_video

PIXEL_TAG = 0x7FE00010
ITEM = struct.Struct("<HHI")
SWAPPED_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def can_recode(archive: Archive, stored: StoredInstance, target: str) -> bool:
    """Whether an object can be had in a transfer syntax without loss."""
    if stored.transfer_syntax_uid == target:
        return True
    if is_video(stored.transfer_syntax_uid):
        return False
    if not stored.number_of_frames:
        return target in UNCOMPRESSED
    try:
        pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
    except NotAnImage:
        return False
    return can_encode(pixel, target)


def recoded_bytes(archive: Archive, stored: StoredInstance, target: str) -> Iterator[bytes]:
    """The Part 10 object in another transfer syntax, piece by piece; as it is stored when it is the same.

    Raises CannotEncode or CannotDecode before the first piece, as far as that can be known then.
    """
    if stored.transfer_syntax_uid == target:
        return instance_bytes(archive, stored)
    if not can_recode(archive, stored, target):
        raise CannotEncode(target)
    if not stored.number_of_frames:
        return _pieces(archive, stored, target, None)
    pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
    first = _decoded(archive, stored, 1, pixel)
    return _pieces(archive, stored, target, (pixel, first))


def _decoded(archive: Archive, stored: StoredInstance, number: int, pixel: ImagePixel) -> DecodedFrame:
    return decode_frame(frame_bytes(archive, stored, number), pixel, stored.transfer_syntax_uid)


def _pieces(
    archive: Archive, stored: StoredInstance, target: str, image: tuple[ImagePixel, DecodedFrame] | None
) -> Iterator[bytes]:
    if target != DEFLATED_LITTLE:
        dataset = _header(archive, stored)
        yield _file_meta(dataset, target)
        yield from _body(archive, stored, target, image, dataset)
        return
    dataset = _header(archive, stored)
    yield _file_meta(dataset, target)
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 0
    for piece in _body(archive, stored, EXPLICIT_LITTLE, image, dataset):
        deflated = deflater.compress(piece)
        size += len(deflated)
        yield deflated
    last = deflater.flush()
    yield last + b"\0" * ((size + len(last)) % 2)


def _header(archive: Archive, stored: StoredInstance) -> Dataset:
    """The data set without its pixels. What stands behind them (padding, signatures of the old coding) is
    left."""
    with archive.blobs.open(stored.blob_key, stored.seal) as reader:
        return dcmread(cast(BinaryIO, reader), stop_before_pixels=True, force=True)


def _file_meta(dataset: Dataset, target: str) -> bytes:
    meta = FileMetaDataset()
    meta.update({element.tag: element for element in getattr(dataset, "file_meta", FileMetaDataset())})
    meta.TransferSyntaxUID = UID(target)
    file = DicomBytesIO()
    file.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=False)
    return file.getvalue()


def _body(
    archive: Archive,
    stored: StoredInstance,
    target: str,
    image: tuple[ImagePixel, DecodedFrame] | None,
    dataset: Dataset,
) -> Iterator[bytes]:
    source_big = stored.transfer_syntax_uid == EXPLICIT_BIG
    if source_big != (target == EXPLICIT_BIG):
        _swap_words(dataset)
    if image is None:
        yield _encoded(dataset, target)
        return
    pixel, first = image
    encoded = encode_frame(first, target)
    _describe(dataset, encoded.pixel)
    yield _encoded(dataset, target)
    if target in UNCOMPRESSED:
        yield from _native(archive, stored, target, pixel, first)
    else:
        yield from _encapsulated(archive, stored, target, pixel, first)


def _describe(dataset: Dataset, pixel: ImagePixel) -> None:
    """What the header says of the pixels as they are coded now."""
    dataset.PhotometricInterpretation = pixel.photometric
    if pixel.is_color:
        dataset.PlanarConfiguration = int(pixel.planar)
    if not pixel.floating:
        dataset.BitsStored, dataset.HighBit = pixel.bits_stored, pixel.high_bit
    for tag in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if tag in dataset:
            del dataset[tag]


def _encoded(dataset: Dataset, target: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR = target == IMPLICIT_LITTLE
    file.is_little_endian = target != EXPLICIT_BIG
    write_dataset(file, Dataset({element.tag: element for element in dataset if element.tag.group > 2}))
    return file.getvalue()


def _swap_words(dataset: Dataset) -> None:
    """Turn the words of binary values round; numbers that are read as such need it not."""
    for element in dataset.iterall():
        width = SWAPPED_WORDS.get(element.VR)
        if width and isinstance(element.value, bytes):
            data = element.value
            element.value = b"".join(data[at : at + width][::-1] for at in range(0, len(data), width))


def _native(
    archive: Archive, stored: StoredInstance, target: str, pixel: ImagePixel, first: DecodedFrame
) -> Iterator[bytes]:
    if first.pixel.bits_allocated == 1:
        yield from _single_bits(archive, stored, target, pixel, first)
        return
    frame_length = len(encode_frame(first, target).data)
    length = frame_length * stored.number_of_frames
    tag = {True: FLOAT_PIXELS if pixel.bits_allocated == 32 else DOUBLE_PIXELS}.get(pixel.floating, PIXELS)
    vr = {FLOAT_PIXELS: b"OF", DOUBLE_PIXELS: b"OD"}.get(tag, b"OW" if pixel.bits_allocated > 8 else b"OB")
    yield _element_head(int(tag, 16), vr, length + length % 2, target)
    yield encode_frame(first, target).data
    for number in range(2, stored.number_of_frames + 1):
        yield encode_frame(_decoded(archive, stored, number, pixel), target).data
    if length % 2:
        yield b"\0"


def _single_bits(
    archive: Archive, stored: StoredInstance, target: str, pixel: ImagePixel, first: DecodedFrame
) -> Iterator[bytes]:
    """Frames of single bits follow each other without padding (PS3.5 8.1.1)."""
    bits = pixel.rows * pixel.columns * pixel.samples
    whole, held = 0, 0
    for number in range(1, stored.number_of_frames + 1):
        frame = first if number == 1 else _decoded(archive, stored, number, pixel)
        whole |= int.from_bytes(encode_frame(frame, target).data, "little") << held
        held += bits
    data = whole.to_bytes(-(-held // 8), "little")
    data += b"\0" * (len(data) % 2)
    yield _element_head(PIXEL_TAG, b"OB", len(data), target)
    yield data


def _encapsulated(
    archive: Archive, stored: StoredInstance, target: str, pixel: ImagePixel, first: DecodedFrame
) -> Iterator[bytes]:
    yield _element_head(PIXEL_TAG, b"OB", 0xFFFFFFFF, target) + ITEM.pack(0xFFFE, 0xE000, 0)
    for number in range(1, stored.number_of_frames + 1):
        frame = first if number == 1 else _decoded(archive, stored, number, pixel)
        data = encode_frame(frame, target).data
        data += b"\0" * (len(data) % 2)
        yield ITEM.pack(0xFFFE, 0xE000, len(data)) + data
    yield ITEM.pack(0xFFFE, 0xE0DD, 0)


def _element_head(tag: int, vr: bytes, length: int, target: str) -> bytes:
    group, element = tag >> 16, tag & 0xFFFF
    if target == IMPLICIT_LITTLE:
        return struct.pack("<HHI", group, element, length)
    order = ">" if target == EXPLICIT_BIG else "<"
    return struct.pack(f"{order}HH2sHI", group, element, vr, 0, length)


def frame_in(
    archive: Archive, stored: StoredInstance, number: int, target: str, pixel: ImagePixel | None = None
) -> bytes:
    """One frame in another transfer syntax; without loss, but in JPEG baseline, which knows no other way.

    Raises CannotDecode, CannotEncode or NotAnImage.
    """
    if is_video(stored.transfer_syntax_uid):
        raise CannotDecode(stored.transfer_syntax_uid)
    pixel = pixel or image_pixel_of(parse_marked(instance_document(archive, stored)))
    frame = _decoded(archive, stored, number, pixel)
    if target == JPEG_BASELINE:
        return encode_baseline(frame)
    if target in UNCOMPRESSED and frame.pixel.photometric != pixel.photometric:
        frame = replace(frame, pixel=frame.pixel.as_decoded(frame.pixel.photometric))
    return encode_frame(frame, target).data
