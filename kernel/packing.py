"""Packing: chunks of a stored object made smaller without loss, each by itself, so that any range is read.

A packed chunk is one byte that says how, and the rest. Pixels of 16 bits compress far better with their low
and high bytes apart (the high ones hardly change), so both ways are tried and the smaller is kept; what does
not shrink stays as it is. Zstandard is RFC 8878.
"""

from kernel.errors import CloudfilmError, Kind

PLAIN, ZSTD, ZSTD_OF_PAIRS = 0, 1, 2
LEVEL = 3


class UnreadablePacking(CloudfilmError):
    """A chunk that was authentic and does not unpack: made by newer code."""

    kind = Kind.FAULT


def pack(plain: bytes) -> bytes:
    """The smallest form of a chunk."""
    from imagecodecs import zstd_encode  # loads slowly, and few processes pack

    forms = [(PLAIN, plain), (ZSTD, zstd_encode(plain, LEVEL))]
    if len(plain) % 2 == 0:
        forms.append((ZSTD_OF_PAIRS, zstd_encode(plain[::2] + plain[1::2], LEVEL)))
    how, packed = min(forms, key=lambda form: len(form[1]))
    return bytes([how]) + packed


def unpack(packed: bytes, size_bytes: int) -> bytes:
    """The chunk again; its size is known. Raises UnreadablePacking."""
    from imagecodecs import zstd_decode

    how, rest = packed[0], packed[1:]
    if how == PLAIN:
        return rest
    if how not in (ZSTD, ZSTD_OF_PAIRS):
        raise UnreadablePacking(
            f"A stored object is packed in a way ({how}) that this version does not know."
        )
    plain = bytes(zstd_decode(rest, out=size_bytes)) if size_bytes else b""
    if how == ZSTD:
        return plain
    joined = bytearray(size_bytes)
    joined[::2], joined[1::2] = plain[: size_bytes // 2], plain[size_bytes // 2 :]
    return bytes(joined)
