"""Several stores as one: the tier of fast storage that everything arrives at, and a cold one.

A key says where its blob is: `cold:2026/11/24/15/...` is in the cold store, any other in the primary one; and
one that ends with `.z` is of a packed blob (`kernel.packing`).
Moving a blob writes it under its other key and changes the row; the sweeper removes what no row names any
more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from archive.blobs.store import BlobInfo, BlobNotFound, BlobReader, BlobStore, BlobWriter

COLD = "cold"
PACKED_SUFFIX = ".z"


def tier_of(key: str) -> str:
    """The name of the tier that a key is in; empty for the primary one."""
    return key.partition(":")[0] if ":" in key else ""


def key_in(tier: str, key: str) -> str:
    """The same blob's key in another tier."""
    bare = key.rpartition(":")[2]
    return f"{tier}:{bare}" if tier else bare


class TieredStore:
    """The primary store and those behind it, by name."""

    def __init__(self, primary: BlobStore, others: Mapping[str, BlobStore]) -> None:
        self._primary = primary
        self._others = others

    def _of(self, key: str) -> tuple[BlobStore, str]:
        tier = tier_of(key)
        if not tier:
            return self._primary, key
        if tier not in self._others:
            raise BlobNotFound(key)
        return self._others[tier], key_in("", key)

    def create(self, key: str) -> BlobWriter:
        """Begin a new blob in the tier that its key names."""
        store, bare = self._of(key)
        return store.create(bare)

    def open(self, key: str) -> BlobReader:
        """Open a blob. Raises BlobNotFound."""
        store, bare = self._of(key)
        return store.open(bare)

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when there is none."""
        store, bare = self._of(key)
        store.delete(bare)

    def list(self) -> Iterator[BlobInfo]:
        """All blobs of all tiers, in no order."""
        yield from self._primary.list()
        for tier, store in self._others.items():
            yield from (replace(blob, key=key_in(tier, blob.key)) for blob in store.list())

    def check(self) -> None:
        """Raise StorageUnavailable when the primary store cannot take or give data now."""
        self._primary.check()

    def free_bytes(self) -> int | None:
        """Room that is left in the primary store, which is where things arrive."""
        return self._primary.free_bytes()

    def tiers(self) -> Mapping[str, BlobStore]:
        """The stores behind the primary one, by name."""
        return self._others
