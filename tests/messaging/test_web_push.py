"""Web push: the encryption of RFC 8291's own example, and who we say we are."""

from cryptography.hazmat.primitives.asymmetric import ec

from cloudfilm.rooms import Rooms
from messaging.web_push import CURVE, bytes_of, encrypt, is_endpoint, public_key, text_of, vapid

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


def test_we_say_who_we_are_with_the_key_that_browsers_subscribed_with(rooms: Rooms) -> None:
    header = vapid(rooms.keys, "https://push.example.org/x", "mailto:it@example.org", rooms.clock.now())

    assert header.startswith("vapid t=")
    assert header.endswith(f"k={public_key(rooms.keys)}")
    assert len(bytes_of(public_key(rooms.keys))) == 65


def test_a_push_service_is_in_no_private_network() -> None:
    for endpoint in ("http://8.8.8.8/x", "https://127.0.0.1/x", "https://10.0.0.1/", "https://[::1]/",
                     "https://a@8.8.8.8/",
                     "ftp://8.8.8.8", "", "https://169.254.169.254/latest",
                     "https://" + "x" * 1100):  # fmt: skip
        assert not is_endpoint(endpoint)
    assert is_endpoint("https://8.8.8.8/push/abc")
