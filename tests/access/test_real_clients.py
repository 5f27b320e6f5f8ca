"""Clients that others wrote, against a running server: what they make of our discovery, tokens and keys."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey, RSAKey
from werkzeug.serving import BaseWSGIServer, make_server

from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import SystemClock
from tests.access.smart import register


@pytest.fixture
def rooms(rooms: Rooms) -> Iterator[Rooms]:
    """The same host with the machine's own clock, which clients go by."""
    built = build_rooms(rooms.settings, SystemClock())
    yield built
    built.close()


@pytest.fixture
def server(rooms: Rooms) -> Iterator[str]:
    """The address of the application, served by a thread."""
    served: BaseWSGIServer = make_server("127.0.0.1", 0, create_app(rooms), threaded=True)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()


def discovered(server: str) -> dict[str, str]:
    return dict(requests.get(f"{server}/fhir/.well-known/smart-configuration", timeout=10).json())


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_authlibs_own_client_gets_a_service_token_with_a_signed_assertion(
    rooms: Rooms, server: str, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    key = (
        RSAKey.generate_key(2048, {"kid": "k1"})
        if algorithm == "RS384"
        else ECKey.generate_key("P-384", {"kid": "k1"})
    )
    client = register(
        rooms.access,
        token_endpoint_auth_method="private_key_jwt",
        grant_types=["client_credentials"],
        jwks={"keys": [key.as_dict(private=False)]},
        scope="system/*.rs",
    )
    endpoint = discovered(server)["token_endpoint"]
    session = OAuth2Session(client["client_id"], key, token_endpoint_auth_method="private_key_jwt")
    session.trust_env = False
    expires = int(datetime.now(UTC).timestamp()) + 120
    session.register_client_auth_method(
        PrivateKeyJWT(endpoint, claims={"exp": expires}, headers={"kid": "k1", "typ": "JWT"}, alg=algorithm)
    )
    token = session.fetch_token(endpoint, grant_type="client_credentials", scope="system/ImagingStudy.rs")

    assert token["scope"] == "system/ImagingStudy.rs"
    found = session.get(f"{server}/dicomweb/studies")
    assert found.status_code in (200, 204)
    assert session.get(f"{server}/fhir/Patient").status_code == 403


def test_settings_can_name_the_public_address(rooms: Rooms) -> None:
    settings = replace(
        rooms.settings, web=replace(rooms.settings.web, public_url="https://film.example.org/")
    )
    built = build_rooms(settings)
    said = create_app(built).test_client().get("/fhir/.well-known/smart-configuration").get_json()
    built.close()

    assert said["issuer"] == "https://film.example.org"
    assert said["token_endpoint"] == "https://film.example.org/oauth/token"
