"""Two suites of algorithms for a whole installation: what is hashed, keyed and sealed, and by what.

    international   SHA-256, HMAC-SHA-256, AES-256-GCM, AES key wrap, argon2id for passwords
    commercial      SM3, HMAC-SM3, SM4-GCM, SM4 key wrap, PBKDF2-HMAC-SM3 for passwords

An installation is begun with one and stays with it: keyed hashes, by which sealed values are found again,
cannot be made anew without the values. Tokens of OpenID Connect stay RS256, for JOSE has no SM algorithm.

Standards: GB/T 32905 (SM3), GB/T 32907 (SM4), RFC 8998 (SM4-GCM), RFC 3394 (key wrap), GB/T 39786.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import hmac as openssl_hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

TAG_BYTES = 16


class Aead(Protocol):
    """Authenticated encryption of one chunk."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Ciphertext and tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Plain bytes; raises InvalidTag."""
        ...


class Sm4Gcm:
    """SM4-GCM (RFC 8998) with the shape of `AESGCM`."""

    def __init__(self, key: bytes) -> None:
        self._algorithm = algorithms.SM4(key[:16])

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Ciphertext and tag."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(associated_data or b"")
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Plain bytes; raises InvalidTag."""
        tag = bytes(memoryview(data)[-TAG_BYTES:])
        decryptor = Cipher(self._algorithm, modes.GCM(nonce, tag)).decryptor()
        decryptor.authenticate_additional_data(associated_data or b"")
        return decryptor.update(data[:-TAG_BYTES]) + decryptor.finalize()


def sm3(data: bytes) -> bytes:
    """The SM3 digest."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


@lru_cache(maxsize=16)
def _keyed(algorithm: type[hashes.SM3 | hashes.SHA256], key: bytes) -> openssl_hmac.HMAC:
    """What has taken in its key and is copied for each text: a few keys hash a great many short ones."""
    return openssl_hmac.HMAC(key, algorithm())


def hmac_sm3(key: bytes, data: bytes) -> bytes:
    """HMAC over SM3."""
    keyed = _keyed(hashes.SM3, key).copy()
    keyed.update(data)
    return keyed.finalize()


def pbkdf2_sm3(password: bytes, salt: bytes, iterations: int) -> bytes:
    """PBKDF2 over HMAC-SM3, 32 bytes."""
    return PBKDF2HMAC(hashes.SM3(), 32, salt, iterations).derive(password)


WRAP_START = bytes.fromhex("A6A6A6A6A6A6A6A6")  # RFC 3394 2.2.3.1


def sm4_key_wrap(wrapping_key: bytes, key: bytes) -> bytes:
    """RFC 3394 with SM4 in AES's place: both are ciphers of 128-bit blocks."""
    block = Cipher(algorithms.SM4(wrapping_key[:16]), modes.ECB()).encryptor()  # noqa: S305
    register, parts = WRAP_START, [key[at : at + 8] for at in range(0, len(key), 8)]
    for turn in range(6):
        for at, part in enumerate(parts):
            mixed = block.update(register + part)
            register = (int.from_bytes(mixed[:8]) ^ (turn * len(parts) + at + 1)).to_bytes(8)
            parts[at] = mixed[8:]
    return register + b"".join(parts)


def sm4_key_unwrap(wrapping_key: bytes, wrapped: bytes) -> bytes:
    """The key that `sm4_key_wrap` wrapped. Raises InvalidUnwrap."""
    block = Cipher(algorithms.SM4(wrapping_key[:16]), modes.ECB()).decryptor()  # noqa: S305
    register, parts = wrapped[:8], [wrapped[at : at + 8] for at in range(8, len(wrapped), 8)]
    for turn in reversed(range(6)):
        for at in reversed(range(len(parts))):
            count = (int.from_bytes(register) ^ (turn * len(parts) + at + 1)).to_bytes(8)
            mixed = block.update(count + parts[at])
            register, parts[at] = mixed[:8], mixed[8:]
    if len(wrapped) % 8 or not hmac.compare_digest(register, WRAP_START):
        raise InvalidUnwrap
    return b"".join(parts)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC over SHA-256."""
    keyed = _keyed(hashes.SHA256, key).copy()
    keyed.update(data)
    return keyed.finalize()


def sha256(data: bytes) -> bytes:
    """The SHA-256 digest."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class Suite:
    """What one installation computes with."""

    name: str
    digest: Callable[[bytes], bytes]  # 32 bytes
    mac: Callable[[bytes, bytes], bytes]  # key, data: 32 bytes
    aead: Callable[[bytes], Aead]
    blobs: str  # the suite of sealed blobs
    wrap: Callable[[bytes, bytes], bytes]
    unwrap: Callable[[bytes, bytes], bytes]


INTERNATIONAL = Suite(
    "international", sha256, hmac_sha256, AESGCM, "AES-256-GCM", aes_key_wrap, aes_key_unwrap
)
COMMERCIAL = Suite("commercial", sm3, hmac_sm3, Sm4Gcm, "SM4-GCM", sm4_key_wrap, sm4_key_unwrap)
INSTALLATION_SUITES = {suite.name: suite for suite in (INTERNATIONAL, COMMERCIAL)}
