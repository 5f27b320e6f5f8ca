"""The frame door: one frame, plainly asked for, is answered before the web framework begins.

Viewers ask for frames by the thousand, and what a framework does around each costs more than authorization,
look-up and decryption together. This door takes only requests that need nothing of it: GET of one frame, by
a bearer token or a session, without query, range, condition or origin. Whatever else comes, and whatever is
to be refused, goes the long way (`dicomweb.frames`), which looks again and says why. The answers of both
are the same, for `dicomweb.frames` makes them.
"""

import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from werkzeug.http import parse_cookie

from access.bearer import COOKIE
from access.caller import Caller, Door
from access.share_door import GRANT
from access.tokens import ACCESS, SESSION, Access, caller_of
from archive.retrieve import find_instance
from archive.room import Archive
from dicomweb.answers import forms_of
from dicomweb.frames import frame_answer
from kernel.metrics import HTTP_REQUESTS, HTTP_SECONDS
from kernel.throttle import Throttle
from kernel.traces import ROUTE

FRAME = re.compile(
    r"/dicomweb/studies/([0-9.]{1,64})/series/([0-9.]{1,64})/instances/([0-9.]{1,64})/frames/([1-9]\d{0,8})",
    re.ASCII,
)
RULE = "/dicomweb/studies/<study>/series/<series>/instances/<instance>/frames/<numbers>"
LONG_WAY = (
    "HTTP_RANGE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_ORIGIN",
    GRANT,
)

Environ = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FrameDoor:
    """Answers plain requests for a frame, and leads all others on."""

    inner: Callable[..., Iterable[bytes]]
    access: Access
    archive: Archive
    throttle: Throttle
    headers: Callable[[Environ], Iterable[tuple[str, str]]]  # that every answer of the site has

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        match = FRAME.fullmatch(environ.get("PATH_INFO", ""))
        if match is None or not is_plain(environ):
            return self.inner(environ, start_response)
        began = time.perf_counter()
        try:
            caller = self._caller(environ)
            if caller is None:
                return self.inner(environ, start_response)
            stored = find_instance(self.archive, caller, match[1], match[2], match[3])
            answer = frame_answer(
                self.archive, stored, int(match[4]), forms_of(environ.get("HTTP_ACCEPT", "")),
                "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""),
            )  # fmt: skip
        except (
            Exception
        ):  # it fails again the long way, where it is answered, and logged if nobody expected it
            return self.inner(environ, start_response)
        if answer is None:
            return self.inner(environ, start_response)
        environ[ROUTE] = RULE
        start_response("200 OK", [*answer.headers, *self.headers(environ)])
        HTTP_REQUESTS.labels("frames", "200").inc()
        HTTP_SECONDS.labels("frames").observe(time.perf_counter() - began)
        return answer.pieces

    def _caller(self, environ: Environ) -> Caller | None:
        """Who asks, as `access.bearer` finds it; None: it is for the long way to say. Raises
        CloudfilmError."""
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and credentials:
            secret, kind = credentials.strip(), ACCESS
        elif COOKIE in environ.get("HTTP_COOKIE", ""):
            secret, kind = parse_cookie(environ["HTTP_COOKIE"]).get(COOKIE, ""), SESSION
        else:
            return None
        address = address_of(environ.get("REMOTE_ADDR", ""))
        caller = caller_of(self.access, secret, (kind,), Door.DICOMWEB, address)
        self.throttle.require(caller.grant or caller.principal.id)
        return caller


def is_plain(environ: Environ) -> bool:
    """Whether a request asks for the thing itself and no more."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and not environ.get("QUERY_STRING")
        and not any(name in environ for name in LONG_WAY)
    )


@lru_cache(maxsize=1024)
def address_of(text: str) -> str:
    """A network address in its one form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text[:64]
