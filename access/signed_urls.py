"""Signed URLs: for what a browser fetches by itself, without a header and, from another site, a cookie.

Whoever is signed in has a URL signed and puts it into an `img`, `object` or `video`; who comes with it is the
one who had it signed, for that one GET, as long as it has not expired and the session or token lives that it
was signed with. Nothing is kept: the signature is a keyed hash over path, query, end and the id of the token,
whose row is read again at each use, so what is revoked or narrowed opens nothing any more.
"""

import hmac
from urllib.parse import unquote, urlsplit

from access.caller import Caller, Door, PrincipalKind
from access.tokens import Access, caller_of_token
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated

PARAMETER = "signature"
DIGITS = 64  # hexadecimal ones of a signature: 256 bits


class InvalidUrl(CloudfilmError):
    """A URL that cannot be signed: another site's, or of a door that no element of a page fetches from."""

    kind = Kind.INVALID

    def __init__(self, prefix: str) -> None:
        super().__init__(f"Only paths of this site that begin with {prefix} are signed.")


def sign_url(access: Access, caller: Caller, url: str, prefix: str, life_s: int, root: str = "") -> str:
    """The URL with the signature at its end.

    prefix: what its path has to begin with. root: what this site's paths begin with behind a proxy.
    Raises InvalidUrl, Unauthenticated or Forbidden.
    """
    if not caller.grant:
        raise Unauthenticated
    if caller.principal.kind is PrincipalKind.VISITOR:
        raise Forbidden("sign a URL", "The visit's own cookie opens what the share holds.")
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix(root)
    if not path.startswith(prefix) or "/.." in path or PARAMETER + "=" in parts.query:
        raise InvalidUrl(prefix)
    expires = int(access.clock.now().timestamp()) + life_s
    told = f"{expires}.{caller.grant}.{_signature(access, path, parts.query, expires, caller.grant)}"
    query = f"{parts.query}&{PARAMETER}={told}" if parts.query else f"{PARAMETER}={told}"
    return parts._replace(query=query, fragment="").geturl()


def _signature(access: Access, path: str, query: str, expires: int, token_id: str) -> str:
    text = "\n".join(("signed-url", path, query, str(expires), token_id))
    return access.keys.sign(text).hex()[:DIGITS]


def redeem_url(access: Access, path: str, query: str, door: Door, address: str) -> Caller:
    """Who had this URL signed. query: as it came, with the signature at its end. Raises Unauthenticated."""
    rest, _, told = query.rpartition(f"{PARAMETER}=")
    expires, _, tail = told.partition(".")
    token_id, _, given = tail.rpartition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 12 and token_id):
        raise Unauthenticated
    expected = _signature(access, path, rest.removesuffix("&"), int(expires), token_id)
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise Unauthenticated
    if int(expires) <= access.clock.now().timestamp():
        raise Unauthenticated
    return caller_of_token(access, token_id, door, address)
