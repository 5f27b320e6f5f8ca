"""Passwords as they are kept: argon2id, or PBKDF2 over HMAC-SM3 where the commercial suite is in force.

A kept password names its scheme, so both verify whatever the installation makes now.
"""

import base64
import hmac
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from kernel.suites import COMMERCIAL, Suite, pbkdf2_sm3

ARGON2 = PasswordHasher()
SM3_SCHEME = "pbkdf2-sm3"
ITERATIONS = 300_000


def hash_password(suite: Suite, password: str) -> str:
    """A password in the form that is kept."""
    if suite is not COMMERCIAL:
        return ARGON2.hash(password)
    salt = secrets.token_bytes(16)
    return _kept(salt, ITERATIONS, pbkdf2_sm3(password.encode(), salt, ITERATIONS))


def password_matches(kept: str, password: str) -> bool:
    """Whether it is the password that was kept; takes the same time for every wrong one."""
    if kept.startswith(f"${SM3_SCHEME}$"):
        _, _, iterations, salt, digest = kept.split("$")
        derived = pbkdf2_sm3(password.encode(), base64.b64decode(salt), int(iterations))
        return hmac.compare_digest(derived, base64.b64decode(digest))
    try:
        return ARGON2.verify(kept, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


def _kept(salt: bytes, iterations: int, digest: bytes) -> str:
    parts = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"${SM3_SCHEME}${iterations}${'$'.join(parts)}"
