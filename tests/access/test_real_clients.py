"""Clients that others wrote, against a running server: what they make of our discovery, tokens and keys."""

import io
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from fhirclient.client import FHIRClient
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import select
from werkzeug.serving import BaseWSGIServer, make_server

from access.accounts import create_account
from access.caller import operator
from archive.ingest import ingest
from archive.model import Study
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import SystemClock
from tests.access.smart import register
from tests.builders import ct_slice
from tests.settling import settle


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


REDIRECT = "http://127.0.0.1:9/back"  # nobody listens: the browser's way ends at its address
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
PASSWORD = "Correct-Horse-7"


def through_the_browser(server: str, url: str, **form: str) -> str:
    """Sign in, approve, and tell the address that the browser is sent to."""
    browser = requests.Session()
    browser.trust_env = False
    browser.post(f"{server}/sign-in", {"login": "reader", "password": PASSWORD}, headers=OWN_PAGE)
    assert browser.get(url).status_code == 200
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    approved = browser.post(
        f"{server}/oauth/approve", {**asked, "decision": "approve", **form}, headers=OWN_PAGE,
        allow_redirects=False,
    )  # fmt: skip
    assert approved.status_code == 303, approved.text
    return approved.headers["Location"]


def add_reader(rooms: Rooms, role: str = "radiologist") -> None:
    with rooms.database.transaction() as session:
        create_account(
            rooms.access, session, operator(), "reader", PASSWORD, role,
            institution=rooms.settings.access.institution,
        )  # fmt: skip


def test_a_certified_relying_party_goes_the_whole_way(rooms: Rooms, server: str, own_data: Path) -> None:
    add_reader(rooms)
    key = ECKey.generate_key("P-384", {"kid": "k1"})
    app = register(
        rooms.access, token_endpoint_auth_method="client_secret_basic", redirect_uris=[REDIRECT],
        launch_url="",
    )  # fmt: skip
    service = register(
        rooms.access, token_endpoint_auth_method="private_key_jwt", grant_types=["client_credentials"],
        jwks={"keys": [key.as_dict(private=False)]}, scope="system/*.rs",
    )  # fmt: skip
    given = {
        "issuer": server, "client_id": app["client_id"], "client_secret": app["client_secret"],
        "redirect_uri": REDIRECT, "service_id": service["client_id"],
        "service_key": key.as_dict(private=True),
    }  # fmt: skip
    script = own_data / "oauth4webapi" / "relying_party.mjs"
    with subprocess.Popen(
        ["node", str(script), json.dumps(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as node:  # fmt: skip
        assert node.stdout is not None
        url = node.stdout.readline().strip()
        back = through_the_browser(server, url) if url else ""
        output, faults = node.communicate(f"{back}\n", timeout=60)
    assert node.returncode == 0, faults
    said = json.loads(output)

    assert said["claims"]["iss"] == server
    assert said["user"]["sub"] == said["claims"]["sub"]
    assert said["seen"]["active"] is True
    assert said["after"] == {"active": False}
    assert "user/ImagingStudy.rs" in said["scope"]
    assert said["service"] == "system/ImagingStudy.rs"
    assert said["life"] <= 300


def test_the_python_client_that_knows_only_the_old_extension_reads_a_patient(
    rooms: Rooms, server: str
) -> None:
    add_reader(rooms)
    institution = rooms.settings.access.institution
    ingest(rooms.archive, operator(institution), io.BytesIO(ct_slice(study=1, PatientName="Wang^Fang")))
    settle(rooms)
    app = register(rooms.access, redirect_uris=[REDIRECT], launch_url="")
    smart = FHIRClient(
        settings={
            "app_id": app["client_id"], "api_base": f"{server}/fhir", "redirect_uri": REDIRECT,
            "scope": "launch/patient patient/*.rs openid fhirUser",
        }
    )  # fmt: skip
    with rooms.database.snapshot() as session:
        patient = str(session.scalars(select(Study.patient_logical_id)).one())

    assert (
        not smart.prepare()
    )  # not ready: it takes an authorization, which it found by the CapabilityStatement alone
    smart.handle_callback(through_the_browser(server, smart.authorize_url, patient=patient))

    assert smart.ready
    assert smart.patient_id == patient
    assert "Wang" in smart.human_name(smart.patient.name[0])
    found = smart.server.request_json(f"ImagingStudy?patient={patient}")
    assert len(found["entry"]) == 1
