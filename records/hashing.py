"""Hashes of the search index: signed 64-bit, as a column holds them."""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=16384)  # systems, codes and parameters recur in nearly every document
def hash_of(*parts: str) -> int:
    """A hash over one or more texts, with a boundary between them."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
