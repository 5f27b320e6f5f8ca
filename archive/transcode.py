"""Transfer syntaxes: a frame's bytes to samples and back, by one table of codecs.

Decoding gives samples by pixel, aligned to bit 0, with the sign they are meant to have, and the colour model
that they are then in: a JPEG's YCbCr and a JPEG 2000's RCT or ICT are undone by the codec, everything else
stays as the object says. Encoding is always lossless. What a vendor's stream contradicts in the header is
read as the stream has it.

Standards: PS3.5 8 and annexes A, F, G; PS3.3 C.7.6.3.1 (photometric interpretation).
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
import numpy.typing as npt

from archive.image_pixel import ImagePixel
from kernel.errors import CloudfilmError, Kind

Samples: TypeAlias = npt.NDArray[Any]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
JPEG_XL_LOSSLESS = "1.2.840.10008.1.2.4.110"
JPEG_XL_JPEG = "1.2.840.10008.1.2.4.111"
JPEG_XL = "1.2.840.10008.1.2.4.112"
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"


class CannotDecode(CloudfilmError):
    """The pixels of a frame do not decode: damaged, or in a form that no codec here reads."""

    kind = Kind.UNSUPPORTED

    def __init__(self, transfer_syntax_uid: str) -> None:
        super().__init__(f"The frame cannot be decoded from transfer syntax {transfer_syntax_uid}.")


class CannotEncode(CloudfilmError):
    """The image cannot be had in this transfer syntax: too many bits, or no encoder."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self, transfer_syntax_uid: str) -> None:
        super().__init__(f"The image cannot be had in transfer syntax {transfer_syntax_uid}.")


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """Samples of a frame: rows x columns, and x samples where there are several; and what they mean."""

    samples: Samples
    pixel: ImagePixel  # as decoded: by pixel, in the colour model that the samples are in


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """The bytes of a frame, and what the object must say of them."""

    data: bytes
    pixel: ImagePixel


