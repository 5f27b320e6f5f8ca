"""No address that others name leads into our own network, however it is written: threat 1 of security.md."""

import socket

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from access.federation import Provider, ProviderUnreachable, begin
from access.oauth.fetch import KeySets, Unfetchable, is_servers
from access.outbound_http import Unreachable, request
from access.tokens import REGISTRATION, issue
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from messaging.http import GatewayRefused, post_for_status
from messaging.web_push import is_endpoint, point_of, push, text_of

PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"  # where a cloud's machines are told their credentials

ADDRESSES = [  # every way of writing an inside address that a URL may carry
    "https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/",
    "https://0x7f.0.0.1/", "https://017700000001/", "https://0177.0.0.1/", "https://0/", "https://0.0.0.0/",
    "https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://[::1]/", "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/", "https://[::ffff:0:127.0.0.1]/", "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::a9fe:a9fe]/", "https://[64:ff9b:1::1]/", "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::]/", "https://[2001:0:5ef5:79fd::1]/", "https://[fec0::1]/", "https://[fd00::1]/",
    "https://[fe80::1]/", "https://[ff02::1]/", "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/", "https://0xa9fea9fe/", "https://100.100.100.200/", "https://10.0.0.1/",
    "https://172.31.255.255/", "https://192.168.0.1/", "https://100.64.0.1/", "https://198.18.0.1/",
    "https://224.0.0.1/", "https://255.255.255.255/", "https://127.0.0.1:22/", "https://127.0.0.1:6379/",
]  # fmt: skip
FORMS = [  # what is no plain https address
    "http://example.org/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "dict://127.0.0.1:11211/",
    "ftp://127.0.0.1/", "data:application/json,{}", "https://example.org@127.0.0.1/", "https://user:x@example.org/",
    "//127.0.0.1/", "https://", "https:///etc", "https://[::1", "https://example.org:99999/", "", "127.0.0.1",
]  # fmt: skip


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that anything tried to connect to; none of them answers."""
    found: list[str] = []

    def note_and_fail(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        found.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", note_and_fail)
    return found


@pytest.mark.parametrize("url", [*ADDRESSES, *FORMS])
def test_no_way_of_writing_an_inside_address_is_connected_to(url: str, connected: list[str]) -> None:
    with pytest.raises(Unfetchable):
        KeySets().fetch(url)
    with pytest.raises(Unreachable), request("POST", url, frozenset()):
        pass

    assert connected == []


@pytest.mark.parametrize("public", [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_a_public_address_is_connected_to_as_it_was_resolved(public: str, connected: list[str]) -> None:
    with pytest.raises(Unfetchable, match="does not answer"):
        KeySets(resolve=lambda _host, _port: [public]).fetch("https://keys.example.org/jwks")

    assert connected == [public]


def test_a_name_server_that_changes_its_answer_leads_nowhere_else(connected: list[str]) -> None:
    """DNS rebinding: the first answer is public and passes; a second one would be the metadata service."""
    answers = [[PUBLIC], [METADATA]]
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    with pytest.raises(Unfetchable, match="does not answer"):
        KeySets(resolve=resolve).fetch("https://keys.example.org/jwks")
    assert (asked, connected) == (["keys.example.org"], [PUBLIC])

    with pytest.raises(Unfetchable, match="private"):
        KeySets(resolve=resolve).fetch("https://keys.example.org/jwks")
    assert connected == [PUBLIC]


def test_rebinding_leads_a_notification_nowhere_else(connected: list[str]) -> None:
    answers = iter([[PUBLIC], [METADATA]])
    for tries in range(2):
        with (
            pytest.raises(Unreachable),
            request("POST", "https://hook.example.org/", frozenset(), resolve_host=lambda *_: next(answers)),
        ):
            pass
        assert connected == [PUBLIC], tries


@pytest.mark.parametrize(
    "inside",
    ["https://169.254.169.254/x", "https://10.0.0.1/x", "https://localhost/x", "http://example.org/"],
)
def test_a_feature_with_an_inside_address_connects_to_nothing(
    rooms: Rooms, clock: FixedClock, inside: str, connected: list[str]
) -> None:
    """Key sets of an app that registers itself, a hospital's provider, and a browser's push service."""
    key = ECKey.generate_key("P-384", {"kid": "k"})
    with rooms.database.transaction() as session:
        initial = issue(rooms.access, session, REGISTRATION, life_s=600)
    browser = create_app(rooms).test_client()
    metadata = {
        "client_name": "x", "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": inside,
        "redirect_uris": ["https://app.example.org/"],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {initial}"}
    registered = browser.post("/oauth/register", json=metadata, headers=headers).get_json()
    client_id, token_url = registered["client_id"], "http://localhost/oauth/token"
    claims = {"iss": client_id, "sub": client_id, "aud": token_url, "jti": "1"}
    claims["exp"] = int(clock.now().timestamp()) + 200
    signed = jwt.encode(
        {"alg": "ES384", "typ": "JWT", "kid": "k", "jku": inside}, claims, key, algorithms=["ES384"]
    )
    answer = browser.post(
        "/oauth/token",
        data={
            "grant_type": "refresh_token", "refresh_token": "x", "client_assertion": signed,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        },
    )  # fmt: skip
    assert answer.get_json()["error"] == "invalid_client"

    with pytest.raises(ProviderUnreachable):
        begin(rooms.access, KeySets(), Provider("h", "H", inside, "c"), "http://localhost/back", "/")

    assert not is_endpoint(inside)
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    keys = {"p256dh": text_of(point_of(point)), "auth": text_of(b"0123456789abcdef")}
    with pytest.raises(GatewayRefused):
        push(rooms.access.keys, {"endpoint": inside, **keys}, b"x", "mailto:a@b.test", clock.now())

    assert connected == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/", "https://[64:ff9b::a9fe:a9fe]/", "http://0.0.0.0/", "http://[::]/",
    ],
)  # fmt: skip
def test_no_gateway_is_where_a_cloud_tells_its_credentials(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The site's own SMS interface and webhook may be inside; a metadata service is neither."""
    asked: list[str] = []
    monkeypatch.setattr(requests, "request", lambda _method, url, **_: asked.append(url))

    with pytest.raises(GatewayRefused, match="no gateway"):
        post_for_status(url, b"", {})
    assert asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "fd00::1", PUBLIC])
def test_a_gateway_may_be_in_the_sites_own_network(address: str) -> None:
    assert is_servers(address)
