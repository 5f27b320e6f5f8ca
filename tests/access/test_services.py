"""Clients that sign what they say: private_key_jwt, backend services, and fetching key sets safely."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from werkzeug.test import TestResponse

from access.oauth.fetch import KeySets, Unfetchable
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from tests.access.smart import register

TOKEN_URL = "http://localhost/oauth/token"
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
EC = ECKey.generate_key("P-384", {"kid": "ec-1", "use": "sig"})
OTHER = ECKey.generate_key("P-384", {"kid": "ec-1", "use": "sig"})
PUBLIC = {"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]}

Ask = Callable[..., TestResponse]


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def service(rooms: Rooms, **metadata: Any) -> dict[str, Any]:
    complete = {
        "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["client_credentials"],
        "jwks": PUBLIC,
        "scope": "system/*.rs",
        **metadata,
    }
    return register(rooms.access, **{name: value for name, value in complete.items() if value is not None})


@pytest.fixture
def ask(rooms: Rooms, browser: FlaskClient, clock: FixedClock) -> Ask:
    client = service(rooms)

    def request(
        key: Any = EC,
        header: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        client_id: str = client["client_id"],
        **form: str,
    ) -> TestResponse:
        algorithm = "RS384" if key is RSA else "ES384"
        now = int(clock.now().timestamp())
        said = {
            "iss": client_id,
            "sub": client_id,
            "aud": TOKEN_URL,
            "exp": now + 290,
            "jti": secrets.token_hex(8),
            **(claims or {}),
        }
        heading = {"alg": algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
        assertion = jwt.encode(
            {name: value for name, value in heading.items() if value is not None},
            {name: value for name, value in said.items() if value is not None},
            key,
            algorithms=["RS384", "ES384", "RS256", "ES256", "HS256"],
        )
        return browser.post(
            "/oauth/token",
            data={
                "grant_type": "client_credentials",
                "scope": "system/ImagingStudy.rs",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion,
                **form,
            },
        )

    return request


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS384", "ES384"])
def test_k2_b1_a_service_gets_a_short_token_for_system_scopes(
    ask: Ask, browser: FlaskClient, key: Any
) -> None:
    said = ask(key).get_json()

    assert said["scope"] == "system/ImagingStudy.rs"
    assert said["expires_in"] <= 300
    assert "refresh_token" not in said
    headers = {"Authorization": f"Bearer {said['access_token']}"}
    assert browser.get("/dicomweb/studies", headers=headers).status_code in (200, 204)
    assert browser.get("/fhir/Patient", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "scope", ["system/*.cruds", "user/*.rs", "patient/*.rs", "system/Patient.d", "openid", ""]
)
def test_b1_a_service_never_gets_more_than_was_registered(ask: Ask, scope: str) -> None:
    answer = ask(scope=scope)

    assert answer.status_code == 400 or answer.get_json()["scope"] == "system/*.rs"


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "at+jwt"}, {}),
        ({"kid": None}, {}),
        ({"kid": "other"}, {}),
        ({"kid": "rsa-1"}, {}),
        ({"jku": "https://evil.example/jwks"}, {}),
        ({}, {"iss": None}),
        ({}, {"sub": None}),
        ({}, {"iss": "other"}),
        ({}, {"aud": "https://elsewhere.example/token"}),
        ({}, {"aud": None}),
        ({}, {"exp": None}),
        ({}, {"exp": "soon"}),
        ({}, {"exp": 4102444800}),
        ({}, {"exp": 1}),
        ({}, {"nbf": 4102444800}),
        ({}, {"jti": None}),
        ({}, {"jti": "x" * 129}),
        ({}, {"jti": 7}),
    ],
)
def test_k1_k3_each_defect_of_an_assertion_is_refused(
    ask: Ask, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    answer = ask(header=header, claims=claims)

    assert answer.status_code in (400, 401)
    assert answer.get_json()["error"] == "invalid_client"


def test_k3_a_jti_is_used_once(ask: Ask) -> None:
    assert ask(claims={"jti": "once"}).status_code == 200
    assert ask(claims={"jti": "once"}).get_json()["error"] == "invalid_client"


def test_k3_a_signature_of_another_key_is_refused(ask: Ask) -> None:
    assert ask(OTHER).get_json()["error"] == "invalid_client"


@pytest.mark.parametrize("assertion", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 9000, "..", "é"])
def test_what_is_no_assertion_is_refused(browser: FlaskClient, assertion: str) -> None:
    answer = browser.post(
        "/oauth/token",
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        },
    )

    assert answer.status_code in (400, 401)
    assert answer.get_json()["error"] == "invalid_client"


def test_k3_two_keys_of_one_kid_are_no_key(rooms: Rooms, ask: Ask) -> None:
    twice = service(rooms, jwks={"keys": [EC.as_dict(private=False), OTHER.as_dict(private=False)]})

    assert ask(client_id=twice["client_id"]).get_json()["error"] == "invalid_client"


class Keys(BaseHTTPRequestHandler):
    """Serves a key set and counts how often."""

    asked = 0
    cache_control = "max-age=60"

    def do_GET(self) -> None:
        type(self).asked += 1
        body = b"x" * 70000 if self.path == "/large" else json.dumps(PUBLIC).encode()
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Cache-Control", self.cache_control)
        self.send_header("Location", "/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def key_server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Keys)
    Keys.asked, Keys.cache_control = 0, "max-age=60"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("cache_control", "asked"), [("max-age=60", 1), ("no-store", 3), ("max-age=0", 3)])
def test_k3_a_key_set_is_kept_no_longer_than_its_server_says(
    key_server: HTTPServer, cache_control: str, asked: int
) -> None:
    Keys.cache_control = cache_control
    host = f"127.0.0.1:{key_server.server_port}"
    sets = KeySets(frozenset({host}))
    for _ in range(3):
        assert sets.fetch(f"http://{host}/") == PUBLIC

    assert Keys.asked == asked


@pytest.mark.parametrize("path", ["/moved", "/large"])
def test_a_key_server_that_redirects_or_floods_is_refused(key_server: HTTPServer, path: str) -> None:
    host = f"127.0.0.1:{key_server.server_port}"

    with pytest.raises(Unfetchable):
        KeySets(frozenset({host})).fetch(f"http://{host}{path}")


INSIDE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
    "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "198.18.0.1", "192.0.2.1", "64:ff9b::7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_never_connected_to(address: str) -> None:
    sets = KeySets(resolve=lambda _host, _port: [address])

    with pytest.raises(Unfetchable):
        sets.fetch("https://keys.example.org/jwks")


def test_one_inside_address_among_public_ones_is_enough_to_refuse() -> None:
    sets = KeySets(resolve=lambda _host, _port: ["93.184.216.34", "127.0.0.1"])

    with pytest.raises(Unfetchable, match="private"):
        sets.fetch("https://keys.example.org/jwks")


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.org/jwks", "file:///etc/passwd", "ftp://x/", "gopher://x/", "https://", "x", "",
        "https://user@127.0.0.1/", "https://[::1", "https://2130706433/", "https://0x7f.1/", "https://127.1/",
        "https://localhost/", "https://017700000001/", "https://[::ffff:7f00:1]/", "https://0/",
        "https://127.0.0.1:99999/", "data:application/json,{}", "//evil.example/x", "https://\u2488/",
    ],
)  # fmt: skip
def test_an_address_that_is_no_public_https_one_is_refused(url: str) -> None:
    with pytest.raises(Unfetchable):
        KeySets().fetch(url)