Decode = Callable[[bytes, ImagePixel], tuple[Samples, str]]
Encode = Callable[[Samples, ImagePixel], tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class Codec:
    """How a transfer syntax codes a frame. A lossless one has an encoder."""

    decode: Decode
    encode: Encode | None = None
    most_bits: int = 16  # that its encoder takes; 64: single bits and floating point as well


def decode_frame(data: bytes, pixel: ImagePixel, transfer_syntax_uid: str) -> DecodedFrame:
    """Decode one frame. Raises CannotDecode."""
    codec = CODECS.get(transfer_syntax_uid)
    if codec is None:
        raise CannotDecode(transfer_syntax_uid)
    try:
        samples, photometric = codec.decode(data, pixel)
        samples = _shaped(samples, pixel)
    except (RuntimeError, ValueError, IndexError, OverflowError, struct.error) as failure:
        raise CannotDecode(transfer_syntax_uid) from failure
    return DecodedFrame(samples, pixel.as_decoded(photometric))


def encode_frame(frame: DecodedFrame, transfer_syntax_uid: str) -> EncodedFrame:
    """Encode one frame without loss. Raises CannotEncode."""
    codec, pixel = CODECS.get(transfer_syntax_uid), frame.pixel
    if codec is None or codec.encode is None or not can_encode(pixel, transfer_syntax_uid):
        raise CannotEncode(transfer_syntax_uid)
    try:
        data, photometric = codec.encode(frame.samples, pixel)
    except (RuntimeError, ValueError) as failure:
        raise CannotEncode(transfer_syntax_uid) from failure
    planar = transfer_syntax_uid == RLE and pixel.is_color
    return EncodedFrame(data, replace(pixel, photometric=photometric, planar=planar))


def transcode_frame(data: bytes, pixel: ImagePixel, source: str, target: str) -> EncodedFrame:
    """One frame from one transfer syntax to another. Raises CannotDecode or CannotEncode."""
    return encode_frame(decode_frame(data, pixel, source), target)


def can_encode(pixel: ImagePixel, transfer_syntax_uid: str) -> bool:
    """Whether an image of this kind can be had in a transfer syntax."""
    codec = CODECS.get(transfer_syntax_uid)
    if codec is None or codec.encode is None or pixel.bits_allocated > codec.most_bits:
        return False
    return codec.most_bits == 64 or not (pixel.floating or pixel.bits_allocated == 1)


def _shaped(samples: Samples, pixel: ImagePixel) -> Samples:
    """Samples in the shape that the object says, as integers of the allocated width with their sign."""
    shape = (pixel.rows, pixel.columns, pixel.samples) if pixel.is_color else (pixel.rows, pixel.columns)
    if samples.ndim == 3 and samples.shape[2] > pixel.samples > 1:
        samples = samples[:, :, : pixel.samples]  # an alpha channel that the object knows nothing of
    if samples.shape != shape:
        samples = samples.reshape(shape)
    if pixel.floating or pixel.bits_allocated == 1:
        return samples
    unsigned = np.dtype(f"u{max(1, pixel.bits_allocated // 8)}")
    samples = samples.astype(unsigned, copy=False)
    if pixel.bits_stored < pixel.bits_allocated:
        samples = samples & unsigned.type((1 << pixel.bits_stored) - 1)
    return _signed(samples, pixel.bits_stored) if pixel.signed else samples


def _signed(samples: Samples, bits: int) -> Samples:
    """Two's complement of some bits, spread to the whole sample."""
    width = samples.dtype.itemsize * 8
    as_signed = samples.view(np.dtype(f"i{samples.dtype.itemsize}"))
    if bits == width:
        return as_signed
    return np.asarray((as_signed << (width - bits)) >> (width - bits))


# -- uncompressed (PS3.5 8.1.1, A.1, A.2, A.3) --------------------------------------------------------------


def _native(order: str) -> Decode:
    def decode(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
        count = pixel.rows * pixel.columns
        if pixel.bits_allocated == 1:
            bits = np.unpackbits(np.frombuffer(data, "u1"), count=count * pixel.samples, bitorder="little")
            return bits, pixel.photometric
        if pixel.floating:
            return np.frombuffer(data, f"{order}f{pixel.bits_allocated // 8}", count), pixel.photometric
        kind = np.dtype(f"{order}u{pixel.bits_allocated // 8}")
        if order == ">" and kind.itemsize == 1 and pixel.words:
            data = (
                np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
                + data[len(data) // 2 * 2 :]
            )
        if pixel.photometric == "YBR_FULL_422" and len(data) * 8 < count * 3 * pixel.bits_allocated:
            return _from_422(np.frombuffer(data, kind, count * 2), pixel), "YBR_FULL"
        samples = np.frombuffer(data, kind, count * pixel.samples).astype(kind.newbyteorder("="), copy=False)
        shift = pixel.high_bit + 1 - pixel.bits_stored
        if shift:
            samples = samples >> kind.newbyteorder("=").type(shift)
        if pixel.planar and pixel.is_color:
            samples = samples.reshape(pixel.samples, pixel.rows, pixel.columns).transpose(1, 2, 0)
        return samples, "YBR_FULL" if pixel.photometric == "YBR_FULL_422" else pixel.photometric

    return decode


def _from_422(samples: Samples, pixel: ImagePixel) -> Samples:
    """Y Y Cb Cr for two pixels, as three samples for each (PS3.3 C.7.6.3.1.2)."""
    pairs = samples.reshape(-1, 4)
    full = np.empty((len(pairs), 2, 3), samples.dtype)
    full[:, 0, 0], full[:, 1, 0] = pairs[:, 0], pairs[:, 1]
    full[:, :, 1], full[:, :, 2] = pairs[:, 2, None], pairs[:, 3, None]
    return full.reshape(pixel.rows, pixel.columns, 3)


def _inflate(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    """A frame deflated by itself (PS3.5 A.4.13). Raises ValueError."""
    most = -(-pixel.frame_bits // 8)
    try:
        return _native("<")(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most), pixel)
    except zlib.error as failure:
        raise ValueError("the deflated frame is damaged") from failure


def _deflate(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    data, photometric = _to_native("<")(samples, pixel)
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = deflater.compress(data) + deflater.flush()
    return deflated + b"\0" * (len(deflated) % 2), photometric


def _to_native(order: str) -> Encode:
    def encode(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
        if pixel.bits_allocated == 1:
            return np.packbits(samples.reshape(-1), bitorder="little").tobytes(), pixel.photometric
        kind = "f" if pixel.floating else "i" if pixel.signed else "u"
        return samples.astype(f"{order}{kind}{samples.dtype.itemsize}").tobytes(), pixel.photometric

    return encode


# -- JPEG (PS3.5 A.4.1) -------------------------------------------------------------------------------------


def _decode_jpeg(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    frame = jpeg_frame(data)
    if frame.is_lossless:
        return np.asarray(imagecodecs.jpegsof3_decode(data)), pixel.photometric
    if frame.components == 1 or pixel.samples == 1:
        return np.asarray(imagecodecs.jpeg8_decode(data)), pixel.photometric
    colorspace = "YCBCR" if jpeg_is_ycbcr(frame, pixel.photometric) else "RGB"
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=colorspace, outcolorspace="RGB")), "RGB"


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """What the markers of a JPEG stream say (ITU-T T.81 B.2)."""

    is_lossless: bool = False
    components: int = 1
    identifiers: bytes = b""  # of the components
    adobe_transform: int | None = None
    is_jfif: bool = False


def jpeg_frame(data: bytes) -> JpegFrame:
    """Read the markers of a JPEG stream up to its frame header. Raises ValueError."""
    at, adobe, jfif = 2, None, False
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0xEE and data[at + 4 : at + 9] == b"Adobe" and length >= 14:
            adobe = data[at + 15]
        elif marker == 0xE0 and data[at + 4 : at + 8] == b"JFIF":
            jfif = True
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            components = data[at + 9]
            identifiers = bytes(data[at + 10 + 3 * each] for each in range(components))
            return JpegFrame(marker in (0xC3, 0xC7, 0xCB, 0xCF), components, identifiers, adobe, jfif)
        at += 2 + length
    raise ValueError("no frame header")


def jpeg_is_ycbcr(frame: JpegFrame, photometric: str) -> bool:
    """Whether three components are YCbCr. The object says so, unless the stream itself knows better."""
    if frame.adobe_transform is not None:
        return frame.adobe_transform != 0
    if frame.identifiers == b"RGB":
        return False
    return photometric != "RGB" or frame.is_jfif


def _encode_jpeg_lossless(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    bits = max(2, pixel.bits_stored)
    octets = _unsigned(samples, pixel).astype("u1" if bits <= 8 else "u2", copy=False)
    data = imagecodecs.jpeg8_encode(octets, lossless=True, predictor=1, bitspersample=bits)
    return bytes(data), pixel.photometric


BASELINE_QUALITY = 95


def encode_baseline(frame: DecodedFrame) -> bytes:
    """One frame as JPEG baseline, which loses something: never for an object under its own UID, only for a
    frame that is asked for just so. Raises CannotEncode for more than 8 bits."""
    pixel = frame.pixel
    if not can_be_baseline(pixel) or frame.samples.dtype != np.uint8:
        raise CannotEncode(JPEG_BASELINE)
    colors = ("RGB", "YCBCR") if pixel.is_color else ("GRAYSCALE", "GRAYSCALE")
    samples = np.ascontiguousarray(frame.samples)
    return bytes(
        imagecodecs.jpeg8_encode(
            samples, level=BASELINE_QUALITY, colorspace=colors[0], outcolorspace=colors[1]
        )
    )


def can_be_baseline(pixel: ImagePixel) -> bool:
    """Whether a frame can be had as JPEG baseline, which holds 8 bits (PS3.5 A.4.1)."""
    return pixel.bits_allocated == 8 and not pixel.signed


# -- JPEG-LS, JPEG 2000, HTJ2K, JPEG XL ---------------------------------------------------------------------


def _decode_jpeg_ls(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    return np.asarray(imagecodecs.jpegls_decode(data)), pixel.photometric


def _encode_jpeg_ls(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    return bytes(imagecodecs.jpegls_encode(_unsigned(samples, pixel))), pixel.photometric


def _decode_jpeg_2000(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    return np.asarray(imagecodecs.jpeg2k_decode(data, planar=False)), _without_transform(pixel)


def _without_transform(pixel: ImagePixel) -> str:
    return "RGB" if pixel.photometric in ("YBR_ICT", "YBR_RCT") else pixel.photometric


def _encode_jpeg_2000(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    transform = pixel.samples == 3 and pixel.photometric == "RGB"
    data = imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(samples), 0, reversible=True, codecformat="j2k", mct=transform,
        bitspersample=pixel.bits_stored if not pixel.signed else None,
    )  # fmt: skip
    return bytes(data), "YBR_RCT" if transform else pixel.photometric


TILE_PART_BY_RESOLUTION = 1  # as the encoder names it


def _decode_htj2k(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    samples = np.asarray(imagecodecs.htj2k_decode(data))
    if pixel.is_color and samples.shape[0] == pixel.samples != samples.shape[2]:
        samples = samples.transpose(1, 2, 0)
    return samples, _without_transform(pixel)


def _encode_htj2k(samples: Samples, pixel: ImagePixel, **options: Any) -> tuple[bytes, str]:
    transform = pixel.samples == 3 and pixel.photometric == "RGB"
    if (
        pixel.is_color and not transform
    ):  # the encoder takes samples by pixel only together with the transform
        planes = np.ascontiguousarray(samples.transpose(2, 0, 1))
        data = imagecodecs.htj2k_encode(planes, reversible=True, planar=True, **options)
        return bytes(data), pixel.photometric
    data = imagecodecs.htj2k_encode(
        np.ascontiguousarray(samples), reversible=True, rgb=transform or None, **options
    )
    return bytes(data), "YBR_RCT" if transform else pixel.photometric


def _encode_htj2k_rpcl(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    """By resolution (RPCL, the encoder's own order), the least of 64 pixels or fewer; in front stand the
    lengths of tile-parts, one to a resolution, so that a client can stop at the size it needs (PS3.5
    10.18)."""
    halvings = max(5, (max(pixel.rows, pixel.columns) - 1).bit_length() - 6)
    return _encode_htj2k(samples, pixel, resolutions=halvings, tlm=True, tilepart=TILE_PART_BY_RESOLUTION)


def _decode_jpeg_xl(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    samples = np.asarray(imagecodecs.jpegxl_decode(data))
    return samples, "RGB" if pixel.samples == 3 else pixel.photometric


# -- RLE (PS3.5 annex G) ------------------------------------------------------------------------------------


def _decode_rle(data: bytes, pixel: ImagePixel) -> tuple[Samples, str]:
    width = max(1, pixel.bits_allocated // 8)
    count = pixel.rows * pixel.columns
    segments, *offsets = struct.unpack_from("<16I", data)
    if segments != width * pixel.samples or segments > 15:
        raise ValueError("the number of RLE segments disagrees with the image")
    stops = [*offsets[1:segments], len(data)]
    planes = np.zeros((pixel.samples, count, width), "u1")
    for at in range(segments):  # of each sample, the most significant byte comes first
        plane = imagecodecs.packbits_decode(data[offsets[at] : stops[at]])[:count]
        planes[at // width, : len(plane), width - 1 - at % width] = np.frombuffer(plane, "u1")
    samples = planes.reshape(pixel.samples, -1).view(f"<u{width}")
    return samples.reshape(pixel.samples, pixel.rows, pixel.columns).transpose(1, 2, 0), pixel.photometric


def _encode_rle(samples: Samples, pixel: ImagePixel) -> tuple[bytes, str]:
    width = samples.dtype.itemsize
    if width * pixel.samples > 15:
        raise ValueError("too many RLE segments")
    planes = samples.reshape(pixel.rows, pixel.columns, pixel.samples)
    segments = []
    for sample in range(pixel.samples):
        octets = np.ascontiguousarray(planes[:, :, sample]).astype(f"<u{width}").view("u1")
        by_place = octets.reshape(pixel.rows, pixel.columns, width)
        for place in reversed(range(width)):
            packed = bytes(imagecodecs.packbits_encode(np.ascontiguousarray(by_place[:, :, place])))
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets, at = [], 64
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    head = struct.pack("<16I", len(segments), *offsets, *([0] * (15 - len(segments))))
    return head + b"".join(segments), pixel.photometric


def _unsigned(samples: Samples, pixel: ImagePixel) -> Samples:
    """The stored bits as they are, for codecs that know no sign."""
    samples = np.ascontiguousarray(samples)
    if pixel.signed:
        samples = samples.view(np.dtype(f"u{samples.dtype.itemsize}"))
        if pixel.bits_stored < pixel.bits_allocated:
            samples = samples & samples.dtype.type((1 << pixel.bits_stored) - 1)
    return samples


# -- colour models (PS3.3 C.7.6.3.1.2) ----------------------------------------------------------------------


def ycbcr_to_rgb(samples: Samples, bits: int = 8) -> Samples:
    """YBR_FULL to RGB, rounded to the nearest (ITU-R BT.601 with full range)."""
    most, half = (1 << bits) - 1, 1 << (bits - 1)
    y, cb, cr = (samples[:, :, each].astype(np.float32) for each in range(3))
    cb, cr = cb - half, cr - half
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=2)
    return np.asarray(np.clip(np.rint(rgb), 0, most), samples.dtype)


def partial_to_rgb(samples: Samples) -> Samples:
    """YBR_PARTIAL_422 or _420 (studio range, 16 to 235) to RGB."""
    y = (samples[:, :, 0].astype(np.float32) - 16) * (255 / 219)
    cb, cr = ((samples[:, :, each].astype(np.float32) - 128) * (255 / 224) for each in (1, 2))
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=2)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), samples.dtype)


_LITTLE = Codec(_native("<"), _to_native("<"), 64)
_JPEG = Codec(_decode_jpeg)

CODECS: dict[str, Codec] = {
    IMPLICIT_LITTLE: _LITTLE,
    EXPLICIT_LITTLE: _LITTLE,
    DEFLATED_LITTLE: _LITTLE,  # frames are those of the inflated data set
    EXPLICIT_BIG: Codec(_native(">"), _to_native(">"), 64),
    JPEG_BASELINE: _JPEG,
    JPEG_EXTENDED: _JPEG,
    JPEG_LOSSLESS: Codec(_decode_jpeg, _encode_jpeg_lossless),
    JPEG_LOSSLESS_SV1: Codec(_decode_jpeg, _encode_jpeg_lossless),
    JPEG_LS: Codec(_decode_jpeg_ls, _encode_jpeg_ls),
    JPEG_LS_NEAR: Codec(_decode_jpeg_ls),
    JPEG_2000_LOSSLESS: Codec(_decode_jpeg_2000, _encode_jpeg_2000),
    JPEG_2000: Codec(_decode_jpeg_2000, _encode_jpeg_2000),  # may lose something, and need not (PS3.5 A.4.4)
    HTJ2K_LOSSLESS: Codec(_decode_htj2k, _encode_htj2k),
    HTJ2K_LOSSLESS_RPCL: Codec(_decode_htj2k, _encode_htj2k_rpcl),
    HTJ2K: Codec(_decode_htj2k, _encode_htj2k),
    JPEG_XL_LOSSLESS: Codec(_decode_jpeg_xl),
    JPEG_XL_JPEG: Codec(_decode_jpeg_xl),
    JPEG_XL: Codec(_decode_jpeg_xl),
    RLE: Codec(_decode_rle, _encode_rle, 32),
    DEFLATED_FRAMES: Codec(_inflate, _deflate, 64),
}

UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG)
LOSSLESS_TARGETS = tuple(uid for uid, codec in CODECS.items() if codec.encode is not None)
"""Transfer syntaxes in which an image can be had without loss."""
