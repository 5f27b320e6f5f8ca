"""Encryption at rest: sealed blobs that can be read at any offset, sealed values, and the key ring.

A sealed blob is a header and then chunks of equal plain size, each with its own authentication tag
(the STREAM construction: the nonce holds the chunk's number and whether it is the last one), so bytes from
the middle are read by opening the chunks they lie in, and a chunk that was changed, moved, cut off or taken
from another blob does not open. Each blob has its own data key, wrapped (RFC 3394) by a key of the ring. The
wrap stands in the database row, where rotation replaces it, and in the blob's header, so that the blobs and
the key ring alone are enough to recover everything.

    header  magic "CFS1" | suite 1 | log2(chunk) 1 | key id length 1 | key id | wrap 40 | nonce prefix 7
    chunk   ciphertext | tag 16

A packed blob (the suite's high bit) has its chunks made smaller before they are sealed (`kernel.packing`), so
a table of their sealed sizes follows them; what is wrong with it shows when chunks do not open.

    table   sealed size 4, for each chunk | plain size of the blob 8

Suites: AES-256-GCM, and SM4-GCM (RFC 8998) where commercial cryptography is assessed (`kernel.suites`).
"""

import json
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from kernel.errors import CloudfilmError, InvalidSetting, Kind
from kernel.packing import pack, unpack
from kernel.suites import INSTALLATION_SUITES, INTERNATIONAL, TAG_BYTES, Aead, Sm4Gcm, Suite
from kernel.veil import Veil

MAGIC = b"CFS1"
RUN_BYTES = 1048576  # the most that is read of a sealed blob at once
WRAP_BYTES = 40
PREFIX_BYTES = 7
PACKED = 0x80  # in a suite's number: chunks are packed
SIZE_BYTES, TOTAL_BYTES = 4, 8  # of a chunk, and of the blob, in a packed blob's table
REMEMBERED = 16384  # texts whose keyed hash is at hand: the words that documents are full of


class DamagedBlob(CloudfilmError):
    """Sealed bytes that do not open: changed, cut off, or sealed under a key that the ring does not hold."""

    kind = Kind.FAULT


SUITES: dict[str, tuple[int, type[AESGCM] | type[Sm4Gcm]]] = {
    "AES-256-GCM": (1, AESGCM),
    "SM4-GCM": (2, Sm4Gcm),
}
SUITE_BY_NUMBER = dict(SUITES.values())


