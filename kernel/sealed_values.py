"""Texts and bytes in columns, sealed on the way in and opened on the way out, and keyed hashes of texts.

The column's type does it: a model says `mapped_column(SealedText("account.name"))`, and nothing else changes.
A value comes back whether its row is sealed, under whichever key of the ring, or is from before there was
sealing: its beginning tells.

    text   \x7f key id . base64 of: nonce 12 | ciphertext | tag 16
    bytes  \x7f key id . nonce 12 | ciphertext | tag 16

What is sealed is bound to its column; what is empty stays empty; equal values do not look equal, so a text
that is looked up has a `KeyedHash` beside it. JSON documents, worth packing, are `kernel.sealed_text`'s.
"""

import binascii
import os

from cryptography.exceptions import InvalidTag
from sqlalchemy import Dialect, LargeBinary, String, Text, TypeDecorator
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from kernel.crypto import DamagedBlob, KeyRing
from kernel.sealed_text import NONCE_BYTES, sealing_of

MARK = "\x7f"  # how a sealed value begins
MARK_BYTES = MARK.encode()
HASH_DIGITS = 32


def _seal(plain: bytes, context: str, keys: KeyRing) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + keys.text_cipher(keys.current).encrypt(nonce, plain, context.encode())


def _open(key_id: str, sealed: bytes, context: str, keys: KeyRing) -> bytes:
    try:
        cipher = keys.text_cipher(key_id)
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError):
        raise DamagedBlob("A sealed value does not open: it was changed or moved.") from None


class SealedText(TypeDecorator[str]):
    """A short text, sealed in the row.

    Compared with a text it is what stands in the row: only a value from before there was sealing is equal.
    """

    impl = Text
    cache_ok = True

    def __init__(self, context: str) -> None:
        """context: the column, as `table.column`; nothing opens without it."""
        super().__init__()
        self.context = context

    def coerce_compared_value(self, op: OperatorType | None, value: object) -> TypeEngine[str]:
        """What it is compared with is not sealed."""
        return Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database. What merely looks sealed is sealed whatever the setting, so that it comes back."""
        if not value:
            return value
        sealing = sealing_of(dialect)
        return self.seal(value, sealing.keys) if sealing.seals or self.is_sealed(value) else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """From the database. Raises DamagedBlob."""
        return self.open(value, sealing_of(dialect).keys) if value and self.is_sealed(value) else value

    def seal(self, text: str, keys: KeyRing) -> str:
        """A text as its row holds it."""
        sealed = binascii.b2a_base64(_seal(text.encode(), self.context, keys), newline=False)
        return f"{MARK}{keys.current}.{sealed.decode()}"

    def open(self, kept: str, keys: KeyRing) -> str:
        """The text of a row. Raises DamagedBlob."""
        if not self.is_sealed(kept):
            return kept
        key_id, _, rest = kept.removeprefix(MARK).partition(".")
        try:
            sealed = binascii.a2b_base64(rest)
        except ValueError:
            sealed = b""
        return _open(key_id, sealed, self.context, keys).decode()

    def is_sealed(self, kept: str) -> bool:
        """Whether a row's value is sealed."""
        return kept.startswith(MARK)

    def is_current(self, kept: str, keys: KeyRing) -> bool:
        """Whether a row's value is as it would be written now."""
        return not kept or kept.startswith(f"{MARK}{keys.current}.")


class SealedBytes(TypeDecorator[bytes]):
    """Bytes that never begin with the mark, as JSON does not, sealed in the row."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, context: str) -> None:
        """context: as of SealedText."""
        super().__init__()
        self.context = context
        self._last = (b"", b"")  # sealed and opened: instances are read with their series' bytes beside each

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """To the database."""
        if not value:
            return value
        sealing = sealing_of(dialect)
        return self.seal(value, sealing.keys) if sealing.seals else value

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """From the database. Raises DamagedBlob."""
        if not value or not self.is_sealed(value):
            return value
        kept, opened = self._last
        if kept != value:
            opened = self.open(value, sealing_of(dialect).keys)
            self._last = (value, opened)
        return opened

    def seal(self, plain: bytes, keys: KeyRing) -> bytes:
        """Bytes as their row holds them."""
        return f"{MARK}{keys.current}.".encode() + _seal(plain, self.context, keys)

    def open(self, kept: bytes, keys: KeyRing) -> bytes:
        """The bytes of a row. Raises DamagedBlob."""
        if not self.is_sealed(kept):
            return kept
        key_id, _, sealed = kept.removeprefix(MARK_BYTES).partition(b".")
        return _open(key_id.decode(errors="replace"), sealed, self.context, keys)

    def is_sealed(self, kept: bytes) -> bool:
        """Whether a row's value is sealed."""
        return kept.startswith(MARK_BYTES)

    def is_current(self, kept: bytes, keys: KeyRing) -> bool:
        """Whether a row's value is as it would be written now."""
        return not kept or kept.startswith(f"{MARK}{keys.current}.".encode())


class KeyedHash(TypeDecorator[str]):
    """A keyed hash of the text of another column, by which that is found: a text goes in, its hash is kept.

    It is there whether or not values are sealed, for it tells nothing without the key.
    """

    impl = String
    cache_ok = True

    def __init__(self, context: str) -> None:
        """context: the other column, as `table.column`."""
        super().__init__(HASH_DIGITS)
        self.context = context

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database, for a row as for a comparison."""
        if not value:
            return value
        return sealing_of(dialect).keys.blind_index(f"{self.context} {value}")[:HASH_DIGITS]
