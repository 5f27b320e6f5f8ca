"""Clients that authenticate with a signed assertion: private_key_jwt.

authlib's own check takes RS256 and any lifetime; SMART asks for RS384 or ES384, at most five minutes, and
strict rules for `kid`, `jku` and `jti`, so what follows decides here.

Standards: SMART App Launch 2.2 section 4.1.5 (Signature verification), RFC 7523.
"""

import json
from datetime import timedelta
from typing import Any

from authlib.oauth2.rfc6749 import InvalidClientError, OAuth2Request
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from access.model import SpentAssertion
from access.oauth.clients import RegisteredClient
from access.oauth.fetch import KeySets, Unfetchable
from access.tokens import Access

ALGORITHMS = {"RS384": "RSA", "ES384": "EC"}
LONGEST = timedelta(minutes=5)
MOST_CHARACTERS = 8192
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class SmartClientAssertion(JWTBearerClientAssertion):  # type: ignore[misc]
    """Checks one assertion by SMART's rules; each defect is `invalid_client`."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, access: Access, key_sets: KeySets, token_url: Any) -> None:
        super().__init__()
        self._access = access
        self._key_sets = key_sets
        self._token_url = token_url

    def __call__(self, query_client: Any, request: OAuth2Request) -> RegisteredClient | None:
        assertion = request.form.get("client_assertion")
        if not assertion or request.form.get("client_assertion_type") != ASSERTION_TYPE:
            return None
        if len(assertion) > MOST_CHARACTERS:
            raise InvalidClientError(description="The assertion is too long.")
        header, claims = self._read(assertion)
        subject = claims.get("sub")
        client: RegisteredClient | None = query_client(subject) if isinstance(subject, str) else None
        if client is None or not client.check_endpoint_auth_method(self.CLIENT_AUTH_METHOD, "token"):
            raise InvalidClientError(description="The client is not known, or authenticates otherwise.")
        key = self._key(client, header)
        try:
            verified = jwt.decode(assertion, key, algorithms=[header["alg"]])
        except (JoseError, ValueError, TypeError):
            raise InvalidClientError(description="The signature is wrong.") from None
        self._check_claims(client.client_id, verified.claims)
        request.client = client
        return client

    def _read(self, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            parsed = jws.extract_compact(assertion.encode())
            header, claims = parsed.headers(), json.loads(parsed.payload)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise InvalidClientError(description="The assertion is not a JWT.") from None
        well_formed = (
            header.get("alg") in ALGORITHMS
            and header.get("typ") == "JWT"
            and isinstance(header.get("kid"), str)
            and "crit" not in header
            and isinstance(claims, dict)
        )
        if not well_formed:
            raise InvalidClientError(description="The header needs typ JWT, a kid, and alg RS384 or ES384.")
        return header, claims

    def _key(self, client: RegisteredClient, header: dict[str, Any]) -> Any:
        jku = header.get("jku")
        if jku is not None and jku != client.jwks_uri:
            raise InvalidClientError(description="The jku is not the registered address.")
        try:
            registered = json.loads(client.jwks) if client.jwks else self._key_sets.fetch(client.jwks_uri)
            keys = KeySet.import_key_set(registered).keys
        except (Unfetchable, JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise InvalidClientError(description="The client's key set cannot be read.") from None
        wanted = ALGORITHMS[header["alg"]]
        matching = [key for key in keys if key.kid == header["kid"] and key.key_type == wanted]
        if len(matching) != 1:
            raise InvalidClientError(description="There is not exactly one key with this kid and type.")
        return matching[0]

    def _check_claims(self, client_id: str, claims: dict[str, Any]) -> None:
        now = self._access.clock.now().timestamp()
        expires, not_before, jti = claims.get("exp"), claims.get("nbf", now), claims.get("jti")
        audience = claims.get("aud")
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise InvalidClientError(description="iss and sub are the client's id.")
        if self._token_url() not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidClientError(description="aud is the token endpoint.")
        if not isinstance(expires, int | float) or not isinstance(not_before, int | float):
            raise InvalidClientError(description="exp is a number.")
        if not now - 10 < expires <= now + LONGEST.total_seconds() + 10 or not_before > now + 10:
            raise InvalidClientError(description="exp lies at most five minutes ahead.")
        if not isinstance(jti, str) or not 0 < len(jti) <= 128:
            raise InvalidClientError(description="jti is a text of at most 128 characters.")
        self._spend(client_id, jti)

    def _spend(self, client_id: str, jti: str) -> None:
        now = self._access.clock.now()
        try:
            with self._access.database.transaction() as session:
                session.execute(delete(SpentAssertion).where(SpentAssertion.expires_at < now))
                session.execute(
                    insert(SpentAssertion).values(issuer=client_id, jti=jti, expires_at=now + 2 * LONGEST)
                )
        except IntegrityError:
            raise InvalidClientError(description="This jti was used before.") from None
