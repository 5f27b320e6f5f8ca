"""An image object as the renderer sees it: its DICOM JSON for one frame, and its larger values on demand.

Attributes of functional groups stand where a plain object has them, so that what follows need not know how
many frames there are (PS3.3 C.7.6.16).
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.image_pixel import Attributes, items, values

SHARED_GROUPS, FRAME_GROUPS = "52009229", "52009230"
PIXEL_VALUE_TRANSFORMATION, FRAME_VOI_LUT = "00289145", "00289132"
LIFTED = (PIXEL_VALUE_TRANSFORMATION, FRAME_VOI_LUT)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The attributes of one frame of an object; `bulk` reads a value by its bulk data path."""

    attributes: Attributes
    bulk: Callable[[str], bytes]
    big_endian: bool = False

    def binary(self, attributes: Attributes, tag: str) -> bytes:
        """A binary value, wherever it is kept; in little endian. Empty when there is none."""
        element = attributes.get(tag, {})
        if "InlineBinary" in element:
            return base64.b64decode(element["InlineBinary"])
        if "BulkDataURI" in element:
            data = self.bulk(element["BulkDataURI"].rpartition("/bulkdata/")[2])
            if self.big_endian and element["vr"] == "OW":
                return np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
            return data
        return b""

    def words(self, attributes: Attributes, tag: str, count: int) -> npt.NDArray[np.int64]:
        """A table of `count` numbers, given as US, SS or OW; octets where there is no room for words."""
        numbers = [each for each in values(attributes, tag) if isinstance(each, int)]
        if numbers:
            return np.array(numbers[:count], np.int64)
        data = self.binary(attributes, tag)
        kind = "<u2" if len(data) >= 2 * count else "u1"
        whole = len(data) // np.dtype(kind).itemsize
        return np.frombuffer(data, kind, min(count, whole)).astype(np.int64)


def frame_attributes(attributes: Attributes, number: int) -> Attributes:
    """The attributes that hold for a frame (from 1), with what its functional groups say of its pixels."""
    shared, by_frame = items(attributes, SHARED_GROUPS), items(attributes, FRAME_GROUPS)
    groups = shared[:1] + by_frame[number - 1 : number]
    if not groups:
        return attributes
    lifted: Attributes = {}
    for group in groups:
        for macro in LIFTED:
            for item in items(group, macro)[:1]:
                lifted.update(item)
    return {**attributes, **lifted}
