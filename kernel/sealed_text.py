"""JSON documents in columns, sealed: packed and encrypted on the way in, opened and checked on the way out.

The column's type does it, so no statement can forget it. A document comes back as it was written, whether
its row is sealed, under whichever key of the ring, or is from before there was sealing: its beginning tells.

    k1.<base64 of: nonce 12 | ciphertext | tag 16>      the plain: number of the words 1 | raw deflate

`words` are texts in which the packing finds what documents usually say (RFC 1950 2.2, a preset dictionary).
What is sealed is bound to its column; that it lies in its own row shows in the document, which names itself.
An empty text stays empty. Equal documents do not look equal.
"""

import binascii
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.exceptions import InvalidTag
from sqlalchemy import BigInteger, Dialect, String, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from kernel.crypto import DamagedBlob, KeyRing

CLEAR = "{"  # how a document in clear begins
NONCE_BYTES = 12
LEVEL = 3
SMALL = 16384  # up to here a window of 8 KiB does: to make one of 32 KiB takes longer than the packing
WINDOWS = {True: (-13, 6), False: (-15, 8)}  # wbits and memLevel of zlib


@dataclass(frozen=True, slots=True)
class Sealing:
    """How the documents of one database are sealed."""

    keys: KeyRing
    seals: bool  # whether what is written from now on is
    veils: Callable[[], bool] = lambda: False  # whether its names are veiled

    def hidden(self, value: Any) -> Any:
        """A value as an index holds it: what is to be hidden is hidden, if anything is sealed."""
        if not self.seals or not isinstance(value, Hidden | HiddenText):
            return value
        if isinstance(value, HiddenText):
            return HIDDEN + self.keys.blind_index(f"index text {value}")[:HIDDEN_DIGITS]
        digits = self.keys.blind_index(f"index {int(value)}")[:16]
        return int.from_bytes(bytes.fromhex(digits), signed=True)

    def word(self, text: str) -> int:
        """A word as the index of hidden words holds it."""
        return self.keys.blind_number(f"index word {text}")


class Hidden(int):
    """A hash in a search index that may not be guessed: a keyed hash of it stands in the row."""


class HiddenText(str):
    """A text in a search index that may not be read: a keyed hash of it stands in the row."""

    __slots__ = ()


HIDDEN = "\x7f"  # how a hidden text begins: no text that is searched for does
HIDDEN_DIGITS = 24


_SEALINGS: WeakKeyDictionary[Dialect, Sealing] = WeakKeyDictionary()


def seal_with(dialect: Dialect, sealing: Sealing) -> None:
    """Let the statements of an engine seal and open with these keys."""
    _SEALINGS[dialect] = sealing


def sealing_of(dialect: Dialect) -> Sealing:
    """How an engine seals. Raises DamagedBlob for one that was opened without keys."""
    sealing = _SEALINGS.get(dialect)
    if sealing is None:
        raise DamagedBlob("The database was opened without the key ring, and its documents are sealed.")
    return sealing


class SealedDocument(TypeDecorator[str]):
    """A JSON document as text, sealed in the row. What is sealed already passes as it is."""

    impl = Text
    cache_ok = True

    def __init__(self, context: str, words: tuple[bytes, ...]) -> None:
        """context: the column, without which nothing opens. words: the last ones pack, each opens."""
        super().__init__()
        self.context = context
        self.words = words

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        if not value or value[0] != CLEAR:
            return value
        sealing = sealing_of(dialect)
        return self.seal(value, sealing.keys) if sealing.seals else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """From the database. Raises DamagedBlob."""
        if not value or value[0] == CLEAR:
            return value
        return self.open(value, sealing_of(dialect).keys)

    def seal(self, text: str, keys: KeyRing) -> str:
        """A document as its row holds it."""
        plain, number = text.encode(), len(self.words) - 1
        wbits, memory = WINDOWS[len(plain) <= SMALL]
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, wbits, memory, zdict=self.words[number])
        packed = bytes((number,)) + packer.compress(plain) + packer.flush()
        key_id, nonce = keys.current, os.urandom(NONCE_BYTES)
        sealed = nonce + keys.text_cipher(key_id).encrypt(nonce, packed, self.context.encode())
        return f"{key_id}.{binascii.b2a_base64(sealed, newline=False).decode()}"

    def open(self, kept: str, keys: KeyRing) -> str:
        """The document of a row. Raises DamagedBlob."""
        if not kept or kept[0] == CLEAR:
            return kept
        key_id, _, rest = kept.partition(".")
        cipher = keys.text_cipher(key_id)
        try:
            sealed = binascii.a2b_base64(rest)
            packed = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.context.encode())
            plain = zlib.decompressobj(-15, zdict=self.words[packed[0]]).decompress(packed[1:])
        except (InvalidTag, ValueError, IndexError, zlib.error):
            raise DamagedBlob("A sealed document does not open: it was changed or moved.") from None
        return plain.decode()


class IndexHash(TypeDecorator[int]):
    """A 64-bit hash in a search index, keyed where it is `Hidden`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """To the database."""
        return int(sealing_of(dialect).hidden(value)) if isinstance(value, Hidden) else value


class IndexText(TypeDecorator[str]):
    """A text in a search index, compared by code point on every database; hashed where it is `HiddenText`."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(self.length, collation=collation))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return str(sealing_of(dialect).hidden(value)) if isinstance(value, HiddenText) else value


class HiddenWord(TypeDecorator[str]):
    """A word in a search index: the row holds a keyed hash of 64 bits, so that it is found and not read."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else sealing_of(dialect).word(value)
