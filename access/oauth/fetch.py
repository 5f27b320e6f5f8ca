"""Fetching what a registered client or a hospital's provider names, without being led into our own network.

https only, no redirect, at most 64 KiB, a few seconds; the address is resolved once, refused unless it is
public, and connected to as resolved, so that a second answer of the name server changes nothing.
"""

import base64
import http.client
import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kernel.errors import CloudfilmError, Kind
from kernel.tls import host_context

MOST_BYTES = 65536
TIMEOUT_S = 5.0
LONGEST_CACHE_S = 3600
DEFAULT_CACHE_S = 60
UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out (RFC 4291 2.4); the library also lets
# site-local, IPv4-compatible and IPv4-translated addresses pass for global ones
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address in its last 32 bits (RFC 6052 2.1)

Resolve = Callable[[str, int], list[str]]


class Unfetchable(CloudfilmError):
    """An address that is not fetched from, or that gave nothing usable."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"It cannot be fetched: {reason}.")


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def public_address(host: str, port: int, resolve: Resolve) -> str:
    """The first address of a host, all of which must be public. Raises Unfetchable."""
    try:
        addresses = resolve(host, port)
    except (OSError, UnicodeError):
        raise Unfetchable("its host is not known") from None
    if not all(map(is_public, addresses)):
        raise Unfetchable("its host is inside a private network")
    if not addresses:
        raise Unfetchable("its host is not known")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, whatever other address is written within it."""
    meant = _innermost(address)
    if isinstance(meant, ipaddress.IPv6Address) and meant not in UNICAST:
        return False
    return meant.is_global and not meant.is_multicast


def is_servers(address: str) -> bool:
    """Whether a server that a site itself names may be at an address, its own network included: any but those
    of one link (where a cloud's machines are told their credentials), of nobody and of many."""
    meant = _innermost(address)
    return not (meant.is_link_local or meant.is_unspecified or meant.is_multicast)


def _innermost(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that packets to this one end at: an IPv4 one where it is written within an IPv6 one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed in NAT64:
        return ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed.ipv4_mapped or parsed.sixtofour or parsed


@dataclass(slots=True)
class KeySets:
    """Key sets by URL, kept no longer than their Cache-Control says."""

    trusted_hosts: frozenset[str] = frozenset()  # `host:port` of a site's own servers, also by plain http
    resolve: Resolve = resolve
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)

    def fetch(self, url: str) -> Any:
        """The JSON at an address: a key set, or a provider's metadata. Raises Unfetchable."""
        until, keys = self._kept.get(url, (0.0, None))
        if time.monotonic() < until:
            return keys
        body, cache_control = self._ask(url)
        keys = _json(body)
        life_s = _life_s(cache_control)
        if len(self._kept) > 1000:
            self._kept.clear()
        self._kept[url] = (time.monotonic() + life_s, keys)
        return keys

    def get(self, url: str, headers: Mapping[str, str]) -> Any:
        """The JSON at an address, never kept. Raises Unfetchable."""
        return _json(self._ask(url, headers=headers)[0])

    def post(self, url: str, form: Mapping[str, str], basic: tuple[str, str] = ("", "")) -> Any:
        """The JSON that answers a form. basic: name and secret. Raises Unfetchable."""
        name, secret = (quote(each, safe="") for each in basic)  # RFC 6749 2.3.1
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if secret:
            headers["Authorization"] = f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"
        return _json(self._ask(url, urlencode(form), headers)[0])

    def _ask(
        self, url: str, form: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, str]:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Unfetchable("it is not an address") from None
        is_trusted = f"{host}:{port}" in self.trusted_hosts
        if (
            not host
            or parts.username
            or parts.scheme not in (("https", "http") if is_trusted else ("https",))
        ):
            raise Unfetchable("use https")
        address = host if is_trusted else public_address(host, port, self.resolve)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = PinnedHttps(host, address, port)
        else:
            connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            said = {"Accept": "application/json", **(headers or {})}
            connection.request("GET" if form is None else "POST", target, form, said)
            answer = connection.getresponse()
            body = answer.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException):
            raise Unfetchable("its server does not answer") from None
        finally:
            connection.close()
        if answer.status != 200 or len(body) > MOST_BYTES:
            raise Unfetchable("its server did not answer with what was asked for")
        return body, answer.getheader("Cache-Control") or ""


class PinnedHttps(http.client.HTTPSConnection):
    """A connection to an address that was resolved before, under the name that the certificate has."""

    def __init__(self, host: str, address: str, port: int) -> None:
        self._tls = host_context()
        super().__init__(host, port, timeout=TIMEOUT_S, context=self._tls)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), TIMEOUT_S)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unfetchable("it is not JSON") from None


def _life_s(cache_control: str) -> int:
    if "no-store" in cache_control or "no-cache" in cache_control:
        return 0
    match = re.search(r"max-age=(\d{1,9})", cache_control)
    return min(int(match[1]), LONGEST_CACHE_S) if match else DEFAULT_CACHE_S
