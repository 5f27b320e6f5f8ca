"""Where this service is reached: the base URL that answers carry (PS3.18 8.1, Base URI)."""

from kernel.http import base_url, room
from kernel.settings import Settings

ROOT = "/dicomweb"


def service_base() -> str:
    """The base URI of the service for this request: from the settings, else from the request as it came
    in."""
    return base_url(room(Settings).web.public_url) + ROOT
