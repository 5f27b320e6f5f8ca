"""A small SMART app for tests: drives the server as a browser and an app would."""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from access.caller import operator
from access.oauth.clients import register_client
from access.tokens import Access

REDIRECT = "https://app.example.org/callback"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
FHIR = "http://localhost/fhir"


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def register(access: Access, **metadata: Any) -> dict[str, Any]:
    """Register a public app, unless told otherwise."""
    complete = {
        "client_name": "Viewer",
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [REDIRECT],
        "launch_url": "https://app.example.org/launch",
        **metadata,
    }
    if "authorization_code" not in complete["grant_types"]:
        complete["redirect_uris"] = []
    return register_client(access, operator(), complete)


@dataclass
class App:
    """One app and the browser it runs in."""

    browser: FlaskClient
    client: dict[str, Any]
    scope: str = "openid fhirUser launch/patient patient/*.rs"
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, str]:
        return {
            "response_type": "code",
            "client_id": self.client["client_id"],
            "redirect_uri": REDIRECT,
            "scope": self.scope,
            "state": "s-1",
            "aud": FHIR,
            "nonce": "n-1",
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            **self.extra,
        }

    def ask(self, method: str = "GET", **changes: Any) -> TestResponse:
        """The authorization request; a None takes a parameter away."""
        values = {name: value for name, value in {**self.parameters, **changes}.items() if value is not None}
        if method == "POST":
            return self.browser.post("/oauth/authorize", data=values, headers=OWN_PAGE)
        return self.browser.get("/oauth/authorize", query_string=values)

    def approve(self, **form: str) -> dict[str, str]:
        """What comes back to the redirect URI."""
        answer = self.browser.post(
            "/oauth/approve", data={**self.parameters, "decision": "approve", **form}, headers=OWN_PAGE
        )
        assert answer.status_code == 303, answer.get_data(as_text=True)
        return query_of(answer)

    def exchange(self, code: str, **changes: Any) -> TestResponse:
        values = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "client_id": self.client["client_id"],
            "code_verifier": self.verifier,
            **changes,
        }
        return self.post("/oauth/token", values)

    def post(self, path: str, values: dict[str, Any], **more: Any) -> TestResponse:
        sent = {name: value for name, value in values.items() if value is not None}
        if self.client.get("client_secret") and "client_assertion" not in sent and "headers" not in more:
            sent["client_secret"] = self.client["client_secret"]
            sent["client_id"] = self.client["client_id"]
        return self.browser.post(path, data=sent, **more)

    def tokens(self, **form: str) -> dict[str, Any]:
        """The whole way: approve, exchange."""
        answer = self.exchange(self.approve(**form)["code"])
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def refresh(self, refresh_token: str, **more: str) -> TestResponse:
        return self.post(
            "/oauth/token",
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": self.client["client_id"],
                **more,
            },
        )


def query_of(answer: TestResponse) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def patients_shown(page: TestResponse) -> list[str]:
    return re.findall(r'name="patient" value="([^"]+)"', page.get_data(as_text=True))
