"""Talking to a provider: one POST or GET with JSON back, and a refusal that says whether to try again."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from access.oauth.fetch import is_servers, resolve

TIMEOUT_S = (5, 15)


class GatewayRefused(Exception):
    """A provider did not take a message. `may_recover`: the same may work later."""

    def __init__(self, reason: str, *, may_recover: bool) -> None:
        super().__init__(reason)
        self.may_recover = may_recover


def post(url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """POST and read the JSON object that comes back, whatever its status. Raises GatewayRefused."""
    return _asked("POST", url, body, headers)


def get(url: str) -> dict[str, Any]:
    """GET and read a JSON object. Raises GatewayRefused."""
    return _asked("GET", url, b"", {})


def _asked(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    answer = _request(method, url, body, headers)
    try:
        parsed = answer.json()
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise GatewayRefused(f"the answer {answer.status_code} is no JSON object", may_recover=True)
    return parsed


def _request(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    _require_server(url)
    try:
        return requests.request(
            method, url, data=body, headers=dict(headers), timeout=TIMEOUT_S, allow_redirects=False
        )
    except requests.RequestException as failure:  # its text may hold the address with what was asked
        raise GatewayRefused(type(failure).__name__, may_recover=True) from None


def _require_server(url: str) -> None:
    """A gateway is where the site says, in its own network too, and never a cloud's metadata service.

    A name that is not known here is a proxy's to resolve, or fails in the request itself.
    """
    try:
        parts = urlsplit(url)
        addresses = resolve(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    except (OSError, UnicodeError, ValueError):
        return
    if not all(map(is_servers, addresses)):
        raise GatewayRefused("no gateway is at such an address", may_recover=False)


def post_for_status(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """POST; returns the status and the beginning of the answer. Raises GatewayRefused."""
    answer = _request("POST", url, body, headers)
    return answer.status_code, answer.text[:2000]
