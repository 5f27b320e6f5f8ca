"""Sealed objects from store to store, as they are: nothing is opened on the way, only proven afterwards."""

import hashlib

from archive.blobs.sealed import read_sealed
from archive.blobs.store import BlobNotFound, BlobStore, StorageUnavailable
from kernel.crypto import DamagedBlob, KeyRing, Seal

PIECE_BYTES = 1048576


def is_there(store: BlobStore, key: str, seal: Seal) -> bool:
    """Whether a store has an object to its last byte. Says nothing of what the bytes are: see `is_sound`."""
    try:
        reader = store.open(key)
        try:
            return len(reader.pread(1, seal.sealed_bytes - 1)) == 1
        finally:
            reader.close()
    except BlobNotFound:
        return False


def is_sound(store: BlobStore, key: str, keys: KeyRing, seal: Seal, sha256: bytes) -> bool:
    """Whether every chunk opens and the plain bytes are those that arrived. Raises StorageUnavailable."""
    digest = hashlib.sha256()
    try:
        for piece in read_sealed(store, key, keys, seal, 0, seal.size_bytes):
            digest.update(piece)
    except (BlobNotFound, DamagedBlob):
        return False
    return digest.digest() == sha256


def transfer(source: BlobStore, source_key: str, target: BlobStore, target_key: str, seal: Seal) -> None:
    """Copy the sealed bytes; durable when this returns, and whatever stood under the target's key is gone.

    Raises BlobNotFound, StorageFull or StorageUnavailable.
    """
    reader = source.open(source_key)
    try:
        target.delete(target_key)
        writer = target.create(target_key)
        try:
            at = 0
            while at < seal.sealed_bytes:
                piece = reader.pread(min(PIECE_BYTES, seal.sealed_bytes - at), at)
                if not piece:
                    raise StorageUnavailable("an object ends before its end")
                writer.write(piece)
                at += len(piece)
            writer.finish()
            writer.commit(set())
        except BaseException:
            writer.discard()
            raise
    finally:
        reader.close()
