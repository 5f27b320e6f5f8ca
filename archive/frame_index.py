"""Where each frame lies in a Part 10 object, so that one is sent without a look at the others.

The index is kept packed in the instance's row; finding a frame in it reads a few bytes at a computed place.

    none           00
    native         01 | start 8 | bits of a frame 8 | count 4
    encapsulated   02 | count 4 | count x (offset 8, length 4)                         one fragment a frame
    encapsulated   03 | count 4 | (count + 1) x first fragment 4 | (offset 8, length 4) ...

Standards: PS3.5 8.1.1 (native), A.4 (encapsulated), PS3.3 C.7.6.3.1.8 (Extended Offset Table).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from kernel.errors import CloudfilmError, Kind

NONE, NATIVE, WHOLE, SPLIT = range(4)
HEAD = struct.Struct(">BI")
NATIVE_FORM = struct.Struct(">BQQI")
FRAGMENT = struct.Struct(">QI")


class NoSuchFrame(CloudfilmError):
    """A frame number beyond those that the object has."""

    kind = Kind.NOT_FOUND

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no frame {number}.")


@dataclass(frozen=True, slots=True)
class FrameLocation:
    """Byte ranges (offset, length) of a frame in the object, in order; and, for frames of single bits
    that do not begin at a byte, how many bits to pass over and how many there are."""

    ranges: tuple[tuple[int, int], ...]
    first_bit: int = 0
    bits: int | None = None  # None: whole bytes


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The index as it is made at ingest."""

    packed: bytes = bytes([NONE])

    @property
    def count(self) -> int:
        """How many frames can be told apart."""
        return frame_count(self.packed)

    @classmethod
    def native(cls, start: int, frame_bits: int, count: int) -> "FrameIndex":
        """Uncompressed frames, one after the other."""
        return cls(NATIVE_FORM.pack(NATIVE, start, frame_bits, count))

    @classmethod
    def encapsulated(cls, frames: Sequence[Sequence[tuple[int, int]]]) -> "FrameIndex":
        """Frames of one or more fragments (offset, length)."""
        if all(len(fragments) == 1 for fragments in frames):
            body = b"".join(FRAGMENT.pack(*fragments[0]) for fragments in frames)
            return cls(HEAD.pack(WHOLE, len(frames)) + body)
        firsts, at = [], 0
        for fragments in frames:
            firsts.append(at)
            at += len(fragments)
        table = struct.pack(f">{len(frames) + 1}I", *firsts, at)
        body = b"".join(FRAGMENT.pack(*fragment) for fragments in frames for fragment in fragments)
        return cls(HEAD.pack(SPLIT, len(frames)) + table + body)


def frame_count(packed: bytes) -> int:
    """How many frames a packed index has."""
    if packed[0] == NONE:
        return 0
    if packed[0] == NATIVE:
        return int(NATIVE_FORM.unpack_from(packed)[3])
    return int(HEAD.unpack_from(packed)[1])


def locate_frame(packed: bytes, number: int) -> FrameLocation:
    """Where a frame (from 1) lies. Raises NoSuchFrame."""
    if not 1 <= number <= frame_count(packed):
        raise NoSuchFrame(number)
    at = number - 1
    if packed[0] == NATIVE:
        _, start, bits, _ = NATIVE_FORM.unpack_from(packed)
        first = at * bits
        if first % 8 == 0 and bits % 8 == 0:
            return FrameLocation(((start + first // 8, bits // 8),))
        return FrameLocation(((start + first // 8, -(-(first % 8 + bits) // 8)),), first % 8, bits)
    if packed[0] == WHOLE:
        return FrameLocation((FRAGMENT.unpack_from(packed, HEAD.size + at * FRAGMENT.size),))
    first, stop = struct.unpack_from(">2I", packed, HEAD.size + 4 * at)
    body = HEAD.size + 4 * (frame_count(packed) + 1)
    return FrameLocation(
        tuple(FRAGMENT.unpack_from(packed, body + each * FRAGMENT.size) for each in range(first, stop))
    )


def group_fragments(
    fragments: Sequence[tuple[int, int]],
    frames: int,
    offsets: Sequence[int],
    starts_frame: Sequence[bool] | None,
) -> list[list[tuple[int, int]]]:
    """Which fragments make which frame.

    fragments: (offset, length) of each fragment's value in the object, without the offset table.
    offsets: from the
    offset table, relative to the first fragment's item tag; may be empty. starts_frame: whether a
    fragment begins like a codestream does, where that was looked at.
    """
    if not fragments:
        return []
    if frames <= 1:
        return [list(fragments)]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    if len(offsets) == frames:
        base = fragments[0][0] - 8  # an item's tag and length stand before its value
        at_item = {offset - 8 - base: index for index, (offset, _) in enumerate(fragments)}
        firsts = [at_item.get(offset) for offset in offsets]
        known = [first for first in firsts if first is not None]
        if len(known) == frames and known == sorted(set(known)) and known[0] == 0:
            return _cut(fragments, known)
    if starts_frame is not None:
        firsts_seen = [index for index, starts in enumerate(starts_frame) if starts]
        if len(firsts_seen) == frames and firsts_seen[0] == 0:
            return _cut(fragments, firsts_seen)
    return []


def _cut(fragments: Sequence[tuple[int, int]], firsts: Sequence[int]) -> list[list[tuple[int, int]]]:
    return [
        list(fragments[first:stop]) for first, stop in zip(firsts, [*firsts[1:], len(fragments)], strict=True)
    ]
