"""The address of a share: its secret stands in the fragment, which no server, log or referrer sees."""

from flask import request

from kernel.http import PREFIX, base_url, room
from kernel.settings import Settings


def site_url() -> str:
    """How this site is reached, also when asked from below a share."""
    base = base_url(room(Settings).web.public_url)
    return base.removesuffix(str(request.environ.get(PREFIX, "")))


def share_url(secret: str) -> str:
    """The link of a share."""
    return f"{site_url()}/share#{secret}"
