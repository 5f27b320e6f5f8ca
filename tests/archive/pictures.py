"""Images for tests of codecs and rendering, and what independent programs make of them."""

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset

from archive.frame_index import locate_frame
from archive.header import DEFLATED, Header, data_set_offset, inflate, read_header
from archive.image_pixel import Attributes
from archive.image_source import ImageSource
from archive.presentation_state import presentation_for
from archive.render import PNG, Rendering, draw_frame
from archive.retrieve import aligned
from archive.transcode import EXPLICIT_BIG
from tests.builders import dataset, part10

Grays = npt.NDArray[np.int64]


class Picture:
    """A Part 10 object at hand, as the renderer takes it."""

    def __init__(self, data: bytes) -> None:
        self.part10 = data
        self.header: Header = read_header(io.BytesIO(data), len(data))
        if self.header.transfer_syntax_uid in DEFLATED:
            start = data_set_offset(data)
            data = data[:start] + inflate(data[start:])
        self._plain = data

    @property
    def attributes(self) -> Attributes:
        """Its DICOM JSON."""
        return self.header.attributes

    @property
    def source(self) -> ImageSource:
        """As the renderer sees it."""
        big_endian = self.header.transfer_syntax_uid == EXPLICIT_BIG
        return ImageSource(self.header.attributes, self._bulk, big_endian)

    def _bulk(self, path: str) -> bytes:
        value = self.header.bulk[path]
        return self._plain[value.offset : value.offset + value.length]

    def frame(self, number: int = 1) -> bytes:
        """A frame's bytes as stored."""
        location = locate_frame(self.header.frames.packed, number)
        data = b"".join(self._plain[offset : offset + length] for offset, length in location.ranges)
        return data if location.bits is None else aligned(data, location)

    def drawn(
        self, number: int = 1, state: "Picture | None" = None, rendering: Rendering | None = None
    ) -> Image.Image:
        """As we draw it."""
        presentation = None
        if state is not None:
            presentation = presentation_for(state.source, self.header.sop_instance_uid, number)
        return draw_frame(
            self.source, self.frame(number), self.header.transfer_syntax_uid, number,
            rendering or Rendering(media_type=PNG), presentation,
        )  # fmt: skip


def image(
    pixels: npt.NDArray[Any], bits: int = 12, syntax: str = "1.2.840.10008.1.2.1", **more: Any
) -> bytes:
    """An uncompressed image object of these samples: rows x columns, or x 3."""
    return part10(image_dataset(pixels, bits, **more), syntax)


def image_dataset(pixels: npt.NDArray[Any], bits: int = 12, **more: Any) -> Dataset:
    """The same as a dataset."""
    color = pixels.ndim == 3
    if color:
        more.setdefault("PlanarConfiguration", 0)
        more.setdefault("PhotometricInterpretation", "RGB")
    allocated = pixels.dtype.itemsize * 8
    return dataset(
        Rows=pixels.shape[0], Columns=pixels.shape[1], SamplesPerPixel=3 if color else 1,
        BitsAllocated=allocated, BitsStored=min(bits, allocated), HighBit=min(bits, allocated) - 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"), PixelData=pixels.tobytes(), **more,
    )  # fmt: skip


def ramp(kind: str = "u2", bits: int = 12, rows: int = 48, columns: int = 64) -> npt.NDArray[Any]:
    """Every value that some bits hold, spread over an image, with structure a codec has to work for."""
    low = -(1 << bits - 1) if kind.startswith("i") else 0
    values = np.linspace(low, low + (1 << bits) - 1, rows * columns).round().astype(kind)
    return values.reshape(rows, columns)


def noise(kind: str = "u2", bits: int = 12, shape: tuple[int, ...] = (40, 56)) -> npt.NDArray[Any]:
    """Random samples, the same at every call."""
    random = np.random.default_rng(7)
    low = -(1 << bits - 1) if kind.startswith("i") else 0
    return random.integers(low, low + (1 << bits), shape).astype(kind)


def dcmj2pnm(folder: Path, part10_bytes: bytes, *options: str, frame: int = 1) -> Grays:
    """The picture that dcmtk makes of an object."""
    source, target = folder / "object.dcm", folder / "picture.pnm"
    source.write_bytes(part10_bytes)
    target.unlink(missing_ok=True)
    subprocess.run(
        ["dcmj2pnm", "+F", str(frame), *options, str(source), str(target)], check=True, capture_output=True
    )
    return pixels_of(Image.open(target))


def dcmp2pgm(folder: Path, part10_bytes: bytes, state: bytes) -> Grays:
    """The picture that dcmtk makes of an object by a presentation state."""
    source, by, target = folder / "object.dcm", folder / "state.dcm", folder / "picture.pgm"
    source.write_bytes(part10_bytes)
    by.write_bytes(state)
    subprocess.run(["dcmp2pgm", "-p", str(by), str(source), str(target)], check=True, capture_output=True)
    return pixels_of(Image.open(target))


def gdcmconv(folder: Path, part10_bytes: bytes, option: str) -> bytes:
    """The object as gdcm codes it otherwise."""
    source, target = folder / "object.dcm", folder / "other.dcm"
    source.write_bytes(part10_bytes)
    target.unlink(missing_ok=True)
    subprocess.run(["gdcmconv", option, str(source), str(target)], check=True, capture_output=True)
    return target.read_bytes()


def pixels_of(picture: Image.Image) -> Grays:
    """A picture's pixels as numbers that can be subtracted."""
    return np.asarray(picture).astype(np.int64)


def largest_difference(picture: Image.Image, reference: Grays) -> int:
    """How far two pictures of the same size are apart, at most."""
    ours = pixels_of(picture)
    assert ours.shape == reference.shape
    return int(np.abs(ours - reference).max())
