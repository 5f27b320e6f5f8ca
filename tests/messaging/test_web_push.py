"""Web push: the encryption of RFC 8291's own example, and who we say we are."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey

from cloudfilm.rooms import Rooms
from messaging.web_push import CURVE, bytes_of, encrypt, is_endpoint, is_receiver, public_key, text_of, vapid

# RFC 8291, section 5 and appendix A
PLAIN = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH, SALT = "BTBZMqHH6r4Tts7J_aSIgg", "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
    "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def test_a_message_is_encrypted_as_in_the_standards_example() -> None:
    ephemeral = ec.derive_private_key(int.from_bytes(bytes_of(SENDER)), CURVE)

    body = encrypt(bytes_of(RECEIVER), bytes_of(AUTH), PLAIN, bytes_of(SALT), ephemeral)

    assert text_of(body) == BODY


def test_a_push_service_can_check_who_we_are(rooms: Rooms) -> None:
    now = rooms.clock.now()
    header = vapid(rooms.keys, "https://push.example.org:8443/x?y", "mailto:it@example.org", now)

    found = re.fullmatch(r"vapid t=(\S+), k=(\S+)", header)
    assert found
    token, key = found.groups()
    assert key == public_key(rooms.keys)  # what browsers subscribed with
    point = bytes_of(key)
    sender = ECKey.import_key(
        {"kty": "EC", "crv": "P-256", "x": text_of(point[1:33]), "y": text_of(point[33:])}
    )
    read = jwt.decode(token, sender, algorithms=["ES256"])
    assert read.claims["aud"] == "https://push.example.org:8443"  # this push service alone (RFC 8292 2)
    assert read.claims["sub"] == "mailto:it@example.org"
    assert 0 < read.claims["exp"] - now.timestamp() <= 24 * 3600
    stranger = ECKey.generate_key("P-256")
    with pytest.raises(BadSignatureError):
        jwt.decode(token, stranger, algorithms=["ES256"])


def test_a_push_service_is_in_no_private_network() -> None:
    for endpoint in ("http://8.8.8.8/x", "https://127.0.0.1/x", "https://10.0.0.1/", "https://[::1]/",
                     "https://a@8.8.8.8/",
                     "ftp://8.8.8.8", "", "https://169.254.169.254/latest",
                     "https://" + "x" * 1100):  # fmt: skip
        assert not is_endpoint(endpoint)
    assert is_endpoint("https://8.8.8.8/push/abc")


def test_keys_that_nothing_can_be_encrypted_to_are_refused() -> None:
    assert is_receiver(RECEIVER, AUTH)
    for p256dh, auth in ((RECEIVER, ""), ("", AUTH), (RECEIVER[:-4], AUTH), ("!", AUTH), ("é", AUTH),
                         (text_of(b"\x04" + b"\x01" * 64), AUTH), (RECEIVER, AUTH + "AA")):  # fmt: skip
        assert not is_receiver(p256dh, auth)
