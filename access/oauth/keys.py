"""The keys that sign ID tokens: RS256 (OpenID Connect Core 10.1, SMART App Launch 2.2 2.0.10)."""

from datetime import timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from sqlalchemy import insert, select

from access.model import SigningKey
from access.tokens import Access

KEY_BITS = 2048
VERIFIES_FOR = timedelta(days=90)  # after a newer key took over


def signing_key(access: Access) -> RSAKey:
    """The key that signs now; made at the first use."""
    with access.database.snapshot() as session:
        row = session.scalars(select(SigningKey).order_by(SigningKey.created_at.desc()).limit(1)).first()
    return _opened(access, row) if row is not None else new_signing_key(access)


def new_signing_key(access: Access) -> RSAKey:
    """Make a key that signs from now on; tokens of older keys still verify for a while."""
    key = RSAKey.generate_key(KEY_BITS, private=True)
    kid = key.thumbprint()
    with access.database.transaction() as session:
        session.execute(
            insert(SigningKey).values(
                kid=kid,
                pem=access.keys.seal_bytes(key.as_pem(private=True), f"signing key {kid}"),
                created_at=access.clock.now(),
            )
        )
    return _with_kid(key, kid)


def public_keys(access: Access) -> dict[str, Any]:
    """The JWK set that clients verify with."""
    signing_key(access)
    with access.database.snapshot() as session:
        rows = list(session.scalars(select(SigningKey).order_by(SigningKey.created_at.desc())))
    horizon = access.clock.now() - VERIFIES_FOR
    alive = rows[:1] + [row for row in rows[1:] if row.created_at > horizon]
    return {"keys": [_public(access, row) for row in alive]}


def sign_id_token(access: Access, claims: dict[str, Any]) -> str:
    """A signed ID token."""
    key = signing_key(access)
    return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": key.kid}, claims, key, algorithms=["RS256"])


def claims_of_own(access: Access, token: str) -> dict[str, Any]:
    """The claims of an ID token that we signed, whether it is over or not; empty for any other text."""
    try:
        keys = KeySet.import_key_set(public_keys(access))  # type: ignore[arg-type]
        return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)
    except (JoseError, ValueError, TypeError):
        return {}


def _opened(access: Access, row: SigningKey) -> RSAKey:
    pem = access.keys.open_bytes(row.pem, f"signing key {row.kid}")
    return _with_kid(RSAKey.import_key(pem), row.kid)


def _with_kid(key: RSAKey, kid: str) -> RSAKey:
    return RSAKey.import_key({**key.as_dict(private=True), "kid": kid})


def _public(access: Access, row: SigningKey) -> dict[str, Any]:
    key = _opened(access, row).as_dict(private=False)
    return {**key, "use": "sig", "alg": "RS256", "kid": row.kid}
