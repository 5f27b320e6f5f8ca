"""SM2 signatures, verified: that somebody's certificate or message was signed by the key it says.

Only public values are worked on, so nothing here has to take the same time. What signs with SM2 is the
holder's own device.

Standards: GB/T 32918.2 (SM2 signature), GB/T 32918.5 (curve), GB/T 35276 (signatures in DER, default id).
"""

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kernel.suites import sm3

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)
DEFAULT_ID = b"1234567812345678"
BYTES = 32

Point = tuple[int, int] | None  # None: at infinity


def verify(public_key: bytes, message: bytes, signature: bytes, identity: bytes = DEFAULT_ID) -> bool:
    """Whether a signature (DER) over a message is of the key (04, x, y)."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    key = _point(public_key)
    if key is None or not (0 < r < N and 0 < s < N):
        return False
    t = (r + s) % N
    if not t:
        return False
    curve = b"".join(value.to_bytes(BYTES) for value in (A, B, *G))
    about = sm3((8 * len(identity)).to_bytes(2) + identity + curve + public_key[1:])
    found = _add(_times(s, G), _times(t, key))
    return found is not None and (int.from_bytes(sm3(about + message)) + found[0]) % N == r


def _point(encoded: bytes) -> Point:
    if len(encoded) != 1 + 2 * BYTES or encoded[0] != 4:
        return None
    x, y = int.from_bytes(encoded[1 : 1 + BYTES]), int.from_bytes(encoded[1 + BYTES :])
    is_on_curve = x < P and y < P and (y * y - (x * x * x + A * x + B)) % P == 0
    return (x, y) if is_on_curve else None


def _add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return other if one is None else one
    if one[0] == other[0]:
        if (one[1] + other[1]) % P == 0:
            return None
        slope = (3 * one[0] * one[0] + A) * pow(2 * one[1], -1, P) % P
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P) % P
    x = (slope * slope - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def _times(number: int, point: Point) -> Point:
    found: Point = None
    while number:
        if number & 1:
            found = _add(found, point)
        point = _add(point, point)
        number >>= 1
    return found
