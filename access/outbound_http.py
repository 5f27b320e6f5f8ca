"""Requests to addresses that others name (subscriptions, bulk imports), without being led into our own
network.

https to public addresses, resolved once and connected to as resolved, without redirects; plain http and
private addresses only for the hosts that the site's settings name.
"""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from access.oauth.fetch import PinnedHttps, Resolve, public_address, resolve
from kernel.errors import CloudfilmError, Kind

TIMEOUT_S = 10.0


class Unreachable(CloudfilmError):
    """An address that is not called, or that does not answer as it should."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The address cannot be used: {reason}.")


def require_allowed(url: str, trusted_hosts: frozenset[str]) -> tuple[str, int, bool]:
    """Host, port, and whether the site trusts it. Raises Unreachable for an address that is never called."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Unreachable("it is not an address") from None
    is_trusted = f"{host}:{port}" in trusted_hosts
    schemes = ("https", "http") if is_trusted else ("https",)
    if not host or parts.username or parts.scheme not in schemes or any(ord(each) < 33 for each in url):
        raise Unreachable("use https")
    return host, port, is_trusted


@contextmanager
def request(
    method: str,
    url: str,
    trusted_hosts: frozenset[str],
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    resolve_host: Resolve = resolve,
) -> Iterator[http.client.HTTPResponse]:
    """The answer, to be read within the block. Raises Unreachable."""
    host, port, is_trusted = require_allowed(url, trusted_hosts)
    address = host
    if not is_trusted:
        try:
            address = public_address(host, port, resolve_host)
        except CloudfilmError:
            raise Unreachable("its host is not known, or is inside a private network") from None
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = PinnedHttps(host, address, port)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=body, headers=dict(headers or {}))
        yield connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as failure:
        raise Unreachable(f"its server does not answer ({type(failure).__name__})") from failure
    finally:
        connection.close()
