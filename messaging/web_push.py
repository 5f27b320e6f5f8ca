"""Web push: a message to a browser, encrypted so that its push service cannot read it.

Standards: RFC 8030 (HTTP push), RFC 8188 (aes128gcm), RFC 8291 (encryption), RFC 8292 (VAPID).
"""

import base64
import hashlib
import http.client
import json
import os
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from access.oauth.fetch import PinnedHttps, Unfetchable, public_address, resolve
from kernel.crypto import KeyRing
from messaging.http import GatewayRefused

RECORD_SIZE = 4096
AUTH_OCTETS = 16
TIME_TO_LIVE_S = 86400
TOKEN_LIFE_S = 12 * 3600
CURVE = ec.SECP256R1()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Gone(Exception):
    """The subscription is over."""


def site_key(keys: KeyRing) -> ec.EllipticCurvePrivateKey:
    """The key pair by which push services know this site, derived from the key ring."""
    derived = HKDF(SHA256(), 48, None, b"cloudfilm web push").derive(keys.signing_key)
    return ec.derive_private_key(int.from_bytes(derived) % (ORDER - 1) + 1, CURVE)


def public_key(keys: KeyRing) -> str:
    """What a browser subscribes with (`applicationServerKey`)."""
    return text_of(point_of(site_key(keys).public_key()))


def push(keys: KeyRing, subscription: Mapping[str, str], body: bytes, contact: str, at: datetime) -> None:
    """Send a message. Raises Gone or GatewayRefused."""
    endpoint = subscription["endpoint"]
    salt, ephemeral = os.urandom(16), ec.generate_private_key(CURVE)
    content = encrypt(bytes_of(subscription["p256dh"]), bytes_of(subscription["auth"]), body, salt, ephemeral)
    headers = {
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(TIME_TO_LIVE_S),
        "Authorization": vapid(keys, endpoint, contact, at),
    }
    status = _post(endpoint, content, headers)
    if status in (404, 410):
        raise Gone
    if not 200 <= status < 300:
        raise GatewayRefused(
            f"the push service answered {status}", may_recover=status >= 500 or status == 429
        )


def encrypt(
    receiver: bytes, auth: bytes, body: bytes, salt: bytes, ephemeral: ec.EllipticCurvePrivateKey
) -> bytes:
    """A body for one browser, in one record (RFC 8291 3.4, RFC 8188 2.1)."""
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, receiver)
    ours = point_of(ephemeral.public_key())
    shared = ephemeral.exchange(ec.ECDH(), theirs)
    secret = HKDF(SHA256(), 32, auth, b"WebPush: info\x00" + receiver + ours).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\x00").derive(secret)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\x00").derive(secret)
    sealed = AESGCM(key).encrypt(nonce, body + b"\x02", None)
    return salt + RECORD_SIZE.to_bytes(4) + bytes((len(ours),)) + ours + sealed


def vapid(keys: KeyRing, endpoint: str, contact: str, at: datetime) -> str:
    """Who we are, signed for this push service (RFC 8292 3)."""
    parts = urlsplit(endpoint)
    claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": int(at.timestamp()) + TOKEN_LIFE_S}
    if contact:
        claims["sub"] = contact
    signed = f"{_json({'typ': 'JWT', 'alg': 'ES256'})}.{_json(claims)}"
    r, s = decode_dss_signature(site_key(keys).sign(signed.encode(), ec.ECDSA(SHA256())))
    return f"vapid t={signed}.{text_of(r.to_bytes(32) + s.to_bytes(32))}, k={public_key(keys)}"


def _json(value: Mapping[str, object]) -> str:
    return text_of(json.dumps(value, separators=(",", ":")).encode())


def is_endpoint(endpoint: str) -> bool:
    """Whether a browser's push service may be at this address: https, and in no private network."""
    try:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" or not parts.hostname or parts.username or len(endpoint) > 1000:
            return False
        public_address(parts.hostname, parts.port or 443, resolve)
    except (ValueError, Unfetchable):
        return False
    return True


def is_receiver(p256dh: str, auth: str) -> bool:
    """Whether these are a browser's keys that can be encrypted to (RFC 8291 2): a point, and 16 octets."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, bytes_of(p256dh))
        return len(bytes_of(auth)) == AUTH_OCTETS
    except ValueError:
        return False


def _post(endpoint: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The address was named by a browser, so it is resolved once and connected to as resolved."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port or 443
    connection = None
    try:
        connection = PinnedHttps(host, public_address(host, port, resolve), port)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target or "/", body, dict(headers))
        return connection.getresponse().status
    except Unfetchable as refusal:
        raise GatewayRefused(str(refusal), may_recover=False) from None
    except (OSError, http.client.HTTPException) as failure:
        raise GatewayRefused(type(failure).__name__, may_recover=True) from None
    finally:
        if connection is not None:
            connection.close()


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as an uncompressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def text_of(value: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes:
    """The inverse of `text_of`. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def endpoint_index(keys: KeyRing, endpoint: str) -> str:
    """The keyed hash under which a subscription is found again."""
    return keys.blind_index(f"push {hashlib.sha256(endpoint.encode()).hexdigest()}")
