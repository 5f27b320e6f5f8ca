"""Hashes of the search index: signed 64-bit, as a column holds them."""

import hashlib
from functools import lru_cache

from kernel.sealed_text import Hidden


@lru_cache(maxsize=16384)  # systems, codes and parameters recur in nearly every document
def hash_of(*parts: str) -> int:
    """A hash over one or more texts, with a boundary between them."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def either(*parts: str) -> tuple[int, int]:
    """The hash of texts as an index may hold it: keyed, and as from before there was sealing."""
    hashed = hash_of(*parts)
    return Hidden(hashed), hashed
