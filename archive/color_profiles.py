"""ICC profiles for rendered images: the three colour spaces that PS3.18 8.3.5.1.6 names, made by formula.

Each is a matrix profile of version 2: primaries, a white point and one curve (ICC.1:2001-04).
"""

import io
import struct
from functools import lru_cache

from PIL import Image, ImageCms

SPACES = {  # chromaticities of red, green and blue adapted to D50, as XYZ; gamma; name
    "srgb": (
        ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
        2.2,
        "sRGB",
    ),
    "adobergb": (
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
        2.19921875,
        "Adobe RGB (1998) compatible",
    ),
    "rommrgb": (
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)),
        1.8,
        "ROMM RGB",
    ),
}


@lru_cache
def profile_of(space: str) -> bytes:
    """The ICC profile of a named space."""
    if space == "srgb":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    primaries, gamma, name = SPACES[space]
    ascii_name = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(ascii_name)) + ascii_name + b"\0" * 78,
        b"cprt": b"text\0\0\0\0public domain\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(*primaries[0]),
        b"gXYZ": _xyz(*primaries[1]),
        b"bXYZ": _xyz(*primaries[2]),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    offset, entries, body = 128 + 4 + 12 * len(tags), b"", b""
    for signature, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        entries += signature + struct.pack(">II", offset + len(body), len(data))
        body += padded
    size = offset + len(body)
    head = struct.pack(
        ">I4sI4s4s4s6H4s4sIIIQI3i4s44x", size, b"\0\0\0\0", 0x02100000, b"mntr", b"RGB ", b"XYZ ",
        2026, 1, 1, 0, 0, 0, b"acsp", b"\0\0\0\0", 0, 0, 0, 0, 0, 0xF6D6, 0x10000, 0xD32D, b"\0\0\0\0",
    )  # fmt: skip
    return head + struct.pack(">I", len(tags)) + entries + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(each * 65536) for each in (x, y, z)))


def convert(image: Image.Image, own: bytes | None, wanted: str) -> tuple[Image.Image, bytes | None]:
    """The image in the colours that are wanted, and the profile to embed.

    wanted: `no` (none is embedded), `yes` (the image's own), or a named space. own: the object's ICC profile;
    without one, colours are taken as sRGB.
    """
    if wanted in ("", "no"):
        return image, None
    if wanted == "yes":
        return image, own or profile_of("srgb")
    if image.mode != "RGB":
        image = image.convert("RGB")
    target = profile_of(wanted)
    if own is None and wanted == "srgb":
        return image, target
    try:
        turned = ImageCms.profileToProfile(
            image, io.BytesIO(own or profile_of("srgb")), io.BytesIO(target), outputMode="RGB"
        )
    except ImageCms.PyCMSError:  # the object's own profile is damaged or of another kind
        return image, target
    return turned or image, target