@dataclass(frozen=True, slots=True)
class Seal:
    """What is needed beside the bytes to open a sealed blob; kept in the row that names the blob."""

    suite: int
    chunk_bytes: int
    key_id: str
    wrapped_key: bytes  # the data key, wrapped under the ring's key `key_id`
    prefix: bytes  # the nonce's fixed part
    header_bytes: int
    size_bytes: int  # plain bytes
    packed_bytes: int = 0  # of the sealed form, where chunks are packed; 0: they are not

    def pack(self) -> bytes:
        """For a column; `unpack` reads it."""
        suite = self.suite | PACKED if self.packed_bytes else self.suite
        packed = struct.pack(
            ">BBHQ", suite, self.chunk_bytes.bit_length() - 1, self.header_bytes, self.size_bytes
        ) + (self.prefix + self.wrapped_key + self.key_id.encode())
        return packed + self.packed_bytes.to_bytes(8) if self.packed_bytes else packed

    @classmethod
    def unpack(cls, packed: bytes) -> "Seal":
        """The value that `pack` wrote."""
        suite, chunk_log2, header_bytes, size_bytes = struct.unpack_from(">BBHQ", packed)
        packed_bytes = int.from_bytes(packed[-8:]) if suite & PACKED else 0
        named = packed[59:-8] if suite & PACKED else packed[59:]
        return cls(
            suite & ~PACKED, 1 << chunk_log2, named.decode(), packed[19:59], packed[12:19], header_bytes,
            size_bytes, packed_bytes,
        )  # fmt: skip

    @property
    def sealed_bytes(self) -> int:
        """Size of the sealed form."""
        if self.packed_bytes:
            return self.packed_bytes
        return self.header_bytes + self.size_bytes + TAG_BYTES * self.chunk_count

    @property
    def chunk_count(self) -> int:
        """How many chunks there are; an empty blob has one, for its tag proves that it is empty."""
        return max(1, -(-self.size_bytes // self.chunk_bytes))


class KeyRing:
    """The keys that wrap data keys: one is current, the others only open what they once sealed.

    Kept in a file that only its owner may read. Back it up apart from the data: without it nothing opens.
    """

    def __init__(
        self, keys: dict[str, bytes], current: str, path: Path | None = None, suite: Suite = INTERNATIONAL
    ) -> None:
        self.suite = suite
        self._keys = keys
        self.current = current
        self.path = path
        self._index_key = suite.digest(b"cloudfilm blind index" + keys[min(keys)])
        self.signing_key = suite.digest(b"cloudfilm signatures" + keys[min(keys)])
        self._unwrap = lru_cache(maxsize=4096)(self._unwrap_now)
        self._blind_number = lru_cache(maxsize=REMEMBERED)(self._blind_number_now)
        self.veil = Veil(lambda data: suite.mac(self._index_key, data))
        self._text_ciphers: dict[str, Aead] = {}

    @classmethod
    def load(cls, path: Path, suite: str = INTERNATIONAL.name) -> "KeyRing":
        """Read the ring at `path`, making one with a first key if there is none.

        suite: what the installation computes with, which a ring keeps for good.
        Raises InvalidSetting when the file is there and cannot be used.
        """
        if not path.exists():
            ring = cls({"k1": secrets.token_bytes(32)}, "k1", path, INSTALLATION_SUITES[suite])
            ring._save()
            return cls.load(
                path, suite
            )  # another process may have been first: what stands in the file counts
        try:
            stored = json.loads(path.read_text())
            keys = {name: bytes.fromhex(key) for name, key in stored["keys"].items()}
            current = stored["current"]
            begun_with = INSTALLATION_SUITES[stored.get("suite", INTERNATIONAL.name)]
            if current not in keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError(current)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InvalidSetting(
                "key ring", str(path), "the file is damaged; restore it from its backup"
            ) from None
        if begun_with.name != suite:
            remedy = f"this installation was begun with {begun_with.name}, and keyed hashes stay with it"
            raise InvalidSetting("suite", suite, remedy)
        return cls(keys, current, path, begun_with)

    def rotate(self) -> str:
        """Make a new current key; what older keys sealed still opens. Returns the new key's id."""
        key_id = f"k{len(self._keys) + 1}"
        self._keys[key_id] = secrets.token_bytes(32)
        self.current = key_id
        self._save(replace=True)
        return key_id

    def renew(self) -> None:
        """Take in what another process did to the ring since this one read it."""
        if self.path is not None and self.path.exists():
            renewed = KeyRing.load(self.path, self.suite.name)
            self._keys.update(renewed._keys)
            self.current = renewed.current

    def _save(self, replace: bool = False) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        keys = {name: key.hex() for name, key in self._keys.items()}
        with os.fdopen(descriptor, "w") as file:
            json.dump({"current": self.current, "suite": self.suite.name, "keys": keys}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            if replace:
                os.replace(partial, self.path)
            else:
                os.link(partial, self.path)  # fails when another process made the ring first
        except FileExistsError:
            pass
        finally:
            partial.unlink(missing_ok=True)

    def new_seal(self, suite: str, chunk_bytes: int, packs: bool = False) -> tuple[Seal, "Sealer"]:
        """A fresh data key and what encrypts with it."""
        number, aead = SUITES[suite]
        data_key = secrets.token_bytes(32)
        key_id = self.current
        wrapped = self.suite.wrap(self._keys[key_id], data_key)
        prefix = secrets.token_bytes(PREFIX_BYTES)
        header = (
            MAGIC
            + bytes([number | PACKED if packs else number, chunk_bytes.bit_length() - 1, len(key_id)])
            + key_id.encode()
            + wrapped
            + prefix
        )
        seal = Seal(number, chunk_bytes, key_id, wrapped, prefix, len(header), 0)
        return seal, Sealer(aead(data_key), chunk_bytes, prefix, header, packs)

    def rewrap(self, seal: Seal) -> Seal:
        """The same seal under the current key; the sealed bytes stay as they are."""
        wrapped = self.suite.wrap(self._keys[self.current], self._unwrap(seal.key_id, seal.wrapped_key))
        return replace(seal, key_id=self.current, wrapped_key=wrapped)

    def cipher(self, seal: Seal) -> Aead:
        """What opens the chunks of this blob. Raises DamagedBlob when the ring lacks its key."""
        return SUITE_BY_NUMBER[seal.suite](self._unwrap(seal.key_id, seal.wrapped_key))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of its keys, the oldest first."""
        return tuple(self._keys)

    def _key(self, key_id: str) -> bytes:
        """A key of the ring, which another process may have turned since this one read it. Raises
        DamagedBlob."""
        if key_id not in self._keys:
            self.renew()
        if key_id not in self._keys:
            raise DamagedBlob(f"The key ring has no key {key_id[:16]}; restore the ring from its backup.")
        return self._keys[key_id]

    def _unwrap_now(self, key_id: str, wrapped_key: bytes) -> bytes:
        try:
            return self.suite.unwrap(self._key(key_id), wrapped_key)
        except InvalidUnwrap:
            raise DamagedBlob("A data key does not open: the row or the key ring is damaged.") from None

    def seal_bytes(self, plain: bytes, context: str = "") -> bytes:
        """Seal a small value for a column; `context` (table and column) must be given again to open it."""
        nonce = secrets.token_bytes(12)
        key_id = self.current.encode()
        sealed = self.suite.aead(self._keys[self.current]).encrypt(nonce, plain, context.encode())
        return bytes([len(key_id)]) + key_id + nonce + sealed

    def open_bytes(self, sealed: bytes, context: str = "") -> bytes:
        """The value that `seal_bytes` sealed. Raises DamagedBlob."""
        end = 1 + sealed[0] if sealed else 0
        key = self._key(sealed[1:end].decode(errors="replace"))
        try:
            aead = self.suite.aead(key)
            return aead.decrypt(sealed[end : end + 12], sealed[end + 12 :], context.encode())
        except (InvalidTag, ValueError):
            raise DamagedBlob("A sealed value does not open: it was changed or moved.") from None

    def text_cipher(self, key_id: str) -> Aead:
        """What seals texts of rows under a key of the ring: made once, with a key of its own derived from it.

        With nonces drawn at random it is good for 2^32 texts (NIST SP 800-38D 8.3); then the ring is turned.
        Raises DamagedBlob when the ring lacks the key.
        """
        cipher = self._text_ciphers.get(key_id)
        if cipher is None:
            key = self.suite.mac(self._key(key_id), b"cloudfilm texts of rows")
            cipher = self._text_ciphers[key_id] = self.suite.aead(key)
        return cipher

    def blind_index(self, text: str) -> str:
        """A keyed hash by which an encrypted value can be found again when it is equal."""
        return self.suite.mac(self._index_key, text.encode()).hex()

    def blind_number(self, text: str) -> int:
        """The first 64 bits of that, signed, for texts that recur: those of late are remembered."""
        return self._blind_number(text)

    def _blind_number_now(self, text: str) -> int:
        return int.from_bytes(self.suite.mac(self._index_key, text.encode())[:8], signed=True)

    def sign(self, text: str) -> bytes:
        """A keyed hash that only this installation makes: of tokens, and as a seal."""
        return self.suite.mac(self.signing_key, text.encode())


class Sealer:
    """Encrypts one blob, chunk after chunk. `header` goes first; exactly the last chunk is marked as such."""

    def __init__(
        self, aead: Aead, chunk_bytes: int, prefix: bytes, header: bytes, packs: bool = False
    ) -> None:
        self.aead = aead
        self._prefix = prefix
        self.chunk_bytes = chunk_bytes
        self.header = header
        self._packs = packs
        self._sizes: list[int] = []

    def chunk(self, plain: bytes | bytearray | memoryview, last: bool) -> bytes:
        """The next sealed chunk. All but the last have `chunk_bytes` plain bytes."""
        nonce = chunk_nonce(self._prefix, len(self._sizes), last)
        packed = pack(bytes(plain)) if self._packs else plain
        sealed = self.aead.encrypt(nonce, packed, None)  # type: ignore[arg-type]
        self._sizes.append(len(sealed))
        return sealed

    def end(self, size_bytes: int) -> tuple[bytes, int]:
        """What follows the last chunk, and the size of the whole; nothing and 0 if it does not pack."""
        if not self._packs:
            return b"", 0
        table = struct.pack(f">{len(self._sizes)}IQ", *self._sizes, size_bytes)
        return table, len(self.header) + sum(self._sizes) + len(table)


def chunk_nonce(prefix: bytes, number: int, last: bool) -> bytes:
    """The 12-byte nonce of one chunk: prefix 7, number 4, whether it is the last 1."""
    return prefix + number.to_bytes(4) + (b"\x01" if last else b"\x00")


def open_range(seal: Seal, aead: Aead, pread: "Pread", offset: int, length: int) -> Iterator[bytes]:
    """Plain bytes `offset` to `offset + length` of a sealed blob, chunk by chunk.

    pread: reads (length, offset) from the sealed form; asked for up to RUN_BYTES at once, since each read may
    be a round trip to an object store. Raises DamagedBlob when a chunk does not open.
    """
    end = min(offset + length, seal.size_bytes)
    if offset >= end:
        return
    if seal.packed_bytes:
        yield from _open_packed(seal, aead, pread, offset, end)
        return
    size, sealed_size, last = seal.chunk_bytes, seal.chunk_bytes + TAG_BYTES, seal.chunk_count - 1
    stop_chunk, together = (end - 1) // size + 1, max(1, RUN_BYTES // size)
    run, run_first = memoryview(b""), 0
    for number in range(offset // size, stop_chunk):
        if (number - run_first) * sealed_size >= len(run):
            run_first = number
            run = memoryview(
                pread(
                    min(
                        min(together, stop_chunk - number) * sealed_size,
                        seal.sealed_bytes - seal.header_bytes - number * sealed_size,
                    ),
                    seal.header_bytes + number * sealed_size,
                )
            )
        at = (number - run_first) * sealed_size
        sealed = run[at : at + sealed_size]
        try:
            plain = aead.decrypt(chunk_nonce(seal.prefix, number, number == last), sealed, None)
        except InvalidTag:
            raise DamagedBlob(f"Chunk {number} of a stored object does not open: it is damaged.") from None
        start, stop = max(0, offset - number * size), min(len(plain), end - number * size)
        yield plain if (start, stop) == (0, len(plain)) else plain[start:stop]


def _open_packed(seal: Seal, aead: Aead, pread: "Pread", offset: int, end: int) -> Iterator[bytes]:
    count = seal.chunk_count
    table = pread(count * SIZE_BYTES, seal.packed_bytes - count * SIZE_BYTES - TOTAL_BYTES)
    if len(table) != count * SIZE_BYTES:
        raise DamagedBlob("A stored object ends before its end.")
    sizes = struct.unpack(f">{count}I", table)
    size, first, stop = seal.chunk_bytes, offset // seal.chunk_bytes, (end - 1) // seal.chunk_bytes + 1
    at = seal.header_bytes + sum(sizes[:first])
    number = first
    while number < stop:
        upto = number + 1  # as many as make one read
        while upto < stop and sum(sizes[number : upto + 1]) <= RUN_BYTES:
            upto += 1
        run, begun = memoryview(pread(sum(sizes[number:upto]), at)), 0
        for each in range(number, upto):
            sealed = run[begun : begun + sizes[each]]
            try:
                packed = aead.decrypt(chunk_nonce(seal.prefix, each, each == count - 1), sealed, None)
            except (InvalidTag, ValueError):
                raise DamagedBlob(f"Chunk {each} of a stored object does not open: it is damaged.") from None
            plain = unpack(packed, min(size, seal.size_bytes - each * size))
            yield plain[max(0, offset - each * size) : end - each * size]
            begun += sizes[each]
        at, number = at + begun, upto


def read_header(file: BinaryIO, total_bytes: int) -> Seal:
    """The seal as the blob's own header has it: for recovery without the database.

    Raises DamagedBlob when it is not a sealed blob.
    """
    fixed = file.read(7)
    if len(fixed) < 7 or fixed[:4] != MAGIC or fixed[4] & ~PACKED not in SUITE_BY_NUMBER:
        raise DamagedBlob("This is not a sealed object.")
    rest = file.read(fixed[6] + WRAP_BYTES + PREFIX_BYTES)
    header_bytes = 7 + len(rest)
    key_id, wrapped = rest[: fixed[6]].decode(errors="replace"), rest[fixed[6] : fixed[6] + WRAP_BYTES]
    chunk_bytes = 1 << fixed[5]
    body = total_bytes - header_bytes
    chunks = max(1, -(-body // (chunk_bytes + TAG_BYTES)))
    size_bytes, packed_bytes = max(0, body - chunks * TAG_BYTES), 0
    if fixed[4] & PACKED:
        file.seek(-TOTAL_BYTES, os.SEEK_END)
        size_bytes, packed_bytes = int.from_bytes(file.read(TOTAL_BYTES)), total_bytes
    return Seal(
        fixed[4] & ~PACKED,
        chunk_bytes,
        key_id,
        wrapped,
        rest[-PREFIX_BYTES:],
        header_bytes,
        size_bytes,
        packed_bytes,
    )


class Pread(Protocol):
    """Reads from the sealed form."""

    def __call__(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`."""
        ...
